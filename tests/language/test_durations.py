"""Durations: what people write, in seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.language.durations import DurationError, parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25), ("1s", 1), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("1w", 604_800),
        ("1h30m", 5400), ("1.5h", 5400), ("1m500ms", 60.5), ("0s", 0), ("PT30M", 1800),
        ("P1DT2H", 93_600), ("P2W", 1_209_600), ("PT0.5S", 0.5), (30, 30), (0.1, 0.1),
    ],
)  # fmt: skip
def test_a_duration_is_seconds(text: str | float, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "5", "5 m", "m", "30m1h", "-1s", "1M", "P", "PT", "P1Y", "1e3s", "٣s", True, None, -1,
     float("nan"), float("inf"), "9" * 400 + "d", "99999d", [1]],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(DurationError, match="is not a duration"):
        parse(text)


@given(st.integers(0, 10**6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60)]))
def test_a_number_and_a_unit_are_their_product(number: int, unit: tuple[str, float]) -> None:
    assert parse(f"{number}{unit[0]}") == pytest.approx(number * unit[1])
