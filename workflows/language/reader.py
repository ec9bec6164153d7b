"""Text to a tree of nodes, each knowing its value and its place in the text.

YAML 1.2 in its core schema, and so JSON: `on`, `yes` and dates are text. Built
from the parser's events, without recursion and within bounds on size, depth and
number of nodes (a repeated anchor counts each time), so that no text can
exhaust the machine. Values are plain JSON; tags are refused.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from workflows.language.document import Document, Node, Report

LONGEST = 8 * 1024 * 1024
DEEPEST = 100
MOST_NODES = 500_000

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_SURROGATES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_LARGEST_INTEGER = 2**63 - 1
_LONGEST_NUMBER = 400


def parse(text: str, report: Report) -> Document | None:
    """Return the document, or nothing if it cannot be read at all."""
    text = _json_pairs(text.removeprefix("\ufeff"))
    if len(text) > LONGEST:
        report.add(
            "document-too-large",
            (1, 1),
            "",
            f"the document has {len(text)} characters, {LONGEST} are allowed",
            "split the workflow, and start the parts as child runs",
        )
        return None
    builder = _Builder(report)
    try:
        builder.read(_events(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or error.context or "it does not parse"
        report.add(
            "yaml-syntax",
            place,
            "",
            f"the text is not YAML: {problem}",
            "check the indentation, quotes and brackets on this line and the one before",
        )
    except (yaml.YAMLError, UnicodeError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        report.add(
            "yaml-syntax",
            (1, 1),
            "",
            f"the text is not YAML: {reason}",
            "save the file as UTF-8 without control characters",
        )
    except _RefusedError:
        pass
    else:
        if builder.root is not None:
            return Document(text, builder.root)
        report.add(
            "not-a-mapping",
            (1, 1),
            "",
            "the document is empty",
            "begin with workflow: a-name and steps:",
        )
    return None


def _events(text: str) -> Iterator[Any]:
    loader = _Parser(text)
    try:
        yield from iter(loader.get_event, None)
    finally:
        loader.dispose()


def _json_pairs(text: str) -> str:
    """Write the surrogate pairs of a JSON text as characters, which YAML wants them to be."""
    if not text.lstrip().startswith("{") or not _SURROGATES.search(text):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _SURROGATES.sub(lambda pair: json.loads(f'"{pair[0]}"'), text)


class _RefusedError(Exception):
    """The document broke a bound; the report says which."""


@dataclass(slots=True)
class _Open:
    """A container that is not yet closed; `key` is the key whose value comes next."""

    node: Node
    anchor: str | None
    key: str | None = None
    key_at: tuple[int, int] = (0, 0)


class _Builder:
    """Put the events together."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.root: Node | None = None
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._count = 0
        self._documents = 0

    def read(self, events: Iterator[Any]) -> None:
        """Build the tree of all events."""
        hears: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._mapping,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceStartEvent: self._sequence,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }
        for event in events:
            hear = hears.get(type(event))
            if hear is not None:
                hear(event)

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._refuse(
                "many-documents",
                event,
                "the text holds more than one document",
                "keep one workflow in a file; remove the --- line",
            )

    def _mapping(self, event: Any) -> None:
        node = _node({}, event)
        node.fields, node.keys = {}, {}
        self._start(event, node)

    def _sequence(self, event: Any) -> None:
        node = _node([], event)
        node.items = []
        self._start(event, node)

    def _scalar(self, event: Any) -> None:
        if event.tag is not None:
            self._tag(event)
        if event.style == '"' and "\0" in event.value:
            self._complain(
                "text-not-storable",
                event,
                "the text holds a NUL character, which the database cannot keep",
                "take it out, or encode the text as base64",
            )
        if self._wants_key():
            self._take_key(event)
            return
        value = event.value
        if not event.style:
            value = self._resolve(event)
        node = _node(value, event)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._add(node, event)

    def _wants_key(self) -> bool:
        if not self._open:
            return False
        holder = self._open[-1]
        return holder.key is None and holder.node.fields is not None

    def _take_key(self, event: Any) -> None:
        holder, key = self._open[-1], event.value
        holder.key, holder.key_at = key, _place(event)
        if not event.style and not isinstance(self._resolve(event), str):
            self._complain(
                "key-not-text", event, f"the key {key or 'null'} is not text", "put it in quotes"
            )
        if key in holder.node.value:
            line = holder.node.key_place(key)[0]
            self._complain(
                "duplicate-key",
                event,
                f"the key {key} is given twice, first on line {line}",
                "remove one of them",
            )

    def _resolve(self, event: Any) -> Any:
        """Return what a plain scalar means in the core schema."""
        text: str = event.value
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if not (text[0].isdigit() or text[0] in "+-."):
            return text
        if len(text) <= _LONGEST_NUMBER and _INTEGER.fullmatch(text):
            number = int(text, 0) if text[:2] in {"0x", "0o"} else int(text)
            if abs(number) > _LARGEST_INTEGER:
                self._complain(
                    "number-out-of-range",
                    event,
                    "the integer has more than 64 bits",
                    "put it in quotes to have it as text",
                )
            return number
        if _FLOAT.fullmatch(text) and abs(float(text)) != float("inf"):
            return float(text)
        if _NOT_FINITE.fullmatch(text) or _FLOAT.fullmatch(text):
            self._complain(
                "number-out-of-range",
                event,
                f"{text[:40]} is no number that JSON has",
                "put it in quotes to have it as text",
            )
        return text

    def _start(self, event: Any, node: Node) -> None:
        if event.tag is not None:
            self._tag(event)
        if len(self._open) >= DEEPEST:
            self._refuse(
                "document-too-deep",
                event,
                f"values are nested more than {DEEPEST} deep",
                "split the workflow, and start the parts as child runs",
            )
        if self._wants_key():
            self._refuse(
                "key-not-text",
                event,
                "a list or a mapping stands where a key is wanted",
                'keys are text; put an expression in quotes: "${{ ... }}"',
            )
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Open(node, event.anchor))

    def _end(self, event: Any) -> None:
        closed = self._open.pop()
        closed.node.end = event.end_mark.index
        if closed.anchor:
            self._anchors[closed.anchor] = closed.node
        self._add(closed.node, event)

    def _alias(self, event: Any) -> None:
        if self._wants_key():
            self._refuse(
                "key-not-text", event, "an alias stands where a key is wanted", "write the key out"
            )
        node = self._anchors.get(event.anchor)
        if node is None:
            problem = "stands inside itself" if event.anchor in self._anchors else "is not defined"
            self._refuse(
                "alias",
                event,
                f"the anchor {event.anchor} {problem}",
                "write the value out, or put the anchor on an earlier value",
            )
        self._count += node.size - 1
        self._add(node, event)

    def _add(self, node: Node, event: Any) -> None:
        self._count += 1
        if self._count > MOST_NODES:
            self._refuse(
                "too-many-values",
                event,
                f"the document has more than {MOST_NODES} values",
                "split the workflow, and start the parts as child runs",
            )
        if not self._open:
            self.root = node
            return
        holder = self._open[-1]
        outer, key = holder.node, holder.key
        outer.size += node.size
        if outer.items is not None:
            outer.items.append(node)
            outer.value.append(node.value)
        elif outer.fields is not None and key is not None:
            if outer.keys is not None and key not in outer.fields:
                outer.keys[key] = holder.key_at
                outer.fields[key] = node
                outer.value[key] = node.value
            holder.key = None

    def _tag(self, event: Any) -> None:
        self._complain(
            "tag",
            event,
            f"the tag {event.tag} is not allowed",
            "remove it; put the value in quotes to have it as text",
        )

    def _complain(self, rule: str, event: Any, message: str, hint: str) -> None:
        self.report.add(rule, _place(event), self._path(), message, hint)

    def _refuse(self, rule: str, event: Any, message: str, hint: str) -> NoReturn:
        self._complain(rule, event, message, hint)
        raise _RefusedError

    def _path(self) -> str:
        way = ""
        for holder in self._open:
            if holder.node.items is not None:
                way += f"[{len(holder.node.items)}]"
            elif holder.key is not None:
                way += f".{holder.key}"
        return way.removeprefix(".")


def _place(event: Any) -> tuple[int, int]:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _node(value: Any, event: Any) -> Node:
    mark = event.start_mark
    return Node(value, mark.line + 1, mark.column + 1, mark.index, event.end_mark.index)
