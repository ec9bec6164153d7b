"""What the runs of a test have around them: operators, people, other systems, child runs.

One clock for all of them. What is scripted happens when the test says so, or once it is called
for; what comes before anybody waits for it is kept, as it is in earnest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from workflows.engine import approving, listening
from workflows.engine.clock import Clock
from workflows.engine.decision import Awaited, Decision, RunMove
from workflows.engine.events import (
    Answered,
    CancelRequested,
    Event,
    PauseRequested,
    Repeat,
    Replayed,
    ResumeRequested,
    StepError,
)
from workflows.engine.plan import ROOT
from workflows.engine.simulation import Simulation
from workflows.engine.states import FINISHED_RUNS, Reason, RunState, StepState
from workflows.engine.stubs import Call, Result
from workflows.language.findings import InputError
from workflows.language.inputs import prepare
from workflows.language.limits import DEEPEST_CHILD
from workflows.language.words import ErrorClass
from workflows.testing.acts import Act, Command, Publication, Reply, Vote
from workflows.testing.errors import EndlessRunError, KitError, UnknownNameError
from workflows.testing.names import is_named, node_named, paths_named
from workflows.testing.stage import Line, Stage

MOST_DECISIONS = 200_000
"""So much may happen in a test; beyond it a loop is taken to have no end."""

EARLY = timedelta(hours=1)
"""How long events are kept for steps that have yet to wait, unless the step says otherwise."""


class Player(Protocol):
    """A workflow that child runs can be made of."""

    def play(self, world: "World", given: Mapping[str, Any], start: datetime) -> Simulation:
        """Begin a run of it in the world. Raises `InputError` if the input does not fit."""


@dataclass(slots=True)
class Part:
    """A run of the test, the step of which run waits for it, and how deep it is."""

    run: Simulation
    stage: Stage
    parent: "Part | None" = None
    path: str = ""
    children: dict[str, "Part"] = field(default_factory=dict)
    """The child runs by the paths of the steps that wait, or waited, for them."""
    is_held: bool = False
    """Whether it is paused because its parent is."""
    taken: set[tuple[str, str]] = field(default_factory=set)
    """The events that have woken a step of it."""

    @property
    def depth(self) -> int:
        """How many runs it is inside of."""
        return 0 if self.parent is None else self.parent.depth + 1


class World:
    """The world of the runs of a test. `assumes`: what nobody says anything of comes at once."""

    def __init__(  # noqa: PLR0913 - what the runs of a test share, each by its name
        self,
        *,
        players: Mapping[str, Player],
        env: Mapping[str, Any],
        repeats: Mapping[str, Repeat],
        catalog: Any,
        assumes: bool,
        started_by: str,
    ) -> None:
        self.players = players
        self.env = env
        self.repeats = repeats
        self.catalog = catalog
        self.assumes = assumes
        self.started_by = started_by
        self.votes: dict[tuple[int, str, int], list[Vote]] = {}
        self.parts: dict[int, Part] = {}
        self.to_come: list[Act] = []
        self.kept: list[Reply] = []
        self.published: list[tuple[datetime, Mapping[str, Any]]] = []
        self.decisions = 0

    def add(self, run: Simulation, stage: Stage) -> Part:
        """Take a run in."""
        part = self.parts[id(run)] = Part(run, stage)
        return part

    def perform(self, run: Simulation, call: Call) -> Result:
        """Do what the stub of a task says."""
        return self.parts[id(run)].stage.perform(run, call)

    def repeat(self, uses: str) -> Repeat:
        """Say whether a task type may be repeated in doubt: as the test says, or the catalog."""
        if uses in self.repeats:
            return self.repeats[uses]
        ask = getattr(self.catalog, "repeat", None)
        known = self.catalog is not None and uses in self.catalog.names()
        return ask(uses) if ask is not None and known else Repeat.FREELY

    def hear(self, clock: Clock, run: Simulation, decision: Decision, now: datetime) -> None:
        """Remember what was decided, and have come what is to come of it."""
        part = self.parts[id(run)]
        self._count(run)
        for line in part.stage.remember(decision, now):
            if line.after == StepState.FAILED:
                self._failed(clock, part, line.path, now)
        for awaited in decision.waits:
            if awaited.kind is not Reason.TIME:
                self._awaited(clock, part, awaited, now)
        for closing in decision.closings:
            self._let_go(clock, part, closing.path, now)
        for move in decision.run_moves:
            self._have_children_follow(clock, part, move, now)
            if move.after.state in FINISHED_RUNS and move.before not in FINISHED_RUNS:
                self._tell_parent(clock, part, now)

    def _count(self, run: Simulation) -> None:
        self.decisions += 1
        if self.decisions > MOST_DECISIONS:
            raise EndlessRunError(
                f"{run.plan.workflow} does not end: {MOST_DECISIONS} things have happened in it. "
                "Bound its loops, or hand run() until=..."
            )

    def script(self, clock: Clock, run: Simulation, acts: Iterable[Act]) -> None:
        """Have happen what the test says, when it says so."""
        part = self.parts[id(run)]
        for act in acts:
            _check_name(run, act)
            if act.when.is_relative:
                self.to_come.append(act)
                continue
            moment = run.started_at + timedelta(seconds=act.when.seconds)
            match act:
                case Command():
                    clock.later(run, moment, partial(self._told, part, act, act.step))
                case Reply():
                    clock.later(run, moment, partial(self._replied, part, act))
                case Vote():
                    clock.later(run, moment, partial(self._voted, part, act))
                case Publication():
                    clock.later(run, moment, partial(self._publish, clock, part, act))

    def _told(self, part: Part, act: Command, step: str, now: datetime) -> Iterable[Event]:
        part.stage.lines.append(Line(now, step, "", "", act=act.said))
        if step != ROOT:
            paths = paths_named(part.run, step)
        else:
            paths = (act.said == "replay" and part.run.to_replay) or [ROOT]
        return tuple(act.event(path, part.run.error) for path in paths)

    def _failed(self, clock: Clock, part: Part, path: str, now: datetime) -> None:
        """Have done about a failure what is to be done next about one of that step."""
        for act in self.to_come:
            if part.parent is None and isinstance(act, Command) and _is_about(part.run, act, path):
                self.to_come.remove(act)
                moment = now + timedelta(seconds=act.when.seconds)
                clock.later(part.run, moment, partial(self._told, part, act, path))
                return

    def _awaited(self, clock: Clock, part: Part, awaited: Awaited, now: datetime) -> None:
        """Have come for a step that waits what a stub says, or the script, or another run."""
        result = part.stage.answer(part.run, awaited)
        if result is None and self._is_answered(clock, part, awaited, now):
            return
        if result is None and self.assumes:
            result = part.stage.assume(part.run, awaited)
        if result is None:
            return
        moment, output = now + timedelta(seconds=result.seconds), result.output
        if awaited.kind is Reason.APPROVAL and output is None:
            output = approving.assumed(awaited.request, at=moment)
        clock.tell(part.run, _answer(awaited, output, result.error), moment)

    def _is_answered(self, clock: Clock, part: Part, awaited: Awaited, now: datetime) -> bool:
        match awaited.kind:
            case Reason.CHILD:
                return self._begin_child(clock, part, awaited, now)
            case Reason.EVENT:
                return self._seek(clock, part, awaited, now)
            case Reason.APPROVAL:
                return self._call_to_vote(clock, part, awaited, now)
        return self._await_reply(clock, part, awaited, now)

    def _call_to_vote(self, clock: Clock, part: Part, awaited: Awaited, now: datetime) -> bool:
        """Have everybody vote in their time who is to vote on the step."""
        found = [one for one in self.to_come if isinstance(one, Vote)]
        found = [one for one in found if is_named(part.run, awaited.path, one.step)]
        for vote in found:
            self.to_come.remove(vote)
            moment = now + timedelta(seconds=vote.when.seconds)
            mine = replace(vote, step=awaited.path)
            clock.later(part.run, moment, partial(self._voted, part, mine))
        return bool(found)

    def _voted(self, part: Part, vote: Vote, now: datetime) -> Iterable[Event]:
        """Count a vote, if the rules allow it; the last that is wanted ends the wait."""
        for awaited in list(part.run.waits.values()):
            if awaited.kind is Reason.APPROVAL and is_named(part.run, awaited.path, vote.step):
                known = self.votes.setdefault((id(part.run), awaited.path, awaited.attempt), [])
                why = _refusal(vote, known, awaited, self.started_by)
                self._tell_vote(part, vote, now, why)
                if why:
                    return ()
                known.append(vote)
                return _verdict(awaited, known, now)
        self._tell_vote(part, vote, now, f"{vote.step} asks nobody now")
        return ()

    def _tell_vote(self, part: Part, vote: Vote, now: datetime, why: str) -> None:
        said = f"{vote.said}, refused: {why}" if why else vote.said
        part.stage.lines.append(Line(now, vote.step, "", "", act=said))
        if why:
            part.stage.refused.append(f"{vote.said}: {why}")

    def _await_reply(self, clock: Clock, part: Part, awaited: Awaited, now: datetime) -> bool:
        """Hand out a reply that came early, or have the next one come in its time."""
        for reply in self.kept:
            if _is_for(part.run, reply, awaited):
                self.kept.remove(reply)
                clock.tell(part.run, _answer(awaited, reply.output, reply.error), now)
                return True
        for act in self.to_come:
            if isinstance(act, Reply) and _is_for(part.run, act, awaited):
                self.to_come.remove(act)
                moment = now + timedelta(seconds=act.when.seconds)
                reply = replace(act, step=awaited.path)
                clock.later(part.run, moment, partial(self._replied, part, reply))
                return True
        return False

    def _replied(self, part: Part, reply: Reply, now: datetime) -> Iterable[Event]:
        """Tell the steps that wait for it; what nobody waits for is kept."""
        part.stage.lines.append(Line(now, reply.step, "", "", act=reply.said))
        open_ones = [one for one in part.run.waits.values() if _is_for(part.run, reply, one)]
        if not open_ones:
            self.kept.append(reply)
        return tuple(_answer(one, reply.output, reply.error) for one in open_ones)

    def _seek(self, clock: Clock, part: Part, awaited: Awaited, now: datetime) -> bool:
        """Hand out the oldest event that came early, or have the next one be published."""
        since = awaited.request.get("since")
        kept_for = EARLY if since is None else timedelta(seconds=since)
        kept = [one for one in self.published if kept_for and one[0] >= now - kept_for]
        for _, envelope in kept:
            is_new = _identity(envelope) not in part.taken
            if is_new and _is_it(awaited, envelope):
                part.taken.add(_identity(envelope))
                clock.tell(part.run, _answer(awaited, listening.content(envelope)), now)
                return True
        for act in self.to_come:
            if isinstance(act, Publication) and _is_it(awaited, act.envelope):
                self.to_come.remove(act)
                moment = now + timedelta(seconds=act.when.seconds)
                clock.later(part.run, moment, partial(self._publish, clock, part, act))
                return True
        return False

    def _publish(
        self, clock: Clock, part: Part, act: Publication, now: datetime
    ) -> Iterable[Event]:
        """Wake every step that waits for an event, in whichever run; the same one comes once."""
        part.stage.lines.append(Line(now, ROOT, "", "", act=act.said))
        identity = _identity(act.envelope)
        if any(_identity(known) == identity for _, known in self.published):
            return ()
        self.published.append((now, act.envelope))
        for other in list(self.parts.values()):
            for awaited in list(other.run.waits.values()):
                if awaited.kind is Reason.EVENT and _is_it(awaited, act.envelope):
                    other.taken.add(identity)
                    content = listening.content(act.envelope)
                    clock.tell(other.run, _answer(awaited, content), now)
        return ()

    def _begin_child(self, clock: Clock, part: Part, awaited: Awaited, now: datetime) -> bool:
        """Begin the child run that a step waits for, or have the one go on that had failed."""
        player = self.players.get(awaited.name)
        if player is None and self.assumes:
            return False
        if player is None:
            raise KitError(
                f"The step {awaited.path} runs the workflow {awaited.name}. Say what that does: "
                f"children={{{awaited.name!r}: Workflow.load(...)}}, or a stub in its place."
            )
        previous = part.children.get(awaited.path)
        goes_on = previous is not None and previous.run.state is RunState.FAILED
        if previous is not None and goes_on and not awaited.request.get("anew"):
            clock.tell(previous.run, Replayed(ROOT), now)
            return True
        error = None
        if part.depth + 1 > DEEPEST_CHILD:
            message = f"{awaited.name} would be child run number {part.depth + 1}, one in the other"
            error = StepError(ErrorClass.PERMANENT, "child.too_deep", message)
        else:
            try:
                run = player.play(self, awaited.request["input"], now)
            except InputError as refused:
                message = f"The child run of {awaited.path} was not started. {refused}"
                error = StepError(ErrorClass.PERMANENT, "child.input", message)
        if error is not None:
            clock.tell(part.run, _answer(awaited, None, error), now)
            return True
        child = self.parts[id(run)]
        child.parent, child.path = part, awaited.path
        part.children[awaited.path] = child
        clock.begin(run)
        return True

    def _let_go(self, clock: Clock, part: Part, path: str, now: datetime) -> None:
        """Cancel the child run that nobody waits for any more; undo it where its parent is."""
        child, ending = part.children.get(path), part.run.run.ending
        if child is not None and child.run.state not in FINISHED_RUNS:
            is_undone = bool(ending and ending.undo and child.run.plan.can_be_undone)
            clock.tell(child.run, CancelRequested(undo=is_undone), now)

    def _have_children_follow(self, clock: Clock, part: Part, move: RunMove, now: datetime) -> None:
        """Pause child runs with their parent, and have those go on that were paused with it."""
        for child in part.children.values():
            if move.after.state is RunState.PAUSED and child.run.state is RunState.RUNNING:
                child.is_held = True
                clock.tell(child.run, PauseRequested(), now)
            elif move.before is RunState.PAUSED and child.is_held:
                child.is_held = False
                clock.tell(child.run, ResumeRequested(), now)

    def _tell_parent(self, clock: Clock, part: Part, now: datetime) -> None:
        """Tell the step that waits for a child run how that has ended."""
        if part.parent is None:
            return
        waits = part.parent.run.waits.values()
        for awaited in [one for one in waits if one.path == part.path]:
            error = None if part.run.state is RunState.COMPLETED else _failure(part.run)
            output = part.run.output if error is None else None
            clock.tell(part.parent.run, _answer(awaited, output, error), now)


def _answer(awaited: Awaited, output: Any, error: StepError | None = None) -> Answered:
    return Answered(awaited.path, awaited.kind, output, error, awaited.attempt)


def _refusal(vote: Vote, known: list[Vote], awaited: Awaited, started_by: str) -> str:
    """Return why a vote does not count; nothing if it does."""
    request = awaited.request
    if vote.by == started_by and not request.get("allow_self"):
        return "nobody decides on what they have started"
    if any(one.by == vote.by for one in known):
        return f"{vote.by} has decided already"
    if request.get("form") is None:
        return "there is no form to fill in" if vote.form else ""
    try:
        prepare(request["form"], vote.form) if vote.is_yes else None
    except InputError as error:
        return f"the form does not fit: {error}"
    return ""


def _verdict(awaited: Awaited, votes: list[Vote], now: datetime) -> Iterable[Event]:
    """Return how the step ends with these votes; nothing while others are to follow."""
    last, request = votes[-1], awaited.request
    if not last.is_yes:
        error = approving.rejection(awaited.path, by=last.by, note=last.note)
        return (_answer(awaited, None, error),)
    if len(votes) < request["approvals"]:
        return ()
    schema = request.get("form")
    forms = [None if schema is None else prepare(schema, one.form) for one in votes]
    output = approving.approved(
        by=[one.by for one in votes],
        form=forms[-1],
        at=now,
        votes=[
            {"by": one.by, "note": one.note, "form": form}
            for one, form in zip(votes, forms, strict=True)
        ],
    )
    return (_answer(awaited, output),)


def _failure(child: Simulation) -> StepError:
    """Return the end of a child run as the failure of the step that waits for it."""
    name = f"the child run of {child.plan.workflow}"
    if child.state is RunState.CANCELLED:
        return StepError(ErrorClass.CANCELLED, "child.cancelled", f"{name} was cancelled")
    if child.error is None:
        message = f"{name} is {child.state.value}"
        return StepError(ErrorClass.PERMANENT, "child.failed", message)
    return replace(child.error, message=f"{name} failed: {child.error.message}")


def _is_about(run: Simulation, act: Command, path: str) -> bool:
    return path == act.step or bool(path and act.step and is_named(run, path, act.step))


def _is_for(run: Simulation, reply: Reply, awaited: Awaited) -> bool:
    return awaited.kind is reply.kind and is_named(run, awaited.path, reply.step)


def _is_it(awaited: Awaited, envelope: Mapping[str, Any]) -> bool:
    is_type = awaited.name == envelope["type"]
    return is_type and listening.is_it(awaited.request, listening.named(envelope))


def _identity(envelope: Mapping[str, Any]) -> tuple[str, str]:
    return envelope["source"], envelope["id"]


def _check_name(run: Simulation, act: Act) -> None:
    """Refuse an act on a step that there is none of."""
    step = ROOT if isinstance(act, Publication) else act.step
    if step != ROOT and node_named(run.plan, step) is None:
        known = [node.id for node in run.plan.nodes if node.id]
        raise UnknownNameError(f"{act.said}({step!r})", step, known, "steps")
