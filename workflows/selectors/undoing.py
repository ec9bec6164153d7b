"""What it would do to undo a run now: asked before it is done, and changing nothing."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from workflows import store
from workflows.engine.draft import names_of
from workflows.engine.ending import UNANSWERED
from workflows.engine.events import StepError
from workflows.engine.operators import UNDOABLE, UNDONE_BY_HAND
from workflows.engine.plan import NO_LONGER, NO_NODE, Node, Plan, load_plan
from workflows.engine.slice import Ending, Requirement, RunView, Slice, reading
from workflows.engine.states import TO_BE_UNDONE, RunState, StepState
from workflows.language import expressions
from workflows.language.expressions import ExpressionError
from workflows.language.words import ErrorClass, ExitStatus, StepKind
from workflows.models import Run, Step, Version
from workflows.selectors.paging import PAGE
from workflows.selectors.runs import get_run
from workflows.selectors.shapes import LastingStep, UndoDocument, UndoneStep

ACTING = frozenset({StepKind.TASK, StepKind.WORKFLOW})
"""The kinds of steps that have effects outside of their run."""

AT_THE_WORKER = "secrets are known to the worker alone"

REFUSED: Mapping[RunState, str] = {
    RunState.PENDING: "The run has not begun.",
    RunState.COMPLETED: "The run has come to its good end; what it has done stays.",
    RunState.CANCELLING: "The run is being cancelled without an undo.",
    RunState.CANCELLED: "The run was cancelled without an undo, or in the middle of it.",
    RunState.COMPENSATED: "The run has been undone.",
}
"""Why a run in that state is not undone; in the others it can be, or is at it."""


def undo_preview(run_id: UUID, *, limit: int = PAGE) -> UndoDocument:
    """Return what it would do to undo a run now, the first steps of it. Raises `MissingError`."""
    run = get_run(run_id)
    plan = load_plan(bytes(Version.objects.values_list("plan", flat=True).get(pk=run.version_id)))
    undoable = Step.objects.filter(
        run=run_id, completion__isnull=False, state__in=[one.value for one in TO_BE_UNDONE]
    )
    lasting = _lasting(run_id, plan)
    in_all = undoable.count()
    return {
        "run": str(run_id),
        "state": run.state,
        "refused": _refused(run, in_all),
        "undone": _undone(run, plan, undoable.order_by("-completion")[:limit]),
        "undone_in_all": in_all,
        "lasting": [_why(plan, step) for step in lasting.order_by("node", "path")[:limit]],
        "lasting_in_all": lasting.count(),
    }


def undo_lines(found: UndoDocument) -> Iterator[str]:
    """Yield the preview as sentences."""
    if found["refused"]:
        yield found["refused"]
    for number, step in enumerate(found["undone"], 1):
        given = json.dumps(step["arguments"], ensure_ascii=False)
        yield f"{number}. {step['path']} is undone by {step['uses']} with {given}"
        for name, why in step["unresolved"].items():
            yield f"   {name} is not known yet: {why}"
    if more := found["undone_in_all"] - len(found["undone"]):
        yield f"... and {more:,} more"
    for lasting in found["lasting"]:
        yield f"{lasting['path']} is not undone: {lasting['why']}"
    if more := found["lasting_in_all"] - len(found["lasting"]):
        yield f"... and {more:,} more"


def _refused(run: Run, undoable: int) -> str | None:
    state = RunState(run.state)
    if state in REFUSED:
        return REFUSED[state]
    if state is RunState.FAILED and run.ending and run.ending.get("undo"):
        return "The run has been undone as far as that could be; the rest are its incidents."
    if not undoable and state is not RunState.COMPENSATING:
        return "No step that was completed says how it is undone."
    return None


def _undone(run: Run, plan: Plan, steps: QuerySet[Step]) -> list[UndoneStep]:
    views = list(steps.only("path", "node", "state"))
    wanted = Requirement()
    for step in views:
        wanted |= reading(plan, _undo(plan, step).call, step.path)
    held = Slice(RunView(str(run.pk), ending=_ending(run)))
    if wanted.roots:
        store.read(store.cursor(), run.pk, plan, held, wanted)
    return [_one(plan, held, step) for step in views]


def _one(plan: Plan, held: Slice, step: Step) -> UndoneStep:
    node = _undo(plan, step)
    names = names_of(plan, held, node, step.path, node.call)
    arguments: dict[str, Any] = {}
    unresolved: dict[str, str] = {}
    for name, template in node.arguments.items():
        arguments[name] = template
        if "secrets" in expressions.references(template).roots:
            unresolved[name] = AT_THE_WORKER
            continue
        try:
            arguments[name] = expressions.render(template, names)
        except ExpressionError as error:
            unresolved[name] = str(error)
    return {
        "path": step.path,
        "state": step.state,
        "uses": node.uses,
        "arguments": arguments,
        "unresolved": unresolved,
    }


def _undo(plan: Plan, step: Step) -> Node:
    return plan.nodes[plan.nodes[step.node].undo]


def _ending(run: Run) -> Ending | None:
    found = run.ending if run.ending and run.ending.get("undo") else None
    if not found and run.state in UNDOABLE:
        return Ending(ExitStatus.FAILED, error=UNDONE_BY_HAND)
    error = found["error"] if found else run.error
    return Ending(ExitStatus.FAILED, error=StepError.from_dict(error)) if error else None


def _lasting(run_id: UUID, plan: Plan) -> QuerySet[Step]:
    """Return the steps that have done something, or may have, and would not be undone."""
    acting = [
        node.index
        for node in plan.nodes
        if node.kind in ACTING and node.undo == NO_NODE and node.undoes == NO_NODE
    ]
    undoable = [
        node.index
        for node in plan.nodes
        if node.kind is StepKind.TASK and (node.undo != NO_NODE or node.irreversible)
    ]
    unanswered = [one.value for one in UNANSWERED]
    return Step.objects.filter(
        Q(state=StepState.COMPLETED.value, node__in=[*acting, NO_LONGER])
        | Q(state=StepState.COMPENSATION_FAILED.value)
        | Q(state=StepState.FAILED.value, error__class=ErrorClass.UNCERTAIN.value)
        | Q(state=StepState.FAILED.value, error__class__in=unanswered, node__in=undoable),
        run=run_id,
    ).only("path", "node", "state", "error")


def _why(plan: Plan, step: Step) -> LastingStep:
    match step.state:
        case _ if step.node == NO_LONGER:
            why = "the version that the run went over to does not have it"
        case StepState.COMPENSATION_FAILED:
            message = (step.error or {}).get("message", "it was given up")
            why = f"its undo has failed: {message}"
        case StepState.FAILED:
            why = "nobody knows whether it took effect; look, and put it right by hand"
        case _ if plan.nodes[step.node].irreversible:
            why = "it is irreversible, says the definition"
        case _:
            why = "the definition does not say how (compensate)"
    return {"path": step.path, "state": step.state, "why": why}
