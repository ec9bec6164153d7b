"""What is kept is plain JSON: given its obvious form, or refused with its place."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from workers.errors import ValueRefusedError
from workers.values import MASK, plain, redactor


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    at: date


class Order(BaseModel):
    lines: list[Point]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=20,
)


@given(JSON)
def test_plain_json_stays_what_it_is(value: Any) -> None:
    assert plain(value) == value


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(minutes=1.5), 90.0),
        (Decimal("1.10"), "1.10"),
        (Path("/a/b"), "/a/b"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ((1, (2,)), [1, [2]]),
        (OrderedDict(a=Point(1, date(2026, 1, 2))), {"a": {"x": 1, "at": "2026-01-02"}}),
        (Order(lines=[Point(1, date(2026, 1, 2))]), {"lines": [{"x": 1, "at": "2026-01-02"}]}),
        ({Colour.RED: 1}, {"red": 1}),
    ],
)
def test_what_has_an_obvious_form_is_given_it(value: Any, form: Any) -> None:
    kept = plain(value)

    assert kept == form
    assert json.loads(json.dumps(kept)) == form


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [1, {2}]}, r"`output\.a\[1\]` is a set"),
        ({"a": float("nan")}, r"`output\.a` is nan"),
        ({1: 2}, "`output` has the key 1"),
        ([b"x"], r"`output\[0\]` is a bytes"),
        ([Point], r"`output\[0\]` is a type"),
        ((number for number in (1, 2)), "`output` is a generator"),
    ],
)
def test_what_has_no_form_is_refused_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(ValueRefusedError, match=said):
        plain(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)

    with pytest.raises(ValueRefusedError, match="nested deeper than 100 levels"):
        plain(circle)


def test_characters_that_the_database_cannot_store_are_replaced() -> None:
    assert plain({"a\0": "b\0\ud800c"}) == {"a\ufffd": "b\ufffd\ufffdc"}


@given(st.text("ab'\"\\\n /?&=é€", min_size=1), st.text("XYZ"), st.text("XYZ"))
def test_a_secret_is_masked_in_every_form(secret: str, before: str, after: str) -> None:
    mask = redactor([secret])
    masked = f"{before}{MASK}{after}"

    assert mask(f"{before}{secret}{after}") == masked
    assert mask(json.dumps(f"{before}{secret}{after}")[1:-1]) == masked
    assert mask(f"{before}{quote(secret)}{after}") == masked
    assert mask(f"{before}{quote_plus(secret)}{after}") == masked


def test_the_longest_of_overlapping_secrets_is_masked_whole() -> None:
    mask = redactor(["key", "key-1234", ""])

    assert mask(["key-1234 and key", {"key": 1}]) == ["*** and ***", {MASK: 1}]


def test_a_number_that_is_a_secret_is_masked() -> None:
    assert redactor(["1234"])([1234, 12345, True]) == [MASK, 12345, True]
