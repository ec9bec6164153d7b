"""Events from outside: publish them, and look at what came and what each did."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from django.core.management.base import CommandParser

from workflows.management.door import (
    Door,
    action,
    actor,
    add_paging,
    next_page,
    object_of,
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
from workflows.selectors.events import (
    EventFilter,
    event_document,
    get_event,
    list_effects,
    list_events,
)
from workflows.services.events import publish_event, start_again

SOURCE = "/manage.py"


class Command(Door):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
        publish = action(actions, "publish", self.publish, "publish a CloudEvent")
        publish.add_argument("type", nargs="?", metavar="TYPE", help="its type, such as order.paid")
        publish.add_argument("--data", metavar="JSON", help="its data: JSON, @FILE or - for stdin")
        publish.add_argument(
            "--id", help="what its source calls it; the same twice is one event; default: a new one"
        )
        publish.add_argument("--source", default=SOURCE, help=f"whence it comes; default {SOURCE}")
        publish.add_argument("--subject", help="what it is about")
        publish.add_argument(
            "--event", metavar="JSON", help="the whole CloudEvent instead: JSON, @FILE or -"
        )
        listed = action(actions, "list", self.show_list, "show what came, the newest first")
        listed.add_argument("--type", help="events of this type")
        listed.add_argument("--source", help="events of this source")
        listed.add_argument("--id", help="events that their source calls so")
        add_paging(listed)
        show = action(actions, "show", self.show, "show an event and what it did")
        show.add_argument("event", type=uuid_of, metavar="EVENT", help="the event's id here")
        add_paging(show)
        again = action(actions, "start-again", self.start_again, "start the runs that were refused")
        again.add_argument("event", type=uuid_of, metavar="EVENT", help="the event's id here")

    def publish(  # noqa: PLR0913 - the options of the command
        self,
        *,
        type: str | None,  # noqa: A002 - the option's name
        data: str | None,
        id: str | None,  # noqa: A002 - the option's name
        source: str,
        subject: str | None,
        event: str | None,
        as_json: bool,
        **_: Any,
    ) -> None:
        attributes = {
            "specversion": "1.0",
            "id": id or str(uuid4()),
            "source": source,
            "type": type,
            "subject": subject,
            "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        given = object_of("--event", event) or {**attributes, "data": value_of("--data", data)}
        published = publish_event(event=given, by=actor())
        if as_json:
            self.print_json({"id": str(published.id), "duplicate": not published.created})
        elif published.created:
            self.say(f"The event {published.id} was received.")
            self.say(f"  manage.py event show {published.id}   shows what it did")
        else:
            self.say(
                f"The event {given['id']} of {given['source']} was received on"
                f" {published.received_at:%Y-%m-%d %H:%M:%S} UTC already, as {published.id};"
                " nothing was done."
            )

    def show_list(  # noqa: PLR0913 - the options of the command
        self,
        *,
        type: str | None,  # noqa: A002 - the option's name
        source: str | None,
        id: str | None,  # noqa: A002 - the option's name
        limit: int,
        after: str | None,
        as_json: bool,
        **_: Any,
    ) -> None:
        page = list_events(EventFilter(type, source, id), after=after, limit=limit)
        if as_json:
            self.print_json(listing(page.rows, page.next))
            return
        if not page.rows:
            self.say("There are no such events.")
            return
        shown = table("event", "received", "type", "id", "source", "subject")
        for one in page.rows:
            shown.add_row(
                cell(one["id"]),
                shown_time(one["received_at"]),
                cell(one["type"]),
                cell(one["event_id"]),
                cell(one["source"]),
                cell(one["subject"]),
            )
        self.page.print(shown)
        if page.next:
            self.say(next_page(page.next))

    def show(self, *, event: UUID, limit: int, after: str | None, as_json: bool, **_: Any) -> None:
        found = event_document(get_event(event))
        effects = list_effects(event, after=after, limit=limit)
        if as_json:
            self.print_json({**found, "effects": listing(effects.rows, effects.next)})
            return
        self.page.print(
            facts(
                [
                    ("event", found["id"]),
                    ("type", found["type"]),
                    ("id", found["event_id"]),
                    ("source", found["source"]),
                    ("received", shown_time(found["received_at"])),
                    ("by", found["received_by"]),
                ]
            )
        )
        say(self.page, as_readable_json(found["event"]))
        if not effects.rows:
            self.say(
                "Nobody waited for it, and no workflow is started by it."
                if found["handed_out"]
                else "It is being handed out."
            )
            return
        shown = table("at", "did", "workflow", "run", "step", "reason")
        for one in effects.rows:
            colour = "red" if one["kind"] == "refused" else ""
            shown.add_row(
                shown_time(one["at"]),
                cell(one["kind"], colour),
                cell(one["workflow"]),
                cell(one["run"]),
                cell(one["path"]),
                cell(one["reason"]),
            )
        self.page.print(shown)
        if effects.next:
            self.say(next_page(effects.next))
        if found["refused_starts"]:
            self.say(f"  manage.py event start-again {found['id']}   starts what was refused")

    def start_again(self, *, event: UUID, as_json: bool, **_: Any) -> None:
        self.present(start_again(event_id=event, by=actor()), as_json=as_json)
