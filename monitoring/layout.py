"""Where the steps of a plan stand in its picture: layers from top to bottom, scopes as frames.

Pure and without states, so one layout serves every run of a version. A step stands
below what it needs; a straight line of steps runs on to the right like text; what
starts together stands side by side and wraps. Long edges get places of their own in
the layers they cross (after Sugiyama, Tagawa and Toda, 1981), so none runs under a step; where all
stand in single file, as on a phone, they go around by a lane at the left.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise

from workflows.engine.plan import NO_NODE, Node, Plan
from workflows.language.words import Join, StepKind

WIDTH = 1086.0
STEP_WIDTH, STEP_HEIGHT = 190.0, 46.0
GAP, LINE_GAP, GRID_GAP = 26.0, 40.0, 14.0
PAD, HEAD = 14.0, 28.0
WAY_WIDTH = 10.0
MOST_WAYS = 800
SWEEPS = 4
BUNDLE_FROM = 6
LANE_WIDTH = 8.0
END, END_WIDTH, END_HEIGHT = "end", 64.0, 28.0
SIDE_LANE = 10.0
TIP, TIP_ROOM = 3.0, 5.0
MOST_LANES = 6
"""Beyond it, lines that go around share their lanes."""


Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A step, or the frame around the steps of a scope; `path` is empty for a mere grouping."""

    path: str
    title: str
    detail: str
    x: float
    y: float
    width: float
    height: float
    is_frame: bool
    leads: str = ""
    """Where a state leads, in words."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from what is needed to what needs it, as an SVG path."""

    source: str
    target: str
    line: str
    is_fallback: bool
    said: str = ""
    """Of a transition between states: from where to where, and when."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The picture of a plan, in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


@dataclass(slots=True, eq=False)
class _Unit:
    """What has one place in a layer: a step, a frame, or the way of an edge through the layer."""

    number: int
    path: str = ""
    title: str = ""
    detail: str = ""
    width: float = STEP_WIDTH
    height: float = STEP_HEIGHT
    inner: "_Block | None" = None
    is_way: bool = False
    leads: str = ""
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class _Link:
    source: _Unit
    target: _Unit
    is_fallback: bool = False
    said: str = ""


@dataclass(frozen=True, slots=True)
class _Detour:
    """The way around: to below the source's line, along a lane, to above the target's line."""

    below: float
    lane: float
    above: float


@dataclass(slots=True)
class _Block:
    """Units that were given their places, and the links between them."""

    units: list[_Unit] = field(default_factory=list)
    links: list[tuple[_Link, tuple[_Unit, ...]]] = field(default_factory=list)
    detours: dict[_Link, _Detour] = field(default_factory=dict)
    beside: dict[_Link, Points] = field(default_factory=dict)
    """The corners of lines that go past steps, at their sides."""
    width: float = 0.0
    height: float = 0.0


def layout_of(plan: Plan, *, width: float = WIDTH) -> Layout:
    """Return the layout of the whole plan, about `width` wide if its steps allow."""
    block = _Drawer(plan).scope(plan.root.children, width)
    boxes: list[Box] = []
    edges: list[Edge] = []
    _flatten(block, 2.0, 2.0, boxes, edges)
    return Layout(block.width + 4, block.height + 4, tuple(boxes), tuple(edges))


class _Drawer:
    """Turns the nodes of each scope into units, the innermost scopes first."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.numbers = count()

    def scope(self, members: Sequence[int], width: float) -> _Block:
        units = {index: self.unit(self.plan.nodes[index], width) for index in members}
        links = [
            _Link(units[need], units[index])
            for index in members
            for need in self.plan.nodes[index].needs
            if need in units
        ]
        every = list(units.values())
        for index in members:
            for handler in self.plan.nodes[index].handlers:
                node = self.plan.nodes[handler.node]
                fallback = self.frame(node, f"on {', '.join(handler.on) or 'any error'}", width)
                every.append(fallback)
                links.append(_Link(units[index], fallback, is_fallback=True))
        return _place(*self.bundled(every, links, width), width)

    def unit(self, node: Node, width: float) -> _Unit:
        if node.kind is StepKind.SWITCH:
            cases = [
                self.group(
                    "else" if case.when is None else f"when {case.when}", case.children, width
                )
                for case in node.cases
            ]
            inner = _place(cases, [], width - 2 * PAD)
            return self.framed(node, "first true branch", inner)
        if node.kind is StepKind.STATES:
            return self.framed(node, _DETAILS[node.kind], self.machine(node, width - 2 * PAD))
        if node.children:
            return self.frame(node, _DETAILS.get(node.kind, ""), width)
        return _Unit(next(self.numbers), node.path, node.id, _detail(node))

    def machine(self, scope: Node, width: float) -> _Block:
        """Stand states in single file, with their fallbacks and an end to which some lead."""
        units, links = dict[int, _Unit](), list[_Link]()
        column: list[_Unit] = []
        end = _Unit(next(self.numbers), "", END, width=END_WIDTH, height=END_HEIGHT)
        for index in scope.children:
            node = self.plan.nodes[index]
            units[index] = self.unit(node, width)
            column.append(units[index])
            for handler in node.handlers:
                said = f"on {', '.join(handler.on) or 'any error'}"
                fallback = self.frame(self.plan.nodes[handler.node], said, width)
                column.append(fallback)
                links.append(_Link(units[index], fallback, is_fallback=True))
        for index, unit in units.items():
            ways = self._ways(self.plan.nodes[index])
            unit.leads = "; ".join(f"to {self._named(to)}{when}" for to, when in ways)
            links += [
                _Link(unit, units.get(to, end), said=f"{unit.title} to {self._named(to)}{when}")
                for to, when in ways
            ]
        return _in_single_file([*column, end], links)

    def _ways(self, state: Node) -> list[tuple[int, str]]:
        """Return where a state leads, each place once, and when."""
        if not state.transitions:
            return [(NO_NODE, "")]
        found: dict[int, list[str]] = {}
        for way in state.transitions:
            when = "otherwise" if way.when is None else f"when {way.when}"
            found.setdefault(way.to, []).append(when)
        return [(to, f", {' or '.join(when)}") for to, when in found.items()]

    def _named(self, state: int) -> str:
        return f"the {END}" if state == NO_NODE else self.plan.nodes[state].id

    def frame(self, node: Node, detail: str, width: float) -> _Unit:
        return self.framed(node, detail, self.scope(node.children, width - 2 * PAD))

    def framed(self, node: Node, detail: str, inner: _Block) -> _Unit:
        return self.around(inner, path=node.path, title=node.id, detail=detail)

    def group(self, title: str, members: Sequence[int], width: float) -> _Unit:
        return self.around(self.scope(members, width - 4 * PAD), path="", title=title, detail="")

    def around(self, inner: _Block, *, path: str, title: str, detail: str) -> _Unit:
        head = HEAD if title else PAD
        return _Unit(
            next(self.numbers),
            path,
            title,
            detail,
            width=max(inner.width + 2 * PAD, STEP_WIDTH),
            height=inner.height + head + PAD,
            inner=inner,
        )

    def bundled(
        self, units: list[_Unit], links: list[_Link], width: float
    ) -> tuple[list[_Unit], list[_Link]]:
        """Frame together the many that need the same and are needed by the same."""
        needs: dict[_Unit, set[_Unit]] = {unit: set() for unit in units}
        followers: dict[_Unit, set[_Unit]] = {unit: set() for unit in units}
        for link in links:
            needs[link.target].add(link.source)
            followers[link.source].add(link.target)
        alike: dict[tuple[frozenset[_Unit], frozenset[_Unit]], list[_Unit]] = {}
        for unit in units:
            if unit.inner is None and (needs[unit] or followers[unit]):
                key = frozenset(needs[unit]), frozenset(followers[unit])
                alike.setdefault(key, []).append(unit)
        stands_for: dict[_Unit, _Unit] = {}
        for members in alike.values():
            if len(members) >= BUNDLE_FROM:
                inner = _place(members, [], width - 2 * PAD)
                bundle = self.around(inner, path="", title="", detail="")
                stands_for.update(dict.fromkeys(members, bundle))
        if not stands_for:
            return units, links
        kept = list(dict.fromkeys(stands_for.get(unit, unit) for unit in units))
        seen = {
            (stands_for.get(link.source, link.source), stands_for.get(link.target, link.target)): (
                link.is_fallback
            )
            for link in links
        }
        return kept, [_Link(*ends, is_fallback) for ends, is_fallback in seen.items()]


