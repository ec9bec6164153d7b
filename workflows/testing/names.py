"""How tests name steps: by path (`pack[3].scan`), by the path of all items, or by id."""

from workflows.engine.plan import NUMBERED, Node, Plan
from workflows.engine.simulation import Simulation
from workflows.language.words import StepKind

SPOKEN_FOR = frozenset(
    {
        StepKind.TASK,
        StepKind.APPROVAL,
        StepKind.CALLBACK,
        StepKind.EVENT,
        StepKind.WORKFLOW,
    }
)
"""The kinds of steps that something outside of the run answers: a stub may speak for it."""


def asked_of(node: Node) -> str:
    """Return what a step asks for by name: a task type, a type of event, a workflow."""
    if node.child is not None:
        return node.child.workflow
    return node.uses if node.listening is None else node.listening.type


def node_named(plan: Plan, name: str) -> Node | None:
    """Return the node that a path, a path of all items or an id names."""
    found = plan.by_path.get(name) or plan.by_id.get(name)
    if found is not None:
        return found
    try:
        return plan.node(name)
    except KeyError:
        return None


def names_a_step(plan: Plan, name: str) -> bool:
    """Say whether a step of the plan may be meant."""
    return bool(name) and node_named(plan, name) is not None


def is_named(run: Simulation, path: str, name: str) -> bool:
    """Say whether a step of a run is one that is meant: the one of a path, or one of many."""
    if path == name:
        return True
    if NUMBERED.search(name):
        return False
    node = node_named(run.plan, name)
    return node is not None and run.plan.node(path).index == node.index


def paths_named(run: Simulation, name: str) -> list[str]:
    """Return the rows that a path, a path of all items or an id names."""
    if name in run.rows:
        return [name]
    return [path for path in run.rows if is_named(run, path, name)]
