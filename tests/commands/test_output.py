from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management.base import OutputWrapper

from workflows.engine.states import RunState, StepState
from workflows.management.output import STYLES, console_on, duration, plain, say
from workflows.management.pictures import Bar

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def a_bar(first: float, last: float) -> str:
    at = [BEGIN + timedelta(seconds=seconds) for seconds in (first, last, 28)]
    return Bar(at[0], at[1], BEGIN, at[2]).drawn(28).plain


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.32, "320ms"),
        (1.25, "1.2s"),
        (60, "1m"),
        (250, "4m 10s"),
        (3600, "1h"),
        (183_600, "2d 3h"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("state", [*RunState, *StepState])
def test_every_state_has_a_colour(state: str) -> None:
    assert STYLES[state]


def test_text_from_elsewhere_is_written_out_where_it_would_steer() -> None:
    assert plain("a\x1b[2Jb\r\x9b\u202ec\td\n") == "a\\x1b[2Jb\\x0d\\x9b\\u202ec\td\n"


def test_a_bar_shows_when_and_how_long() -> None:
    assert a_bar(0, 28) == "━" * 28
    assert a_bar(7, 14) == " " * 7 + "━" * 7 + " " * 14
    assert a_bar(28, 28) == " " * 27 + "━"


def test_a_pipe_gets_no_colours_and_no_folded_lines() -> None:
    pipe = StringIO()
    console = console_on(OutputWrapper(pipe), no_color=False, force_color=False)

    say(console, "word " * 100, "red")

    assert pipe.getvalue() == "word " * 100 + "\n"