_DETAILS = {
    StepKind.PARALLEL: "in parallel",
    StepKind.FIRST: "the first wins",
    StepKind.FOREACH: "for each item",
    StepKind.REPEAT: "again and again",
    StepKind.STATES: "from state to state",
    StepKind.STEPS: "in order",
}


def _detail(node: Node) -> str:
    what = node.uses or node.kind.value
    if node.join is Join.NONE_FAILED:
        return what
    rule = f"at least {node.at_least}" if node.join is Join.AT_LEAST else node.join.value
    return f"{what} · {rule}"


def _place(units: Sequence[_Unit], links: Sequence[_Link], width: float) -> _Block:
    """Give every unit its place, and every link the units it goes through."""
    layers = _layers(units, links)
    routes = _routes(layers, links)
    _order(layers, routes)
    lines = _lines(layers, links, max(width, STEP_WIDTH))
    block = _Block(links=routes)
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


def _in_single_file(units: Sequence[_Unit], links: Sequence[_Link]) -> _Block:
    """Stand units below each other; lines go down at the left, and back up at the right.

    What leads to the next one goes straight down to it.
    """
    block = _Block(units=list(units))
    row = {unit: number for number, unit in enumerate(units)}
    ahead = {link: row[link.target] - row[link.source] for link in links}
    straight = [link for link in links if ahead[link] == 1]
    down = _lanes([link for link in links if ahead[link] > 1], row)
    up = _lanes([link for link in links if ahead[link] < 0], row)
    again = {link: 0 for link in links if not ahead[link]}
    up = {link: lane + bool(again) for link, lane in up.items()}
    widest = max(unit.width for unit in units)
    margin = _far(max(down.values(), default=-1))
    top = 0.0
    for unit in units:
        unit.x, unit.y = margin + (widest - unit.width) / 2, top
        top += unit.height + LINE_GAP
    block.height = top - LINE_GAP
    block.width = margin + widest + _far(max([*up.values(), *again.values()], default=-1))
    for link in straight:
        x = link.source.x + link.source.width / 2
        ends = link.source.y + link.source.height, link.target.y - TIP
        block.beside[link] = ((x, ends[0]), (x, ends[1]))
    for lanes, is_left in ((down, True), (up | again, False)):
        heights = _heights(lanes, row)
        for link, lane in lanes.items():
            far = _far(lane)
            at = margin - far if is_left else margin + widest + far
            if link in again:
                at = _side(link.source, is_left) + far
            begin, tip = _side(link.source, is_left), _side(link.target, is_left)
            tip += -TIP if is_left else TIP
            one, other = heights[link, True], heights[link, False]
            block.beside[link] = ((begin, one), (at, one), (at, other), (tip, other))
    return block


