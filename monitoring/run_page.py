"""Everything the run page shows, gathered in a constant number of queries and bounded throughout.

A picture is drawn up to `MOST_DRAWN` steps; beyond that, and always, there is the table, by pages.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import Case, Count, QuerySet, TextField, Value, When
from django.db.models.functions import Cast, Left
from django.urls import reverse

from monitoring.advice import Advice, Facts, advise
from monitoring.layout import Box, Edge, Layout, layout_of
from workflows.admin.approval import due_in
from workflows.admin.base import duration, short
from workflows.admin.looks import (
    RUN_REASONS,
    look_of,
    loop_words,
    progress_words,
    reason_words,
    waiting_words,
    words_of,
)
from workflows.admin.operations import (
    Asker,
    Button,
    buttons_of_incident,
    buttons_of_run,
)
from workflows.engine.plan import Plan
from workflows.engine.states import FINISHED_RUNS, LIVE_RUNS, Reason, StepState
from workflows.models import Approval, Attempt, Incident, Journal, Run, Step
from workflows.selectors.concurrency import place_in_line
from workflows.selectors.guards import parked_sentences
from workflows.selectors.migrations import migrations_of
from workflows.selectors.runs import child_runs
from workflows.selectors.shapes import MigrationDocument, PlaceDocument
from workflows.services.plans import plan_of_version

MOST_DRAWN = 300
STEPS_SHOWN = 50
INCIDENTS_SHOWN = 10
APPROVALS_SHOWN = 10
CHILDREN_SHOWN = 10
BARS_SHOWN = 60
LINES_SHOWN = 15
VALUE_SHOWN = 2000
NAME_SHOWN = 23
DETAIL_SHOWN = 30
SMALLEST_BAR = 0.4
NARROW = 330.0
HELD_UP = (StepState.WAITING, StepState.RETRYING)
NOT_BEGUN = frozenset({StepState.PENDING, StepState.SKIPPED, StepState.CANCELLED})

_LIGHT = (
    "id",
    "path",
    "node",
    "state",
    "reason",
    "attempt",
    "queue",
    "queued_at",
    "started_at",
    "finished_at",
    "ok",
    "failed",
    "skipped",
    "upstream_failed",
    "born",
    "total",
)
MOST_COUNTED = 20_000
"""Rows of a run up to which the items of its loops are counted by what they are doing."""

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


@dataclass(frozen=True, slots=True)
class Bar:
    """A step in time, in percent of the run's own; first the wait for a worker, then the work."""

    path: str
    url: str
    tone: str
    left: float
    waited: float
    worked: float
    said: str


@dataclass(slots=True)
class StepRow:
    """A step in the table."""

    step: Step
    depth: int
    tone: str
    icon: str
    words: str
    reason: str
    took: str
    url: str
    output: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    child: Run | None = None


@dataclass(frozen=True, slots=True)
class ApprovalLine:
    """An open request for a decision."""

    approval: Approval
    title: str
    url: str
    due: str


@dataclass(slots=True)
class RunPage:
    """The run page."""

    run: Run
    is_live: bool
    mark: str
    look: Any
    words: str
    took: str
    advice: Advice
    buttons: list[Button]
    incidents: list[tuple[Incident, list[Button]]]
    open_incidents: int
    approvals: list[ApprovalLine]
    counts: list[tuple[str, str, str, str, int]]
    total: int
    done: int
    pictures: list[Picture]
    bars: list[Bar]
    bars_left_out: int
    rows: list[StepRow]
    pages: Any
    shown_state: str
    journal: list[Journal]
    input: str
    output: str
    parent: Run | None
    children: list[Run]
    more_children: bool
    place: PlaceDocument | None
    migrations: list[tuple[MigrationDocument, datetime]]


