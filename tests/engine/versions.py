"""Have a run in memory go over to another version, as the store does it to a stored one."""

from collections import Counter
from collections.abc import Mapping

from tests.engine.builders import Play
from workflows.engine.advance import advance
from workflows.engine.events import GivenUp, Migrated
from workflows.engine.examined import Examined, Mapped, Standing, Verdict
from workflows.engine.plan import NO_NODE, Plan
from workflows.engine.preflight import examine
from workflows.engine.slice import Requirement
from workflows.engine.states import FINISHED_RUNS, Reason, StepState


def standings(run: Play) -> list[Standing]:
    """Count the rows of a run by node and state."""
    views = [row.view for row in run.rows.values()]
    first = {}
    counted: Counter[tuple[object, ...]] = Counter()
    for view in views:
        key = (view.node, view.state, view.reason, view.attempt > (view.state is StepState.QUEUED))
        first.setdefault(key, view.path)
        counted[key] += 1
    return [Standing(*key, rows=number, path=first[key]) for key, number in counted.items()]


def preflight(run: Play, plan: Plan, mapping: Mapped | None = None) -> Examined:
    """Say whether a run can go over, looking at no more rows than the store would."""
    return examine(
        run.plan,
        plan,
        run=run.run,
        standings=standings(run),
        rows={path: row.view for path, row in run.rows.items() if _matters(run, path)},
        mapping=mapping or {},
    )


def _matters(run: Play, path: str) -> bool:
    view = run.rows[path].view
    node = run.plan.nodes[view.node]
    reopened = view.state in {StepState.FAILED, StepState.CANCELLED}
    if "[]" not in node.path or view.alive or reopened or view.reason is Reason.REPLAYED:
        return True
    around = run.rows.get(view.scope)
    return not node.is_item and around is not None and around.view.state is not StepState.COMPLETED


def migrate(run: Play, plan: Plan, mapping: Mapped | None = None) -> Examined:
    """Have a run go over if it can, and say what was found."""
    found = preflight(run, plan, mapping)
    if found.verdict is not Verdict.SAFE:
        return found
    held = run.load(Requirement(everything=True))
    given_up = advance(run.plan, held, GivenUp(found.withdrawn), now=run.now, chance=run.chance)
    run.write(given_up, now=run.now)
    _go_over(run, plan, found)
    run.decide(Migrated(found.births))
    return found


def _go_over(run: Play, plan: Plan, found: Examined) -> None:
    kept = {}
    for row in run.rows.values():
        if row.view.node in found.nodes:
            row.view = _renamed(plan, row.view, found.nodes)
            undo = plan.nodes[row.view.node].undo
            row.completion = row.completion if undo != NO_NODE else 0
            kept[row.view.path] = row
    run.attempts = [one for one in run.attempts if one.step.path in kept]
    run.charged &= kept.keys()
    run.plan, run.rows = plan, kept


def _renamed(plan: Plan, view: object, nodes: Mapping[int, int]) -> object:
    target = plan.nodes[nodes[view.node]]
    path = plan.path(target, view.path)
    return view._replace(node=target.index, path=path, scope=plan.path(target.scope, path))


def is_over(run: Play) -> bool:
    """Say whether the run has ended."""
    return run.state in FINISHED_RUNS
