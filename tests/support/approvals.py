"""People, groups, and runs that ask them."""

from typing import Any

from django.contrib.auth.models import Group, User

from tests.workflows.builders import a_run
from workflows.models import Approval, Run, Verdict, Vote
from workflows.services.approvals import Said, decide

YES = Said(Verdict.APPROVE)


def a_person(name: str, *groups: str, **facts: Any) -> User:
    """Return a person, created when new, who is a member of these groups as well."""
    person, _ = User.objects.get_or_create(username=name, defaults=facts)
    for group in groups:
        person.groups.add(Group.objects.get_or_create(name=group)[0])
    return person


def approval(name: str = "sign", group: str = "finance", **keys: Any) -> dict[str, Any]:
    """Return a step that asks a group."""
    return {"id": name, "approval": {"group": group, **keys}}


def a_request(*after: dict[str, Any], **keys: Any) -> Approval:
    """Start a run, as ann, that asks a group; return the open request."""
    return request_of(a_run(approval(**keys), *after))


def request_of(run: Run, path: str = "sign") -> Approval:
    """Return the last request of a step."""
    return Approval.objects.filter(run=run, path=path).latest("attempt")


def no(why: str = "too much") -> Said:
    """Say no, and why."""
    return Said(Verdict.REJECT, why)


def say(request: Approval, person: User, said: Said = YES) -> Vote:
    """Have a person decide on a request."""
    return decide(approval_id=request.pk, person=person, said=said, by=f"person:{person.username}")