def run_page(run: Run, user: Asker, *, now: datetime, page: str = "1", state: str = "") -> RunPage:
    """Gather the run page: `page` and `state` choose the rows of its table of steps."""
    counts = _counts(run.pk)
    total = sum(counts.values())
    plan = plan_of_version(run.version_id)
    is_drawn = len(plan.nodes) - 1 <= MOST_DRAWN
    light = _single(run.pk, plan) if is_drawn else []
    many = _many(run.pk, plan) if is_drawn and total <= MOST_COUNTED else {}
    open_ones = Incident.objects.filter(run=run.pk, resolution="").order_by("id")
    incidents = list(open_ones[: INCIDENTS_SHOWN + 1])
    for incident in incidents:
        incident.run = run
    journal = list(Journal.objects.filter(run=run.pk).order_by("-id")[:LINES_SHOWN])
    open_incidents = len(incidents) if len(incidents) <= INCIDENTS_SHOWN else open_ones.count()
    asked = _asked(run, now) if counts.get(StepState.WAITING) else []
    timed = list(_timed(run.pk)) if plan.has_loops or not light else light
    bars = _bars(run, timed, now=now)
    rows, pages = _rows(run.pk, page=page, state=state)
    children: list[Run] = []
    if plan.has_children:
        children = list(child_runs(run.pk)[: CHILDREN_SHOWN + 1])
        _link_children(run.pk, rows)
    return RunPage(
        run=run,
        is_live=run.state in LIVE_RUNS,
        mark=_mark(journal[0].pk if journal else None),
        look=look_of(run.state),
        words=", ".join(filter(None, [words_of(run.state), RUN_REASONS.get(run.reason, "")])),
        took=duration(run.started_at, run.finished_at or now),
        advice=advise(
            replace(
                _facts(run, counts, incidents, timed, now),
                asked=list(dict.fromkeys(one.approval.name for one in asked)),
            )
        ),
        buttons=buttons_of_run(run, user, open_incidents=open_incidents),
        incidents=[(one, buttons_of_incident(one, user)) for one in incidents[:INCIDENTS_SHOWN]],
        open_incidents=open_incidents,
        approvals=asked,
        counts=[
            (one.value, words_of(one), *look_of(one), counts[one.value])
            for one in StepState
            if counts.get(one.value)
        ],
        total=total,
        done=sum(counts.get(one, 0) for one in ("COMPLETED", "SKIPPED")),
        pictures=_pictures(run, light, many) if is_drawn else [],
        bars=bars[:BARS_SHOWN],
        bars_left_out=max(len(bars) - BARS_SHOWN, 0),
        rows=rows,
        pages=pages,
        shown_state=state,
        journal=journal,
        input=pretty(run.input),
        output="" if run.output is None else pretty(run.output),
        parent=_parent(run),
        children=children[:CHILDREN_SHOWN],
        more_children=len(children) > CHILDREN_SHOWN,
        place=place_in_line(run),
        migrations=[(one, datetime.fromisoformat(one["at"])) for one in migrations_of(run)],
    )


def _parent(run: Run) -> Run | None:
    if run.parent_id is None:
        return None
    found = Run.objects.select_related("workflow").only("workflow__name")
    return found.filter(pk=run.parent_id).first()


def _link_children(run_id: UUID, rows: Sequence[StepRow]) -> None:
    """Give each row the newest child run of its step."""
    paths = [row.step.path for row in rows]
    newest: dict[str | None, Run] = {}
    for child in child_runs(run_id, paths=paths)[:MOST_DRAWN]:
        newest.setdefault(child.parent_path, child)
    for row in rows:
        row.child = newest.get(row.step.path)


def plan_pictures(plan: Plan) -> list[Picture]:
    """Draw a plan by itself, if it is not too large."""
    if len(plan.nodes) - 1 > MOST_DRAWN:
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


def newest_mark(run_id: UUID) -> str:
    """Return where the journal of a run stands: while it does not move, neither does the page."""
    lines = Journal.objects.filter(run=run_id).order_by("-id")
    return _mark(lines.values_list("pk", flat=True).first())


def _mark(newest: int | None) -> str:
    return str(newest or 0)


def pretty(value: Any) -> str:
    """Return a value as indented JSON, cut where nobody would read on."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return cut(text, VALUE_SHOWN * 2)


def cut(text: str, longest: int) -> str:
    """Return the text, or its beginning and what is missing."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}\n... and {len(text) - longest:,} characters more"


def _single(run_id: UUID, plan: Plan) -> list[Step]:
    """Return the steps of a run that are no items of a loop, as many as are drawn."""
    paths = [path for path in plan.by_path if "[]" not in path]
    return list(Step.objects.filter(run=run_id, path__in=paths).only(*_LIGHT).order_by("node"))


