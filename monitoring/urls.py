"""The addresses of what people see beside the admin's own pages."""

from django.urls import path

from monitoring.views import live_run

urlpatterns = [path("monitoring/runs/<uuid:run_id>/live/", live_run, name="live-run")]
