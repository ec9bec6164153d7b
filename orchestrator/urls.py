"""Which door stands where. Each package draws its own map; this file only places them."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from orchestrator.flower import flower

# Done already where pages are served; a program without them does it when it wants an address.
admin.autodiscover()

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("favicon.ico", RedirectView.as_view(url=static("orchestrator/favicon.svg"))),
    path("admin/", admin.site.urls),
    path("flower/", flower, name="flower"),
    path("flower/<path:path>", flower),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", SpectacularSwaggerSplitView.as_view(), name="docs"),
    path("api/v1/", include("workflows.api.urls")),
    path("", include("monitoring.urls")),
]

handler500 = "orchestrator.outage.failed"
