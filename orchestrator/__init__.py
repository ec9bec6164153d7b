"""The wiring: settings, the Celery application, URLs, embedded services, the launcher."""
