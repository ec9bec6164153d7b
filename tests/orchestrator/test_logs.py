"""No log shows the values of variables, or what a callback URL is signed with."""

import logging
import sys
from typing import Literal

import pytest
from django.test import RequestFactory

from orchestrator.logs import logging_of


def printed(style: Literal["console", "json"], error: BaseException) -> str:
    parts = dict(logging_of(level="INFO", style=style)["formatters"]["events"])
    formatter = parts.pop("()")(**parts)
    info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("test", logging.ERROR, __file__, 1, "refused", (), info)
    return str(formatter.format(record))


def told(message: str, **facts: object) -> str:
    """Return a line as a library of ours would have it printed."""
    parts = dict(logging_of(level="INFO", style="json")["formatters"]["events"])
    formatter = parts.pop("()")(**parts)
    record = logging.LogRecord("django.request", logging.WARNING, __file__, 1, message, (), None)
    vars(record).update(facts)
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


def test_no_line_shows_what_a_callback_url_is_signed_with() -> None:
    url = "/api/v1/callbacks/01a1ff08-9568-7486-bc7b-18fcd593f8ca/pack[3].vendor/1/E8-mR_8kx/"

    shown = told(f"Gone: {url}", request=RequestFactory().post(url))

    assert "E8-mR_8kx" not in shown
    assert shown.count(".vendor/1/(signature)/") == 2
