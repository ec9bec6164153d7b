"""Sending: which messages a decision calls for, and to how many takers.

Messages are hints: what is lost of them is found by recovery.
"""

from collections.abc import Iterable
from uuid import UUID

from workflows import store
from workflows.dispatch import (
    ABREAST,
    FAN_OUT_FROM,
    FAN_OUT_WIDTH,
    FIRST_TAKERS,
    LOOPS_AT_ONCE,
    Attend,
    Dispatch,
    FanOut,
    Line,
    Look,
    Refill,
    Segment,
    Vacated,
)
from workflows.engine.decision import Decision
from workflows.engine.plan import LOOPS, Node, Plan
from workflows.engine.slice import Slice, StepView
from workflows.engine.states import FINISHED_RUNS, Reason, RunState, StepState
from workflows.language.words import StepKind
from workflows.services.announcing import tell_who_is_asked
from workflows.services.deciding import Wish
from workflows.services.flights import send
from workflows.services.plans import Pinned

GOING_ON = frozenset({RunState.RUNNING, RunState.PAUSED, RunState.COMPENSATING})
"""In these states of a run, what becomes ready is to be carried out sooner or later."""


def hints(
    pinned: Pinned,
    decision: Decision,
    held: Slice | None,
    brought: str = "",
    wish: Wish | None = None,
) -> list[Dispatch]:
    """Return what is to be sent: steps that are ready, and who sees to child runs and places.

    The message of `brought` is on its way already. Where nothing was held, nothing was decided.
    """
    if held is None:
        return []
    found = _ready(pinned, decision, held, brought, wish)
    for first in range(0, len(decision.left), LOOPS_AT_ONCE):
        loops = tuple(decision.left[first : first + LOOPS_AT_ONCE])
        found.append(Refill(pinned.run, pinned.version, loops))
    if decision.waits:
        tell_who_is_asked(pinned, held.run.environment, decision.waits)
    if pinned.plan.has_children and (decision.waits or decision.closings):
        found.append(Attend(pinned.run))
    is_over = any(move.after.state in FINISHED_RUNS for move in decision.run_moves)
    if held.run.parent and is_over:
        found.append(Attend(UUID(held.run.parent)))
    if pinned.plan.concurrency is not None and is_over:
        found.append(Vacated(pinned.run))
    return found


def _ready(
    pinned: Pinned, decision: Decision, held: Slice, brought: str, wish: Wish | None
) -> list[Dispatch]:
    """Return what is to be sent: who listens has the engine look for what came before it."""
    listens = any(awaited.kind is Reason.EVENT for awaited in decision.waits)
    queued = _queued(pinned, decision, held, brought, wish)
    return [*queued, Look()] if listens else queued


def _queued(
    pinned: Pinned, decision: Decision, held: Slice, brought: str, wish: Wish | None
) -> list[Dispatch]:
    if held.run.state not in GOING_ON:
        return []
    last = {move.after.path: move.after for move in decision.moves}
    ready = [
        view
        for view in last.values()
        if view.state is StepState.QUEUED and (view.path != brought or view.attempt != 1)
    ]
    if not ready or (held.run.state is RunState.PAUSED and not _was_resumed(pinned)):
        return []
    return dispatches_of(pinned, held.run.environment, ready, wish)


def _was_resumed(pinned: Pinned) -> bool:
    """Say whether a run that was seen paused goes on; else whoever resumes it waits for this.

    So a step that becomes ready at that moment is sent by one of the two.
    """
    return store.lock_run(pinned.run) is RunState.RUNNING


def send_queued(pinned: Pinned, environment: str) -> None:
    """Have whatever is queued of a run sent: nobody knows whether it has been."""
    send(dispatches_of(pinned, environment, store.queued(pinned.run)))


def dispatches_of(
    pinned: Pinned, environment: str, ready: Iterable[StepView], wish: Wish | None = None
) -> list[Dispatch]:
    """Return how queued steps are sent: one by one, or to takers where there are many.

    Of what goes abreast, each taker takes as many as whoever wished for it.
    """
    groups: dict[tuple[str, str], list[StepView]] = {}
    for view in ready:
        queue = store.queue_of(pinned.plan.nodes[view.node], environment)
        groups.setdefault((queue, view.scope), []).append(view)
    found: list[Dispatch] = []
    for (queue, scope), views in groups.items():
        is_loop = pinned.plan.node(scope).kind in LOOPS
        is_quick = wish is not None and wish.abreast(pinned.plan.nodes[views[0].node])
        width = _takers(len(views), is_quick=is_quick, is_loop=is_loop)
        if width:
            found.append(FanOut(pinned.run, pinned.version, queue, width, scope, is_loop))
        else:
            found += [_along(pinned, environment, view, queue, is_quick) for view in views]
    return found


def _takers(count: int, *, is_quick: bool, is_loop: bool) -> int:
    """Return how many takers carry out so many steps of a scope; none when each goes alone.

    The takers of a loop call for further ones themselves. What goes abreast outside of loops
    travels in bundles, unless it is so much that a chord of takers is cheaper.
    """
    if is_loop:
        enough = -(-count // ABREAST)
        most = enough if is_quick else min(enough, FIRST_TAKERS)
        return most if is_quick or count > 1 else 0
    at_least = FAN_OUT_FROM * ABREAST if is_quick else FAN_OUT_FROM
    return min(count, FAN_OUT_WIDTH) if count >= at_least else 0


def _along(
    pinned: Pinned, environment: str, view: StepView, queue: str, is_quick: bool
) -> Dispatch:
    """Return a line where the steps after this one are known in advance and on other queues."""
    first = Segment(pinned.run, pinned.version, view.path, view.attempt, queue, is_quick)
    if view.attempt != 1:
        return first
    segments = [first]
    node = pinned.plan.nodes[view.node]
    while (after := _only_successor(pinned.plan, node)) is not None:
        node = after
        queue = store.queue_of(node, environment)
        segments.append(Segment(pinned.run, pinned.version, node.path, 1, queue))
    return first if len(segments) == 1 else Line(tuple(segments))


def _only_successor(plan: Plan, node: Node) -> Node | None:
    """Return the task that surely follows on another queue, if there is one."""
    if len(node.needed_by) != 1:
        return None
    after = plan.nodes[node.needed_by[0]]
    follows = after.kind is StepKind.TASK and len(after.needs) == 1 and after.when is None
    is_elsewhere = (after.environment, after.queue_class) != (node.environment, node.queue_class)
    return after if follows and is_elsewhere else None
