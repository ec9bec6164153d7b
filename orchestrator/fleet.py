"""Which environments want a worker, and on which queues."""

from django.core.exceptions import ObjectDoesNotExist


def active_environments() -> list[str]:
    """Name the environments that work may be sent to now."""
    from environments import selectors

    return list(selectors.active_names())


def queues_of(environment: str) -> list[str]:
    """Name the queues of an environment, one for each of its classes."""
    from environments import selectors

    return list(selectors.queues_of(environment))


def queue_exists(name: str) -> bool:
    """Say whether `env.<environment>.<class>` is a queue of an existing environment."""
    prefix, _, rest = name.partition(".")
    try:
        return prefix == "env" and name in queues_of(rest.rpartition(".")[0])
    except ObjectDoesNotExist:
        return False
