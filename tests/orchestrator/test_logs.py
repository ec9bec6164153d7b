"""No log shows the values of variables."""

import logging
import logging.config

import pytest

from orchestrator.logs import logging_of


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_shows_no_values_of_variables(
    style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.config.dictConfig(logging_of(level="INFO", style=style))  # type: ignore[arg-type]

    try:
        _refuse(password="hunter2")
    except ValueError:
        logging.getLogger("test").exception("refused")

    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "hunter2" not in shown


def _refuse(*, password: str) -> None:
    raise ValueError(len(password))
