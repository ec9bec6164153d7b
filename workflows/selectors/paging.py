"""A page of a list by keyset: the last page costs what the first does, and rows never move.

The cursor is the key of the last row shown, which new rows cannot shift. It is opaque
to its readers, and checked when it comes back.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from django.core.exceptions import ValidationError
from django.db.models import Field, Model, Q, QuerySet

from workflows.selectors.errors import CursorError

Row = TypeVar("Row")
Shape = TypeVar("Shape")
M = TypeVar("M", bound=Model)

PAGE = 50
LONGEST_PAGE = 200


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows of a list; `next` is the cursor of the page after it, if there is one."""

    rows: tuple[Row, ...]
    next: str | None = None

    def of(self, shape: Callable[[Row], Shape]) -> "Page[Shape]":
        """Return the page with every row in another shape."""
        return Page(tuple(shape(row) for row in self.rows), self.next)


@dataclass(frozen=True, slots=True)
class Order:
    """The columns a list is ordered by, all one way. In one list they are unique together."""

    columns: tuple[str, ...] = ("id",)
    newest_first: bool = False

    def columns_of_sql(self) -> list[str]:
        """Return the columns as `order_by` takes them."""
        return [f"-{column}" if self.newest_first else column for column in self.columns]


NEWEST_FIRST = Order(newest_first=True)
OLDEST_FIRST = Order()


def page_of(
    rows: QuerySet[M], order: Order, *, after: str | None = None, limit: int = PAGE
) -> Page[M]:
    """Return up to `limit` rows that follow the cursor `after`. Raises `CursorError`."""
    if after:
        rows = rows.filter(_following(order, _key(rows.model, order, after)))
    found = list(rows.order_by(*order.columns_of_sql())[: limit + 1])
    shown = found[:limit]
    return Page(tuple(shown), _cursor(shown[-1], order) if len(found) > limit else None)


def _following(order: Order, key: Sequence[Any]) -> Q:
    """Say in SQL that a row stands after `key`; the first term lets the index begin there."""
    beyond = "lt" if order.newest_first else "gt"
    following = Q()
    for at, column in enumerate(order.columns):
        same = dict(zip(order.columns[:at], key[:at], strict=True))
        following |= Q(**same, **{f"{column}__{beyond}": key[at]})
    return Q(**{f"{order.columns[0]}__{beyond}e": key[0]}) & following


def _cursor(row: Model, order: Order) -> str:
    key = [str(getattr(row, column)) for column in order.columns]
    return urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _key(model: type[Model], order: Order, cursor: str) -> list[Any]:
    try:
        texts = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not _are_texts(texts, len(order.columns)):
            raise CursorError
        return [
            _value(model, column, text) for column, text in zip(order.columns, texts, strict=True)
        ]
    except (Base64Error, UnicodeError, ValueError, ValidationError, RecursionError) as error:
        raise CursorError from error


def _value(model: type[Model], column: str, text: str) -> Any:
    field = model._meta.get_field(column)  # noqa: SLF001 - public in Django's documentation
    return cast("Field[Any, Any]", field).to_python(text)


def _are_texts(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(text, str) and "\0" not in text and text.isprintable() for text in value)
    )
