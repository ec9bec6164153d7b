"""Runs: what they do, and holding, ending or repeating them."""

from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser
from django.utils import timezone

from workflows.catalog import catalog
from workflows.engine.states import RunState
from workflows.management.door import (
    Door,
    action,
    actor,
    add_paging,
    add_timeout,
    next_page,
    object_of,
    run_named,
    runs_named,
    write_text,
)
from workflows.management.exporting import test_of
from workflows.management.migrating import add_migration, migrate
from workflows.management.output import (
    cell,
    duration,
    listing,
    moment,
    shown_time,
    state,
    table,
)
from workflows.management.pictures import MOST_STEPS, print_output, run_picture
from workflows.management.watching import watch_to_the_end
from workflows.selectors.counts import steps_by_state
from workflows.selectors.incidents import IncidentFilter, list_incidents
from workflows.selectors.recordings import recording_of
from workflows.selectors.runs import RunFilter, get_run, list_runs, run_document, run_facts
from workflows.selectors.steps import list_steps
from workflows.selectors.undoing import undo_lines, undo_preview
from workflows.services.forking import fork_run
from workflows.services.incidents import replay_run
from workflows.services.report import Report
from workflows.services.runs import cancel_many, compensate_many, pause_many, resume_many

_RUN = "the run's id, or the beginning of it"


