"""A Draft: the slice as it changes while `advance` decides, and the record of every change."""

from collections import Counter, deque
from collections.abc import Container, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from workflows.engine.decision import (
    UNSET,
    AttemptEnd,
    AttemptRecord,
    Awaited,
    Closing,
    Decision,
    Move,
    OpenIncident,
    RunMove,
    Unset,
)
from workflows.engine.events import Drained, Event, StepError
from workflows.engine.joins import Tally
from workflows.engine.plan import NO_NODE, Node, Plan, Reads, latest, number_of
from workflows.engine.slice import Slice, StepView, linked_attempt
from workflows.engine.states import OUTSIDE, UNDOING, Reason, RunState, StepState
from workflows.language.words import StepKind


def names_of(plan: Plan, held: Slice, node: Node, near: str, reads: Reads) -> Mapping[str, Any]:
    """Return what expressions of the step at `near`, which is of `node`, may name.

    That is as much as `reads` says that they do.
    """
    names = {root: held.roots[root] for root in reads.roots if root in held.roots}
    if "env" in names and node.environment in held.elsewhere:
        names["env"] = held.elsewhere[node.environment]
    if reads.steps or "steps" in reads.roots:
        known = ((step, _record_of(plan, held, plan.by_id[step], near)) for step in reads.steps)
        names["steps"] = {step: record for step, record in known if record is not None}
    if "error" in reads.roots and node.undoes != NO_NODE:
        ending = held.run.ending
        names["error"] = ending.error.as_dict() if ending and ending.error else None
    elif "error" in reads.roots and node.caught != NO_NODE:
        caught = held.records.get(plan.path(node.caught, near)) or {}
        names["error"] = caught.get("error")
    for name in reads.roots & node.items.keys():
        names[name] = held.items.get(plan.path(node.items[name], near))
    if "index" in reads.roots and (depth := node.path.count("[]")):
        names["index"] = number_of(near, depth - 1)
    return names


def _record_of(plan: Plan, held: Slice, node: Node, near: str) -> Mapping[str, Any] | None:
    """Return what expressions see of a step; its callback URL is known before it waits."""
    path = plan.record(node, near)
    record = held.records.get(path)
    if node.kind is not StepKind.CALLBACK or held.link is None or "*" in path:
        return record
    return {**(record or {}), "callback_url": held.link(path, linked_attempt(record))}


MOVED = frozenset({"state", "reason"})
"""The fields that every move sets."""

ENDS: Mapping[StepState, AttemptEnd] = {
    StepState.COMPLETED: AttemptEnd.COMPLETED,
    StepState.CANCELLED: AttemptEnd.CANCELLED,
}
"""How a wait for something from outside has ended, by where its step goes; else it has failed."""


