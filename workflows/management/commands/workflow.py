"""Definitions of workflows: check, try out, apply, list and start them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from workflows.language.schema import json_schema
from workflows.management import drills
from workflows.management.coverage import coverage_picture, measure, percent_of
from workflows.management.documents import (
    Checked,
    check_files,
    compile_files,
    load_files,
    one_workflow_each,
)
from workflows.management.door import (
    Door,
    Exit,
    RefusedError,
    action,
    actor,
    add_paging,
    add_timeout,
    next_page,
    object_of,
    status_of,
)
from workflows.management.output import (
    as_readable_json,
    cell,
    listing,
    say,
    shown_time,
    state,
    table,
)
from workflows.management.pictures import print_output
from workflows.management.simulated import simulated_picture
from workflows.management.watching import watch_to_the_end
from workflows.selectors.runs import get_run, run_document
from workflows.selectors.workflows import list_workflows
from workflows.services.definitions import apply_definition, doubts_about
from workflows.services.runs import start_run

_FILES = "a definition, a folder of definitions, or - for stdin"


class Command(Door):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
        validate = action(
            actions, "validate", self.validate, "say all that is wrong with definitions"
        )
        apply = action(
            actions, "apply", self.apply, "store definitions as the next versions: all or none"
        )
        for parser_of_files in (validate, apply):
            parser_of_files.add_argument("files", nargs="+", metavar="FILE", help=_FILES)
        add_paging(action(actions, "list", self.show_list, "show the workflows by name"))
        action(actions, "schema", self.schema, "print the JSON Schema of the language")
        self._add_simulate(actions)
        self._add_coverage(actions)
        self._add_run(actions)

    def validate(self, *, files: list[str], as_json: bool, **_: Any) -> None:
        checked = check_files(files)
        broken = [one for one in checked if one.findings]
        if as_json:
            self.print_json({"results": [_checked(one) for one in checked]})
        for one in checked:
            if one.spec is not None and not one.findings and not as_json:
                self.say(f"{one.file}: {one.spec.workflow} is well defined.")
        if broken:
            raise RefusedError(
                "\n".join(str(finding) for one in broken for finding in one.findings)
            )

    def apply(self, *, files: list[str], as_json: bool, **_: Any) -> None:
        checked = load_files(files)
        one_workflow_each(checked)
        with transaction.atomic():
            applied = [
                (one.file, apply_definition(text=one.text, source=one.file, by=actor()))
                for one in checked
            ]
        if as_json:
            results = [
                {
                    "file": file,
                    "workflow": found.version.workflow.name,
                    "version": found.version.number,
                    "created": found.created,
                    "warnings": [
                        doubt.as_dict()
                        for doubt in doubts_about(text=found.version.source, source=file)
                    ],
                }
                for file, found in applied
            ]
            self.print_json({"results": results})
            return
        for file, found in applied:
            name, number = found.version.workflow.name, found.version.number
            news = "is now" if found.created else "is unchanged:"
            self.say(f"{file}: {name} {news} version {number}.")
        for one in checked:
            for doubt in doubts_about(text=one.text, source=one.file):
                say(self.errors, f"warning: {doubt}", "yellow")

    def show_list(self, *, limit: int, after: str | None, as_json: bool, **_: Any) -> None:
        page = list_workflows(after=after, limit=limit)
        if as_json:
            self.print_json(listing(page.rows, page.next))
            return
        if not page.rows:
            self.say("There are no workflows here. `manage.py workflow apply FILE` adds one.")
            return
        shown = table("workflow", "version", "environment", "last run", "ended", "description")
        for one in page.rows:
            last = one["last_run"]
            shown.add_row(
                cell(one["name"]),
                cell(one["version"]),
                cell(one["environment"]),
                state(last["state"]) if last else cell(None),
                shown_time(last["finished_at"] if last else None),
                cell(one["description"].partition("\n")[0]),
            )
        self.page.print(shown)
        if page.next:
            self.say(next_page(page.next))

    def schema(self, *, as_json: bool, **_: Any) -> None:
        if as_json:
            self.print_json(json_schema())
        else:
            self.page.file.write(as_readable_json(json_schema()) + "\n")

    def simulate(  # noqa: PLR0913 - the options of the command
        self,
        *,
        files: Sequence[str],
        input: str | None,  # noqa: A002 - the language's own word
        env: str | None,
        fail: Sequence[drills.Drill],
        outputs: str | None,
        durations: str | None,
        seed: int,
        as_json: bool,
        **_: Any,
    ) -> None:
        given, variables = object_of("--input", input), object_of("--env", env)
        told = object_of("--outputs", outputs) or {}
        compiled = compile_files(files)
        plans = [one.plan for one in compiled]
        drills.check_drills(fail, plans)
        drills.check_outputs(told, plans)
        inputs = drills.inputs_of(compiled, given)
        taking = drills.durations_of(durations, compiled)
        if durations == drills.HISTORY and not any(taking):
            say(self.errors, "No run has been completed yet, so tasks take no time.", "yellow")
        as_lines = as_json or len(compiled) > 1 or Path(files[0]).is_dir()
        failed = []
        for one, one_input, usual in zip(compiled, inputs, taking, strict=True):
            run = drills.play(
                one,
                others=compiled,
                given=one_input,
                variables=variables,
                drills=fail,
                outputs=told,
                durations=usual,
                seed=seed,
            )
            if as_lines:
                self.print_json(drills.document(run))
            else:
                self.page.print(simulated_picture(run))
                print_output(self.page, {"output": run.output})
            if status_of(run.state) is not Exit.DONE:
                said = f"{one.file}: the simulated run is {run.state}."
                failed.append(
                    f"{said}\n  hint: {hint}" if (hint := drills.advice_on(run)) else said
                )
        if failed:
            raise CommandError("\n".join(failed), returncode=Exit.FAILED)

    def run(  # noqa: PLR0913 - the options of the command
        self,
        *,
        name: str,
        input: str | None,  # noqa: A002 - the language's own word
        environment: str | None,
        number: int | None,
        key: str | None,
        wait: bool,
        timeout: float | None,
        as_json: bool,
        **_: Any,
    ) -> None:
        started = start_run(
            workflow=name,
            input=object_of("--input", input),
            environment=environment,
            version=number,
            idempotency_key=key,
            by=actor(),
        )
        run_id = UUID(str(started.run.pk))
        if not as_json:
            run = get_run(run_id)
            what = f"the run {run.pk} of {run.workflow.name} v{run.version.number}"
            where = f"in the environment {run.environment.name}"
            news = "Started" if started.created else "The key was used before, for"
            self.say(f"{news} {what} {where}.")
        if wait:
            watch_to_the_end(
                self, run_id, as_json=as_json, timeout=timeout, from_the_start=started.created
            )
        elif as_json:
            self.print_json(run_document(get_run(run_id)))
        else:
            self.say(f"Watch it: manage.py run watch {run_id}")

    def coverage(
        self, *, file: str, tests: list[str], at_least: float, as_json: bool, **_: Any
    ) -> None:
        found = measure(file, tests)
        if as_json:
            self.print_json(found.as_dict())
        else:
            self.page.print(coverage_picture(found))
            self.say(found.sentence())
        if not found.passed:
            self.errors.file.write(found.said)
            raise CommandError("Some of the tests failed.", returncode=Exit.FAILED)
        if found.percent < at_least:
            wanted = f"{found.percent:.1f} % is less than the {at_least:g} % that are wanted."
            raise CommandError(wanted, returncode=Exit.FAILED)

    def _add_simulate(self, actions: Any) -> None:
        parser = action(
            actions,
            "simulate",
            self.simulate,
            "play definitions in memory, on a clock of their own; needs no services",
        )
        parser.add_argument("files", nargs="+", metavar="FILE", help=_FILES)
        parser.add_argument("--input", metavar="JSON", help="the input: JSON, @FILE or - for stdin")
        parser.add_argument(
            "--env", metavar="JSON", help="the environment's variables: JSON, @FILE or - for stdin"
        )
        parser.add_argument(
            "--fail",
            action="append",
            type=drills.drill_of,
            default=[],
            metavar="STEP:CLASS[:TIMES]",
            help="let the step fail with this class, or code, TIMES attempts or all; "
            "may be repeated",
        )
        parser.add_argument(
            "--outputs",
            metavar="JSON",
            help="what steps yield: step, path or task type -> output; JSON, @FILE or - for stdin",
        )
        parser.add_argument(
            "--durations",
            metavar="history|FILE",
            help="how long steps take: the medians of the runs so far, or a file: step -> duration",
        )
        parser.add_argument("--seed", type=int, default=0, help="fixes the jitter of retries")

    def _add_coverage(self, actions: Any) -> None:
        parser = action(
            actions,
            "coverage",
            self.coverage,
            "run tests, and say which branches of a definition they have taken",
        )
        parser.add_argument("file", metavar="FILE", help="a definition")
        parser.add_argument("tests", nargs="+", metavar="TESTS", help="tests, as pytest has them")
        parser.add_argument(
            "--at-least",
            type=percent_of,
            default=0.0,
            metavar="N",
            help="status 1 if less than N percent of the branches were taken",
        )

    def _add_run(self, actions: Any) -> None:
        parser = action(actions, "run", self.run, "start a run")
        parser.add_argument("name", metavar="NAME", help="the workflow")
        parser.add_argument("--input", metavar="JSON", help="the input: JSON, @FILE or - for stdin")
        parser.add_argument("--environment", metavar="NAME", help="else the definition's own")
        parser.add_argument(
            "--version", type=int, dest="number", metavar="N", help="else the newest"
        )
        parser.add_argument("--key", help="the same key starts no second run")
        parser.add_argument("--wait", action="store_true", help="watch until it has ended")
        add_timeout(parser)


def _checked(one: Checked) -> dict[str, Any]:
    return {
        "file": one.file,
        "workflow": one.spec.workflow if one.spec else None,
        "findings": [finding.as_dict() for finding in one.findings],
    }
