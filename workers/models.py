"""What workers say of themselves, and what has become of the canaries of each queue.

Both are overwritten in place: a row for each worker, a row for each queue, and no history.
"""

from django.db import models


class Pulse(models.Model):
    """A worker process that has spoken. Ages are seconds before `seen_at`, by its own stopwatch."""

    name = models.CharField(max_length=200, primary_key=True)
    queues = models.JSONField()
    processes = models.IntegerField()
    seen_at = models.DateTimeField()
    uptime = models.FloatField()
    broker_uptime = models.FloatField(null=True)
    taken = models.JSONField()
    waiting = models.JSONField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class CanaryMark(models.Model):
    """A queue: when its first unanswered canary was sent, when the last came, what was said."""

    queue = models.CharField(max_length=140, primary_key=True)
    sent_at = models.DateTimeField(null=True)
    came_at = models.DateTimeField(null=True)
    health = models.CharField(max_length=16, default="healthy")

    class Meta:
        ordering = ["queue"]

    def __str__(self) -> str:
        return self.queue
