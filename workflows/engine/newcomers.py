"""Newcomers: the steps that only the version has to which a run goes over.

Those of scopes that have begun are born with the migration. Whose turn has passed is asked
about, and left out.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from workflows.engine.events import Birth
from workflows.engine.examined import IN_FLIGHT, Finding, Mapped, blocked, told, unmapped
from workflows.engine.plan import LOOPS, ROOT, SCOPES, Node, Plan
from workflows.engine.slice import RunView, StepView
from workflows.engine.states import Reason, RunState, StepState
from workflows.language.words import StepKind

REOPENED = frozenset(
    {
        Reason.UPSTREAM_FAILED,
        Reason.UPSTREAM_SKIPPED,
        Reason.FAIL_FAST,
        Reason.TIMEOUT,
        Reason.REPLAYED,
        Reason.HELD_BACK,
    }
)
"""Why a step may have ended that a replay has go on: nothing of it is done."""


@dataclass(slots=True)
class Newcomers:
    """The search for them, and what it has found."""

    old: Plan
    new: Plan
    run: RunView
    placed: Mapping[str, StepView]
    """The rows of the run, as they are in the new version."""
    mapping: Mapped
    findings: list[Finding] = field(default_factory=list)
    births: list[Birth] = field(default_factory=list)

    def find(self) -> None:
        """Find the steps that only the new version has, of the scopes that have begun."""
        if self.run.state is RunState.PENDING:
            return
        self._bear_in(self.new.root, ROOT, _Stage.of_run(self.run))
        begun = {view.scope for view in self.placed.values()}
        for view in self.placed.values():
            node = self.new.nodes[view.node]
            has_begun = view.state is StepState.WAITING or view.path in begun
            if has_begun and node.kind in SCOPES - LOOPS:
                self._bear_in(node, view.path, _Stage.of_scope(view))

    def _bear_in(self, scope: Node, path: str, stage: "_Stage") -> None:
        children = (self.new.nodes[index] for index in scope.children)
        missing = {
            node.index: node for node in children if self.new.path(node, path) not in self.placed
        }
        if stage is _Stage.OVER and "[]" in scope.path:
            self._tell_of_rounds(missing.values())
            return
        others = self._not_taken(scope, path) if missing else frozenset()
        for node in missing.values():
            where = self.new.path(node, path)
            if node.index in others:
                self.births.append(Birth(where, path, Reason.NOT_TAKEN))
            else:
                follows = self._passed_by(node, where, missing.keys() - others)
                why = self._why_not(node, stage, follows)
                self.births.append(Birth(where, path, why))

    def _tell_of_rounds(self, missing: Iterable[Node]) -> None:
        """Say what is new in a scope that has ended, of a loop: not all rows of that are looked at.

        Nothing of it goes on, so nothing is missed there.
        """
        for node in missing:
            if node.path not in self.old.by_path:
                self._tell(node.path, "it is new, and rounds that have ended are without it")

    def _why_not(self, node: Node, stage: "_Stage", follows: str) -> Reason | None:
        """Return why a step is not carried out that the new version has in addition.

        `follows` is one that comes after it and has begun.
        """
        if node.path in self.mapping and self.mapping[node.path] is None:
            self._tell(node.path, "it is new, and the run does without it")
            return Reason.LEFT_OUT
        if follows or stage is _Stage.OVER:
            why = f"{follows} follows it and has begun" if follows else "its block has ended"
            what = f"it is new, but its turn has passed: {why}"
            do = "Say that the run does without it, or leave the run in its version."
            self.findings.append(unmapped(node.path, what, do))
            return Reason.LEFT_OUT
        if stage is _Stage.SUSPENDED:
            self._tell(node.path, "it is new, and its turn comes if what has failed is replayed")
            return Reason.HELD_BACK
        self._tell(node.path, "it is new, and is carried out when its turn comes")
        return None

    def _passed_by(self, node: Node, where: str, missing: AbstractSet[int]) -> str:
        """Return a step that comes after a new one and has begun already, if there is one."""
        for index in node.needed_by:
            path = self.new.path(index, where)
            view = self.placed.get(path)
            if view is not None and is_passed(view):
                return path
            if index in missing and (
                found := self._passed_by(self.new.nodes[index], path, missing)
            ):
                return found
        return ""

    def _not_taken(self, scope: Node, path: str) -> frozenset[int]:
        """Return the steps of the cases of a switch that were not taken."""
        if scope.kind is not StepKind.SWITCH:
            return frozenset()
        taken = [
            case
            for case in scope.cases
            if any(
                view is not None and view.reason is not Reason.NOT_TAKEN
                for view in (self.placed.get(self.new.path(one, path)) for one in case.children)
            )
        ]
        if len(taken) > 1:
            what = "steps of the case that was taken are in several cases now"
            self.findings.append(blocked(path, what))
        chosen = taken[0].children if taken else ()
        return frozenset(scope.children) - frozenset(chosen)

    def _tell(self, path: str, what: str) -> None:
        self.findings.append(told(path, what))


def is_passed(view: StepView) -> bool:
    """Say whether a step has begun, or was passed over for good."""
    if view.state is StepState.PENDING:
        return False
    return view.state in IN_FLIGHT or view.reason not in REOPENED


class _Stage(StrEnum):
    """What may become of the steps of a scope."""

    OPEN = "open"
    SUSPENDED = "suspended"
    """It has ended badly, and may be replayed."""
    OVER = "over"

    @classmethod
    def of_run(cls, run: RunView) -> "_Stage":
        """Return the stage of the run's own steps."""
        return cls.SUSPENDED if run.state is RunState.FAILED else cls.OPEN

    @classmethod
    def of_scope(cls, view: StepView) -> "_Stage":
        """Return the stage of the steps of a scope."""
        if view.state is StepState.WAITING:
            waits = view.reason is Reason.CHILDREN and view.error is None
            return cls.OPEN if waits and not view.cancel_requested else cls.SUSPENDED
        return cls.OVER if view.state is StepState.COMPLETED else cls.SUSPENDED
