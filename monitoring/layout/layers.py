"""Units in layers from top to bottom: each stands below what it needs.

Long links get places of their own in the layers that they cross (after Sugiyama, Tagawa and Toda,
1981), so none runs under a step; where all stand in single file, as on a phone, they go around by
a lane at the left.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from monitoring.layout.units import LINE_GAP, STEP_WIDTH, Block, Detour, Link, Unit

GAP, GRID_GAP = 26.0, 14.0
WAY_WIDTH = 10.0
MOST_WAYS = 800
SWEEPS = 4
LANE_WIDTH = 8.0
MOST_LANES = 6
"""Beyond it, lines that go around share their lanes."""


def in_layers(units: Sequence[Unit], links: Sequence[Link], width: float) -> Block:
    """Give every unit its place, and every link the units it goes through."""
    layers = _layers(units, links)
    routes = _routes(layers, links)
    _order(layers, routes)
    lines = _lines(layers, links, max(width, STEP_WIDTH))
    block = Block(links=routes)
    is_text = all(len(layer) == 1 for layer in layers) and any(len(line) > 1 for line in lines)
    line_gap = LINE_GAP if routes else GRID_GAP
    block.width = max((_width(line) for line in lines), default=0.0)
    top = 0.0
    for line in lines:
        left = 0.0 if is_text else (block.width - _width(line)) / 2
        height = max(unit.height for unit in line)
        for unit in line:
            if unit.is_way:
                unit.height = height
            unit.x, unit.y = left, top + (0.0 if unit.is_way else (height - unit.height) / 2)
            left += unit.width + GAP
            block.units.append(unit)
        top += height + line_gap
    block.height = max(top - line_gap, 0.0)
    _go_around(block, lines)
    return block


def _go_around(block: Block, lines: Sequence[Sequence[Unit]]) -> None:
    """Give the links a lane at the left that would run under steps in single file.

    There a line behind steps looks as if it came from the one before. Each source has one lane.
    """
    if any(sum(not unit.is_way for unit in line) > 1 for line in lines):
        return
    row = {unit: number for number, line in enumerate(lines) for unit in line}
    around = [
        link
        for link, ways in block.links
        if _is_blocked((link.source, *ways, link.target), row, lines)
    ]
    until: dict[Unit, int] = {}
    for link in around:
        until[link.source] = max(until.get(link.source, 0), row[link.target])
    lanes: dict[Unit, int] = {}
    free_from: list[int] = []
    for source in sorted(until, key=lambda unit: row[unit]):
        free = [number for number, end in enumerate(free_from) if end <= row[source]]
        lane = free[0] if free else len(free_from) % MOST_LANES
        free_from[lane : lane + 1] = [until[source]]
        lanes[source] = lane
    margin = LANE_WIDTH * (len(free_from) + 1) if around else 0.0
    block.width += margin
    for unit in block.units:
        unit.x += margin
    for link in around:
        lane = lanes[link.source]
        bottom = max(unit.y + unit.height for unit in lines[row[link.source]])
        top = min(unit.y for unit in lines[row[link.target]])
        aside = LANE_WIDTH + 2.0 * lane
        block.detours[link] = Detour(bottom + aside, LANE_WIDTH * (lane + 0.5), top - aside - 8.0)


def _is_blocked(way: Sequence[Unit], row: dict[Unit, int], lines: Sequence[Sequence[Unit]]) -> bool:
    """Say whether a line would run under a step on its way."""
    for one, other in pairwise(way):
        left, right = sorted((one.x + one.width / 2, other.x + other.width / 2))
        for line in lines[row[one] + 1 : row[other]]:
            if any(
                unit.x < right + 4 and left - 4 < unit.x + unit.width
                for unit in line
                if not unit.is_way
            ):
                return True
    return False


def _layers(units: Sequence[Unit], links: Iterable[Link]) -> list[list[Unit]]:
    """Put each unit one layer below the lowest that it follows."""
    followers: dict[Unit, list[Unit]] = {unit: [] for unit in units}
    missing = dict.fromkeys(units, 0)
    for link in links:
        followers[link.source].append(link.target)
        missing[link.target] += 1
    depth = dict.fromkeys(units, 0)
    ready = [unit for unit in units if not missing[unit]]
    for unit in ready:
        for follower in followers[unit]:
            depth[follower] = max(depth[follower], depth[unit] + 1)
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    layers: list[list[Unit]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for unit in units:
        layers[depth[unit]].append(unit)
    return layers


def _routes(layers: list[list[Unit]], links: Iterable[Link]) -> list[tuple[Link, tuple[Unit, ...]]]:
    """Return each link with its ways; the ways are put into the layers that it crosses."""
    depth = {unit: number for number, layer in enumerate(layers) for unit in layer}
    found = list(links)
    crossed = sum(depth[link.target] - depth[link.source] - 1 for link in found)
    routes = []
    for link in found:
        between = range(depth[link.source] + 1, depth[link.target])
        ways = [Unit(-1, width=WAY_WIDTH, is_way=True) for _ in between]
        if crossed > MOST_WAYS:
            ways = []
        for number, way in zip(between, ways, strict=False):
            layers[number].append(way)
        routes.append((link, tuple(ways)))
    return routes


def _order(layers: Sequence[list[Unit]], routes: Iterable[tuple[Link, tuple[Unit, ...]]]) -> None:
    """Sort each layer by the middle of its neighbours, downwards and upwards in turn."""
    above: dict[Unit, list[Unit]] = {}
    below: dict[Unit, list[Unit]] = {}
    for link, ways in routes:
        for one, other in pairwise((link.source, *ways, link.target)):
            below.setdefault(one, []).append(other)
            above.setdefault(other, []).append(one)
    place = {unit: number / len(layer) for layer in layers for number, unit in enumerate(layer)}
    for sweep in range(SWEEPS):
        neighbours = below if sweep % 2 else above
        for layer in reversed(layers) if sweep % 2 else layers:
            layer.sort(key=lambda unit: _middle(unit, neighbours, place))
            place.update((unit, number / len(layer)) for number, unit in enumerate(layer))


def _middle(unit: Unit, neighbours: dict[Unit, list[Unit]], place: dict[Unit, float]) -> float:
    near = neighbours.get(unit)
    return sum(place[one] for one in near) / len(near) if near else place.get(unit, 0.0)


def _lines(layers: Sequence[list[Unit]], links: Iterable[Link], width: float) -> list[list[Unit]]:
    """Wrap layers into lines; a step that only follows the last one goes on in its line."""
    followers: dict[Unit, list[Unit]] = {}
    needs: dict[Unit, list[Unit]] = {}
    for link in links:
        followers.setdefault(link.source, []).append(link.target)
        needs.setdefault(link.target, []).append(link.source)
    lines: list[list[Unit]] = []
    for number, layer in enumerate(layers):
        last = lines[-1][-1] if lines else None
        goes_on = (
            number > 0
            and len(layer) == len(layers[number - 1]) == 1
            and last is not None
            and needs.get(layer[0]) == [last]
            and followers.get(last) == [layer[0]]
            and _width([*lines[-1], layer[0]]) <= width
        )
        if goes_on:
            lines[-1].append(layer[0])
        else:
            lines.extend(_wrapped(layer, width))
    return lines


def _wrapped(layer: Iterable[Unit], width: float) -> list[list[Unit]]:
    lines: list[list[Unit]] = [[]]
    for unit in layer:
        if lines[-1] and _width([*lines[-1], unit]) > width:
            lines.append([])
        lines[-1].append(unit)
    return lines


def _width(line: Sequence[Unit]) -> float:
    return sum(unit.width for unit in line) + GAP * (len(line) - 1)