def _many(run_id: UUID, plan: Plan) -> dict[str, dict[StepState, int]]:
    """Return how many items of loops are in which state, by the path that they have in common."""
    if not plan.has_loops:
        return {}
    nodes = {node.index: node.path for node in plan.nodes if "[]" in node.path}
    found = Step.objects.filter(run=run_id, node__in=nodes).order_by()
    counted: dict[str, dict[StepState, int]] = {}
    for node, state, number in found.values_list("node", "state").annotate(number=Count("pk")):
        counted.setdefault(nodes[node], {})[StepState(state)] = number
    return counted


def _pictures(
    run: Run, steps: Sequence[Step], many: Mapping[str, Mapping[StepState, int]]
) -> list[Picture]:
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
            _edges(layout, by_path),
        )
        for name, layout in _layouts_of_version(run.version_id)
    ]


@lru_cache(maxsize=64)
def _layouts_of_version(version_id: UUID) -> tuple[tuple[str, Layout], ...]:
    return _layouts(plan_of_version(version_id))


def _layouts(plan: Plan) -> tuple[tuple[str, Layout], ...]:
    return ("wide", layout_of(plan)), ("narrow", layout_of(plan, width=NARROW))


def _counts(run_id: UUID) -> dict[str, int]:
    found = Step.objects.filter(run=run_id).order_by().values_list("state")
    return dict(found.annotate(number=Count("pk")).values_list("state", "number"))


def _timed(run_id: UUID) -> QuerySet[Step]:
    found = Step.objects.filter(run=run_id, queued_at__isnull=False).only(*_LIGHT)
    return found.order_by("node", "id")[:MOST_DRAWN]


def _facts(
    run: Run,
    counts: Mapping[str, int],
    incidents: Sequence[Incident],
    steps: Sequence[Step],
    now: datetime,
) -> Facts:
    queued = [step for step in steps if step.state == StepState.QUEUED and step.queued_at]
    oldest = min(queued, key=lambda step: step.queued_at or now, default=None)
    age = (now - oldest.queued_at).total_seconds() if oldest and oldest.queued_at else 0.0
    return Facts(
        state=run.state,
        counts=counts,
        incidents=[(one.path, one.error_class) for one in incidents],
        error=str(run.error.get("message", "")) if run.error else "",
        oldest_queued=age,
        queue=oldest.queue if oldest else "",
        reason=run.reason,
        waits=_waits(run.pk) if any(counts.get(state) for state in HELD_UP) else {},
    )


def _waits(run_id: UUID) -> dict[str, int]:
    """Return how many steps wait for what from outside, or before which kind of gate."""
    found = Step.objects.filter(run=run_id, state__in=[state.value for state in HELD_UP])
    counted = found.order_by().values_list("reason").annotate(number=Count("pk"))
    return dict(counted.values_list("reason", "number"))


def _asked(run: Run, now: datetime) -> list[ApprovalLine]:
    """Return the open requests of a run, the oldest first."""
    found = Approval.objects.filter(run=run.pk, closed_at__isnull=True, kind=Reason.APPROVAL.value)
    shown = found.select_related("step").order_by("id")[:APPROVALS_SHOWN]
    return [
        ApprovalLine(
            one,
            str(one),
            reverse("admin:workflows_approval_change", args=[one.pk]),
            due_in(one, now),
        )
        for one in shown
    ]


def _step_url(step: Step) -> str:
    return reverse("admin:workflows_step_change", args=[step.pk])


def _drawn(run: Run, box: Box, step: Step | None) -> DrawnStep:
    if not box.path:
        return _blank(box)
    if step is None:
        said = "Not reached" if run.state in FINISHED_RUNS else "Not yet reached"
        tone, icon = ("quiet", "radio_button_unchecked")
        return DrawnStep(box, tone, icon, said, _short(box.title, NAME_SHOWN), said, "")
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
        f"{said}. {box.detail}",
        _short(box.title, NAME_SHOWN),
        _short(" · ".join(parts), DETAIL_SHOWN),
        _step_url(step),
    )


def _drawn_many(box: Box, counts: Mapping[StepState, int]) -> DrawnStep:
    """Draw the step that many are instances of, in the colours of the worst of them."""
    worst = next(state for state in WORST_FIRST if counts.get(state))
    look = look_of(worst)
    parts = [f"{counts[one]:,} {words_of(one).lower()}" for one in WORST_FIRST if counts.get(one)]
    said = f"{box.path}: {', '.join(parts)}. {box.detail}"
    title = _short(box.title, NAME_SHOWN)
    detail = parts[0] if len(parts) == 1 else f"{parts[0]} of {sum(counts.values()):,}"
    return DrawnStep(box, look.tone, look.icon, said, title, _short(detail, DETAIL_SHOWN), "")


