"""Join rules: thirteen truth tables, and how each way to end counts in them."""

import pytest

from tests.engine.builders import broken, done, plan_of, play
from workflows.engine.events import Discarded, SkipDecided
from workflows.engine.joins import Ruling, Tally, ruling
from workflows.engine.states import Reason, StepState
from workflows.language.words import Join

WAIT, START, CONTESTED = Ruling.WAIT, Ruling.START, Ruling.CONTESTED
FAILED, SKIPPED = Ruling.UPSTREAM_FAILED, Ruling.UPSTREAM_SKIPPED

OF_TWO = {
    "": Tally(),
    "o": Tally(ok=1),
    "f": Tally(failed=1),
    "s": Tally(skipped=1),
    "u": Tally(upstream_failed=1),
    "oo": Tally(ok=2),
    "of": Tally(ok=1, failed=1),
    "os": Tally(ok=1, skipped=1),
    "ou": Tally(ok=1, upstream_failed=1),
    "ff": Tally(failed=2),
    "fs": Tally(failed=1, skipped=1),
    "fu": Tally(failed=1, upstream_failed=1),
    "ss": Tally(skipped=2),
    "su": Tally(skipped=1, upstream_failed=1),
    "uu": Tally(upstream_failed=2),
}
"""How two needs have ended so far: ok, failed, skipped, upstream failed."""

TABLES: dict[Join, dict[Ruling, str]] = {
    Join.NONE_FAILED: {
        WAIT: "- o s",
        START: "oo os ss",
        FAILED: "f u of ou ff fs fu su uu",
    },
    Join.ALL_SUCCESS: {
        WAIT: "- o f s u",
        START: "oo",
        FAILED: "of ou ff fu uu",
        SKIPPED: "os ss",
        CONTESTED: "fs su",
    },
    Join.ALL_DONE: {
        WAIT: "- o f s u",
        START: "oo of os ou ff fs fu ss su uu",
    },
    Join.ALL_DONE_MIN_ONE_SUCCESS: {
        WAIT: "- o f u",
        START: "oo of ou",
        FAILED: "ff fu uu",
        SKIPPED: "s os fs ss su",
    },
    Join.ONE_SUCCESS: {
        WAIT: "- f s u",
        START: "o oo of os ou",
        FAILED: "ff fs fu su uu",
        SKIPPED: "ss",
    },
    Join.ONE_FAILED: {
        WAIT: "- o s",
        START: "f u of ou ff fs fu su uu",
        SKIPPED: "oo os ss",
    },
    Join.ONE_DONE: {
        WAIT: "- s u",
        START: "o f oo of os ou ff fs fu",
        SKIPPED: "ss su uu",
    },
    Join.ALL_FAILED: {
        WAIT: "- f u",
        START: "ff fu uu",
        SKIPPED: "o s oo of os ou fs ss su",
    },
    Join.NONE_FAILED_MIN_ONE_SUCCESS: {
        WAIT: "- o s",
        START: "oo os",
        FAILED: "f u of ou ff fs fu su uu",
        SKIPPED: "ss",
    },
    Join.NONE_SKIPPED: {
        WAIT: "- o f u",
        START: "oo of ou ff fu uu",
        SKIPPED: "s os fs ss su",
    },
    Join.ALL_SKIPPED: {
        WAIT: "- s",
        START: "ss",
        SKIPPED: "o f u oo of os ou ff fs fu su uu",
    },
    Join.ALWAYS: {START: "- o f s u oo of os ou ff fs fu ss su uu"},
    Join.AT_LEAST: {
        WAIT: "- o s",
        START: "oo",
        FAILED: "f u of ou ff fs fu su uu",
        SKIPPED: "os ss",
    },
}
"""`-` is: none has ended. `at_least` is asked for two of two here."""

CASES = [
    pytest.param(rule, ends.strip("-"), answer, id=f"{rule.value}-{ends}")
    for rule, table in TABLES.items()
    for answer, row in table.items()
    for ends in row.split()
]


def test_there_is_a_table_for_every_rule_and_every_pair_of_ends() -> None:
    assert set(TABLES) == set(Join)
    assert len(CASES) == len(Join) * len(OF_TWO)