class Draft:
    """One decision in the making. `queue` holds what is still to be decided."""

    def __init__(
        self, plan: Plan, held: Slice, *, now: datetime, chance: Random, patience: timedelta
    ) -> None:
        self.plan = plan
        self.slice = held
        self.now = now
        self.chance = chance
        self.patience = patience
        self.decision = Decision()
        self.queue: deque[Event] = deque()
        self._drained: Counter[str] = Counter()
        self._touched: dict[str, frozenset[str]] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self._answers: dict[str, Mapping[str, Any] | None] = {}
        self._latest = [path for path in held.records if "*" in path]
        self._inside: dict[str, list[str]] | None = None

    def view(self, path: str) -> StepView:
        """Return the step at `path` as it now stands."""
        return self.slice.steps[path]

    def inside(self, scope: str) -> list[StepView]:
        """Return the steps of a scope as they now stand."""
        if self._inside is None:
            self._inside = {}
            for view in self.slice.steps.values():
                self._inside.setdefault(view.scope, []).append(view.path)
        return [self.slice.steps[path] for path in self._inside.get(scope, ())]

    def node_of(self, view: StepView) -> Node:
        """Return what the definition says of the step."""
        return self.plan.nodes[view.node]

    def path(self, node: Node | int, *, near: str) -> str:
        """Return the path of the instance of a node that is in the iterations of `near`."""
        return self.plan.path(node, near)

    def tally_of_needs(self, view: StepView, *, but: Container[str] = ()) -> Tally:
        """Return how the steps that a step needs have ended, but for those at some paths."""
        tally = Tally()
        for index in self.node_of(view).needs:
            need = self.view(self.path(index, near=view.path))
            tally = tally if need.path in but else need.counted(tally)
        return tally

    def owner_of(self, node: Node) -> Node:
        """Return the scope around `node`."""
        return self.plan.nodes[node.scope]

    def later(self, event: Event) -> None:
        """Have `event` decided after what is already waiting."""
        self.queue.append(event)
        if isinstance(event, Drained):
            self._drained[event.path] += 1

    def next(self) -> Event:
        """Return what is to be decided next."""
        event = self.queue.popleft()
        if isinstance(event, Drained):
            self._drained[event.path] -= 1
        return event

    def is_drained_later(self, path: str) -> bool:
        """Say whether it is decided later whether the scope has ended."""
        return self._drained[path] > 0

    def touch(self, view: StepView, **changes: Any) -> StepView:
        """Change a row without moving it to another state."""
        after = view._replace(**changes)
        self._close_wait(view, after)
        self.slice.steps[view.path] = after
        self._touched[view.path] = self._touched.get(view.path, frozenset()) | changes.keys()
        return after

    def correct(self, view: StepView, arguments: Mapping[str, Any]) -> None:
        """Keep what a person has the step be given, with its next move, whatever that is."""
        self._kept.setdefault(view.path, {})["arguments"] = dict(arguments)

    def keep_items(self, view: StepView, items: Any) -> None:
        """Keep what a loop goes through, with its next move."""
        self._kept.setdefault(view.path, {})["items"] = items

    def corrected(self, view: StepView) -> Mapping[str, Any] | None:
        """Return what a person has just had the step be given, if so."""
        return self._kept.get(view.path, {}).get("arguments")

    def move(
        self,
        view: StepView,
        state: StepState,
        *,
        reason: Reason | None = None,
        output: Any = UNSET,
        **changes: Any,
    ) -> StepView:
        """Move a step on; whatever is not said anew of `reason` and `wake_at` is over."""
        changes.setdefault("wake_at", None)
        after = view._replace(state=state, reason=reason, **changes)
        self._close_wait(view, after)
        self.slice.steps[view.path] = after
        self.slice.tallies.pop(view.scope, None)
        changed = self._touched.pop(view.path, frozenset()) | changes.keys() | MOVED
        kept = self._kept.pop(view.path, {})
        self.decision.moves.append(Move(view.state, after, changed, output, **kept))
        if self.node_of(view).is_item and state not in UNDOING:
            self._count(view, after)
        if after.final or after.error is not None:
            self.note(after, output)
        return after

    def _count(self, before: StepView, after: StepView) -> None:
        """Have the loop around an instance of its body know how that has ended."""
        if before.final or after.final:
            loop = self.view(after.scope)
            told = after.ended_in(loop.tally) if after.final else loop.tally
            ended = before.ended_in(Tally()) if before.final else Tally()
            self.touch(loop, tally=told.without(ended))

    def carry(self, view: StepView, **changes: Any) -> StepView:
        """Take a step that no worker carries out to where its work is done, at once."""
        if view.state is not StepState.QUEUED:
            view = self.move(view, StepState.QUEUED)
        return self.move(view, StepState.RUNNING, started_at=self.now, wake_at=self.now, **changes)

    def wait(self, view: StepView, awaited: Awaited, *, until: datetime | None) -> StepView:
        """Have a step wait for something from outside, no longer than `until`: its next attempt.

        However it leaves that, its wait is closed and the attempt is over.
        """
        carried = self.carry(view, attempt=view.attempt + 1)
        self.decision.waits.append(replace(awaited, attempt=carried.attempt))
        return self.move(carried, StepState.WAITING, reason=awaited.kind, wake_at=until)

    def wait_instead(
        self, view: StepView, awaited: Awaited, *, until: datetime | None, error: StepError
    ) -> StepView:
        """Have a step whose wait was in vain, as `error` says, wait for something else instead.

        That is its next attempt, and one more of its failures.
        """
        self._end_wait(view, AttemptEnd.FAILED, error)
        begun = {"attempt": view.attempt + 1, "failures": view.failures + 1}
        after = self.touch(view, **begun, wake_at=until)
        self.decision.waits.append(replace(awaited, attempt=after.attempt))
        return after

    def answer(self, view: StepView, answer: Mapping[str, Any] | None) -> None:
        """Keep by what a wait is ended, with its next move."""
        self._answers[view.path] = answer

    def _close_wait(self, before: StepView, after: StepView) -> None:
        waited = before.state is StepState.WAITING and before.reason in OUTSIDE
        if not waited or (after.state, after.reason) == (before.state, before.reason):
            return
        self._end_wait(before, ENDS.get(after.state, AttemptEnd.FAILED), after.error)

    def _end_wait(self, view: StepView, end: AttemptEnd, error: StepError | None) -> None:
        self.decision.attempts.append(AttemptRecord(view, end, error))
        answer = self._answers.pop(view.path, None)
        self.decision.closings.append(Closing(view.path, view.attempt, end, answer))

    def note(self, view: StepView, output: Any = UNSET) -> None:
        """Have expressions see the step as it now is."""
        record = {
            "state": view.state.value,
            "output": None if isinstance(output, Unset) else output,
            "error": view.error.as_dict() if view.error else None,
            "attempt": view.attempt,
        }
        records = self.slice.records
        records[view.path] = record
        for path in self._latest:
            if latest(path).fullmatch(view.path):
                records[path] = record

    def move_run(
        self,
        state: RunState,
        *,
        output: Any = UNSET,
        error: StepError | None = None,
        **changes: Any,
    ) -> None:
        """Move the run on, or change its row; a `reason` that is not said anew is over."""
        changes.setdefault("reason", None)
        before = self.slice.run
        after = replace(before, state=state, **changes)
        self.slice.run = after
        self.decision.run_moves.append(RunMove(before.state, after, output, error))

    def bear(self, node: Node, *, scope: str, near: str = "", item: Any = None) -> StepView:
        """Bring a step into being, pending, in the scope at that path.

        An instance of the body of a loop has its number in `near`, and what it is for in `item`.
        """
        view = StepView(path=self.path(node, near=near or scope), node=node.index, scope=scope)
        if node.is_item:
            self.slice.items[view.path] = self.decision.items[view.path] = item
        self.slice.steps[view.path] = view
        if self._inside is not None:
            self._inside.setdefault(scope, []).append(view.path)
        self.slice.tallies.pop(view.scope, None)
        self.slice.records[view.path] = None
        self.decision.born.append(view)
        return view

    def incident(self, view: StepView, error: StepError) -> None:
        """Ask for a person to look at the step."""
        self.decision.incidents.append(OpenIncident(view.path, view.attempt, error))

    def names(self, path: str, reads: Reads) -> Mapping[str, Any]:
        """Return what expressions of the step at `path` may name, as far as they do name it."""
        return names_of(self.plan, self.slice, self.plan.node(path), path, reads)

    def finish(self) -> Decision:
        """Return the decision, with the rows that changed without moving."""
        for path, changed in self._touched.items():
            view = self.slice.steps[path]
            self.decision.moves.append(Move(view.state, view, changed))
        return self.decision
