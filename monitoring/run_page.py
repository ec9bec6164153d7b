"""Everything the run page shows, gathered in a constant number of queries and bounded throughout.

A picture is drawn up to `MOST_DRAWN` steps; beyond that, and always, there is the table, by pages.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import Case, Count, QuerySet, TextField, Value, When
from django.db.models.functions import Cast, Left
from django.urls import reverse

from monitoring.advice import Advice, Facts, advise
from monitoring.picture import MOST_DRAWN, Picture, is_drawn, run_pictures
from monitoring.timeline import Bar, bars_of
from workflows.admin.approval import due_in
from workflows.admin.base import duration, step_url
from workflows.admin.looks import (
    RUN_REASONS,
    look_of,
    loop_words,
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
from workflows.engine.plan import Plan, numbers_of
from workflows.engine.states import LIVE_RUNS, Reason, StepState
from workflows.language.words import StepKind
from workflows.models import Approval, Attempt, Incident, Journal, Run, Step
from workflows.selectors.concurrency import place_in_line
from workflows.selectors.guards import parked_sentences
from workflows.selectors.migrations import migrations_of
from workflows.selectors.runs import child_runs
from workflows.selectors.shapes import MigrationDocument, PlaceDocument
from workflows.services.plans import plan_of_version

STEPS_SHOWN = 50
INCIDENTS_SHOWN = 10
APPROVALS_SHOWN = 10
CHILDREN_SHOWN = 10
BARS_SHOWN = 60
LINES_SHOWN = 15
VALUE_SHOWN = 2000
HELD_UP = (StepState.WAITING, StepState.RETRYING)

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
    light = _single(run.pk, plan) if is_drawn(plan) else []
    many = _many(run.pk, plan) if is_drawn(plan) and total <= MOST_COUNTED else {}
    taken = _taken(run.pk, plan) if is_drawn(plan) and total <= MOST_COUNTED else frozenset()
    open_ones = Incident.objects.filter(run=run.pk, resolution="").order_by("id")
    incidents = list(open_ones[: INCIDENTS_SHOWN + 1])
    for incident in incidents:
        incident.run = run
    journal = list(Journal.objects.filter(run=run.pk).order_by("-id")[:LINES_SHOWN])
    open_incidents = len(incidents) if len(incidents) <= INCIDENTS_SHOWN else open_ones.count()
    asked = _asked(run, now) if counts.get(StepState.WAITING) else []
    timed = list(_timed(run.pk)) if plan.has_loops or not light else light
    bars = bars_of(run, timed, now=now)
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
                open_incidents=open_incidents,
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
        pictures=run_pictures(run, light, many, taken) if is_drawn(plan) else [],
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


def _taken(run_id: UUID, plan: Plan) -> frozenset[tuple[str, str]]:
    """Return which transitions between states were gone through: the paths of both, or of none."""
    machines = [node for node in plan.nodes if node.kind is StepKind.STATES]
    wanted = {node.index for node in machines} | {one for node in machines for one in node.children}
    if not wanted:
        return frozenset()
    visits: dict[str, dict[int, str]] = {}
    ended: set[str] = set()
    found = Step.objects.filter(run=run_id, node__in=wanted)
    for path, scope, index, state in found.values_list("path", "scope", "node", "state"):
        if plan.nodes[index].is_item and plan.nodes[index].scope in wanted:
            visits.setdefault(scope, {})[int(numbers_of(path)[-1])] = plan.nodes[index].path
        if state == StepState.COMPLETED and plan.nodes[index].kind is StepKind.STATES:
            ended.add(path)
    taken: set[tuple[str, str]] = set()
    for scope, by_number in visits.items():
        in_order = [by_number[number] for number in sorted(by_number)]
        taken.update(pairwise([*in_order, ""] if scope in ended else in_order))
    return frozenset(taken)


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
        url=step_url(step.pk),
        output=_excerpt(step.excerpt),
    )


def _excerpt(text: str) -> str:
    if len(text) > VALUE_SHOWN:
        return f"{text[:VALUE_SHOWN]}\n... open the step for all of it"
    return pretty(json.loads(text)) if text else ""
