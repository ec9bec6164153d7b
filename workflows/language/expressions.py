"""Evaluate expressions: CEL between `${{` and `}}`, over names that are plain JSON.

A string that is exactly one expression keeps the type of its value; otherwise
each value is rendered into the text, strings as they are and all else as
compact JSON. Results are plain JSON again: a timestamp becomes RFC 3339, a
duration seconds (`90s`), bytes base64.

A missing value is an error. To ask first: `has(a.b)`, or `get(a, 'b', default)`,
which may be given a list of keys to reach further in. The optional syntax
(`a.?b`, `a[?k]`) is not known to the parser. Integers and doubles do not mix in
arithmetic: `double(input.count) * 1.5`.

Only what an expression reads is handed to CEL: an expression that is merely a
path never leaves Python, and of `steps` or `input` only the paths read are
converted, so the cost does not grow with what is not read.
"""

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import cel

from workflows.language import syntax
from workflows.language.functions import EXTENSIONS
from workflows.language.nearest import nearest
from workflows.language.syntax import Expression
from workflows.language.tokens import Chain, Problem

_SHOWN = 200
_MISSING = object()
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (type(None), "null"),
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a string"),
    ((list, tuple), "a list"),
    (Mapping, "an object"),
)


class ExpressionError(ValueError):
    """An expression has no value: which expression, and why. Never quotes a value."""

    def __init__(self, expression: str, reason: str) -> None:
        shown = expression if len(expression) <= _SHOWN else f"{expression[:_SHOWN]}..."
        super().__init__(f"${{{{ {shown} }}}}: {reason}")
        self.expression = expression
        self.reason = reason


@dataclass(frozen=True, slots=True)
class References:
    """What a value reads: the ids of steps, and the names at the root (`input`, `steps`, ...)."""

    steps: frozenset[str] = frozenset()
    roots: frozenset[str] = frozenset()


_NOTHING = References()


