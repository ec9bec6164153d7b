"""What people can do about a request for a decision, and what they are asked for then."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextInputWidget

from workflows.admin.operations import NoteForm, Operation, note_field
from workflows.models import Verdict
from workflows.services.approvals import Said, decide, decide_many, delegate


class RejectForm(NoteForm):
    """Why it is rejected."""

    note = note_field("Required. The run reads it, and whoever asks why.", is_required=True)


class RemarkForm(NoteForm):
    """A remark with approvals."""

    note = note_field("Kept with each of your decisions.")


class HandForm(NoteForm):
    """To whom a vote is handed."""

    to = forms.CharField(
        max_length=150,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text="The name that they log in with.",
    )
    note = note_field("Why, for whoever looks at it later.", rows=2)
    field_order: tuple[str, ...] = ("to", "note")


def operations_of(person: User) -> Mapping[str, Operation]:
    """Return what a person can do about a request; the services say whether they may."""
    return {
        one.name: one
        for one in (
            Operation(
                name="approve",
                label="Approve",
                icon="check",
                tone="primary",
                permission="",
                meaning="You say yes to each request in your own name. Each is checked by itself:"
                " where you may not decide, or where its form asks for something, it is left as"
                " it is.",
                done="You have approved it.",
                do=lambda one, given, by: decide(
                    approval_id=one, person=person, said=_yes(given), by=by
                ),
                many=lambda ids, given, by: decide_many(
                    approval_ids=ids, person=person, said=_yes(given), by=by
                ),
                form=RemarkForm,
            ),
            Operation(
                name="reject",
                label="Reject",
                icon="close",
                tone="danger",
                permission="",
                meaning="One rejection is enough: the step fails with approval.rejected, and the"
                " run goes on as its definition says. You cannot take it back.",
                done="You have rejected it.",
                do=lambda one, given, by: decide(
                    approval_id=one, person=person, said=_no(given), by=by
                ),
                many=lambda ids, given, by: decide_many(
                    approval_ids=ids, person=person, said=_no(given), by=by
                ),
                form=RejectForm,
            ),
            Operation(
                name="hand",
                label="Hand over",
                icon="forward_to_inbox",
                tone="plain",
                permission="",
                meaning="Somebody else decides on this one request in your place. You can take"
                " it back as long as they have not decided.",
                done="Your vote on this request is handed over.",
                do=lambda one, given, by: delegate(
                    approval_id=one, person=person, to=given["to"], note=given["note"], by=by
                ),
                form=HandForm,
            ),
        )
    }


def _yes(given: Mapping[str, Any]) -> Said:
    return Said(Verdict.APPROVE, given["note"], given.get("input"))


def _no(given: Mapping[str, Any]) -> Said:
    return Said(Verdict.REJECT, given["note"])


def person_of(request: HttpRequest) -> User:
    """Return who asks."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
