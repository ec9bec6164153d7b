"""The functions an expression may call: those of CEL, its extensions, and `get`.

`get(container, key, default)` stands in for the optional syntax (`a.?b`,
`a[?k]`), which the parser does not have: `key` is a key, an index, or a list of
them that leads inwards. `lists.range` is left out, for it makes a list of any
length out of nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from cel.stdlib import STDLIB_FUNCTIONS

NATIVE = frozenset(
    {
        "size",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "timestamp",
        "duration",
        "type",
        "dyn",
        "has",
        "getFullYear",
        "getMonth",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
        "optional.of",
        "optional.none",
        "optional.ofNonZeroValue",
        "hasValue",
        "value",
        "orValue",
        "or",
    }
)
MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "filter", "map"})
NAMESPACES = frozenset({"math", "sets", "strings", "base64", "lists", "optional"})
TYPE_NAMES = frozenset(
    {
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "bool",
        "list",
        "map",
        "type",
        "null_type",
        "timestamp",
        "duration",
    }
)


def get(container: object, key: object, default: object) -> Any:
    """Return what `key` leads to in `container`, or `default` if there is no such thing."""
    found: Any = container
    for part in key if isinstance(key, list) else [key]:
        is_index = isinstance(found, list) and type(part) is int and 0 <= part < len(found)
        if not is_index and not (isinstance(found, Mapping) and part in found):
            return default
        found = found[part]
    return found


EXTENSIONS: Mapping[str, Callable[..., Any]] = {
    **{name: call for name, call in STDLIB_FUNCTIONS.items() if name != "lists.range"},
    "get": get,
}
KNOWN = NATIVE | MACROS | EXTENSIONS.keys()
