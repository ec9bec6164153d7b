"""How tests name steps: by path (`pack[3].scan`), by the path of all items, or by id."""

from workflows.engine.plan import Node, Plan


def node_named(plan: Plan, name: str) -> Node | None:
    """Return the node that a path, a path of all items or an id names."""
    if name in plan.by_path:
        return plan.by_path[name]
    if name in plan.by_id:
        return plan.by_id[name]
    try:
        return plan.node(name)
    except KeyError:
        return None


def names_a_step(plan: Plan, name: str) -> bool:
    """Say whether a step of the plan may be meant."""
    return bool(name) and node_named(plan, name) is not None
