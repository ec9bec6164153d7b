"""A task type that does nothing, so that only the platform is measured."""

from workers.registry import task


@task("bench.noop")
def noop() -> None:
    """Do nothing."""
