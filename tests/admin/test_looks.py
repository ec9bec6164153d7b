import pytest

from environments.badges import ENVIRONMENT_LOOKS
from environments.states import EnvironmentState
from workflows.admin.looks import ICONS, REASONS, look_of, reason_words
from workflows.engine.states import Reason, RunState, StepState


def test_every_state_has_an_icon_so_colour_never_says_it_alone() -> None:
    assert set(ICONS) == {*(state.value for state in RunState), *(one.value for one in StepState)}
    assert set(ENVIRONMENT_LOOKS) == set(EnvironmentState)


def test_every_reason_has_words() -> None:
    assert set(REASONS) == set(Reason)
    assert reason_words("upstream_failed") == "a step it needs has failed"


@pytest.mark.parametrize(
    ("state", "tone"),
    [
        ("COMPLETED", "ok"),
        ("FAILED", "bad"),
        ("COMPENSATION_FAILED", "bad"),
        ("RUNNING", "busy"),
        ("QUEUED", "busy"),
        ("RETRYING", "care"),
        ("PAUSED", "care"),
        ("CANCELLING", "care"),
        ("CANCELLED", "quiet"),
        ("SKIPPED", "quiet"),
        ("PENDING", "quiet"),
    ],
)
def test_a_tone_follows_from_the_set_that_a_state_is_in(state: str, tone: str) -> None:
    assert look_of(state).tone == tone
