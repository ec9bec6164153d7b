"""Assertions hold a run to what should have become of it, and tell its story when they fail."""

from collections.abc import Callable

import pytest

from tests.testing.builders import shop
from workflows.testing import EndlessRunError, Run, UnknownNameError, Workflow, fails, world

PARALLEL = """\
workflow: wide
steps:
  - id: both
    parallel: [{id: left, uses: x.left}, {id: right, uses: x.right}]
  - {id: after, uses: x.after}
"""


def test_the_path_is_what_was_carried_out_in_the_order_of_its_end() -> None:
    run = Workflow.parse(PARALLEL).run(durations={"left": 2, "right": 1})

    assert run.path == ("both.right", "both.left", "after")
    run.assert_path("right", "both.left", "after")
    run.assert_order("right", "after")


def test_what_was_skipped_is_told_with_its_reason() -> None:
    run = shop().run()

    assert run.skipped == {"hurry": "when"}
    run.assert_skipped("hurry", reason="when")
    run.assert_not_ran("hurry")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda run: run.assert_failed(), "The run is COMPLETED, and should be FAILED."),
        (
            lambda run: run.assert_output(1),
            "Of the output\n  found:  {'parcel': None}\n  wanted: 1",
        ),
        (
            lambda run: run.assert_path("reserve", "ship"),
            "Of the path\n  found:  reserve > charge > ship\n  wanted: reserve > ship",
        ),
        (lambda run: run.assert_order("ship", "charge"), "charge did not end in the order"),
        (lambda run: run.assert_ran("hurry"), "hurry was not carried out."),
        (lambda run: run.assert_not_ran("ship"), "ship was carried out, and should not"),
        (lambda run: run.assert_step("ship", "FAILED"), "ship is COMPLETED, and should be FAILED."),
        (
            lambda run: run.assert_skipped("hurry", reason="no_case"),
            "hurry is SKIPPED for when, and should be for no_case.",
        ),
        (lambda run: run.assert_attempts("ship", 2), "ship was tried 1 times, and should have"),
        (lambda run: run.assert_called("shop.hurry"), "shop.hurry was not called."),
        (
            lambda run: run.assert_called("charge", times=2, cents=900),
            "charge was called 1 times with {'cents': 900}, and should have been 2.",
        ),
        (lambda run: run.assert_incident("charge"), "Of the incidents\n  found:  nothing"),
        (lambda run: run.assert_took("1s"), "The run took 0s, and should have taken 1s."),
    ],
)
def test_a_failing_assertion_says_what_was_wrong_and_tells_the_story(
    wrong: Callable[[Run], None], sentence: str
) -> None:
    run = shop().run()

    with pytest.raises(AssertionError) as raised:
        wrong(run)

    assert str(raised.value).startswith(sentence)
    assert str(raised.value).endswith(run.story())


def test_the_story_has_virtual_times_attempts_and_reasons() -> None:
    stubs = {"charge": fails("transient", code="http.503", times=1)}

    story = shop().run(stubs=stubs, seed=1).story()

    lines = [" ".join(line.split()) for line in story.splitlines()]
    assert lines[0].startswith("shop is COMPLETED after 0.9")
    assert lines[4].startswith("+0s charge RETRYING 1 retry; transient http.503: failed as the")
    assert lines[-3].endswith("hurry SKIPPED when")


def test_the_story_of_a_long_run_leaves_out_its_middle() -> None:
    steps = "\n".join(f"  - {{id: s{n}, uses: log}}" for n in range(200))

    story = Workflow.parse(f"workflow: long\nsteps:\n{steps}").run().story()

    assert "... 142 more ..." in story
    assert len(story.splitlines()) == 63


def test_a_question_about_an_unknown_step_is_refused_with_the_nearest() -> None:
    run = shop().run()

    with pytest.raises(UnknownNameError, match="did you mean charge"):
        run.assert_not_ran("chrage")
    with pytest.raises(UnknownNameError, match="did you mean charge"):
        run.step("chrage")


def test_a_question_about_a_step_that_never_came_to_be_tells_the_story() -> None:
    caught = Workflow.parse(
        "workflow: w\nsteps: [{id: a, uses: x.y, catch: [{steps: [{id: b, uses: x.z}]}]}]"
    )

    with pytest.raises(LookupError, match="The step 'b' never came into being"):
        caught.run().step("b")


def test_a_run_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "MOST_DECISIONS", 3)

    with pytest.raises(EndlessRunError, match="shop does not end"):
        shop().run()
