"""The law in the database: what no service would ask for is refused from a SQL console too."""

from datetime import UTC, datetime

import pgtrigger
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Q

from tests.workflows.builders import (
    ANN,
    a_run,
    a_version,
    claimed,
    everything,
    finish,
    sql,
    step,
    task,
)
from workflows.engine.states import (
    FINISHED_RUNS,
    FINISHED_STEPS,
    RUN_MOVES,
    STEP_MOVES,
    RunState,
    StepState,
)
from workflows.models import Journal, Run, Step, Version

NOW = datetime(2026, 5, 4, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("kept")


def put(table: str, row: object, state: str, *, finished: bool) -> None:
    """Have a row in a state, past the law."""
    sql("SET LOCAL session_replication_role = replica")
    move(table, row, state, finished=finished)
    sql("SET LOCAL session_replication_role = origin")


def move(table: str, row: object, state: str, *, finished: bool) -> None:
    """Change the state as a person at a console would, with what the constraints ask for."""
    others = ", wake_at = now()" if table == "workflows_step" else ""
    sql(
        f"UPDATE {table} SET state = %s, finished_at = CASE WHEN %s THEN now() END{others}"  # noqa: S608
        " WHERE id = %s",
        state,
        finished,
        row,
    )


@pytest.mark.parametrize("before", StepState)
def test_a_step_moves_as_the_table_says_and_no_other_way(before: StepState) -> None:
    row = step(a_run(task("only")), "only").pk

    for after in set(StepState) - {before}:
        put("workflows_step", row, before, finished=before in FINISHED_STEPS)
        if after in STEP_MOVES[before]:
            move("workflows_step", row, after, finished=after in FINISHED_STEPS)
            continue
        refused = f"cannot go from {before} to {after}"
        with pytest.raises(DatabaseError, match=refused), transaction.atomic():
            move("workflows_step", row, after, finished=after in FINISHED_STEPS)


@pytest.mark.parametrize("before", RunState)
def test_a_run_moves_as_the_table_says_and_no_other_way(before: RunState) -> None:
    row = a_run(task("only")).pk

    for after in set(RunState) - {before}:
        put("workflows_run", row, before, finished=before in FINISHED_RUNS)
        if after in RUN_MOVES[before]:
            move("workflows_run", row, after, finished=after in FINISHED_RUNS)
            continue
        refused = f"cannot go from {before} to {after}"
        with pytest.raises(DatabaseError, match=refused), transaction.atomic():
            move("workflows_run", row, after, finished=after in FINISHED_RUNS)


STEP_PAIRS = [(before, after) for before, allowed in STEP_MOVES.items() for after in allowed]
RUN_PAIRS = [(before, after) for before, allowed in RUN_MOVES.items() for after in allowed]


@pytest.mark.parametrize(("before", "after"), STEP_PAIRS)
def test_each_move_of_a_step_is_one_line_of_the_journal(
    before: StepState, after: StepState
) -> None:
    run = a_run(task("only"))
    row = step(run, "only").pk
    put("workflows_step", row, before, finished=before in FINISHED_STEPS)
    known = Journal.objects.filter(run=run).count()

    sql("SELECT set_config('orchestrator.actor', %s, true)", ANN)
    move("workflows_step", row, after, finished=after in FINISHED_STEPS)

    [line] = Journal.objects.filter(run=run).order_by("id")[known:]
    assert (line.step_id, line.path, line.before, line.after) == (row, "only", before, after)
    assert line.actor == ANN


@pytest.mark.parametrize(("before", "after"), RUN_PAIRS)
def test_each_move_of_a_run_is_one_line_of_the_journal(before: RunState, after: RunState) -> None:
    run = a_run(task("only"))
    put("workflows_run", run.pk, before, finished=before in FINISHED_RUNS)
    known = Journal.objects.filter(run=run).count()

    sql("SELECT set_config('orchestrator.actor', %s, true)", ANN)
    move("workflows_run", run.pk, after, finished=after in FINISHED_RUNS)

    [line] = Journal.objects.filter(run=run).order_by("id")[known:]
    assert (line.step_id, line.path, line.before, line.after) == (None, "", before, after)
    assert line.actor == ANN


def test_a_change_from_a_console_bears_the_name_of_its_database_user() -> None:
    run = a_run(task("only"))
    sql("SELECT set_config('orchestrator.actor', '', true)")

    move("workflows_step", step(run, "only").pk, "CANCELLED", finished=True)

    line = Journal.objects.filter(run=run).latest("id")
    assert (line.after, line.actor) == ("CANCELLED", "database:postgres")


def test_a_change_without_a_move_is_no_line() -> None:
    run = a_run(task("only"))
    known = Journal.objects.filter(run=run).count()

    sql("UPDATE workflows_step SET worker = 'somebody' WHERE run_id = %s", run.pk)
    sql("UPDATE workflows_run SET reason = 'something' WHERE id = %s", run.pk)

    assert Journal.objects.filter(run=run).count() == known


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE workflows_journal SET actor = 'somebody' WHERE run_id = %s",
        "DELETE FROM workflows_journal WHERE run_id = %s",
    ],
)
def test_a_line_of_the_journal_is_never_changed_or_removed(statement: str) -> None:
    run = a_run(task("only"))
    lines = list(run.journal.values())

    with pytest.raises(DatabaseError, match="Cannot"), transaction.atomic():
        sql(statement, run.pk)

    assert list(run.journal.values()) == lines


