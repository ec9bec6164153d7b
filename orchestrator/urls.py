"""Which door stands where. Each package draws its own map; this file only places them."""

from importlib.util import find_spec

from django.contrib import admin
from django.templatetags.static import static
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from orchestrator.flower import flower

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("favicon.ico", RedirectView.as_view(url=static("orchestrator/favicon.svg"))),
    path("admin/", admin.site.urls),
    path("flower/", flower, name="flower"),
    path("flower/<path:path>", flower),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", SpectacularSwaggerSplitView.as_view(), name="docs"),
]

if find_spec("workflows.api"):
    urlpatterns.append(path("api/v1/", include("workflows.api.urls")))
if find_spec("monitoring.urls"):
    urlpatterns.append(path("", include("monitoring.urls")))
