"""What must hold of every plan, whatever happens and in whatever order it is heard of."""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.builders import (
    LEASE,
    Play,
    broken,
    done,
    error_of,
    interrupted,
    lost,
    plan_from,
    play,
)
from workflows.engine.events import (
    Answered,
    CancelRequested,
    Claimed,
    CompensationRequested,
    Discarded,
    Event,
    PauseRequested,
    Repeat,
    Replayed,
    ResumeRequested,
    RetryDue,
    SkipDecided,
    TimedOut,
)
from workflows.engine.looping import under_way
from workflows.engine.plan import LOOPS, NO_NODE, Plan, dump_plan, load_plan
from workflows.engine.slice import StepView
from workflows.engine.states import FINISHED_RUNS, Reason, RunReason, RunState, StepState
from workflows.language.words import Join

PATIENT = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    max_examples=100,
)

SIMPLE_JOINS = [rule.value for rule in Join if rule is not Join.AT_LEAST]
CALM_JOINS = [rule for rule in SIMPLE_JOINS if rule != "all_success"]
"""`all_success` asks what came first; `test_airflow_rules` says when time has no say in that."""
PARTIAL_JOINS = ["one_success", "one_failed", "one_done"]
ERRORS = [("http.503", "transient"), ("sql.lost", "permanent"), ("http.404", "business")]
CATCHES = [[], ["permanent"], ["http"], ["http.404", "transient"]]
WAITING = ("approval", "callback", "event", "wait")
"""The kinds of steps that wait for what comes from outside."""

ANSWERED = frozenset({Reason.APPROVAL, Reason.CALLBACK, Reason.EVENT})
"""Waits that end when somebody says something."""

ON_TIMEOUT = (
    {},
    {"on_timeout": "approve"},
    {"on_timeout": "reject"},
    {"on_timeout": "escalate", "escalate_to": "directors"},
)
"""What an approval does that nobody decides in time."""

EVENTS = ("t", "u")
"""The types of the events that steps wait for."""

CONDITIONS = [True, False, "${{ input.missing }}"]


OF_THE_RUN = {"run.timeout", "run.exit", "expression.error"}
"""The codes of errors that are the run's own: no step of it needs a person."""


