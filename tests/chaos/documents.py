"""The workflows of the load, and what a completed run of each must have given.

Every step that counts gives `value`, `input.n` plus a number of its own, so the output of a run,
which the engine computes by expressions, can be counted again from the steps and from the ledger.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos.stage import SECOND

Step = dict[str, Any]

INPUT = {
    "type": "object",
    "required": ["n"],
    "additionalProperties": False,
    "properties": {"n": {"type": "integer"}},
}
SOON = {"initial_delay": "500ms", "max_attempts": 4, "jitter": 0.2}
WIDTH = 30
ITEMS = 12
ROUNDS = 3
CHARGE_TAKES = 1.5
"""Seconds before the effect of a charge, and behind it."""

UNRULY_TIMEOUT = 2
"""Seconds: with the grace less than a lease, as in the product's own settings."""


def step(name: str, uses: str, add: int, **keys: Any) -> Step:
    """Return a step that gives `input.n + add`; other keys go to `with` or to the step."""
    inside = {key: keys.pop(key) for key in ("before", "after", "times") if key in keys}
    arguments = {"value": f"${{{{ input.n + {add} }}}}", **inside}
    return {"id": name, "uses": f"chaos.{uses}", "with": arguments, **keys}


def total(*names: str) -> str:
    """Return the expression that adds the values of steps."""
    return "${{ " + " + ".join(f"steps.{name}.output.value" for name in names) + " }}"


def document(
    name: str, steps: Sequence[Step], adds: Sequence[str] = (), **keys: Any
) -> dict[str, Any]:
    """Return a definition whose output adds the values of the steps named."""
    output = {"output": {"total": total(*adds)}} if adds else {}
    return {"workflow": name, "input": INPUT, "retry": SOON, "steps": list(steps)} | output | keys


def _chain(name: str, **keys: Any) -> dict[str, Any]:
    steps = [
        step("one", "quick", 1),
        step("two", "apply", 2, before=0.05),
        step("three", "apply", 3, before=0.3, after=0.3),
        step("four", "quick", 4),
        step("five", "apply", 5, after=1.5),
        step("six", "quick", 6),
    ]
    return document(name, steps, ["one", "two", "three", "four", "five", "six"], **keys)


def _fan() -> dict[str, Any]:
    children = [
        step(
            f"c{n}", "apply" if n % 3 == 0 else "quick", n, **({"after": 0.1} if n % 3 == 0 else {})
        )
        for n in range(WIDTH)
    ]
    steps = [
        step("first", "quick", 1),
        {"id": "all", "parallel": children},
        step("last", "apply", 2),
    ]
    return document("chaos-fan", steps, [*(f"c{n}" for n in range(WIDTH)), "last"])


def _nested() -> dict[str, Any]:
    left = [step("left_one", "apply", 1, before=0.2), step("left_two", "quick", 2)]
    inner = [step("deep_one", "apply", 3, after=0.4), step("deep_two", "flaky", 4, times=1)]
    right = [step("right_one", "quick", 5), {"id": "deep", "parallel": inner}]
    route = {
        "id": "route",
        "switch": [
            {"when": "${{ input.n % 2 == 0 }}", "steps": [step("even", "apply", 6)]},
            {"else": None, "steps": [step("odd", "quick", 7), step("odder", "apply", 8)]},
        ],
    }
    steps = [
        {"id": "both", "parallel": [{"id": "l", "steps": left}, {"id": "r", "steps": right}]},
        route,
        step("end", "apply", 9),
    ]
    adds = ["left_one", "left_two", "deep_one", "deep_two", "right_one", "end"]
    return document("chaos-nested", steps, adds)


def _graph() -> dict[str, Any]:
    steps = [
        step("a", "apply", 1, needs=[], before=0.2),
        step("b", "apply", 2, needs=[], after=0.5),
        step("c", "flaky", 3, needs=["a"], times=2),
        step("d", "quick", 4, needs=["a", "b"]),
        step("e", "apply", 5, needs=["c", "d"], before=0.1),
        step("tidy", "quick", 6, needs=["e"], join="all_done"),
    ]
    return document("chaos-graph", steps, ["a", "b", "c", "d", "e"])


