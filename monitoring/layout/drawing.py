"""Units that have their places become boxes and lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.layout.units import HEAD, PAD, Block, Detour, Link, Unit


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


def flatten(block: Block, left: float, top: float, boxes: list[Box], edges: list[Edge]) -> None:
    """Draw a block, and what is inside its units, with its corner there."""
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
            flatten(unit.inner, x + indent, y + head, boxes, edges)


def _around(link: Link, detour: Detour, left: float, top: float) -> str:
    source, target = link.source, link.target
    x, y = left + source.x + source.width / 2, top + source.y + source.height
    to_x, to_y = left + target.x + target.width / 2, top + target.y - 3
    return (
        f"M{x:.1f} {y:.1f}V{top + detour.below:.1f}H{left + detour.lane:.1f}"
        f"V{top + detour.above:.1f}H{to_x:.1f}V{to_y:.1f}"
    )


def _line(link: Link, ways: Sequence[Unit], left: float, top: float) -> str:
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
