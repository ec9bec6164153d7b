"""Incidents, the dead letters: look at them; replay, skip or discard their steps."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser

from workflows.language.words import ErrorClass
from workflows.management.door import (
    Door,
    RefusedError,
    action,
    actor,
    add_paging,
    next_page,
    object_of,
    run_named,
    uuid_of,
    value_of,
)
from workflows.management.output import (
    as_readable_json,
    cell,
    facts,
    listing,
    say,
    shown_time,
    table,
)
from workflows.selectors.incidents import (
    IncidentFilter,
    get_incident,
    incident_document,
    list_incidents,
)
from workflows.selectors.shapes import IncidentDocument
from workflows.services.incidents import discard_incident, replay_incident, skip_incident
from workflows.services.report import each


class Command(Door):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
        listed = action(
            actions, "list", self.show_list, "show the open incidents, the newest first"
        )
        listed.add_argument("--run", metavar="RUN", help="incidents of this run")
        listed.add_argument("--workflow", metavar="NAME", help="incidents of this workflow")
        listed.add_argument("--environment", metavar="NAME", help="incidents in this environment")
        listed.add_argument(
            "--class",
            dest="error_class",
            choices=[one.value for one in ErrorClass],
            help="incidents of this error class",
        )
        listed.add_argument("--code", help="incidents with this error code")
        listed.add_argument("--all", action="store_true", help="the resolved ones as well")
        add_paging(listed)
        show = action(actions, "show", self.show, "show an incident and what can be done")
        show.add_argument("incident", type=uuid_of, metavar="INCIDENT", help="the incident's id")
        replay = action(actions, "replay", self.replay, "try the steps again")
        replay.add_argument(
            "--arguments", metavar="JSON", help="corrected arguments: JSON, @FILE or - for stdin"
        )
        skip = action(actions, "skip", self.skip, "let the steps count as done")
        skip.add_argument(
            "--output", metavar="JSON", help="what they would have given: JSON, @FILE or -"
        )
        discard = action(
            actions, "discard", self.discard, "give the steps up; this cannot be undone"
        )
        discard.add_argument("--yes", action="store_true", help="do not ask")
        for name, one in (("replay", replay), ("skip", skip), ("discard", discard)):
            one.add_argument(
                "incidents", nargs="+", type=uuid_of, metavar="INCIDENT", help="the incident's id"
            )
            one.add_argument(
                "--note", default="", required=name == "discard", help="why, for the record"
            )

    def show_list(  # noqa: PLR0913 - the options of the command
        self,
        *,
        run: str | None,
        workflow: str | None,
        environment: str | None,
        error_class: str | None,
        code: str | None,
        all: bool,  # noqa: A002 - the option's name
        limit: int,
        after: str | None,
        as_json: bool,
        **_: Any,
    ) -> None:
        where = IncidentFilter(
            open=None if all else True,
            run=run_named(run) if run else None,
            workflow=workflow,
            environment=environment,
            error_class=error_class,
            code=code,
        )
        page = list_incidents(where, after=after, limit=limit)
        if as_json:
            self.print_json(listing(page.rows, page.next))
            return
        if not page.rows:
            self.say("There are no such incidents." if all else "There are no open incidents.")
            return
        ended = ("resolution",) if all else ()
        shown = table("incident", "opened", "workflow", "step", "error", "message", *ended)
        for one in page.rows:
            error = one["error"]
            shown.add_row(
                cell(one["id"]),
                shown_time(one["opened_at"]),
                cell(one["workflow"]),
                cell(one["path"]),
                cell(f"{error['class']} {error['code']}", "red"),
                cell(error["message"].partition("\n")[0]),
                *([cell(one["resolution"])] if all else []),
            )
        self.page.print(shown)
        if page.next:
            self.say(next_page(page.next))

    def show(self, *, incident: UUID, as_json: bool, **_: Any) -> None:
        found = incident_document(get_incident(incident))
        if as_json:
            self.print_json(found)
            return
        error = found["error"]
        self.page.print(
            facts(
                [
                    ("incident", found["id"]),
                    ("step", f"{found['path']}, attempt {found['attempt']}"),
                    ("run", f"{found['run']} of {found['workflow']} in {found['environment']}"),
                    ("opened", shown_time(found["opened_at"])),
                    ("error", cell(f"{error['class']} {error['code']}", "red")),
                    ("message", error["message"]),
                    ("resolution", found["resolution"]),
                    ("resolved by", found["resolved_by"]),
                    ("note", found["note"]),
                ]
            )
        )
        if error["details"]:
            say(self.page, f"details: {as_readable_json(error['details'])}")
        if found["resolution"] is None:
            self._say_what_can_be_done(found)

    def replay(
        self, *, incidents: list[UUID], arguments: str | None, note: str, as_json: bool, **_: Any
    ) -> None:
        corrected = object_of("--arguments", arguments)

        def replay(one: UUID) -> object:
            return replay_incident(incident_id=one, arguments=corrected, note=note, by=actor())

        self._resolve("Replay", incidents, replay, as_json=as_json)

    def skip(
        self, *, incidents: list[UUID], output: str | None, note: str, as_json: bool, **_: Any
    ) -> None:
        value = value_of("--output", output)

        def skip(one: UUID) -> object:
            return skip_incident(incident_id=one, output=value, note=note, by=actor())

        self._resolve("Skip", incidents, skip, as_json=as_json)

    def discard(
        self, *, incidents: list[UUID], note: str, yes: bool, as_json: bool, **_: Any
    ) -> None:
        if not note.strip():
            raise RefusedError("--note is empty: say why, for those who look at it later.")
        what = f"{len(incidents)} incidents" if len(incidents) > 1 else _named(incidents[0])
        self.confirm(f"Discard {what}? This cannot be undone.", yes=yes)

        def discard(one: UUID) -> object:
            return discard_incident(incident_id=one, note=note, by=actor())

        self._resolve("Discard", incidents, discard, as_json=as_json)

    def _resolve(
        self, name: str, incidents: list[UUID], do: Callable[[UUID], object], *, as_json: bool
    ) -> None:
        for one in incidents:
            get_incident(one)
        self.present(each(name, dict.fromkeys(incidents), do), as_json=as_json)

    def _say_what_can_be_done(self, found: IncidentDocument) -> None:
        incident = found["id"]
        self.say("Decide, once the cause is known:")
        if found["error"]["class"] == ErrorClass.UNCERTAIN:
            self.say("  Nobody knows whether the step took effect. Look into the other system")
            self.say("  first: a replay repeats the step, and asks no probe.")
        self.say(f"  manage.py incident replay {incident}   tries the step again")
        self.say(f"  manage.py incident skip {incident}     lets it count as done")
        self.say(f"  manage.py incident discard {incident} --note WHY   gives it up")


def _named(incident_id: UUID) -> str:
    found = get_incident(incident_id)
    return f"the incident at the step {found.path} of the run {found.run_id}"