def _mended() -> dict[str, Any]:
    steps = [
        step("flaky", "flaky", 1, times=2),
        {**step("maybe", "picky", 2), "optional": True},
        {
            **step("caught", "picky", 3),
            "catch": [{"on": ["permanent"], "steps": [step("instead", "apply", 3)]}],
        },
        step("end", "apply", 4),
    ]
    return document("chaos-mended", steps, ["flaky", "caught", "end"])


def _picky() -> dict[str, Any]:
    steps = [
        step("before", "apply", 1),
        step("picky", "picky", 2),
        step("after", "apply", 3),
        step("tidy", "quick", 4, needs=["after"], join="all_done"),
    ]
    return document("chaos-picky", steps, ["before", "picky", "after"])


def _charge(name: str, uses: str) -> dict[str, Any]:
    steps = [
        step("before", "quick", 1),
        step("pay", uses, 2, before=CHARGE_TAKES, after=CHARGE_TAKES),
        step("after", "apply", 3),
    ]
    return document(name, steps, ["before", "pay", "after"])


def _looped() -> dict[str, Any]:
    """Return a workflow of loops, a pause and a race; its items give `input.n` and their number."""
    scan = step("scan", "apply", 0, after=0.1)
    scan["with"]["value"] = "${{ input.n + item }}"
    steps = [
        {"id": "each", "foreach": f"${{{{ {ITEMS} }}}}", "max_parallel": 4, "steps": [scan]},
        {"id": "pause", "wait": {"for": "500ms"}},
        {
            "id": "again",
            "repeat": {"max_times": ROUNDS, "every": "300ms"},
            "steps": [step("look", "flaky", 0, times=1), step("note", "apply", 1)],
        },
        {
            "id": "race",
            "first": [{"id": "late", "wait": {"for": "1h"}}, step("quick", "apply", 2)],
        },
        step("end", "apply", 3),
    ]
    output = {
        "total": "${{ sum(steps.each.output.map(one, one.value)) + steps.again.output.value"
        " + steps.race.output.output.value + steps.end.output.value }}"
    }
    return document("chaos-looped", steps, output=output)


LOOPED_ADDS = [*range(ITEMS), 1, 2, 3]
"""What the items, the last round, the winner and the end of that workflow add to `input.n`."""


def _bound(name: str, uses: str, **keys: Any) -> dict[str, Any]:
    """Return a workflow around a step that ends its worker or must be ended."""
    steps = [step("before", "quick", 1), step("bad", uses, 2, **keys)]
    return document(name, steps)


MIXED: Mapping[str, int] = {
    "chaos-chain": 4,
    "chaos-fan": 2,
    "chaos-nested": 3,
    "chaos-graph": 3,
    "chaos-mended": 2,
    "chaos-looped": 2,
    "chaos-picky": 1,
    "chaos-charge": 6,
    "chaos-probed": 6,
    "chaos-timed": 1,
    "chaos-second": 3,
}
"""What the load is mixed of, with weights."""

KILLERS = {"chaos-suicide": "suicide", "chaos-hog": "hog"}
"""Steps that end their worker at every attempt; the loss budget ends that."""

UNRULY = {"chaos-stubborn": "stubborn", "chaos-frozen": "frozen"}
"""Steps that do not end when their time is up."""

DOCUMENTS: Sequence[dict[str, Any]] = (
    _chain("chaos-chain"),
    _chain("chaos-second", environment=SECOND),
    _chain("chaos-timed", timeout="4s"),
    _fan(),
    _nested(),
    _graph(),
    _mended(),
    _looped(),
    _picky(),
    _charge("chaos-charge", "charge"),
    _charge("chaos-probed", "charge_probed"),
    *(_bound(name, uses) for name, uses in KILLERS.items()),
    *(
        _bound(
            name, uses, timeout=UNRULY_TIMEOUT, retry={"max_attempts": 2, "initial_delay": "500ms"}
        )
        for name, uses in UNRULY.items()
    ),
)

EFFECTS = frozenset({"apply", "ask", "charge", "charge_probed", "depend", "flaky", "picky"})
"""The task types whose completed step has its effect on the ledger."""
