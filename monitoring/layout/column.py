"""Units in a column, as states stand: lines go down at the left, and back up at the right."""

from collections.abc import Mapping, Sequence

from monitoring.layout.units import LINE_GAP, Block, Link, Unit

SIDE_LANE = 10.0
TIP, TIP_ROOM = 3.0, 5.0


def in_column(units: Sequence[Unit], links: Sequence[Link]) -> Block:
    """Stand units below each other; lines go down at the left, and back up at the right.

    What leads to the next one goes straight down to it.
    """
    block = Block(units=list(units))
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


def _side(unit: Unit, is_left: bool) -> float:
    return unit.x if is_left else unit.x + unit.width


def _lanes(links: Sequence[Link], row: Mapping[Unit, int]) -> dict[Link, int]:
    """Give each line a lane of which no other has a part that it needs, the short ones first."""
    lanes: dict[Link, int] = {}
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


def _heights(lanes: Mapping[Link, int], row: Mapping[Unit, int]) -> dict[tuple[Link, bool], float]:
    """Return where lines leave and reach the side of a unit, so that those of one do not cross.

    What goes up is above what goes down, and what comes back at once between them; the nearer
    its lane is, the farther outside a line is.
    """
    ends: dict[Unit, list[tuple[float, Link, bool]]] = {}
    for link, lane in lanes.items():
        for unit, other, begins in (
            (link.source, link.target, True),
            (link.target, link.source, False),
        ):
            place = float(lane - len(lanes) if row[other] < row[unit] else len(lanes) - lane)
            if unit is other:
                place = 0.1 if begins else -0.1
            ends.setdefault(unit, []).append((place, link, begins))
    found: dict[tuple[Link, bool], float] = {}
    for unit, some in ends.items():
        some.sort(key=lambda one: one[0])
        step = unit.height / (len(some) + 1)
        for number, (_, link, begins) in enumerate(some, 1):
            found[link, begins] = unit.y + step * number
    return found
