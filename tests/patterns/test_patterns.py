"""Every example of a pattern does what it is an example of."""

from pathlib import Path
from typing import Any

import pytest

from workers.registry import catalog
from workflows.language.loader import check
from workflows.testing import Workflow, callback, calls, cancel, event, fails, never

EXAMPLES = Path(__file__).parents[2] / "examples" / "patterns"


def pattern(name: str) -> Workflow:
    """Load an example."""
    return Workflow.load(EXAMPLES / f"{name}.yaml")


def test_1_a_sequence_is_carried_out_in_order() -> None:
    run = pattern("sequence").run()

    run.assert_completed()
    run.assert_path("export", "encrypt", "upload")


def test_2_3_13_branches_begin_together_and_what_follows_waits_for_all() -> None:
    run = pattern("parallel-split").run(durations={"disk": "1s", "memory": "3s", "network": "2s"})

    run.assert_path("disk", "network", "memory", "report")
    run.assert_took("3s")


@pytest.mark.parametrize(("amount", "taken"), [(5000, "manual"), (10, "automatic")])
def test_4_5_one_way_is_taken_and_what_follows_comes_after_it(amount: int, taken: str) -> None:
    run = pattern("exclusive-choice").run(input={"amount": amount})

    run.assert_path(taken, "confirm")


@pytest.mark.parametrize(
    ("chosen", "path"),
    [
        ({}, ["file"]),
        ({"mail": True}, ["by_mail", "file"]),
        ({"mail": True, "phone": True}, ["by_mail", "by_phone", "file"]),
    ],
)
def test_6_7_any_number_of_branches_is_taken_and_waited_for(
    chosen: dict[str, bool], path: list[str]
) -> None:
    run = pattern("multi-choice").run(input=chosen)

    run.assert_completed()
    run.assert_path(*path)


def test_9_the_first_branch_is_enough_and_the_others_finish() -> None:
    run = pattern("discriminator").run(durations={"mirror_a": "9s", "mirror_b": "1s"})

    run.assert_path("mirror_b", "unpack", "mirror_a")
    run.assert_attempts("unpack", 1)


def test_10_states_lead_back_as_well_as_on() -> None:
    results = {
        "triage": {"result": "seen"},
        "work": calls({"result": "unclear"}, {"result": "done"}),
        "verify": calls({"result": "broken"}, {"result": "fine"}),
    }

    run = pattern("arbitrary-cycles").run(stubs=results)

    run.assert_completed()
    visited = [path.rpartition(".")[2] for path in run.path]
    assert visited == [
        *("triage", "work", "triage", "work", "verify", "work", "verify"),
        "close",
    ]


def test_11_12_the_run_ends_when_nothing_is_left_to_do() -> None:
    run = pattern("implicit-termination").run()

    run.assert_completed()
    run.assert_took("5s")


def test_14_there_are_as_many_instances_as_the_list_has() -> None:
    run = pattern("instances-at-run-time").run(
        input={"hosts": ["a", "b", "c"]}, durations={"apply": "1s"}
    )

    run.assert_called("apply", times=3)
    run.assert_took("2s")


def test_20_43_a_step_ends_the_run_wherever_it_stands() -> None:
    run = pattern("cancel-case").run(input={"withdrawn": True})

    run.assert_cancelled()
    run.assert_output({"why": "withdrawn"})


def test_21_a_body_is_done_until_it_is_enough() -> None:
    answers = calls({"ready": False}, {"ready": False}, {"ready": True})

    run = pattern("structured-loop").run(stubs={"ask": answers})

    run.assert_called("ask", times=3)
    run.assert_took("20m")


def test_26_27_35_36_once_enough_have_answered_the_others_are_withdrawn() -> None:
    slow = {"ask[0].ping": never(), "ask[3].ping": never()}

    run = pattern("cancel-instances").run(stubs=slow, durations={"ping": "1s"})

    run.assert_completed()
    run.assert_step("ask[0].ping", "CANCELLED", reason="lost_race")
    run.assert_took("1s")


def test_29_the_branches_that_came_too_late_end() -> None:
    run = pattern("cancelling-discriminator").run()

    run.assert_completed()
    run.assert_step("mirror_b", "CANCELLED")


def test_30_34_two_of_three_are_enough_and_the_third_finishes() -> None:
    run = pattern("partial-join").run()

    run.assert_path("quote_a", "quote_b", "choose", "quote_c")


def test_32_two_of_three_are_enough_and_the_third_ends() -> None:
    run = pattern("cancelling-partial-join").run()

    run.assert_completed()
    run.assert_step("quote_c", "CANCELLED")


@pytest.mark.parametrize(
    ("audit", "path"),
    [
        (True, ["load", "audit", "index", "sign", "publish"]),
        (False, ["load", "sign", "index", "publish"]),
    ],
)
def test_37_a_join_waits_for_what_will_come_and_for_nothing_else(
    audit: bool, path: list[str]
) -> None:
    run = pattern("synchronizing-merge").run(input={"audit": audit})

    run.assert_completed()
    assert sorted(run.path) == sorted(path)
    assert run.path[-1] == "publish"


def test_15_each_instance_works_while_the_next_is_waited_for() -> None:
    run = pattern("instances-on-demand").run(
        event("order.placed", {"number": 7, "last": False}, at="1h"),
        event("order.placed", {"number": 8, "last": True}, at="2h"),
    )

    run.assert_completed()
    run.assert_took("2h")


@pytest.mark.parametrize(
    ("acts", "taken", "withdrawn"),
    [
        ([event("contract.signed", at="3d")], "deliver", "answer.expired"),
        ([], "remind", "answer.signed"),
    ],
)
def test_16_who_comes_first_decides_and_the_other_is_withdrawn(
    acts: list[Any], taken: str, withdrawn: str
) -> None:
    run = pattern("deferred-choice").run(*acts)

    run.assert_completed()
    run.assert_ran(taken)
    run.assert_step(withdrawn, "CANCELLED", reason="lost_race")


def test_19_25_what_runs_is_withdrawn_when_something_else_comes_first() -> None:
    run = pattern("cancel-task").run(event("copy.stopped", at="10m"))

    run.assert_completed()
    run.assert_path("stopped", "tidy")
    run.assert_step("race.region.long_copy", "CANCELLED")


def test_20_a_person_may_end_a_run_at_any_time() -> None:
    run = pattern("cancel-task").run(cancel(at="1m"))

    run.assert_cancelled()


def test_22_a_workflow_calls_itself() -> None:
    run = pattern("recursion").run(input={"depth": 3})

    run.assert_completed()
    run.assert_ran("below")


def test_23_24_what_comes_early_is_kept_or_missed_as_the_step_says() -> None:
    run = pattern("triggers").run(
        event("file.arrived", at="1m"), event("operator.pressed", at="2m")
    )

    run.assert_completed()
    run.assert_step("kept", "COMPLETED")
    run.assert_step("missed", "FAILED", reason="optional")


def test_a_saga_undoes_what_was_done_the_last_first() -> None:
    run = pattern("saga").run(stubs={"pay": fails("business")})

    run.assert_compensated("hotel", "flight")


def test_an_answer_of_the_vendor_is_what_the_step_hands_on() -> None:
    run = pattern("callback").run(callback("delivered", {"parcel": "P-7"}, after="2d"))

    run.assert_completed()
    run.assert_called("book", message="P-7")
    run.assert_took("2d")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_one_that_the_platform_takes(path: Path) -> None:
    spec, findings = check(path.read_text(), source=path.name, catalog=catalog)

    assert findings == ()
    assert spec is not None
    assert spec.workflow == path.stem