class Author:
    """Writes random documents of a bounded size; `calm` ones end the same in any order."""

    def __init__(self, chance: Random, *, calm: bool) -> None:
        self.chance = chance
        self.calm = calm
        self.left = chance.randint(2, 14)
        self.count = 0
        self.children: list[str] = []
        """The workflows of which steps may have child runs."""

    def plan(self) -> Plan:
        keys = self.document()
        return plan_from(*keys.pop("steps"), **keys)

    def document(self) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        if not self.calm:
            keys = {"fail_fast": self.rarely(), "output": {"n": 1}}
            if self.rarely():
                keys["timeout"] = 60
            keys["on_failure"] = self.chance.choice(["fail", "park", "compensate", "compensate"])
        return {"steps": self.sequence(depth=0), **keys}

    def rarely(self) -> bool:
        return self.chance.random() < 0.2

    def sequence(self, depth: int, *, ordered: bool = True) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []
        for _ in range(self.chance.randint(1, 4)):
            self.left -= 1
            step = self.step(depth)
            before = [other["id"] for other in steps]
            if ordered and before and self.chance.random() < 0.8:
                self.join(step, self.chance.sample(before, self.chance.randint(0, len(before))))
            steps.append(step)
            if self.left <= 0:
                break
        return steps

    def join(self, step: dict[str, Any], needs: list[str]) -> None:
        step["needs"] = needs
        if not needs:
            return
        if self.chance.random() < 0.2:
            step["join"] = {"at_least": self.chance.randint(1, len(needs))}
        else:
            step["join"] = self.chance.choice(CALM_JOINS if self.calm else SIMPLE_JOINS)
        partial = isinstance(step["join"], dict) or step["join"] in PARTIAL_JOINS
        if partial and not self.calm and self.chance.random() < 0.5:
            step["losers"] = "cancel"

    def step(self, depth: int) -> dict[str, Any]:
        self.count += 1
        step: dict[str, Any] = {"id": f"s{self.count}"}
        if self.rarely():
            step["when"] = self.chance.choice(CONDITIONS)
        if self.rarely():
            step["optional"] = True
        kinds = ["uses"] * 6 + ["set"] + ([] if self.calm else ["exit", *WAITING])
        kinds += ["workflow"] * 3 if self.children else []
        if depth < 3 and self.left > 0:
            kinds += ["parallel", "steps", "switch"] * 2
            kinds += [] if self.calm else ["foreach", "repeat"] * 2
        kind = self.chance.choice(kinds)
        self.fill(step, kind, depth)
        if kind not in ("set", "exit") and not self.calm and self.chance.random() < 0.6:
            step["compensate"] = self.undo()
        if self.chance.random() < 0.25 and depth < 3:
            step["catch"] = [
                {"on": self.chance.choice(CATCHES), "steps": self.sequence(depth + 1)}
                for _ in range(self.chance.randint(1, 2))
            ]
        return step

    def patience(self) -> dict[str, Any]:
        return {"max_duration": 7} if not self.calm and self.rarely() else {}

    def undo(self) -> dict[str, Any]:
        """Return what undoes a step."""
        return {"uses": "log", "retry": {"max_attempts": self.chance.randint(1, 2)}}

    def fill(self, step: dict[str, Any], kind: str, depth: int) -> None:  # noqa: C901, PLR0912 - the table of kinds, a case each
        match kind:
            case "uses":
                step["uses"] = "log"
                tries = self.chance.randint(1, 2)
                step["retry"] = {"max_attempts": tries, "worker_lost_attempts": tries}
                step["retry"] |= self.patience()
            case "set":
                step["set"] = {step["id"]: self.chance.choice([1, "${{ input.missing }}"])}
            case "exit":
                step["exit"] = {"status": self.chance.choice(["completed", "failed", "cancelled"])}
            case "callback":
                step["callback"] = {"timeout": 30 + self.count / 100}
            case "event":
                step["event"] = {"type": self.chance.choice(EVENTS)}
                step["event"]["timeout"] = 25 + self.count / 100
            case "workflow":
                step["workflow"] = self.chance.choice(self.children)
                if self.rarely():
                    step["timeout"] = 40
            case "approval":
                step["approval"] = {"group": "finance", "timeout": 20 + self.count / 100}
                step["approval"] |= self.chance.choice(ON_TIMEOUT)
            case "wait":
                step["wait"] = {"for": 15 + self.count / 100}
            case "switch":
                step["switch"] = [
                    {"when": self.chance.choice(CONDITIONS), "steps": self.sequence(depth + 1)}
                    for _ in range(self.chance.randint(1, 2))
                ]
                if self.rarely():
                    step["switch"].append({"else": True, "steps": self.sequence(depth + 1)})
            case "foreach":
                step["foreach"] = self.chance.choice([[], ["a", "b", "c"], "${{ 4 }}"])
                step["max_parallel"] = self.chance.randint(1, 3)
                step["on_item_failure"] = self.chance.choice(["stop", "continue"])
                step["until"] = self.chance.choice([None, None, "${{ index == 1 }}"])
                step["steps"] = self.sequence(depth + 1)
            case "repeat":
                until = self.chance.choice([None, "${{ index == 1 }}", "${{ false }}"])
                every = self.chance.choice([None, 5])
                most = self.chance.randint(1, 3)
                step["repeat"] = {"until": until, "every": every, "max_times": most}
                step["steps"] = self.sequence(depth + 1)
            case _:
                step[kind] = self.sequence(depth + 1, ordered=kind == "steps")
        if kind in ("switch", "parallel", "steps", "foreach", "repeat") and not self.calm:
            step["fail_fast"] = self.rarely()
            if self.rarely():
                step["timeout"] = 20