@pytest.mark.parametrize(("rule", "ends", "answer"), CASES)
def test_a_rule_answers_as_its_table_says(rule: Join, ends: str, answer: Ruling) -> None:
    assert ruling(rule, OF_TWO[ends], needs=2, at_least=2) is answer


@pytest.mark.parametrize("rule", Join)
def test_a_step_that_needs_nothing_starts_whatever_its_rule(rule: Join) -> None:
    assert ruling(rule, Tally(), needs=0, at_least=1) is START


@pytest.mark.parametrize(
    ("tally", "answer"),
    [
        (Tally(ok=1), WAIT),
        (Tally(ok=2), START),
        (Tally(ok=2, failed=1), START),
        (Tally(failed=1), WAIT),
        (Tally(failed=2), FAILED),
        (Tally(skipped=2), WAIT),
        (Tally(failed=1, skipped=1), FAILED),
        (Tally(ok=1, skipped=2), SKIPPED),
        (Tally(skipped=2, failed=1), FAILED),
    ],
)
def test_two_of_three_are_enough_and_fewer_are_not(tally: Tally, answer: Ruling) -> None:
    assert ruling(Join.AT_LEAST, tally, needs=3, at_least=2) is answer


def test_an_answer_stands_whatever_ends_later() -> None:
    for rule in Join:
        for ends, tally in OF_TWO.items():
            answer = ruling(rule, tally, needs=2, at_least=2)
            if len(ends) == 1 and answer is not WAIT:
                later = {
                    ruling(rule, OF_TWO[both], needs=2, at_least=2)
                    for both in OF_TWO
                    if len(both) == 2 and ends in both
                }
                assert later == {answer}, (rule, ends)


def test_an_optional_failure_counts_as_done() -> None:
    plan = plan_of("a > b", a={"optional": True}, b={"join": "all_success"})

    run = play(plan, broken("a"))

    assert run.reason("a") is Reason.OPTIONAL
    assert run.queued == {"b"}


def test_a_skip_by_a_person_counts_as_done() -> None:
    plan = plan_of("a > b", b={"join": "all_success"})

    run = play(plan, broken("a"), SkipDecided("a", output=1))

    assert run.queued == {"b"}


def test_a_discarded_failure_still_counts_as_failed() -> None:
    plan = plan_of("a > c", "b > c", c={"join": "all_done_min_one_success"})

    run = play(plan, broken("a"), Discarded("a"), broken("b"))

    assert run.step("c").state is StepState.SKIPPED
    assert run.reason("c") is Reason.UPSTREAM_FAILED


def test_a_cancelled_step_counts_as_failed_before_it_ran() -> None:
    run = play(plan_of("a"))
    cancelled = run.step("a").__class__("a", 1, "", StepState.CANCELLED)

    assert cancelled.counted(Tally()) == Tally(upstream_failed=1)


def test_a_step_skipped_for_a_failure_is_a_failure_to_the_next() -> None:
    run = play(plan_of("a > b > c", c={"join": "one_failed"}), broken("a"))

    assert run.reason("b") is Reason.UPSTREAM_FAILED
    assert run.queued == {"c"}


def test_work_that_was_never_done_is_not_done_to_one_done() -> None:
    run = play(plan_of("a > b > c", c={"join": "one_done"}), broken("a"))

    assert run.reason("c") is Reason.UPSTREAM_SKIPPED


@pytest.mark.parametrize("first", ["a", "b"])
def test_of_a_failure_and_a_skip_the_earlier_in_the_document_wins(first: str) -> None:
    keys = {"a": {"when": False}, "b": {}} if first == "a" else {"a": {}, "b": {"when": False}}
    plan = plan_of("a > c", "b > c", c={"join": "all_success"}, **keys)

    run = play(plan, broken("b" if first == "a" else "a"))

    expected = Reason.UPSTREAM_SKIPPED if first == "a" else Reason.UPSTREAM_FAILED
    assert run.reason("c") is expected


def test_a_failed_root_is_not_beaten_by_a_skip_that_needed_another_step() -> None:
    plan = plan_of("x > s > c", "f > c", s={"when": False}, c={"join": "all_success"})

    run = play(plan, done("x"), broken("f"))

    assert run.reason("c") in (Reason.UPSTREAM_SKIPPED, Reason.UPSTREAM_FAILED)
    assert run.reason("c") is play(plan, broken("f"), done("x")).reason("c")