def _far(lane: int) -> float:
    """Return how far from the steps a lane is: there is room for the tips before the first."""
    return TIP_ROOM + SIDE_LANE * (lane + 1) if lane >= 0 else 0.0


def _side(unit: _Unit, is_left: bool) -> float:
    return unit.x if is_left else unit.x + unit.width


def _lanes(links: Sequence[_Link], row: Mapping[_Unit, int]) -> dict[_Link, int]:
    """Give each line a lane of which no other has a part that it needs, the short ones first."""
    lanes: dict[_Link, int] = {}
    taken: list[list[tuple[int, int]]] = []
    for link in sorted(links, key=lambda one: abs(row[one.target] - row[one.source])):
        low, high = sorted((row[link.source], row[link.target]))
        free = (
            number
            for number, spans in enumerate(taken)
            if all(high < first or last < low for first, last in spans)
        )
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((low, high))
        lanes[link] = lane
    return lanes


def _heights(
    lanes: Mapping[_Link, int], row: Mapping[_Unit, int]
) -> dict[tuple[_Link, bool], float]:
    """Return where lines leave and reach the side of a unit, so that those of one do not cross.

    What goes up is above what goes down, and what comes back at once between them; the nearer
    its lane is, the farther outside a line is.
    """
    ends: dict[_Unit, list[tuple[float, _Link, bool]]] = {}
    for link, lane in lanes.items():
        for unit, other, begins in (
            (link.source, link.target, True),
            (link.target, link.source, False),
        ):
            place = float(lane - len(lanes) if row[other] < row[unit] else len(lanes) - lane)
            if unit is other:
                place = 0.1 if begins else -0.1
            ends.setdefault(unit, []).append((place, link, begins))
    found: dict[tuple[_Link, bool], float] = {}
    for unit, some in ends.items():
        some.sort(key=lambda one: one[0])
        step = unit.height / (len(some) + 1)
        for number, (_, link, begins) in enumerate(some, 1):
            found[link, begins] = unit.y + step * number
    return found