class World:
    """Does to a run what workers, clocks, brokers and people do, in any order."""

    def __init__(self, run: Play, chance: Random) -> None:
        self.run = run
        self.chance = chance
        self.heard: list[Event] = []

    def step(self, *, people: bool) -> bool:
        """Let one thing happen; say whether anything could."""
        kinds = [*self.of_workers(), *self.of_time()]
        if people and self.chance.random() < 0.25:
            kinds = self.of_people()
        if people and self.heard and self.chance.random() < 0.15:
            kinds = [self.chance.choice(self.heard)]
        if not kinds:
            return False
        event = self.chance.choice(kinds)
        self.heard.append(event)
        if isinstance(event, TimedOut):
            self.run.after(61)
        self.run.decide(event)
        return True

    def of_workers(self) -> list[Event]:
        events: list[Event] = []
        held = self.run.state is RunState.PAUSED
        for row in self.run.rows.values():
            view = row.view
            if view.state is StepState.QUEUED and not held:
                lease = self.run.now + LEASE
                events.append(Claimed(view.path, view.attempt, "worker", lease))
            elif view.state is StepState.RUNNING:
                events.append(self.outcome(view))
            elif view.state is StepState.WAITING and view.reason in ANSWERED:
                events.append(self.answer(view, view.reason))
        return events

    def answer(self, view: StepView, reason: Reason) -> Event:
        code, error_class = self.chance.choice([*ERRORS, ("", ""), ("", "")])
        error = error_of(code, error_class) if code else None
        return Answered(view.path, reason, {"n": 1}, error, view.attempt)

    def outcome(self, view: StepView) -> Event:
        code, error_class = self.chance.choice(ERRORS)
        outcomes: list[Event] = [
            done(view.path, {"n": view.attempt}, view.attempt),
            done(view.path, {"n": view.attempt}, view.attempt),
            broken(view.path, code, error_class, view.attempt),
            lost(view.path, view.attempt, repeat=self.chance.choice(list(Repeat))),
            interrupted(view.path, view.attempt, repeat=self.chance.choice(list(Repeat))),
        ]
        return self.chance.choice(outcomes)

    def of_time(self) -> list[Event]:
        views = [row.view for row in self.run.rows.values()]
        events: list[Event] = [
            RetryDue(view.path, view.attempt) for view in views if view.state is StepState.RETRYING
        ]
        hurried = self.chance.random() < 0.1
        events += [
            TimedOut(view.path)
            for view in views
            if view.state is StepState.WAITING
            and view.wake_at is not None
            and (hurried or view.reason is Reason.TIME or self.pauses(view))
        ]
        if self.run.plan.timeout is not None and self.chance.random() < 0.02:
            events.append(TimedOut(""))
        return events

    def pauses(self, view: StepView) -> bool:
        """Say whether a step is a loop between two rounds."""
        return self.run.plan.nodes[view.node].kind in LOOPS and not under_way(view)

    def of_people(self) -> list[Event]:
        paths = sorted(self.run.rows) or [""]
        path = self.chance.choice([*paths, *sorted(self.run.are(StepState.FAILED)) * 3])
        make: Callable[[str], Event] = self.chance.choice(
            [Replayed, Replayed, SkipDecided, Discarded]
        )
        events: list[Event] = [make(path)] if path else []
        events += self.chance.choices(
            [
                PauseRequested(),
                ResumeRequested(),
                CancelRequested(),
                CancelRequested(undo=True),
                CompensationRequested(error_of()),
                Replayed(""),
            ],
            weights=[8, 8, 1, 1, 1, 4],
        )
        return events

    def to_the_end(self) -> None:
        """Let workers and clocks do the rest."""
        for _ in range(2000):
            if self.run.state is RunState.PAUSED:
                self.run.decide(ResumeRequested())
            if not self.step(people=False) and not self.of_time():
                return
        raise AssertionError("the run goes on for ever")


def undos_begun(run: Play) -> list[str]:
    """Return the steps in the order in which they were first to be undone."""
    begun = (StepState.COMPLETED, StepState.COMPENSATING)
    return [line.path for line in run.journal if (line.before, line.after) == begun]


