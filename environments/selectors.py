"""Named reads about environments."""

from environments.models import Environment, queue_name
from environments.states import EnvironmentState

WORKED = (EnvironmentState.ACTIVE.value, EnvironmentState.DRAINING.value)
"""The states in which an environment has workers."""


def active_names() -> list[str]:
    """Return the names of the environments that have workers."""
    found = Environment.objects.filter(state__in=WORKED).order_by("name")
    return list(found.values_list("name", flat=True))


def worked_classes() -> list[tuple[str, list[str]]]:
    """Return the environments that have workers, each with its queue classes."""
    found = Environment.objects.filter(state__in=WORKED).order_by("name")
    return list(found.values_list("name", "classes"))


def queues_of(name: str) -> list[str]:
    """Return the queues of an environment, one for each of its classes."""
    classes = Environment.objects.values_list("classes", flat=True).get(name=name)
    return [queue_name(name, queue_class) for queue_class in classes]