def _go_around(block: _Block, lines: Sequence[Sequence[_Unit]]) -> None:
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
    until: dict[_Unit, int] = {}
    for link in around:
        until[link.source] = max(until.get(link.source, 0), row[link.target])
    lanes: dict[_Unit, int] = {}
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
        block.detours[link] = _Detour(bottom + aside, LANE_WIDTH * (lane + 0.5), top - aside - 8.0)


def _is_blocked(
    way: Sequence[_Unit], row: dict[_Unit, int], lines: Sequence[Sequence[_Unit]]
) -> bool:
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


def _layers(units: Sequence[_Unit], links: Iterable[_Link]) -> list[list[_Unit]]:
    """Put each unit one layer below the lowest that it follows."""
    followers: dict[_Unit, list[_Unit]] = {unit: [] for unit in units}
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
    layers: list[list[_Unit]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for unit in units:
        layers[depth[unit]].append(unit)
    return layers


def _routes(
    layers: list[list[_Unit]], links: Iterable[_Link]
) -> list[tuple[_Link, tuple[_Unit, ...]]]:
    """Return each link with its ways; the ways are put into the layers that it crosses."""
    depth = {unit: number for number, layer in enumerate(layers) for unit in layer}
    found = list(links)
    crossed = sum(depth[link.target] - depth[link.source] - 1 for link in found)
    routes = []
    for link in found:
        between = range(depth[link.source] + 1, depth[link.target])
        ways = [_Unit(-1, width=WAY_WIDTH, is_way=True) for _ in between]
        if crossed > MOST_WAYS:
            ways = []
        for number, way in zip(between, ways, strict=False):
            layers[number].append(way)
        routes.append((link, tuple(ways)))
    return routes


def _order(
    layers: Sequence[list[_Unit]], routes: Iterable[tuple[_Link, tuple[_Unit, ...]]]
) -> None:
    """Sort each layer by the middle of its neighbours, downwards and upwards in turn."""
    above: dict[_Unit, list[_Unit]] = {}
    below: dict[_Unit, list[_Unit]] = {}
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


def _middle(unit: _Unit, neighbours: dict[_Unit, list[_Unit]], place: dict[_Unit, float]) -> float:
    near = neighbours.get(unit)
    return sum(place[one] for one in near) / len(near) if near else place.get(unit, 0.0)


def _lines(
    layers: Sequence[list[_Unit]], links: Iterable[_Link], width: float
) -> list[list[_Unit]]:
    """Wrap layers into lines; a step that only follows the last one goes on in its line."""
    followers: dict[_Unit, list[_Unit]] = {}
    needs: dict[_Unit, list[_Unit]] = {}
    for link in links:
        followers.setdefault(link.source, []).append(link.target)
        needs.setdefault(link.target, []).append(link.source)
    lines: list[list[_Unit]] = []
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


def _wrapped(layer: Iterable[_Unit], width: float) -> list[list[_Unit]]:
    lines: list[list[_Unit]] = [[]]
    for unit in layer:
        if lines[-1] and _width([*lines[-1], unit]) > width:
            lines.append([])
        lines[-1].append(unit)
    return lines


def _width(line: Sequence[_Unit]) -> float:
    return sum(unit.width for unit in line) + GAP * (len(line) - 1)


def _flatten(block: _Block, left: float, top: float, boxes: list[Box], edges: list[Edge]) -> None:
    for link, ways in block.links:
        detour = block.detours.get(link)
        line = _around(link, detour, left, top) if detour else _line(link, ways, left, top)
        edges.append(Edge(link.source.path, link.target.path, line, link.is_fallback, link.said))
    for link, corners in block.beside.items():
        drawn = "L".join(f"{left + x:.1f} {top + y:.1f}" for x, y in corners)
        edges.append(
            Edge(link.source.path, link.target.path, f"M{drawn}", link.is_fallback, link.said)
        )
    for unit in block.units:
        if unit.is_way:
            continue
        x, y = left + unit.x, top + unit.y
        is_frame = unit.inner is not None
        size = unit.width, unit.height
        boxes.append(Box(unit.path, unit.title, unit.detail, x, y, *size, is_frame, unit.leads))
        if unit.inner is not None:
            head = HEAD if unit.title else PAD
            indent = (unit.width - unit.inner.width) / 2
            _flatten(unit.inner, x + indent, y + head, boxes, edges)


def _around(link: _Link, detour: _Detour, left: float, top: float) -> str:
    source, target = link.source, link.target
    x, y = left + source.x + source.width / 2, top + source.y + source.height
    to_x, to_y = left + target.x + target.width / 2, top + target.y - 3
    return (
        f"M{x:.1f} {y:.1f}V{top + detour.below:.1f}H{left + detour.lane:.1f}"
        f"V{top + detour.above:.1f}H{to_x:.1f}V{to_y:.1f}"
    )


def _line(link: _Link, ways: Sequence[_Unit], left: float, top: float) -> str:
    source, target = link.source, link.target
    is_beside = source.y < target.y + target.height and target.y < source.y + source.height
    if is_beside and target.x >= source.x + source.width:
        start = left + source.x + source.width, top + source.y + source.height / 2
        end = left + target.x - 3, top + target.y + target.height / 2
        middle = (start[0] + end[0]) / 2
        return _curve(start, (middle, start[1]), (middle, end[1]), end)
    x, y = left + source.x + source.width / 2, top + source.y + source.height
    drawn = f"M{x:.1f} {y:.1f}"
    for unit in (*ways, target):
        to_x, to_y = left + unit.x + unit.width / 2, top + unit.y - (0 if unit.is_way else 3)
        bend = (y + to_y) / 2
        drawn += f"C{x:.1f} {bend:.1f} {to_x:.1f} {bend:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
        if unit.is_way:
            y += unit.height
            drawn += f"V{y:.1f}"
    return drawn


def _curve(
    start: tuple[float, float],
    first: tuple[float, float],
    second: tuple[float, float],
    end: tuple[float, float],
) -> str:
    points = " ".join(f"{x:.1f} {y:.1f}" for x, y in (first, second, end))
    return f"M{start[0]:.1f} {start[1]:.1f}C{points}"
