"""Measures the platform and bare Celery side by side, in one run, on one machine."""
