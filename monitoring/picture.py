"""The picture of a plan, and of a run in it: how each step stands, drawn into its box.

Where the boxes are is told by `monitoring.layout`, once for each version.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from monitoring.layout import Box, Edge, Layout, layout_of
from workflows.admin.base import duration, step_url
from workflows.admin.looks import look_of, progress_words, reason_words, words_of
from workflows.engine.plan import Plan
from workflows.engine.states import FINISHED_RUNS, StepState
from workflows.models import Run, Step
from workflows.services.plans import plan_of_version

MOST_DRAWN = 300
"""Steps of a plan up to which there is a picture of it."""

NAME_SHOWN = 20
DETAIL_SHOWN = 26
NAME_WIDTH, DETAIL_WIDTH = 7.4, 5.8
"""Pixels of a letter, on an average; at the head of a frame the two share a line."""
NARROW = 330.0
NOT_BEGUN = frozenset({StepState.PENDING, StepState.SKIPPED, StepState.CANCELLED})

WORST_FIRST = (
    StepState.FAILED,
    StepState.COMPENSATION_FAILED,
    StepState.RUNNING,
    StepState.RETRYING,
    StepState.QUEUED,
    StepState.WAITING,
    StepState.COMPENSATING,
    StepState.PENDING,
    StepState.CANCELLED,
    StepState.COMPENSATED,
    StepState.COMPLETED,
    StepState.SKIPPED,
)
"""Which state stands for many steps, if any of them is in it."""


@dataclass(frozen=True, slots=True)
class DrawnStep:
    """A box of the picture with the state of its step in this run."""

    box: Box
    tone: str
    icon: str
    said: str
    title: str
    detail: str
    url: str


@dataclass(frozen=True, slots=True)
class DrawnEdge:
    """A line of the picture; it is `taken` when what it comes from is done."""

    edge: Edge
    is_taken: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """The steps and the lines between them; `wide` or for a narrow screen."""

    name: str
    layout: Layout
    drawn: list[DrawnStep]
    edges: list[DrawnEdge]


def is_drawn(plan: Plan) -> bool:
    """Say whether a plan is not too large for a picture."""
    return len(plan.nodes) - 1 <= MOST_DRAWN


def plan_pictures(plan: Plan) -> list[Picture]:
    """Draw a plan by itself, if it is not too large."""
    if not is_drawn(plan):
        return []
    return [
        Picture(
            name,
            layout,
            [_blank(box) for box in layout.boxes],
            [DrawnEdge(edge, is_taken=False) for edge in layout.edges],
        )
        for name, layout in _layouts(plan)
    ]


def run_pictures(
    run: Run,
    steps: Sequence[Step],
    many: Mapping[str, Mapping[StepState, int]],
    taken: Collection[tuple[str, str]] = (),
) -> list[Picture]:
    """Draw a run: `many` says of items of loops how many are in which state, by their path.

    `taken` are the transitions between states that the run has gone through; to nothing: the end.
    """
    by_path = {step.path: step for step in steps}
    return [
        Picture(
            name,
            layout,
            [
                _drawn_many(box, many[box.path])
                if box.path in many
                else _drawn(run, box, by_path.get(box.path))
                for box in layout.boxes
            ],
            _edges(layout, by_path, taken),
        )
        for name, layout in _layouts_of_version(run.version_id)
    ]


@lru_cache(maxsize=64)
def _layouts_of_version(version_id: UUID) -> tuple[tuple[str, Layout], ...]:
    return _layouts(plan_of_version(version_id))


def _layouts(plan: Plan) -> tuple[tuple[str, Layout], ...]:
    return ("wide", layout_of(plan)), ("narrow", layout_of(plan, width=NARROW))


def _drawn(run: Run, box: Box, step: Step | None) -> DrawnStep:
    if not box.path:
        return _blank(box)
    if step is None:
        words = "Not reached" if run.state in FINISHED_RUNS else "Not yet reached"
        said, title = _with_ways(words, box), _short(box.title, NAME_SHOWN)
        return DrawnStep(box, "quiet", "radio_button_unchecked", said, title, words, "")
    look = look_of(step.state)
    words = words_of(step.state)
    parts = [words]
    if step.attempt > 1:
        parts.append(f"try {step.attempt}")
    if progress := progress_words(step):
        parts.append(progress)
    if step.started_at and step.finished_at and not box.is_frame:
        parts.append(duration(step.started_at, step.finished_at))
    said = ": ".join(filter(None, [box.path, words, progress_words(step)]))
    if step.reason:
        said = f"{said}, {reason_words(step.reason)}"
    return DrawnStep(
        box,
        look.tone,
        look.icon,
        _with_ways(f"{said}. {box.detail}", box),
        _short(box.title, NAME_SHOWN),
        _detail(box, fitting(parts) if not box.is_frame else " · ".join(parts)),
        step_url(step.pk),
    )


def _drawn_many(box: Box, counts: Mapping[StepState, int]) -> DrawnStep:
    """Draw the step that many are instances of, in the colours of the worst of them."""
    worst = next(state for state in WORST_FIRST if counts.get(state))
    look = look_of(worst)
    parts = [f"{counts[one]:,} {words_of(one).lower()}" for one in WORST_FIRST if counts.get(one)]
    said = _with_ways(f"{box.path}: {', '.join(parts)}. {box.detail}", box)
    title = _short(box.title, NAME_SHOWN)
    detail = parts[0] if len(parts) == 1 else f"{parts[0]} of {sum(counts.values()):,}"
    return DrawnStep(box, look.tone, look.icon, said, title, _detail(box, detail), "")


def _blank(box: Box) -> DrawnStep:
    room = max(NAME_SHOWN, int(box.width / 7.5))
    title = _short(box.title, room)
    detail = _short(box.detail, DETAIL_SHOWN)
    said = _with_ways(f"{box.title} {box.detail}".strip(), box)
    return DrawnStep(box, "plain", "", said, title, detail, "")


def _with_ways(said: str, box: Box) -> str:
    """Return what is said of a step, with where it leads if it is a state."""
    return f"{said}. It leads {box.leads}." if box.leads else said


def _edges(
    layout: Layout, steps: Mapping[str, Step], taken: Collection[tuple[str, str]]
) -> list[DrawnEdge]:
    done = {path for path, step in steps.items() if step.state == StepState.COMPLETED}
    idle = {path for path, step in steps.items() if step.state in NOT_BEGUN}
    return [
        DrawnEdge(
            edge,
            is_taken=(edge.source, edge.target) in taken
            if edge.said
            else edge.source in done
            and edge.target not in idle
            and (edge.target in steps or not edge.target),
        )
        for edge in layout.edges
    ]


def _detail(box: Box, text: str) -> str:
    """Return what there is room for below the name of a step, or beside that of a frame."""
    if not box.is_frame:
        return _short(text, DETAIL_SHOWN)
    taken = 41 + NAME_WIDTH * min(len(box.title), NAME_SHOWN)
    return _short(text, max(int((box.width - taken) / DETAIL_WIDTH), 1))


def fitting(parts: Sequence[str]) -> str:
    """Return the first of the parts, and of the others those that there is room for."""
    text = parts[0]
    for part in parts[1:]:
        longer = f"{text} · {part}"
        text = longer if len(longer) <= DETAIL_SHOWN else text
    return text


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
