"""Approvals: see what waits for a decision of people, decide, hand a vote on."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.core.management.base import CommandParser
from django.utils import timezone

from workflows.management.door import (
    Door,
    RefusedError,
    action,
    actor,
    add_paging,
    duration_of,
    next_page,
    object_of,
    run_named,
    uuid_of,
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
from workflows.models import Verdict
from workflows.selectors.approvals import (
    ApprovalFilter,
    approval_document,
    delegation_document,
    get_approval,
    list_approvals,
)
from workflows.services.approvals import Said, decide, delegate, delegate_for_a_time
from workflows.services.electorate import electorate, members_named
from workflows.services.report import each


class Command(Door):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
        listed = action(actions, "list", self.show_list, "show the open requests, the oldest first")
        listed.add_argument("--as", dest="name", metavar="NAME", help="those that NAME can decide")
        listed.add_argument("--group", metavar="NAME", help="requests to this group")
        listed.add_argument("--run", metavar="RUN", help="requests of this run")
        listed.add_argument("--workflow", metavar="NAME", help="requests of this workflow")
        listed.add_argument("--environment", metavar="NAME", help="requests in this environment")
        listed.add_argument("--all", action="store_true", help="those that have ended as well")
        add_paging(listed)
        show = action(actions, "show", self.show, "show a request, and who can decide on it")
        show.add_argument("approval", type=uuid_of, metavar="APPROVAL", help="the request's id")
        self._add_decide(actions)
        self._add_delegate(actions)

    def show_list(  # noqa: PLR0913 - the options of the command
        self,
        *,
        name: str | None,
        group: str | None,
        run: str | None,
        workflow: str | None,
        environment: str | None,
        all: bool,  # noqa: A002 - the option's name
        limit: int,
        after: str | None,
        as_json: bool,
        **_: Any,
    ) -> None:
        where = ApprovalFilter(
            open=None if all else True,
            group=group,
            run=run_named(run) if run else None,
            workflow=workflow,
            environment=environment,
            decided_by=_person(name) if name else None,
        )
        page = list_approvals(where, now=timezone.now(), after=after, limit=limit)
        if as_json:
            self.print_json(listing(page.rows, page.next))
            return
        if not page.rows:
            self.say("No request waits for a decision.")
            return
        shown = table("approval", "step", "workflow", "group", "approved", "since", "due", "state")
        for one in page.rows:
            shown.add_row(
                cell(one["id"]),
                cell(one["title"]),
                cell(one["workflow"]),
                cell(one["group"]),
                cell(f"{one['approved']} of {one['approvals']}"),
                shown_time(one["opened_at"]),
                shown_time(one["due_at"]),
                cell(one["outcome"]),
            )
        self.page.print(shown)
        if page.next:
            self.say(next_page(page.next))

    def show(self, *, approval: UUID, as_json: bool, **_: Any) -> None:
        request = get_approval(approval)
        found = approval_document(request)
        if as_json:
            self.print_json(found)
            return
        asks = electorate(request) if found["outcome"] == "open" else None
        votes = "; ".join(
            " ".join(filter(None, (one["person"], one["verdict"], one["note"])))
            for one in found["votes"]
        )
        self.page.print(
            facts(
                [
                    ("approval", found["id"]),
                    ("asked", found["message"] or found["title"]),
                    ("step", found["path"]),
                    ("run", f"{found['run']} of {found['workflow']} in {found['environment']}"),
                    ("started by", found["started_by"]),
                    ("group", found["group"]),
                    ("approved", f"{found['approved']} of {found['approvals']}"),
                    ("can decide", members_named(asks.able) if asks else None),
                    ("votes", votes),
                    ("since", shown_time(found["opened_at"])),
                    ("due", shown_time(found["due_at"]) if found["due_at"] else None),
                    ("state", found["outcome"]),
                    ("closed by", found["closed_by"]),
                ]
            )
        )
        say(self.page, f"input: {as_readable_json(found['input'])}")
        if found["form"]:
            say(self.page, f"form: {as_readable_json(found['form'])}")
        if asks and asks.advice:
            self.say(asks.advice)
        if asks:
            self.say(f"Decide: manage.py approval decide {approval} --as NAME --approve")

    def decide(  # noqa: PLR0913 - the options of the command
        self,
        *,
        approvals: list[UUID],
        name: str,
        verdict: Verdict,
        note: str,
        form: str | None,
        as_json: bool,
        **_: Any,
    ) -> None:
        person = _person(name)
        said = Said(verdict, note, object_of("--form", form))
        for one in approvals:
            get_approval(one)

        def say_it(one: UUID) -> object:
            return decide(approval_id=one, person=person, said=said, by=_by(person))

        action = verdict.value.capitalize()
        self.present(each(action, dict.fromkeys(approvals), say_it), as_json=as_json)

    def delegate(  # noqa: PLR0913 - the options of the command
        self,
        *,
        approval: UUID | None,
        name: str,
        to: str,
        span: float | None,
        note: str,
        as_json: bool,
        **_: Any,
    ) -> None:
        person = _person(name)
        if (approval is None) == (span is None):
            raise RefusedError("Name one request, or say for how long with --for.")
        if approval is not None:
            made = delegate(approval_id=approval, person=person, to=to, note=note, by=_by(person))
        else:
            ends_at = timezone.now() + timedelta(seconds=span or 0)
            made = delegate_for_a_time(
                person=person, to=to, ends_at=ends_at, note=note, by=_by(person)
            )
        if as_json:
            self.print_json(delegation_document(made))
        else:
            what = "on this request" if approval else f"until {made.ends_at:%Y-%m-%d %H:%M} UTC"
            self.say(f"{to} decides in the place of {name} {what}.")

    def _add_decide(self, actions: Any) -> None:
        parser = action(actions, "decide", self.decide, "approve or reject requests")
        parser.add_argument(
            "approvals", nargs="+", type=uuid_of, metavar="APPROVAL", help="the request's id"
        )
        parser.add_argument(
            "--as", dest="name", required=True, metavar="NAME", help="the account that decides"
        )
        verdict = parser.add_mutually_exclusive_group(required=True)
        for one in Verdict:
            verdict.add_argument(
                f"--{one.value}", dest="verdict", action="store_const", const=one, help="say so"
            )
        parser.add_argument("--note", default="", help="why; a rejection needs one")
        parser.add_argument(
            "--form", metavar="JSON", help="what the form asks for: JSON, @FILE or - for stdin"
        )

    def _add_delegate(self, actions: Any) -> None:
        parser = action(actions, "delegate", self.delegate, "hand a vote to somebody else")
        parser.add_argument(
            "approval", nargs="?", type=uuid_of, metavar="APPROVAL", help="on this request alone"
        )
        parser.add_argument(
            "--as", dest="name", required=True, metavar="NAME", help="the account whose vote it is"
        )
        parser.add_argument("--to", required=True, metavar="NAME", help="who decides instead")
        parser.add_argument(
            "--for", dest="span", type=duration_of, metavar="DURATION", help="on all, for so long"
        )
        parser.add_argument("--note", default="", help="why, for the record")


def _person(name: str) -> User:
    """Return the account that is named: whoever may run commands speaks for all."""
    found = User.objects.filter(username=name).first()
    if found is None:
        raise RefusedError(f"There is no account {name}. The admin's page of people has them all.")
    return found


def _by(person: User) -> str:
    return f"{actor()} as {person.username}"
