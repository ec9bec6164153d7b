"""What a picture is made of before it is drawn: units that have places, and links between them."""

from dataclasses import dataclass, field

STEP_WIDTH, STEP_HEIGHT = 190.0, 46.0
LINE_GAP = 40.0
PAD, HEAD = 14.0, 28.0

Points = tuple[tuple[float, float], ...]


@dataclass(slots=True, eq=False)
class Unit:
    """What has one place in a layer: a step, a frame, or the way of an edge through the layer."""

    number: int
    path: str = ""
    title: str = ""
    detail: str = ""
    width: float = STEP_WIDTH
    height: float = STEP_HEIGHT
    inner: "Block | None" = None
    is_way: bool = False
    leads: str = ""
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Link:
    """A line from one unit to another."""

    source: Unit
    target: Unit
    is_fallback: bool = False
    said: str = ""


@dataclass(frozen=True, slots=True)
class Detour:
    """The way around: to below the source's line, along a lane, to above the target's line."""

    below: float
    lane: float
    above: float


@dataclass(slots=True)
class Block:
    """Units that were given their places, and the links between them."""

    units: list[Unit] = field(default_factory=list)
    links: list[tuple[Link, tuple[Unit, ...]]] = field(default_factory=list)
    detours: dict[Link, Detour] = field(default_factory=dict)
    beside: dict[Link, Points] = field(default_factory=dict)
    """The corners of lines that go past steps, at their sides."""
    width: float = 0.0
    height: float = 0.0
