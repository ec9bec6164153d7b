"""A live run goes over to another version: what it has done stays done, and it ends legally."""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

from itertools import count
from random import Random

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.engine.builders import Play, broken, done, plan_from, play, task
from tests.engine.test_properties import PATIENT, Author, World, unhandled
from tests.engine.versions import edited, migrate, preflight, without
from workflows.engine.events import Answered, CancelRequested, Event, Replayed, RetryDue
from workflows.engine.examined import Verdict
from workflows.engine.plan import Plan
from workflows.engine.states import FINISHED_RUNS, Reason, RunReason, RunState, StepState


def chain(*names: str, **keys: object) -> Plan:
    """Compile tasks of which each follows the one before it."""
    steps = [task(name, needs=list(names[max(at - 1, 0) : at])) for at, name in enumerate(names)]
    return plan_from(*steps, **keys)


def finish(run: Play) -> Play:
    """Have whatever is queued end well."""
    while run.queued:
        for path in sorted(run.queued):
            run.hear(done(path, attempt=run.step(path).attempt))
    return run


def test_a_step_that_comes_later_in_the_new_version_is_carried_out_in_its_turn() -> None:
    run = play(chain("a", "b"), done("a"))

    found = migrate(run, chain("a", "b", "c"))

    assert found.verdict is Verdict.SAFE
    assert run.step("c").state is StepState.PENDING
    finish(run)
    assert run.state is RunState.COMPLETED
    assert run.step("c").state is StepState.COMPLETED


def test_a_new_step_whose_needs_have_ended_starts_at_once() -> None:
    run = play(plan_from(task("a", needs=[]), task("b", needs=["a"])), done("a"))

    migrate(run, plan_from(task("x", needs=["a"]), task("a", needs=[]), task("b", needs=["a"])))

    assert run.queued == {"b", "x"}
    assert run.step("b").attempt == 1


def test_a_step_that_runs_meanwhile_ends_by_the_new_version() -> None:
    run = play(chain("a", "b")).claim("a")

    migrate(run, chain("a", "between", "b"))
    run.hear(done("a"))

    assert run.queued == {"between"}
    assert finish(run).state is RunState.COMPLETED


def test_a_pending_step_that_is_gone_is_given_up() -> None:
    run = play(chain("a", "b", "c"))

    migrate(run, chain("a", "c"))
    run.hear(done("a"))

    assert run.queued == {"c"}
    assert "b" not in run.rows


def test_a_run_ends_when_all_that_was_left_of_it_is_gone() -> None:
    run = play(chain("a", "b"), done("a"))

    found = migrate(run, chain("a"), {"b": None})

    assert found.verdict is Verdict.SAFE
    assert run.state is RunState.COMPLETED


def test_what_was_done_by_a_step_that_is_gone_must_be_mapped_or_given_up() -> None:
    run = play(chain("a", "b"), done("a"))
    new = chain("fetch", "b")

    refused = migrate(run, new)

    assert refused.verdict is Verdict.NEEDS_MAPPING
    assert {finding.path for finding in refused.findings if finding.do} == {"a", "fetch"}
    assert migrate(run, new, {"a": "fetch"}).verdict is Verdict.SAFE
    assert run.step("fetch").state is StepState.COMPLETED
    assert finish(run).state is RunState.COMPLETED


def test_a_new_step_before_what_has_begun_is_left_out_only_when_somebody_says_so() -> None:
    run = play(chain("a", "b", "c"), done("a"))
    new = chain("a", "check", "b", "c")

    refused = migrate(run, new)

    assert refused.verdict is Verdict.NEEDS_MAPPING
    assert "b follows it and has begun" in refused.findings[0].what
    assert migrate(run, new, {"check": None}).verdict is Verdict.SAFE
    assert run.reason("check") is Reason.LEFT_OUT
    assert finish(run).state is RunState.COMPLETED


def test_a_step_that_is_left_out_counts_as_done() -> None:
    steps = task("a", needs=[]), task("b", needs=["a"])
    run = play(plan_from(*steps, task("c", needs=["a", "b"], join="all_success")), done("a"))
    new = task("c", needs=["x", "b"], join="all_success")

    migrate(run, plan_from(task("x", needs=[]), task("a", needs=["x"]), steps[1], new), {"x": None})

    run.hear(done("b"))
    assert run.queued == {"c"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (task("a", uses="fail"), "another task type"),
        ({"id": "a", "wait": {"for": "1h"}}, "but wait"),
    ],
)
def test_work_under_way_stays_the_same_work(changed: dict[str, object], said: str) -> None:
    run = play(chain("a", "b"))

    found = migrate(run, plan_from(changed, task("b")))

    assert found.verdict is Verdict.BLOCKED
    assert said in found.findings[0].what


