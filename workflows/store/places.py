"""Where steps are carried out: their queues, and whether an environment lets a run in."""

from dataclasses import dataclass
from uuid import UUID

from environments.models import queue_name
from workflows.engine.plan import Node
from workflows.store.session import cursor

STANDING = """
    SELECT home.name, place.name IS NOT NULL AND (place.id = home.id OR place.admits ? home.name)
    FROM workflows_run r
    JOIN environments_environment home ON home.id = r.environment_id
    LEFT JOIN environments_environment place ON place.name = %s
    WHERE r.id = %s
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """The environment of a run, and whether another lets it in."""

    home: str
    is_admitted: bool


def queue_of(node: Node, environment: str) -> str:
    """Return the queue of a step in a run of an environment."""
    return queue_name(node.environment or environment, node.queue_class)


def standing(run_id: UUID, place: str) -> Standing:
    """Return the environment of a run, and whether the one named `place` lets it in now."""
    row = cursor().execute(STANDING, (place, run_id), prepare=True).fetchall()[0]
    return Standing(*row)
