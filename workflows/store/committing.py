"""A Decision is stored in one statement: the function `workflows_commit` of `commit.sql`.

The only place that changes the state of a run or a step. A decision can be made
ahead, upon what was seen without a lock: then `commit` is told what it expects, and
stores all or nothing. So a step that meets nobody costs one round trip, and one that
meets somebody is decided again under the locks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from workflows.engine.decision import Decision
from workflows.engine.events import StepError
from workflows.engine.joins import Tally
from workflows.engine.plan import Plan
from workflows.engine.slice import StepView
from workflows.engine.states import Reason, StepState
from workflows.store.parts import NewRun, Parts, parts_of
from workflows.store.session import cursor

RUN_MOVES = frozenset({"opening", "closing"})
"""The parts that are moves of the run itself."""

COMMIT = "SELECT workflows_commit(%s, %s, %s::uuid[], %s::jsonb)"
"""All values are given as texts: psycopg's way to write an array takes longer than the rest."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a decision was made upon without a lock: it is stored only if it still holds.

    The run runs in that version, the steps are as they were, and of the scope `alone`, if one is
    named, no other step lives or has failed; if that is the root, the run is not heading for an
    end.
    """

    version: UUID
    steps: tuple[StepView, ...]
    alone: str | None = None


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the next decision will be made upon: the steps, and the scope they may be alone in."""

    paths: tuple[str, ...]
    alone: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen ahead, unlocked."""

    steps: tuple[StepView, ...] = ()
    alone: frozenset[str] = frozenset()
    parent: str = ""
    """The run that waits for this one, which has ended."""


@dataclass(frozen=True, slots=True)
class Change:
    """A decision as the database takes it."""

    run: UUID
    actor: str
    now: datetime
    parts: Parts
    is_answered: bool


def change(  # noqa: PLR0913 - the facts of one statement, named
    run_id: UUID,
    plan: Plan,
    environment: str,
    decision: Decision,
    *,
    now: datetime,
    actor: str,
    expected: Expected | None = None,
    ahead: Ahead | None = None,
    new: NewRun | None = None,
) -> Change:
    """Put a decision into the words of the database.

    Without `expected` the caller holds the locks that `load` took, and the transaction. The
    first decision of a `new` run brings its row into being.
    """
    keyed = new is not None and new.idempotency_key is not None
    parts = parts_of(plan, environment, decision, now, new)
    if expected is not None:
        parts["guarded"] = [[expected.alone, str(expected.version)]]
        parts["expected"] = [_expectation(view) for view in expected.steps]
    if ahead is not None:
        parts["ahead"] = [[path] for path in ahead.paths]
        if ahead.alone is not None:
            parts["alone"] = [[ahead.alone]]
    answered = keyed or expected is not None or ahead is not None
    return Change(run_id, actor, now, parts, is_answered=answered)


def commit(one: Change) -> Seen | None:
    """Store a decision in one statement; None when nothing was stored.

    Then what was expected no longer holds, or there is a run for the same reason already. Where
    neither can be, no answer is waited for.
    """
    return commit_all([one])[0]


def commit_all(changes: Sequence[Change]) -> list[Seen | None]:
    """Store decisions about different runs in one statement, each as `commit` does.

    They are of one actor and of one moment.
    """
    if not changes:
        return []
    first = changes[0]
    runs = f"{{{','.join([str(one.run) for one in changes])}}}"
    values = (first.actor, first.now.isoformat(), runs, _json(_joined(changes)))
    sent = cursor().execute(COMMIT, values, prepare=True)
    if not any(one.is_answered for one in changes):
        return [Seen()] * len(changes)
    return _seen(json.loads(sent.fetchall()[0][0]), changes)


def _joined(changes: Sequence[Change]) -> Parts:
    """Return the parts of all changes, each row with the number of its run."""
    joined: Parts = {}
    for number, one in enumerate(changes, 1):
        for part, rows in one.parts.items():
            known = joined.setdefault(part, [])
            if part == "rounds":
                known.extend([] for _ in range(len(rows) - len(known)))
                for turn, moves in zip(known, rows, strict=False):
                    turn += [{"n": number, **move} for move in moves]
            elif part in RUN_MOVES:
                known += [{"n": number, **move} for move in rows]
            else:
                known += [[number, *row] for row in rows]
    return joined


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _expectation(view: StepView) -> list[str]:
    """Return what must hold of a step as a text, which the database need only compare."""
    facts = f"{view.state.value} {view.attempt}"
    if view.state is StepState.PENDING:
        tally = view.tally
        facts += f" {tally.ok} {tally.failed} {tally.skipped} {tally.upstream_failed}"
    return [view.path, facts]


def _seen(answer: Mapping[str, Any], changes: Sequence[Change]) -> list[Seen | None]:
    steps: list[list[StepView]] = [[] for _ in changes]
    for number, *row in answer.get("steps") or ():
        steps[number - 1].append(_view(row))
    refused = frozenset(answer["refused"])
    parents = dict(answer.get("parents") or ())
    alone = frozenset(answer.get("alone") or ())
    return [
        None
        if number in refused
        else Seen(
            tuple(steps[number - 1]),
            frozenset(one.parts["alone"][0]) if number in alone else frozenset(),
            parents.get(number, ""),
        )
        for number, one in enumerate(changes, 1)
    ]


def _view(row: Sequence[Any]) -> StepView:
    return StepView(
        path=row[0],
        node=row[1],
        scope=row[2],
        state=StepState(row[3]),
        reason=Reason(row[4]) if row[4] else None,
        attempt=row[5],
        failures=row[6],
        losses=row[7],
        tally=Tally(*row[8:12]),
        worker=row[12],
        error=StepError.from_dict(row[13]) if row[13] else None,
    )