def test_a_step_that_has_failed_may_be_another_task_then_it_is_replayed() -> None:
    run = play(chain("a", "b"), broken("a"))
    assert run.state is RunState.FAILED

    found = migrate(run, plan_from(task("a", uses="fail"), task("b"), task("c")))

    assert found.verdict is Verdict.SAFE
    run.hear(Replayed("a"))
    assert (run.queued, run.state) == ({"a"}, RunState.RUNNING)
    assert finish(run.hear(done("a", attempt=2))).state is RunState.COMPLETED
    assert run.step("c").state is StepState.COMPLETED


def test_a_new_branch_of_a_failed_run_waits_for_the_replay() -> None:
    run = play(plan_from(task("a", needs=[]), task("b", needs=["a"])), broken("a"))

    migrate(run, plan_from(task("a", needs=[]), task("b", needs=["a"]), task("x", needs=[])))

    assert run.reason("x") is Reason.HELD_BACK
    run.hear(Replayed(""))
    assert run.queued == {"a", "x"}


def test_a_run_that_has_ended_or_is_ending_stays_in_its_version() -> None:
    ended = play(chain("a"), done("a"))
    cancelled = play(chain("a")).claim("a").hear(CancelRequested())

    verdicts = [migrate(run, chain("a", "b")).verdict for run in (ended, cancelled)]

    assert verdicts == [Verdict.BLOCKED] * 2


def test_nothing_that_has_begun_gets_a_need_that_has_not_ended() -> None:
    branches = task("a", needs=[]), task("b", needs=[])
    run = play(plan_from(*branches), done("a"))

    found = migrate(run, plan_from(task("a", needs=["b"]), task("b", needs=[])))

    assert found.verdict is Verdict.BLOCKED
    assert "a has begun and would follow b" in found.findings[0].what


def test_running_work_cannot_be_given_up_and_a_queued_step_can() -> None:
    run = play(plan_from(task("a", needs=[]), task("b", needs=[]))).claim("a")
    new = plan_from(task("c", needs=[]))

    assert migrate(run, new, {"a": None, "b": None}).verdict is Verdict.BLOCKED
    assert migrate(run.hear(done("a")), new, {"a": None, "b": None}).verdict is Verdict.SAFE
    assert run.queued == {"c"}


@pytest.mark.parametrize(
    "heard",
    [
        [broken("charge", error_class="transient")],
        [broken("charge", error_class="transient"), RetryDue("charge", 1)],
        [broken("charge", error_class="permanent")],
    ],
    ids=["retrying", "queued again", "failed"],
)
def test_a_task_that_will_be_tried_again_keeps_its_name_and_so_its_idempotency_key(
    heard: list[Event],
) -> None:
    run = play(chain("charge", "b", retry={"max_attempts": 2}), *heard)

    tried = preflight(run, chain("pay", "b"), {"charge": "pay"})
    new = preflight(play(chain("charge", "b")), chain("pay", "b"), {"charge": "pay"})

    assert (tried.verdict, new.verdict) == (Verdict.BLOCKED, Verdict.SAFE)
    assert "idempotency key" in tried.findings[0].what


def test_a_wait_goes_on_and_its_answer_is_taken() -> None:
    run = play(plan_from({"id": "ok", "callback": {"timeout": 60}}, task("b")))

    migrate(run, plan_from({"id": "ok", "callback": {"timeout": 60}}, task("x"), task("b")))
    run.hear(Answered("ok", Reason.CALLBACK, {"yes": True}))

    assert run.queued == {"x"}


def test_what_waits_from_outside_and_is_given_up_waits_no_more() -> None:
    run = play(plan_from({"id": "ok", "callback": {"timeout": 60}}, task("b")))

    migrate(run, plan_from(task("b")), {"ok": None})

    assert (run.waits, run.queued) == ({}, {"b"})


def test_the_items_of_a_loop_that_goes_on_must_come_from_the_same_list() -> None:
    loop = {"id": "each", "foreach": [1, 2], "steps": [task("one")]}
    run = play(plan_from(loop))

    assert preflight(run, plan_from(loop, task("b"))).verdict is Verdict.SAFE
    assert preflight(run, plan_from({**loop, "foreach": [1]})).verdict is Verdict.BLOCKED


