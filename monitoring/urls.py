"""The addresses of what people see beside the admin's own pages."""

from django.urls import path

from monitoring.health import alive, health, ready
from monitoring.views import live_run

urlpatterns = [
    path("monitoring/runs/<uuid:run_id>/live/", live_run, name="live-run"),
    path("health/", health, name="health"),
    path("health/live/", alive, name="alive"),
    path("health/ready/", ready, name="ready"),
]