def test_a_line_of_the_journal_is_never_made_by_hand() -> None:
    run = a_run(task("only"))
    lines = list(run.journal.values())

    with pytest.raises(DatabaseError, match="triggers alone"), transaction.atomic():
        sql(
            "INSERT INTO workflows_journal"
            " (run_id, step_id, path, attempt, before, after, reason, actor, at)"
            " SELECT run_id, step_id, path, attempt, before, after, reason, actor, at"
            " FROM workflows_journal WHERE run_id = %s",
            run.pk,
        )

    assert list(run.journal.values()) == lines


@pytest.mark.parametrize(
    "table", ["run", "step", "attempt", "incident", "journal", "vote", "delegation"]
)
def test_no_table_of_the_law_is_emptied(table: str) -> None:
    run = a_run(task("only"))
    known = everything(run)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("SET LOCAL orchestrator.emptying = ''")

    with pytest.raises(DatabaseError, match="Cannot truncate"), transaction.atomic():
        sql(f"TRUNCATE workflows_{table} CASCADE")

    assert everything(run) == known


def the_trigger(name: str) -> str:
    """Return what the database calls a trigger."""
    with connection.cursor() as cursor:
        like = f"pgtrigger_{name}_%"
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE %s", [like])
        [(found,)] = cursor.fetchall()
    return str(found)


@pytest.mark.parametrize(
    ("trigger", "statement"),
    [
        ("step_law", "UPDATE workflows_step SET state = 'COMPLETED' WHERE run_id = %s"),
        ("the_journal_is_append_only", "UPDATE workflows_journal SET path = 'x' WHERE run_id = %s"),
    ],
)
def test_no_session_has_the_law_ignored(trigger: str, statement: str) -> None:
    run = a_run(task("only"))
    sql("SELECT set_config('pgtrigger.ignore', %s, true)", f"{{{the_trigger(trigger)}}}")

    with pytest.raises(DatabaseError, match="pgtrigger: "), transaction.atomic():
        sql(statement, run.pk)


@pytest.mark.parametrize("state", sorted(set(StepState) - {StepState.PENDING}))
def test_a_step_is_born_pending(state: StepState) -> None:
    run = a_run(task("only"))
    newborn = Step(run=run, path="new", node=0, state=state)

    with pytest.raises(DatabaseError, match="Cannot insert"), transaction.atomic():
        newborn.save(force_insert=True)


@pytest.mark.parametrize("state", sorted(set(RunState) - {RunState.PENDING}))
def test_a_run_is_born_pending(state: RunState) -> None:
    run = a_run(task("only"))
    newborn = Run(
        workflow=run.workflow,
        version=run.version,
        environment=run.environment,
        state=state,
        started_by=ANN,
    )

    with pytest.raises(DatabaseError, match="Cannot insert"), transaction.atomic():
        newborn.save(force_insert=True)


def test_a_version_never_changes() -> None:
    version = a_version(task("only"))

    with pytest.raises(DatabaseError, match="Cannot update"), transaction.atomic():
        Version.objects.filter(pk=version.pk).update(source="something else")

    assert Version.objects.get(pk=version.pk).source == version.source


