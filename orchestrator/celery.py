"""The Celery application. A worker or beat whose settings could lose or repeat work refuses to start."""

import os

from celery import Celery
from celery.signals import beat_init, celeryd_init, setup_logging
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")

REQUIRED = {
    "task_acks_late": True,
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    "task_reject_on_worker_lost": True,
    "task_create_missing_queues": False,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
}

app = Celery("orchestrator")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [Queue("orchestrator"), Queue("env.default.default")]
app.autodiscover_tasks()


def refusals(conf: object) -> list[str]:
    """Say what is wrong with the settings, one sentence each."""
    found = [
        f"The Celery setting {name} is {getattr(conf, name)!r}; it must be {wanted!r}."
        for name, wanted in REQUIRED.items()
        if getattr(conf, name) != wanted
    ]
    timeout = conf.broker_transport_options.get("visibility_timeout", 0)
    if timeout <= (conf.task_time_limit or 0):
        found.append(
            f"The Celery setting broker_transport_options.visibility_timeout is {timeout} s; it must "
            f"be above task_time_limit ({conf.task_time_limit} s), or running work is sent again."
        )
    if not conf.worker_soft_shutdown_timeout:
        found.append("The Celery setting worker_soft_shutdown_timeout is 0; it must be above 0.")
    return found


@celeryd_init.connect
@beat_init.connect
def _refuse_unsafe_settings(**_: object) -> None:
    if found := refusals(app.conf):
        raise SystemExit("\n".join(found))


@setup_logging.connect
def _keep_our_logging(**_: object) -> None:
    """Being connected is enough: Celery then leaves the logging of `orchestrator.logs` alone."""