def left_to_undo(run: Play) -> set[str]:
    """Return the completed steps that could be undone and have not been."""
    return {
        path
        for path in run.are(StepState.COMPLETED)
        if run.plan.nodes[run.step(path).node].undo != NO_NODE
    }


def unhandled(run: Play) -> set[str]:
    """Return the failed steps that no catch, no `optional` and no person has dealt with."""
    return {
        row.view.path
        for row in run.rows.values()
        if row.view.state is StepState.FAILED
        and row.view.reason is not Reason.OPTIONAL
        and not _is_dealt_with(run, row.view)
    }


def _is_dealt_with(run: Play, view: StepView) -> bool:
    while view.scope:
        view = run.step(view.scope)
        if run.plan.nodes[view.node].optional or view.state is StepState.COMPLETED:
            return True
        if view.reason in (Reason.SKIPPED_BY_OPERATOR, Reason.REPLAYED):
            return True
        is_left = view.state is StepState.CANCELLED and view.reason is Reason.EXIT
        if is_left and any(path.startswith(f"{view.path}.catch[") for path in run.rows):
            return True
    return False


@PATIENT
@given(st.integers(0, 2**40))
def test_a_run_always_gets_to_an_end_that_tells_the_truth(seed: int) -> None:
    chance = Random(seed)
    run = play(Author(chance, calm=False).plan())
    world = World(run, chance)

    for _ in range(chance.randint(0, 60)):
        world.step(people=True)
    world.to_the_end()

    is_parked = run.run.reason is RunReason.PARKED
    assert is_parked or run.state in FINISHED_RUNS, (run.state, run.states())
    assert not run.alive
    if is_parked:
        assert {run.step(path).state for path in run.charged} >= {StepState.FAILED}
    if run.state is RunState.COMPLETED:
        assert not unhandled(run)
    if run.state is RunState.FAILED:
        assert run.incidents or (run.error and run.error.code in OF_THE_RUN)
    if run.state is RunState.COMPENSATED:
        assert not left_to_undo(run)
    begun = undos_begun(run)
    assert begun == sorted(begun, key=lambda path: -run.rows[path].completion)


@PATIENT
@given(st.integers(0, 2**40))
def test_the_order_in_which_workers_finish_does_not_change_the_end(seed: int) -> None:
    plan = Author(Random(seed), calm=True).plan()
    ends = []

    for order in range(3):
        run = play(plan)
        _work_off(run, fate=seed, order=Random(order))
        ends.append({path: (row.view.state, row.view.reason) for path, row in run.rows.items()})

    assert ends[0] == ends[1] == ends[2]


def _work_off(run: Play, *, fate: int, order: Random) -> None:
    while todo := sorted(run.queued | run.are(StepState.RETRYING)):
        path = order.choice(todo)
        view = run.step(path)
        if view.state is StepState.RETRYING:
            run.hear(RetryDue(path, view.attempt))
            continue
        code, error_class = Random(f"{fate} {path}").choice([*ERRORS, ("", ""), ("", "")])
        if code:
            run.hear(broken(path, code, error_class, view.attempt))
        else:
            run.hear(done(path, attempt=view.attempt))


@PATIENT
@given(st.integers(0, 2**40))
def test_hearing_everything_twice_is_the_same_as_hearing_it_once(seed: int) -> None:
    chance = Random(seed)
    once = play(Author(chance, calm=False).plan())
    world = World(once, chance)
    for _ in range(30):
        world.step(people=False)

    twice = play(once.plan)
    for event in world.heard:
        twice.now = max(twice.now, once.started_at)
        if isinstance(event, TimedOut):
            twice.after(61)
        twice.decide(event)
        twice.decide(event)

    assert twice.states() == once.states()
    assert twice.run == once.run


@PATIENT
@given(st.integers(0, 2**40))
def test_a_stored_plan_is_the_plan(seed: int) -> None:
    plan = Author(Random(seed), calm=False).plan()

    assert load_plan(dump_plan(plan)) == plan
