"""Workflows of the load that deal with others: they undo, call, listen, ask, and share.

What answers them is `outside`; what must hold of them is in `relations`. Their values are those of
`documents`: `input.n` plus a number for each step that counts, and what comes from outside is such
a value too, so that the output of a run can be counted again.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos.documents import SOON, Step, document, step
from tests.chaos.stage import PASSWORD

NUMBERS = re.compile(r"\[\d+\]")
DECIDERS, DIRECTORS = "chaos-deciders", "chaos-directors"
PEOPLE: Mapping[str, str] = {
    "ann": DECIDERS,
    "bob": DECIDERS,
    "cyd": DECIDERS,
    "dan": DECIDERS,
    "eve": "",
    "fay": DIRECTORS,
    "gus": DIRECTORS,
}
"""Who decides, and as a member of what; eve is handed the votes of others."""

TAKES_VOTES = "eve"
APPROVALS = 2
GUARD = "chaos-crm"
POOLS: Mapping[str, int] = {"chaos-bots": 2, "chaos-desks": 2}
"""The pools of profiles, and how many are in each."""

PAID, PART, ORDERED = "chaos.paid", "chaos.part", "chaos.ordered"
PARTS = 3
PAID_ADDS = 10
CALLED_ADDS = 5
CHILDREN = 3
VISITS = 3
BY_HAND = "chaos-saga-by-hand"
MOVING = "chaos-moving"
NOT_IN_EVERY_VERSION = {"more": None}
"""What a run that goes over does without, where it has done it."""

FORKED_AT: Mapping[str, str] = {
    "chaos-chain": "three",
    "chaos-graph": "e",
    "chaos-looped": "again",
    "chaos-nested": "both.r.deep.deep_two",
    "chaos-picky": "picky",
    "chaos-saga": "risky",
    "chaos-visiting": "end",
}
"""Workflows whose runs are forked, and at which step."""

PLACES: Mapping[str, int] = {"chaos-queued": 2, "chaos-newest": 1, "chaos-skipped": 1}
"""Workflows of which there are few runs at a time with the same key, and how many."""


def undone(one: Step, add: int, uses: str = "apply", **keys: Any) -> Step:
    """Return the step with what undoes it, which gives `input.n + add`."""
    undo = {key: value for key, value in step("undo", uses, add, **keys).items() if key != "id"}
    return {**one, "compensate": {**undo, "retry": SOON}}


def right(one: dict[str, Any], when: str) -> dict[str, Any]:
    """Have a picky step be given what it wants whenever an expression holds."""
    one["with"]["right"] = f"${{{{ {when} }}}}"
    return one


def _saga(name: str, **keys: Any) -> dict[str, Any]:
    item = undone(step("item", "apply", 0), 110)
    item["with"]["value"] = "${{ input.n + item }}"
    stubborn = undone(step("right", "quick", 3), 103, "picky")
    right(stubborn["compensate"], "input.n % 8 != 2")
    both = [
        undone(step("left", "apply", 2, after=0.3), 102, before=0.2, after=0.3),
        stubborn,
    ]
    steps = [
        undone(step("reserve", "apply", 1), 101, "flaky", times=1),
        {"id": "both", "parallel": both},
        {"id": "each", "foreach": "${{ 4 }}", "max_parallel": 2, "steps": [item]},
        right(step("risky", "picky", 4), "input.n % 2 == 1"),
        step("end", "apply", 5),
    ]
    adds = ["reserve", "left", "right", "risky", "end"]
    return document(name, steps, adds, **keys)


def _child() -> dict[str, Any]:
    steps = [
        undone(step("one", "apply", 1), 201),
        step("two", "flaky", 2, times=1),
        right(step("three", "picky", 3), "input.n % 5 != 0"),
        undone(step("four", "apply", 4, after=0.4), 204),
    ]
    return document("chaos-child", steps, ["one", "two", "three", "four"])


CHILD_ADDS = (1, 2, 3, 4)


def _call(name: str, workflow: str = "chaos-child", n: str = "input.n", **keys: Any) -> Step:
    return {"id": name, "workflow": workflow, "with": {"n": f"${{{{ {n} }}}}"}, **keys}


def _middle() -> dict[str, Any]:
    steps = [_call("son"), step("note", "apply", 1)]
    output = {"total": "${{ steps.son.output.total + steps.note.output.value }}"}
    return document("chaos-middle", steps, output=output)


def _parent() -> dict[str, Any]:
    kid = _call("kid", n="input.n + item")
    race = [_call("slow", "chaos-middle"), {"id": "soon", "wait": {"for": "1s"}}]
    steps = [
        step("before", "quick", 1),
        {"id": "race", "first": race},
        _call("deep", "chaos-middle"),
        {"id": "each", "foreach": f"${{{{ {CHILDREN} }}}}", "max_parallel": 2, "steps": [kid]},
        step("end", "apply", 2),
    ]
    output = {
        "total": "${{ steps.before.output.value + steps.deep.output.total"
        " + sum(steps.each.output.map(one, one.total)) + steps.end.output.value }}"
    }
    return document("chaos-parent", steps, output=output)


def _listening() -> dict[str, Any]:
    paid = {"type": PAID, "match": "${{ event.data.order == string(input.n) }}"}
    # An expression by which no index finds the step.
    part = {"type": PART, "match": "${{ event.data.n - input.n == 0 }}"}
    steps = [
        step("before", "apply", 1, before=0.5),
        {"id": "paid", "event": paid},
        {
            "id": "parts",
            "repeat": {"max_times": PARTS},
            "steps": [{"id": "part", "event": part}, step("use", "quick", 0)],
        },
        step("end", "apply", 2),
    ]
    return document("chaos-listening", steps, ["before", "paid", "end"])


def _ordered(name: str, **trigger: Any) -> dict[str, Any]:
    found = {"type": ORDERED, "input": {"n": "${{ event.data.n }}"}, **trigger}
    steps = [step("one", "apply", 1), step("two", "apply", 2)]
    return document(name, steps, ["one", "two"], triggers=[{"event": found}])


def _asking() -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["note"],
        "properties": {"note": {"type": "string"}},
    }
    caught = [{"on": ["approval.rejected"], "steps": [step("no", "apply", 4)]}]
    escalating = {
        "group": DECIDERS,
        "timeout": "3s",
        "on_timeout": "escalate",
        "escalate_to": DIRECTORS,
    }
    steps = [
        step("before", "quick", 1),
        {"id": "sign", "approval": {"group": DECIDERS, "approvals": APPROVALS, "form": form}},
        {"id": "soon", "approval": escalating, "catch": caught},
        step("end", "apply", 2),
    ]
    return document("chaos-asking", steps, ["before", "end"])


def _ask(name: str, of: str, add: int) -> Step:
    one = step(name, "ask", add)
    one["with"]["url"] = f"${{{{ steps.{of}.callback_url }}}}"
    return one


def _called() -> dict[str, Any]:
    each = [_ask("beg", "hear", 4), {"id": "hear", "callback": {}}]
    steps = [
        _ask("ask", "answer", 1),
        step("slow", "apply", 2, before=0.7, after=0.7),
        {"id": "answer", "callback": {}},
        {"id": "each", "foreach": "${{ 2 }}", "steps": each},
        step("end", "apply", 3),
    ]
    return document("chaos-called", steps, ["ask", "slow", "answer", "end"])


def _guarded() -> dict[str, Any]:
    def ask(name: str, add: int) -> Step:
        retry = {"max_attempts": 6, "initial_delay": "300ms"}
        return step(name, "depend", add, guard=GUARD, retry=retry)

    steps = [
        ask("first", 1),
        {"id": "all", "parallel": [ask("left", 2), ask("right", 3), step("free", "apply", 4)]},
        ask("end", 5),
    ]
    return document("chaos-guarded", steps, ["first", "left", "right", "free", "end"])


def _leased() -> dict[str, Any]:
    bots, desks = POOLS

    def stay(name: str, add: int, pool: str, hold: str) -> Step:
        one = step(name, "stay", add, profile={"pool": pool, "hold": hold})
        one["with"]["seconds"] = 0.4
        return one

    abreast = [stay("left", 1, bots, "step"), stay("right", 2, bots, "step")]
    steps = [
        {"id": "both", "parallel": abreast},
        stay("mine", 3, desks, "run"),
        step("between", "apply", 4),
        stay("still_mine", 5, desks, "run"),
        step("end", "apply", 6),
    ]
    return document("chaos-leased", steps, ["left", "right", "mine", "between", "end"])


def _few(name: str, policy: str) -> dict[str, Any]:
    key = "${{ string(input.n % 2) }}"
    steps = [step("one", "apply", 1, before=0.3), step("two", "apply", 2, after=0.5)]
    few = {"key": key, "limit": PLACES[name], "policy": policy}
    return document(name, steps, ["one", "two"], concurrency=few)


def _lining_up() -> dict[str, Any]:
    """Return a workflow whose child runs wait for their places."""
    kids = [_call(f"kid{n}", "chaos-queued", f"input.n + {n}") for n in range(3)]
    steps = [{"id": "all", "parallel": kids}, step("end", "apply", 1)]
    output = {
        "total": "${{ steps.kid0.output.total + steps.kid1.output.total"
        " + steps.kid2.output.total + steps.end.output.value }}"
    }
    return document("chaos-lining-up", steps, output=output)


def _parked() -> dict[str, Any]:
    steps = [step("before", "apply", 1), step("picky", "picky", 2), step("after", "apply", 3)]
    return document("chaos-parked", steps, ["before", "picky", "after"], on_failure="park")


def _visiting() -> dict[str, Any]:
    count = {"id": "count", "set": {"visits": "${{ vars.visits + 1 }}"}}
    again = [{"when": f"${{{{ vars.visits < {VISITS} }}}}", "to": "work"}, {"to": "leave"}]
    steps = [
        {"id": "begin", "set": {"visits": 0}},
        {
            "id": "ticket",
            "max_visits": 20,
            "states": [
                {**step("work", "flaky", 1, times=1), "next": "note"},
                {**step("note", "apply", 2), "next": "count"},
                {**count, "next": again},
                step("leave", "apply", 3),
            ],
        },
        step("end", "apply", 4),
    ]
    output = {
        "total": "${{ steps.ticket.output.value + steps.end.output.value"
        f" + vars.visits - {VISITS} }}}}"
    }
    return document("chaos-visiting", steps, output=output)


def _mended_in_loops() -> dict[str, Any]:
    """Return a workflow whose items fail until a person gives them what they want."""
    item = right(step("item", "picky", 0), "item != 1")
    item["with"]["value"] = "${{ input.n + item }}"
    inner = right(step("inner", "picky", 0), "order + line != 11")
    inner["with"]["value"] = "${{ input.n + order + line }}"
    lines = {"id": "lines", "foreach": [1, 2], "as": "line", "steps": [inner]}
    steps = [
        {
            "id": "each",
            "foreach": "${{ 3 }}",
            "on_item_failure": "continue",
            "steps": [item, step("note", "apply", 1)],
        },
        {"id": "orders", "needs": [], "foreach": [0, 10], "as": "order", "steps": [lines]},
        step("end", "apply", 2, needs=["each", "orders"]),
    ]
    output = {
        "total": "${{ sum(steps.each.output.map(one, one.value)) + steps.end.output.value"
        " + sum(steps.orders.output.map(one, sum(one.map(line, line.value)))) }}"
    }
    return document("chaos-mended-in-loops", steps, output=output)


def moving(version: int) -> dict[str, Any]:
    """Return a version of a workflow whose runs go over from one to the other and back."""
    scan = step("scan", "apply", 0, after=0.2)
    scan["with"]["value"] = "${{ input.n + item }}"
    steps = [
        step("one", "apply", 1, after=0.5),
        {"id": "each", "foreach": "${{ 4 }}", "max_parallel": 2, "steps": [scan]},
        {"id": "pause", "wait": {"for": "2s"}},
        step("two", "flaky", 2, times=1),
        *([step("more", "quick", 3)] if version == 2 else []),
        step("end", "apply", 4, after=0.3),
    ]
    output = {
        "total": "${{ sum(steps.each.output.map(one, one.value)) + steps.one.output.value"
        " + steps.two.output.value + steps.end.output.value }}"
    }
    return document(MOVING, steps, output=output)


DEALT: Mapping[str, int] = {
    "chaos-saga": 3,
    BY_HAND: 2,
    "chaos-mended-in-loops": 2,
    MOVING: 2,
    "chaos-parent": 1,
    "chaos-lining-up": 1,
    "chaos-listening": 2,
    "chaos-asking": 2,
    "chaos-called": 2,
    "chaos-guarded": 3,
    "chaos-leased": 2,
    "chaos-queued": 2,
    "chaos-newest": 2,
    "chaos-skipped": 1,
    "chaos-parked": 1,
    "chaos-visiting": 1,
}
"""What the load is mixed of besides, with weights."""

DOCUMENTS: Sequence[dict[str, Any]] = (
    _saga("chaos-saga", on_failure="compensate"),
    _saga(BY_HAND),
    _child(),
    _middle(),
    _few("chaos-queued", "queue"),
    _few("chaos-newest", "replace"),
    _few("chaos-skipped", "skip"),
    _parent(),
    _lining_up(),
    _listening(),
    _ordered("chaos-ordered"),
    _ordered("chaos-ordered-even", match="${{ event.data.n % 2 == 0 }}"),
    _asking(),
    _called(),
    _guarded(),
    _leased(),
    _parked(),
    _visiting(),
    _mended_in_loops(),
    moving(1),
    moving(2),
)

_PLACED_ADDS = (1, 2)

ADDS: Mapping[str, Sequence[int]] = {
    "chaos-saga": (1, 2, 3, 4, 5),
    BY_HAND: (1, 2, 3, 4, 5),
    "chaos-middle": (*CHILD_ADDS, 1),
    "chaos-parent": (
        1,
        *(*CHILD_ADDS, 1),
        *(item + add for item in range(CHILDREN) for add in CHILD_ADDS),
        2,
    ),
    "chaos-lining-up": (*(n + add for n in range(3) for add in _PLACED_ADDS), 1),
    "chaos-listening": (1, PAID_ADDS, 2),
    "chaos-called": (1, 2, CALLED_ADDS, 3),
    "chaos-visiting": (3, 4),
    "chaos-mended-in-loops": (1, 1, 1, 2, 1, 2, 11, 12),
    MOVING: (0, 1, 2, 3, 1, 2, 4),
}
"""What is added to `input.n` in the outputs that their documents alone do not tell."""

CORRECTIONS: Mapping[tuple[str, str], int | str] = {
    ("chaos-picky", "picky"): 2,
    ("chaos-parked", "picky"): 2,
    ("chaos-saga", "both.right.compensate"): 103,
    (BY_HAND, "both.right.compensate"): 103,
    ("chaos-child", "three"): 3,
    ("chaos-mended-in-loops", "each[].item"): "item",
    ("chaos-mended-in-loops", "orders[].lines[].inner"): "order + line",
}
"""The picky steps: what a person who puts them right has them give besides `input.n`."""


def correction(workflow: str, path: str) -> int | str | None:
    """Return what a person who puts a step right has it give; None where nothing is wrong."""
    return CORRECTIONS.get((workflow, NUMBERS.sub("[]", path)))


ENVIRONMENT = f"""
from django.contrib.auth.models import Group, User
from environments.models import Environment, Profile, ProfilePool
from environments.vault import seal
from workflows.models import Breaker

place = Environment.objects.get(name="default")
for name, group in {dict(PEOPLE)!r}.items():
    person = User.objects.create_user(name, password={PASSWORD!r})
    if group:
        person.groups.add(Group.objects.get_or_create(name=group)[0])
Breaker.objects.create(
    environment=place, name={GUARD!r}, threshold=2, window=10, cool_down=2, longest_cool_down=4
)
for name, size in {dict(POOLS)!r}.items():
    pool = ProfilePool.objects.create(environment=place, name=name)
    for number in range(size):
        named, context = f"{{name}}-{{number}}", seal("default", dict(visits=0))
        Profile.objects.create(pool=pool, name=named, context=context)
"""
"""What makes the people, the guard and the profiles."""
