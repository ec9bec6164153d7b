"""Plans of stored versions, decoded once in each process."""

from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from workflows import store
from workflows.engine.plan import ASIDE, Node, Plan, load_plan, template_of
from workflows.models import Migration, Run, Version
from workflows.services.errors import NotFoundError
from workflows.services.patience import patiently


@lru_cache(maxsize=256)
def plan_of_version(version_id: UUID) -> Plan:
    """Return the plan of a version. A version never changes, so neither does this."""
    return load_plan(store.plan_text(version_id))


@lru_cache(maxsize=256)
def version_with_workflow(version_id: UUID) -> Version:
    """Return a version without what is large of it."""
    found = Version.objects.defer("source", "document", "plan").select_related("workflow")
    return found.get(pk=version_id)


def node_of_row(*, run_id: UUID, version_id: UUID, path: str) -> Node:
    """Return what the definition says of a step of a run, as its row has the path.

    Of one that is kept aside it is what the version said that had it last.
    """
    before, is_aside, number = path.partition(ASIDE)
    if is_aside:
        found = Migration.objects.filter(run=run_id, number=int(number))
        version_id = found.values_list("before_id", flat=True).get()
    return plan_of_version(version_id).node(before)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A run and the plan it is pinned to."""

    run: UUID
    version: UUID
    plan: Plan

    def knows(self, path: str) -> bool:
        """Say whether the version has the step: a run may have gone over to another since."""
        return path in self.plan.by_path or template_of(path) in self.plan.by_path


def pinned(run_id: UUID) -> Pinned:
    """Return the plan of a run.

    Raises NotFoundError when there is no such run.
    """
    found = Run.objects.filter(pk=run_id).values_list("version_id", flat=True)
    version = patiently(found.first)
    if version is None:
        raise NotFoundError("run", run_id)
    return pinned_to(run_id, version)


def pinned_to(run_id: UUID, version_id: UUID) -> Pinned:
    """Return the plan of a run whose version is known."""
    return Pinned(run_id, version_id, patiently(lambda: plan_of_version(version_id)))