def render(value: Any, names: Mapping[str, Any]) -> Any:
    """Return `value` with every expression in it evaluated; keys stay as they are."""
    if isinstance(value, str):
        return _render_text(value, names) if syntax.OPEN in value else value
    if isinstance(value, dict):
        return {key: render(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render(item, names) for item in value]
    return value


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """Return the value of a template, or of a bare expression without `${{ }}`."""
    if syntax.OPEN in text:
        return _render_text(text, names)
    return _value(syntax.expression(text), names)


def truth(condition: str | bool, names: Mapping[str, Any]) -> bool:
    """Return whether the condition holds; `ExpressionError` if it is neither true nor false."""
    if isinstance(condition, bool):
        return condition
    value = evaluate(condition.strip(), names)
    if isinstance(value, bool):
        return value
    raise ExpressionError(
        syntax.bare(condition), f"gives {kind_of(value)}, and must be true or false"
    )


def references(value: Any) -> References:
    """Return what the expressions anywhere in `value` read."""
    if not value:
        return _NOTHING
    steps: set[str] = set()
    roots: set[str] = set()
    for text in _texts(value):
        for chain in (chain for part in syntax.template(text).expressions for chain in part.chains):
            roots.add(chain.root)
            if chain.root == "steps" and chain.keys and isinstance(chain.keys[0], str):
                steps.add(chain.keys[0])
    return References(frozenset(steps), frozenset(roots))


def pruned(text: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return of `names` only what the expressions in `text` read."""
    chains = [chain for part in syntax.template(text).expressions for chain in part.chains]
    return _pruned(chains, names)


def problems(text: str) -> tuple[Problem, ...]:
    """Return what is wrong with the expressions in `text`, each with its offset in it."""
    return syntax.template(text).problems if syntax.OPEN in text else ()


def kind_of(value: object) -> str:
    """Name the JSON type of `value`, with its article."""
    named = (name for kind, name in _KINDS if isinstance(value, kind))
    return next(named, f"a {type(value).__name__}")


def _texts(value: Any) -> Iterator[str]:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str) and syntax.OPEN in item:
            yield item
        elif isinstance(item, Mapping):
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)


def _render_text(text: str, names: Mapping[str, Any]) -> Any:
    template = syntax.template(text)
    if template.problems:
        raise ExpressionError(syntax.bare(text), template.problems[0].message)
    if (single := template.single) is not None:
        return _value(single, names)
    return "".join(
        part if isinstance(part, str) else _as_text(_value(part, names)) for part in template.parts
    )


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _value(expression: Expression, names: Mapping[str, Any]) -> Any:
    if expression.problems:
        raise ExpressionError(expression.source, expression.problems[0].message)
    if expression.is_chain:
        chain = expression.chains[0]
        value, reason = _follow(chain, names)
        if reason:
            raise ExpressionError(expression.source, reason)
        return value
    context = cel.Context(
        _pruned(expression.chains, names),
        {name: EXTENSIONS[name] for name in expression.functions if name in EXTENSIONS},
    )
    try:
        return _plain(_program(expression.source).execute(context))
    except Exception as error:  # noqa: BLE001 CEL raises built-in errors of any kind
        raise ExpressionError(expression.source, _reason(error, expression, names)) from None


@lru_cache(maxsize=4096)
def _program(source: str) -> cel.Program:
    return cel.compile(source)


def _follow(chain: Chain, names: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the value at the end of the chain, or the reason why there is none."""
    if chain.root not in names:
        return None, f"the name {chain.root} is not known here"
    value, way = names[chain.root], chain.root
    for key in chain.keys:
        found = _entry(value, key)
        if found is _MISSING:
            return None, _missing(value, way, key)
        way = str(Chain(way, (key,), 0))
        value = found
    return value, ""


def _entry(value: Any, key: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(key, _MISSING)
    if isinstance(value, list) and isinstance(key, int):
        return value[key] if key < len(value) else _MISSING
    return _MISSING


def _missing(value: Any, way: str, key: str | int) -> str:
    if isinstance(value, Mapping):
        close = nearest(key, [str(known) for known in value]) if isinstance(key, str) else None
        return f"{way} has no {key}" + (f"; did you mean {close}?" if close else "")
    if isinstance(value, list) and isinstance(key, int):
        return f"{way} has {len(value)} items, so there is no item {key}"
    return f"{way} is {kind_of(value)}, so there is no {key} in it"


def _pruned(chains: Iterable[Chain], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return of `names` only what the chains read."""
    wanted: dict[str | int | None, Any] = {}
    for chain in chains:
        branch = wanted
        for key in (chain.root, *chain.keys):
            branch = branch.setdefault(key, {})
        branch[None] = True
    return {
        str(root): _prune(names[str(root)], branch)
        for root, branch in wanted.items()
        if root in names
    }


def _prune(value: Any, wanted: Mapping[str | int | None, Any]) -> Any:
    if not isinstance(value, Mapping):
        return value
    if None in wanted:
        return value if isinstance(value, dict) else dict(value)
    return {key: _prune(value[key], inner) for key, inner in wanted.items() if key in value}


def _reason(error: Exception, expression: Expression, names: Mapping[str, Any]) -> str:
    if isinstance(error, ExpressionError):
        return error.reason
    if isinstance(error, KeyError | TypeError):
        for chain in expression.chains:
            _, reason = _follow(chain, names)
            named = isinstance(error, KeyError) and str(error.args[0]) in map(str, chain.keys)
            if reason and (named or isinstance(error, TypeError)):
                return reason
    if isinstance(error, KeyError):
        return f"there is no {error.args[0]}"
    if any(chain.root == "secrets" for chain in expression.chains):
        return "it cannot be evaluated"
    if isinstance(error, TypeError):
        return (
            "the types do not go together; convert one, integers and doubles do not mix: "
            "double(x), int(x), string(x)"
        )
    first = str(error).split(". ")[0].rstrip(".")
    return first[:_SHOWN] or type(error).__name__


def _plain(value: Any) -> Any:
    """Return what CEL gave as plain JSON."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    plain = value
    match value:
        case None | bool() | int() | str():
            pass
        case float() if math.isfinite(value):
            pass
        case datetime():
            plain = value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            plain = f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
        case bytes():
            plain = base64.b64encode(value).decode()
        case cel.OptionalValue() if value.has_value():
            plain = _plain(value.value())
        case cel.OptionalValue():
            raise ExpressionError("", "the optional holds no value; add .orValue(...)")
        case _:
            raise ExpressionError("", f"gives {value!s:.40}, which JSON does not have")
    return plain


def _key(key: object) -> str:
    return key if isinstance(key, str) else json.dumps(key)
