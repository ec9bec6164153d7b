from datetime import timedelta
from io import StringIO
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError
from django.db import OperationalError, transaction
from django.utils import timezone
from rich.console import Console

from tests.commands.builders import INLINE, a_run
from tests.workflows.builders import sql
from workflows.management.watching import Feed, Picture, Silence, advice_on, follow
from workflows.models import Journal, Run

ID = uuid4()


def a_line(run: Run, number: int, path: str, *, seconds: float = 0) -> None:
    """Commit a line of the journal with this number, past the law."""
    with transaction.atomic():
        sql("SET LOCAL session_replication_role = replica")
        Journal.objects.create(
            id=number,
            run=run,
            path=path,
            before="RUNNING",
            after="COMPLETED",
            attempt=1,
            reason="",
            actor="engine",
            at=timezone.now() + timedelta(seconds=seconds),
        )


class Raising(Silence):
    """A view that raises what it is given, once."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def update(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


@pytest.mark.django_db
def test_a_line_that_is_committed_late_is_read_and_none_is_read_twice() -> None:
    run = a_run()
    feed = Feed(run.pk, from_the_start=False)
    newest = Journal.objects.latest("id").pk
    a_line(run, newest + 2, "second")

    first = [line.path for line in feed.read()]
    a_line(run, newest + 1, "first")
    late = [line.path for line in feed.read()]
    a_line(run, newest + 3, "third", seconds=60)

    assert first == ["second"]
    assert late == ["first"]
    assert [line.path for line in feed.read()] == ["third"]
    assert feed.floor == newest + 2


@pytest.mark.django_db
def test_who_comes_later_is_not_told_the_whole_story() -> None:
    run = a_run(INLINE)

    assert Feed(run.pk, from_the_start=True).read()
    assert not Feed(run.pk, from_the_start=False).read()


@pytest.mark.django_db
def test_ctrl_c_leaves_the_run_alone_and_says_how_to_watch_again() -> None:
    run = a_run()

    with pytest.raises(CommandError) as left:
        follow(run.pk, Raising(KeyboardInterrupt()), errors=Console(file=StringIO()), timeout=5)

    assert left.value.returncode == 130
    assert str(left.value) == (
        f"Detached; the run goes on. Watch it again: manage.py run watch {run.pk}"
    )


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_is_waited_for() -> None:
    run = a_run(INLINE)
    said = StringIO()

    follow(run.pk, Raising(OperationalError()), errors=Console(file=said), timeout=30)

    assert "The database is away." in said.getvalue()
    assert "The database is back." in said.getvalue()


@pytest.mark.django_db
def test_the_picture_of_a_terminal_ends_with_the_state_of_the_run() -> None:
    run = a_run(INLINE)
    shown = StringIO()
    console = Console(file=shown, force_terminal=True, width=120, height=30)

    follow(run.pk, Picture(console, UUID(str(run.pk))), errors=console, timeout=5)

    assert "COMPLETED" in shown.getvalue()
    assert "double" in shown.getvalue()


@pytest.mark.django_db
def test_who_waits_for_a_place_is_told_who_holds_it() -> None:
    one_at_a_time = "workflow: w\nconcurrency: {key: ledger}\nsteps: [{id: a, wait: {for: 1h}}]"
    first, second = a_run(one_at_a_time), a_run(one_at_a_time)

    said = advice_on(second.pk, second.state, {})

    assert said.startswith("The run waits for the one place for the key 'ledger', as number 1")
    assert said.endswith(f"manage.py run show {first.pk}")


@pytest.mark.parametrize(
    ("state", "counts", "advice"),
    [
        ("RUNNING", {"QUEUED": 1, "PENDING": 2}, "No worker has taken a step yet."),
        ("RUNNING", {"FAILED": 1, "SKIPPED": 1}, "The run waits for a person"),
        ("PAUSED", {"QUEUED": 1}, "The run is paused."),
        ("RUNNING", {"QUEUED": 1, "COMPLETED": 1}, ""),
        ("RUNNING", {"FAILED": 1, "RUNNING": 1}, ""),
    ],
)
def test_who_waits_long_is_told_what_for(state: str, counts: dict[str, int], advice: str) -> None:
    assert advice_on(ID, state, counts).startswith(advice)
    assert bool(advice_on(ID, state, counts)) is bool(advice)
