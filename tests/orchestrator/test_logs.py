"""No log shows the values of variables."""

import logging
import sys
from typing import Literal

import pytest

from orchestrator.logs import logging_of


def printed(style: Literal["console", "json"], error: BaseException) -> str:
    parts = dict(logging_of(level="INFO", style=style)["formatters"]["events"])
    formatter = parts.pop("()")(**parts)
    info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("test", logging.ERROR, __file__, 1, "refused", (), info)
    return str(formatter.format(record))


def raised() -> BaseException:
    try:
        _refuse(password="hunter" + str(2))
    except ValueError:
        return sys.exc_info()[1] or AssertionError("nothing was raised")
    raise AssertionError("nothing was raised")


def _refuse(*, password: str) -> None:
    raise ValueError(len(password))


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_shows_no_values_of_variables(style: Literal["console", "json"]) -> None:
    shown = printed(style, raised())

    assert "ValueError: 7" in shown
    assert "hunter2" not in shown
