"""What is to happen, and where every run stands. Does not know that Celery exists."""