@pytest.mark.parametrize(
    ("rule", "table", "before", "change"),
    [
        ("a_running_step_has_a_lease", "step", "QUEUED", "state = 'RUNNING', wake_at = NULL"),
        ("a_running_step_has_a_lease", "step", "RUNNING", "wake_at = NULL"),
        ("a_retrying_step_has_a_due_time", "step", "RUNNING", "state = 'RETRYING', wake_at = NULL"),
        ("a_finished_step_has_a_finish_time", "step", "RUNNING", "state = 'COMPLETED'"),
        ("a_finished_step_has_a_finish_time", "step", "PENDING", "state = 'SKIPPED'"),
        ("a_finished_run_has_a_finish_time", "run", "RUNNING", "state = 'FAILED'"),
        ("a_finished_run_has_a_finish_time", "run", "RUNNING", "finished_at = now()"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused_by_name(
    rule: str, table: str, before: str, change: str
) -> None:
    run = a_run(task("only"))
    row = step(run, "only").pk if table == "step" else run.pk
    put(f"workflows_{table}", row, before, finished=False)

    with pytest.raises(IntegrityError, match=rule) as refused, transaction.atomic():
        sql(f"UPDATE workflows_{table} SET {change} WHERE id = %s", row)  # noqa: S608

    assert refused.value.__cause__.diag.constraint_name == rule


def test_a_step_may_be_queued_and_begun_in_one_statement_that_says_when_it_was_queued() -> None:
    run = a_run(task("first"), task("second"))
    row = step(run, "second").pk

    sql(
        "UPDATE workflows_step SET state = 'RUNNING', wake_at = now(), queued_at = now()"
        " WHERE id = %s",
        row,
    )

    lines = run.journal.filter(step=row).order_by("id")
    assert [(line.before, line.after) for line in lines] == [
        ("PENDING", "QUEUED"),
        ("QUEUED", "RUNNING"),
    ]


def test_what_goes_on_together_has_its_lines_in_the_order_in_which_it_happened() -> None:
    run = a_run(task("first"), task("second"))
    first = claimed(run, "first")

    finish(first, run_on=True)

    lines = run.journal.order_by("-id")[:3]
    assert [(line.path, line.before, line.after) for line in reversed(lines)] == [
        ("first", "RUNNING", "COMPLETED"),
        ("second", "PENDING", "QUEUED"),
        ("second", "QUEUED", "RUNNING"),
    ]


def test_nobody_has_the_law_ignored() -> None:
    row = step(a_run(task("only")), "only").pk

    with (
        pgtrigger.ignore(),
        pytest.raises(DatabaseError, match="cannot go from"),
        transaction.atomic(),
    ):
        move("workflows_step", row, "COMPLETED", finished=True)


@pytest.mark.parametrize(
    ("newborn", "line"),
    [
        (Step(path="new", node=9, state="QUEUED", queued_at=NOW), ("PENDING", "QUEUED")),
        (Step(path="new", node=9), None),
    ],
)
def test_a_step_that_is_born_queued_has_its_line(
    newborn: Step, line: tuple[str, str] | None
) -> None:
    newborn.run = a_run(task("only"))

    newborn.save(force_insert=True)

    lines = newborn.run.journal.filter(path="new")
    assert [(found.before, found.after) for found in lines] == ([line] if line else [])


@pytest.mark.parametrize("table", ["step", "run"])
def test_a_state_that_nobody_knows_is_refused(table: str) -> None:
    run = a_run(task("only"))
    mine = "run_id" if table == "step" else "id"

    with pytest.raises(DatabaseError, match="ASLEEP"), transaction.atomic():
        sql(f"UPDATE workflows_{table} SET state = 'ASLEEP' WHERE {mine} = %s", run.pk)  # noqa: S608


def test_a_path_is_unique_in_its_run() -> None:
    run = a_run(task("only"))

    with pytest.raises(IntegrityError, match="a_path_is_unique_in_its_run"), transaction.atomic():
        Step.objects.create(run=run, path="only", node=1)


def test_every_step_of_a_finished_run_can_be_explained_by_the_journal_alone() -> None:
    run = a_run(task("first"), task("second"))
    for path in ("first", "second"):
        finish(claimed(run, path))

    for row in run.steps.all():
        where = "PENDING"
        for line in run.journal.filter(Q(step=row)).order_by("id"):
            assert line.before == where
            where = line.after
        assert where == row.state == "COMPLETED"
