import re
from itertools import combinations
from random import Random

import pytest

from monitoring.layout import STEP_WIDTH, WIDTH, Box, Layout, layout_of
from workflows.engine.compile import compile_spec
from workflows.language.loader import load


def drawn(steps: str, *, width: float = WIDTH) -> Layout:
    return layout_of(compile_spec(load(f"workflow: w\nsteps:\n{steps}", source="t")), width=width)


def step(name: str, *needs: str, more: str = "") -> str:
    return f"  - {{id: {name}, uses: log, needs: [{', '.join(needs)}]{more}}}\n"


def box(layout: Layout, path: str) -> Box:
    return next(one for one in layout.boxes if one.path == path)


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def test_a_straight_line_reads_like_text() -> None:
    layout = drawn("".join(f"  - {{id: s{n}, uses: log}}\n" for n in range(8)))

    first, second, last = box(layout, "s0"), box(layout, "s1"), box(layout, "s7")
    assert second.x > first.x
    assert second.y == first.y
    assert last.y > first.y


def test_in_single_file_a_line_goes_around_the_steps_that_it_passes() -> None:
    steps = step("a1") + step("a2", "a1") + step("b1") + step("b2", "b1")

    layout = drawn(steps, width=200)

    first, passed = box(layout, "a1"), box(layout, "b1")
    assert first.y < passed.y < box(layout, "a2").y
    (line,) = [edge.line for edge in layout.edges if edge.target == "a2"]
    (lane,) = {float(x) for x in re.findall(r"H([\d.]+)V", line)} - {first.x + STEP_WIDTH / 2}
    assert lane < passed.x


def test_a_step_stands_below_all_that_it_needs() -> None:
    layout = drawn(step("a") + step("b", "a") + step("c", "a") + step("d", "b", "c"))

    a, b, c, d = (box(layout, name) for name in "abcd")
    assert a.y < b.y == c.y < d.y


def test_the_frame_of_a_scope_holds_its_steps() -> None:
    layout = drawn("  - id: both\n    parallel: [{id: l, uses: log}, {id: r, uses: log}]\n")

    frame, left = box(layout, "both"), box(layout, "both.l")
    assert frame.is_frame
    assert frame.x < left.x
    assert frame.y < left.y
    assert frame.y + frame.height > left.y + left.height


def test_every_case_of_a_switch_and_every_fallback_has_its_frame() -> None:
    layout = drawn(
        "  - id: way\n    switch:\n      - when: ${{ true }}\n        steps: [{id: x, uses: log}]\n"
        "      - else:\n        steps: [{id: y, uses: log}]\n"
        "  - id: z\n    uses: log\n    catch: [{on: [permanent], steps: [{id: q, uses: log}]}]\n"
    )

    titles = {one.title for one in layout.boxes if one.is_frame}
    assert titles == {"way", "when ${{ true }}", "else", "z.catch[0]"}
    assert [edge.target for edge in layout.edges if edge.is_fallback] == ["z.catch[0]"]


def test_many_that_start_together_share_one_line_to_and_from_them() -> None:
    names = [f"m{n}" for n in range(40)]
    layout = drawn(step("a") + "".join(step(n, "a") for n in names) + step("z", *names))

    assert len(layout.edges) == 2
    assert layout.width < WIDTH + STEP_WIDTH


@pytest.mark.parametrize("seed", range(6))
def test_no_step_covers_another_whatever_the_graph(seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - a graph, not a secret
    steps = ""
    for n in range(60):
        needs = chance.sample(range(max(0, n - 10), n), min(n, chance.randint(0, 3)))
        steps += step(f"s{n}", *(f"s{one}" for one in needs))

    boxes = [one for one in drawn(steps).boxes if not one.is_frame]

    assert len(boxes) == 60
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]


def test_a_narrow_picture_fits_a_telephone() -> None:
    layout = drawn("".join(f"  - {{id: s{n}, uses: log}}\n" for n in range(9)), width=330)

    assert layout.width <= 334


STATES = """  - id: flow
    states:
      - {id: a, uses: log, next: [{when: "${{ false }}", to: c}, {to: b}]}
      - id: b
        uses: log
        next: [{when: "${{ true }}", to: a}, {when: "${{ false }}", to: b}, {to: c}]
      - {id: c, uses: log}
"""


def ways(layout: Layout) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return the corners of the transitions of a layout."""
    return {
        (edge.source, edge.target): [
            (float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", edge.line)
        ]
        for edge in layout.edges
        if edge.said
    }


@pytest.mark.parametrize("width", [WIDTH, 330.0])
def test_each_transition_between_states_is_a_line_into_the_state_that_it_leads_to(
    width: float,
) -> None:
    layout = drawn(STATES, width=width)
    a, b, c = (f"flow[].{name}" for name in "abc")

    found = ways(layout)

    assert set(found) == {(a, c), (a, b), (b, a), (b, b), (b, c), (c, "")}
    for (source, target), corners in found.items():
        start = box(layout, source)
        end = box(layout, target) if target else next(o for o in layout.boxes if o.title == "end")
        assert start.y <= corners[0][1] <= start.y + start.height
        assert end.y - 4 <= corners[-1][1] <= end.y + end.height
        assert end.x - 4 <= corners[-1][0] <= end.x + end.width + 4


def test_transitions_past_states_and_back_go_around_at_either_side() -> None:
    layout = drawn(STATES)
    middle = box(layout, "flow[].b")

    found = ways(layout)

    assert min(x for x, _ in found["flow[].a", "flow[].c"]) < middle.x
    assert max(x for x, _ in found["flow[].b", "flow[].a"]) > middle.x + middle.width
    again = found["flow[].b", "flow[].b"]
    assert again[0][0] == middle.x + middle.width < again[1][0]
    assert again[0][1] > again[-1][1]


def test_no_two_transitions_share_a_line_beside_the_states() -> None:
    steps = "".join(
        f'      - {{id: s{n}, uses: log, next: [{{when: "${{{{ true }}}}", to: s{(n * 5) % 12}}},'
        f" {{to: s{(n + 1) % 12}}}]}}\n"
        for n in range(12)
    )
    layout = drawn(f"  - id: flow\n    states:\n{steps}")

    sides = [corners[1:3] for corners in ways(layout).values() if len(corners) > 2]

    assert len(sides) > 10
    for (one, one_end), (other, other_end) in combinations(sides, 2):
        low, high = sorted((one[1], one_end[1]))
        first, last = sorted((other[1], other_end[1]))
        assert one[0] != other[0] or last < low or high < first


def test_a_state_says_in_words_where_it_leads() -> None:
    layout = drawn(STATES)

    assert box(layout, "flow[].b").leads == (
        "to a, when ${{ true }}; to b, when ${{ false }}; to c, otherwise"
    )
    assert box(layout, "flow[].c").leads == "to the end"