def test_a_new_step_in_the_body_of_a_loop_is_in_the_rounds_that_go_on_and_those_to_come() -> None:
    steps = [task("one"), task("two")]
    loop = {"id": "each", "foreach": ["a", "b", "c"], "max_parallel": 1, "steps": steps}
    run = play(plan_from(loop), done("each[0].one"), done("each[0].two"))

    found = migrate(run, plan_from({**loop, "steps": [*steps, task("three")]}))

    assert found.verdict is Verdict.SAFE
    assert finish(run).state is RunState.COMPLETED
    assert {path for path in run.rows if "three" in path} == {"each[1].three", "each[2].three"}


def test_the_steps_of_cases_that_were_not_taken_are_not_carried_out() -> None:
    def routed(*others: str) -> Plan:
        cases = [{"when": True, "steps": [task("here")]}]
        return plan_from({"id": "way", "switch": [*cases, {"else": True, "steps": others}]})

    run = play(routed(task("there")))
    migrate(run, routed(task("there"), task("further")))

    assert run.reason("way.further") is Reason.NOT_TAKEN
    assert finish(run).state is RunState.COMPLETED


def test_two_steps_cannot_become_one() -> None:
    run = play(plan_from(task("a", needs=[]), task("b", needs=[]), task("c")), done("a"), done("b"))

    found = migrate(run, chain("b", "c"), {"a": "b"})

    assert found.verdict is Verdict.BLOCKED
    assert "two steps would become b" in found.findings[0].what


def test_a_mapping_that_names_what_is_not_there_is_told_so() -> None:
    run = play(chain("a", "b"))

    found = migrate(run, chain("a", "b"), {"nobody": "a", "a": "nowhere"})

    assert found.verdict is not Verdict.SAFE
    assert {finding.path for finding in found.findings} >= {"nobody", "a"}


@PATIENT
@given(st.integers(0, 2**40))
def test_a_run_that_goes_over_in_the_middle_gets_to_a_true_end_and_does_nothing_twice(
    seed: int,
) -> None:
    chance, names = Random(seed), count(1)
    keys = Author(chance, calm=False).document()
    run = play(plan_from(*keys["steps"], **{k: v for k, v in keys.items() if k != "steps"}))
    world = World(run, chance)

    for _ in range(chance.randint(1, 3)):
        for _ in range(chance.randint(0, 12)):
            world.step(people=True)
        keys, renamed = edited(keys, chance, names)
        new = plan_from(*keys["steps"], **{k: v for k, v in keys.items() if k != "steps"})
        completed = [row for row in run.rows.values() if row.view.state is StepState.COMPLETED]
        found = migrate(run, new, without(run, new, renamed))
        event(found.verdict.value)
        if found.verdict is Verdict.SAFE:
            assert all(row.view.state is not StepState.QUEUED for row in completed)
            world.heard.clear()
    world.to_the_end()

    is_parked = run.run.reason is RunReason.PARKED
    assert is_parked or run.state in FINISHED_RUNS, (run.state, run.states())
    assert not run.alive
    if run.state is RunState.COMPLETED:
        assert not unhandled(run)


def test_a_block_of_a_round_that_has_ended_is_left_as_it_is() -> None:
    """Its rows are not all looked at: those that are not must not be taken for new ones."""
    cases = [
        {"when": True, "steps": [task("a", optional=True)]},
        {"else": True, "steps": [task("b")]},
    ]
    steps = [{"id": "way", "switch": cases}, task("c")]
    loop = {"id": "each", "foreach": ["x"], "on_item_failure": "continue", "steps": steps}
    run = play(plan_from(loop), broken("each[0].way.a"), broken("each[0].c"))

    found = migrate(run, plan_from(loop, task("d")))

    assert found.verdict is Verdict.SAFE
    assert run.step("each[0].way.b").state is StepState.SKIPPED


def test_rounds_that_were_ended_for_a_failure_elsewhere_have_what_is_new_when_they_go_on() -> None:
    steps = [task("a"), task("b")]
    loop = {"id": "each", "needs": [], "foreach": ["x", "y"], "steps": steps}
    run = play(plan_from(loop, task("c", needs=[]), fail_fast=True), broken("c"))
    new = {**loop, "steps": [*steps, task("d")]}

    migrate(run, plan_from(new, task("c", needs=[]), fail_fast=True))
    run.hear(Replayed("c"))

    assert finish(run).state is RunState.COMPLETED
    assert run.step("each[1].d").state is StepState.COMPLETED