def _blank(box: Box) -> DrawnStep:
    room = max(NAME_SHOWN, int(box.width / 7.5))
    title = _short(box.title, room)
    detail = _short(box.detail, DETAIL_SHOWN)
    return DrawnStep(box, "plain", "", f"{box.title} {box.detail}".strip(), title, detail, "")


def _edges(layout: Layout, steps: Mapping[str, Step]) -> list[DrawnEdge]:
    done = {path for path, step in steps.items() if step.state == StepState.COMPLETED}
    idle = {path for path, step in steps.items() if step.state in NOT_BEGUN}
    return [
        DrawnEdge(
            edge,
            is_taken=edge.source in done
            and edge.target not in idle
            and (edge.target in steps or not edge.target),
        )
        for edge in layout.edges
    ]


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _bars(run: Run, steps: Sequence[Step], *, now: datetime) -> list[Bar]:
    begin = run.started_at or run.created_at
    timed = [step for step in steps if step.queued_at or step.started_at]
    ends = [step.finished_at or now for step in timed if step.started_at]
    end = run.finished_at or max([*ends, now], default=now)
    whole = max((end - begin).total_seconds(), 0.001)
    bars = []
    for step in timed:
        queued = step.queued_at or step.started_at or begin
        started = step.started_at if step.started_at and step.started_at >= queued else queued
        is_over = step.finished_at is not None
        finished = step.finished_at or now
        if step.started_at is None:
            started = finished
        left = _percent(queued, begin, whole)
        begun = _percent(started, begin, whole)
        worked = _percent(finished, begin, whole) - begun
        took = duration(step.started_at, finished) if step.started_at else "waits"
        said = f"{step.path}: {words_of(step.state)}, {took}{'' if is_over else ' so far'}"
        bars.append(
            Bar(
                step.path,
                _step_url(step),
                look_of(step.state).tone,
                min(left, 100 - SMALLEST_BAR),
                max(begun - left, 0.0),
                min(max(worked, SMALLEST_BAR), 100 - min(begun, 100 - SMALLEST_BAR)),
                said,
            )
        )
    return bars


def _percent(moment: datetime, begin: datetime, whole: float) -> float:
    return round(min(max((moment - begin).total_seconds() / whole, 0.0), 1.0) * 100, 3)


def _rows(run_id: UUID, *, page: str, state: str) -> tuple[list[StepRow], Any]:
    found = Step.objects.filter(run=run_id).order_by("node", "id")
    if state in {one.value for one in StepState}:
        found = found.filter(state=state)
    text = Cast("output", TextField())
    shown = found.defer("output", "arguments").annotate(
        excerpt=Case(
            When(output__isnull=True, then=Value("")), default=Left(text, VALUE_SHOWN + 1)
        ),
    )
    pages = Paginator(shown, STEPS_SHOWN).get_page(page)
    rows = [_row(step) for step in pages.object_list]
    attempts: dict[UUID, list[Attempt]] = {}
    for attempt in Attempt.objects.filter(step__in=[row.step.pk for row in rows]).order_by(
        "step", "number"
    ):
        attempts.setdefault(attempt.step_id, []).append(attempt)
    steps = [row.step for row in rows]
    said = {**waiting_words(steps), **parked_sentences(steps)}
    for row in rows:
        row.attempts = attempts.get(row.step.pk, [])[-10:]
        known = loop_words(row.step) or row.reason
        row.reason = said.get((run_id, row.step.path), known)
    return rows, pages


def _row(step: Any) -> StepRow:
    look = look_of(step.state)
    return StepRow(
        step=step,
        depth=min(step.path.count("."), 6),
        tone=look.tone,
        icon=look.icon,
        words=words_of(step.state),
        reason=reason_words(step.reason),
        took=duration(step.started_at, step.finished_at),
        url=_step_url(step),
        output=_excerpt(step.excerpt),
    )


def _excerpt(text: str) -> str:
    if len(text) > VALUE_SHOWN:
        return f"{text[:VALUE_SHOWN]}\n... open the step for all of it"
    return pretty(json.loads(text)) if text else ""


def title_of(run: Run) -> str:
    """Return what a run is called in a sentence."""
    return f"{run.workflow.name} v{run.version.number}, run {short(run.pk)}"