class Command(Door):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
        listed = action(actions, "list", self.show_list, "show runs, the newest first")
        listed.add_argument("--workflow", metavar="NAME", help="runs of this workflow")
        listed.add_argument("--environment", metavar="NAME", help="runs in this environment")
        listed.add_argument(
            "--state",
            action="append",
            choices=[one.value for one in RunState],
            type=str.upper,
            help="runs in this state; may be repeated",
        )
        listed.add_argument(
            "--top-level",
            action="store_true",
            help="without the runs that steps have started",
        )
        listed.add_argument("--child-of", metavar="RUN", help="the child runs of this run")
        add_paging(listed)
        show = action(actions, "show", self.show, "show a run and its steps")
        watch = action(actions, "watch", self.watch, "follow a run until it has ended")
        for parser_of_one in (show, watch):
            parser_of_one.add_argument("run", metavar="RUN", help=_RUN)
        add_timeout(watch)
        pause = action(actions, "pause", self.pause, "finish what has begun, start nothing else")
        resume = action(actions, "resume", self.resume, "let paused runs go on")
        cancel = action(actions, "cancel", self.cancel, "end runs; this cannot be undone")
        replay = action(actions, "replay", self.replay, "try the failed steps of runs again")
        undo = action(actions, "undo", self.undo, "undo what failed runs have done")
        for parser_of_many in (pause, resume, cancel, replay, undo):
            parser_of_many.add_argument("runs", nargs="+", metavar="RUN", help=_RUN)
        export = action(
            actions, "export-test", self.export_test, "make a test of a run that has ended"
        )
        export.add_argument("run", metavar="RUN", help=_RUN)
        export.add_argument("-o", "--output", metavar="FILE", help="write it there, not to stdout")
        cancel.add_argument(
            "--undo", action="store_true", help="then undo what they have done; see run undo"
        )
        for parser_that_asks in (cancel, undo):
            parser_that_asks.add_argument("--yes", action="store_true", help="do not ask")
        undo.add_argument(
            "--preview", action="store_true", help="only show what would be undone, and what not"
        )
        moved = action(
            actions, "migrate", self.migrate, "have live runs go over to another version"
        )
        add_migration(moved, run=_RUN)
        fork = action(actions, "fork", self.fork, "start a run from a step of another")
        fork.add_argument("run", metavar="RUN", help=_RUN)
        fork.add_argument(
            "--from", required=True, dest="path", metavar="STEP", help="the step it begins at"
        )
        fork.add_argument("--input", metavar="JSON", help="another input: JSON, @FILE or -")
        fork.add_argument("--version", type=int, metavar="N", dest="number", help="another version")

    def show_list(  # noqa: PLR0913 - the options of the command
        self,
        *,
        workflow: str | None,
        environment: str | None,
        state: list[str] | None,
        top_level: bool,
        child_of: str | None,
        limit: int,
        after: str | None,
        as_json: bool,
        **_: Any,
    ) -> None:
        where = RunFilter(
            workflow=workflow,
            environment=environment,
            states=state or (),
            parent=run_named(child_of) if child_of else None,
            is_top_level=True if top_level else None,
        )
        page = list_runs(where, after=after, limit=limit)
        if as_json:
            self.print_json(listing(page.rows, page.next))
        elif not page.rows:
            self.say("There are no such runs.")
        else:
            self.page.print(_runs_table(page.rows))
            if page.next:
                self.say(next_page(page.next))

    def show(self, *, run: str, as_json: bool, **_: Any) -> None:
        run_id = run_named(run)
        if as_json:
            self.print_json(run_document(get_run(run_id)))
            return
        found = run_facts(get_run(run_id))
        steps = list_steps(run_id, limit=MOST_STEPS).rows
        counts = steps_by_state([run_id])[run_id]
        now = timezone.now()
        total = sum(counts.values())
        self.page.print(run_picture(found, steps, total=total, now=now, counts=counts))
        print_output(self.page, found)
        for incident in list_incidents(IncidentFilter(run=run_id), limit=10).rows:
            self.say(f"{incident['path']} needs a person: manage.py incident show {incident['id']}")

    def watch(self, *, run: str, timeout: float | None, as_json: bool, **_: Any) -> None:
        watch_to_the_end(self, run_named(run), as_json=as_json, timeout=timeout)

    def pause(self, *, runs: list[str], as_json: bool, **_: Any) -> None:
        self.present(pause_many(run_ids=runs_named(runs), by=actor()), as_json=as_json)

    def resume(self, *, runs: list[str], as_json: bool, **_: Any) -> None:
        self.present(resume_many(run_ids=runs_named(runs), by=actor()), as_json=as_json)

    def cancel(self, *, runs: list[str], undo: bool, yes: bool, as_json: bool, **_: Any) -> None:
        ids = runs_named(runs)
        if undo:
            self.show_undo(ids, as_json=as_json, quiet=yes)
            self.confirm(f"Cancel {_what(ids)}, and undo what was done?", yes=yes)
        else:
            self.confirm(f"Cancel {_what(ids)}? This cannot be undone.", yes=yes)
        self.present(cancel_many(run_ids=ids, compensate=undo, by=actor()), as_json=as_json)

    def undo(self, *, runs: list[str], preview: bool, yes: bool, as_json: bool, **_: Any) -> None:
        ids = runs_named(runs)
        self.show_undo(ids, as_json=as_json, quiet=yes and not preview)
        if preview:
            return
        self.confirm(f"Undo what was done by {_what(ids)}?", yes=yes)
        self.present(compensate_many(run_ids=ids, by=actor()), as_json=as_json)

    def show_undo(self, ids: list[UUID], *, as_json: bool, quiet: bool) -> None:
        """Show what would be undone, unless nobody is there to read it."""
        if quiet:
            return
        found = [undo_preview(run_id) for run_id in ids]
        if as_json:
            self.print_json(found[0] if len(found) == 1 else found)
            return
        for one in found:
            for line in undo_lines(one):
                self.say(line)

    def export_test(self, *, run: str, output: str | None, as_json: bool, **_: Any) -> None:
        recording = recording_of(run_named(run))
        text = test_of(recording, catalog=catalog(), now=timezone.now())
        if output is not None:
            write_text(output, text)
            self.say(f"Wrote {output}. Read it before you hand it on: pytest {output}")
        elif as_json:
            self.print_json({"run": recording.id, "test": text})
        else:
            self.page.file.write(text)

    def fork(
        self,
        *,
        run: str,
        path: str,
        input: str | None,  # noqa: A002 - the name of the option
        number: int | None,
        as_json: bool,
        **_: Any,
    ) -> None:
        given = object_of("--input", input)
        forked = fork_run(
            run_id=run_named(run), from_path=path, input=given, version=number, by=actor()
        )
        new = get_run(forked.run.pk)
        if as_json:
            self.print_json(run_document(new))
        else:
            self.say(f"The run {new.pk} has begun at {path}: manage.py run watch {new.pk}")

    def migrate(self, **options: Any) -> None:
        migrate(self, **options)

    def replay(self, *, runs: list[str], as_json: bool, **_: Any) -> None:
        reports = [replay_run(run_id=run_id, by=actor()) for run_id in runs_named(runs)]
        done = tuple(one for report in reports for one in report.done)
        refused = tuple(one for report in reports for one in report.refused)
        self.present(Report("Replay", done, refused), as_json=as_json)


def _what(ids: list[UUID]) -> str:
    if len(ids) > 1:
        return f"{len(ids)} runs"
    run = get_run(ids[0])
    return f"the run {run.pk} of {run.workflow.name}, which is {run.state}"


def _runs_table(rows: Any) -> Any:
    made = table("run", "workflow", "environment", "state", "started", "took", "open", "error")
    for row in rows:
        begun, ended = moment(row["started_at"]), moment(row["finished_at"])
        made.add_row(
            cell(row["id"]),
            cell(f"{row['workflow']} v{row['version']}"),
            cell(row["environment"]),
            state(row["state"]),
            shown_time(row["started_at"]),
            cell(duration((ended - begun).total_seconds()) if begun and ended else ""),
            cell(row["open_incidents"] or ""),
            cell(row["error"]["code"] if row["error"] else ""),
        )
    return made
