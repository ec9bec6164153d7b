"""The buttons: what an operator may do to a run or an incident, when, and what it will mean.

The buttons on pages, the pages that ask for confirmation and the bulk actions are all
made from these tables.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from django import forms
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from workflows.engine.operators import UNDOABLE
from workflows.engine.states import LIVE_RUNS, RunState
from workflows.language.words import ErrorClass, StepKind
from workflows.models import Incident, Run
from workflows.services import forking, incidents, runs
from workflows.services.plans import node_of_row, plan_of_version
from workflows.services.report import Report

REPEATS = (
    "A step whose effect is uncertain is repeated as well, without asking its probe: replay it "
    "only when you have seen that it has had none."
)

LONGEST_NOTE = 2000
"""Characters of a remark."""


class Asker(Protocol):
    """A person, as far as buttons are concerned."""

    def has_perm(self, perm: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Button:
    """A way to an operation on one thing."""

    label: str
    url: str
    icon: str
    tone: str = "plain"


def note_field(said: str, *, is_required: bool = False, rows: int = 3) -> forms.CharField:
    """Return a field for a remark; one that must be given says why."""
    return forms.CharField(
        label="Why" if is_required else None,
        required=is_required,
        max_length=LONGEST_NOTE,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": rows}),
        help_text=said,
    )


class NoteForm(forms.Form):
    """A remark for the journal of the incident."""

    note = note_field("Kept with the incident, for whoever looks at it later.")


class ReasonForm(NoteForm):
    """A remark that must be given."""

    note = note_field(
        "Kept with the incident. A note is required: nothing else will say why.", is_required=True
    )


class JsonField(forms.JSONField):
    """JSON in an area to write in, shown indented."""

    def __init__(self, *, rows: int = 10, **options: Any) -> None:
        widget = UnfoldAdminTextareaWidget(
            attrs={"rows": rows, "class": "code", "spellcheck": "false", "autocomplete": "off"}
        )
        super().__init__(widget=widget, **options)

    def to_python(self, value: Any) -> Any:
        """Read what was typed; of what is no JSON say where it goes wrong."""
        try:
            return super().to_python(value)
        except forms.ValidationError as error:
            raise _misread(str(value)) or error from None

    def prepare_value(self, value: Any) -> Any:
        """Show a value as indented JSON; what a person has typed as it is."""
        if isinstance(value, forms.fields.InvalidJSONInput | str):
            return str(value)
        return "" if value is None else json.dumps(value, indent=2, ensure_ascii=False)


def _misread(text: str) -> forms.ValidationError | None:
    """Return where a text ceases to be JSON, if it does."""
    try:
        json.loads(text)
    except json.JSONDecodeError as wrong:
        where = f"line {wrong.lineno}, column {wrong.colno}"
        return forms.ValidationError(f"This is not JSON. At {where}: {wrong.msg.lower()}.")
    return None


class CorrectForm(NoteForm):
    """New arguments for the step."""

    arguments = JsonField(
        rows=14,
        help_text="What the step is given instead, as a JSON object. Expressions such as "
        "${{ input.x }} may stay if they were there before.",
    )
    field_order = ("arguments", "note")

    def clean_arguments(self) -> Any:
        """Arguments have names, so they are an object."""
        given = self.cleaned_data["arguments"]
        if not isinstance(given, dict):
            raise forms.ValidationError('Give an object, such as {"url": "https://..."}.')
        return given


class SkipForm(NoteForm):
    """What takes the place of the step's output."""

    output = JsonField(
        rows=6,
        required=False,
        help_text="What later steps read as this step's output, as JSON. Nothing: null.",
    )
    field_order = ("output", "note")


class ForkForm(forms.Form):
    """Where another run is to begin, and with what."""

    path = forms.CharField(
        label="From the step",
        max_length=1000,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Its path, as the table of steps shows it, such as load or route.customs.",
    )
    input = JsonField(
        rows=10, required=False, help_text="The input of the new run, as a JSON object."
    )

    def clean_input(self) -> Any:
        """An input has names, so it is an object."""
        given = self.cleaned_data["input"]
        if given is not None and not isinstance(given, dict):
            raise forms.ValidationError('Give an object, such as {"order": "A-7"}.')
        return given


Do = Callable[[UUID, Mapping[str, Any], str], object]
DoMany = Callable[[list[UUID], Mapping[str, Any], str], Report]


@dataclass(frozen=True, slots=True)
class Operation:
    """What is offered, to whom, and what it means; without `many` it is done one at a time.

    Without a `permission` the service says who may.
    """

    name: str
    label: str
    icon: str
    tone: str
    permission: str
    meaning: str
    done: str
    do: Do
    many: DoMany | None = None
    form: type[forms.Form] = forms.Form

    @property
    def is_grave(self) -> bool:
        """Whether it cannot be undone."""
        return self.tone == "danger"


RUN_OPERATIONS: Mapping[str, Operation] = {
    one.name: one
    for one in (
        Operation(
            name="pause",
            label="Pause",
            icon="pause",
            tone="plain",
            permission="workflows.pause_run",
            meaning="Steps that a worker has begun are finished; no other step is started until "
            "somebody resumes the run.",
            done="The run is paused. Steps under way are finished, no others are started.",
            do=lambda one, _, by: runs.pause_run(run_id=one, by=by),
            many=lambda ids, _, by: runs.pause_many(run_ids=ids, by=by),
        ),
        Operation(
            name="resume",
            label="Resume",
            icon="play_arrow",
            tone="primary",
            permission="workflows.pause_run",
            meaning="The run goes on where it was paused.",
            done="The run goes on.",
            do=lambda one, _, by: runs.resume_run(run_id=one, by=by),
            many=lambda ids, _, by: runs.resume_many(run_ids=ids, by=by),
        ),
        Operation(
            name="cancel",
            label="Cancel",
            icon="block",
            tone="danger",
            permission="workflows.cancel_run",
            meaning="No further step is started, and what is under way is ended as soon as its "
            "worker lets go. What completed steps have done stays done. A cancelled run cannot "
            "go on; it can only be started anew.",
            done="The run is being cancelled.",
            do=lambda one, _, by: runs.cancel_run(run_id=one, by=by),
            many=lambda ids, _, by: runs.cancel_many(run_ids=ids, by=by),
        ),
        Operation(
            name="undo",
            label="Undo",
            icon="undo",
            tone="danger",
            permission="workflows.compensate_run",
            meaning="What the run has done is undone, one step after the other, the last one "
            "first: each step that was completed and says how. A step whose undo fails becomes an "
            "incident, and the others go on. A run that is undone cannot be replayed any more.",
            done="The run is being undone.",
            do=lambda one, _, by: runs.compensate_run(run_id=one, by=by),
            many=lambda ids, _, by: runs.compensate_many(run_ids=ids, by=by),
        ),
        Operation(
            name="cancel_undo",
            label="Cancel and undo",
            icon="undo",
            tone="danger",
            permission="workflows.compensate_run",
            meaning="No further step is started; once what is under way has come to its end, "
            "what the run has done is undone, the last step first. A step that is completed "
            "meanwhile is undone too. The run cannot go on; it can only be started anew.",
            done="The run is being cancelled, and undone then.",
            do=lambda one, _, by: runs.cancel_run(run_id=one, compensate=True, by=by),
        ),
        Operation(
            name="replay",
            label="Replay what failed",
            icon="replay",
            tone="primary",
            permission="workflows.replay_incident",
            meaning="Every open incident of the run is replayed: its step is tried again with "
            "the same input, and the run goes on from there. Completed steps are not done again. "
            "A run whose own time was up is given it anew. " + REPEATS,
            done="The run goes on from what failed.",
            do=lambda one, _, by: incidents.replay_run(run_id=one, by=by),
        ),
        Operation(
            name="fork",
            label="Fork",
            icon="call_split",
            tone="plain",
            permission="workflows.start_workflow",
            meaning="Another run is started. The steps that come before the one you name are "
            "taken over from this run as they have ended, with their outputs, and are not done "
            "again; that step and all behind it are done anew. This run stays as it is.",
            done="Another run has begun from this one.",
            do=lambda one, given, by: forking.fork_run(
                run_id=one, from_path=given["path"], input=given["input"], by=by
            ),
            form=ForkForm,
        ),
    )
}

INCIDENT_OPERATIONS: Mapping[str, Operation] = {
    one.name: one
    for one in (
        Operation(
            name="replay",
            label="Replay",
            icon="replay",
            tone="primary",
            permission="workflows.replay_incident",
            meaning="The step is tried again with the same input, and the run goes on from "
            "there. Do this once the cause is mended. Completed steps are not done again. "
            + REPEATS,
            done="The step is tried again.",
            do=lambda one, given, by: incidents.replay_incident(
                incident_id=one, note=given["note"], by=by
            ),
            many=lambda ids, given, by: incidents.replay_many(
                incident_ids=ids, note=given["note"], by=by
            ),
            form=NoteForm,
        ),
        Operation(
            name="correct",
            label="Correct and replay",
            icon="edit",
            tone="plain",
            permission="workflows.replay_incident",
            meaning="The step is tried again with the arguments below, in this run only. "
            + REPEATS,
            done="The step is tried again with the corrected arguments.",
            do=lambda one, given, by: incidents.replay_incident(
                incident_id=one, arguments=given["arguments"], note=given["note"], by=by
            ),
            form=CorrectForm,
        ),
        Operation(
            name="skip",
            label="Skip",
            icon="redo",
            tone="plain",
            permission="workflows.skip_incident",
            meaning="The step is not tried again and counts as done, because its work is not "
            "needed or was done by hand. The run goes on with the output below in its place.",
            done="The step was skipped, and the run goes on.",
            do=lambda one, given, by: incidents.skip_incident(
                incident_id=one, output=given["output"], note=given["note"], by=by
            ),
            many=lambda ids, given, by: incidents.skip_many(
                incident_ids=ids, note=given["note"], by=by
            ),
            form=SkipForm,
        ),
        Operation(
            name="discard",
            label="Discard",
            icon="delete",
            tone="danger",
            permission="workflows.discard_incident",
            meaning="The step is given up for good: nobody will try it again, and the steps that "
            "need it are not done. This cannot be undone.",
            done="The step was given up.",
            do=lambda one, given, by: incidents.discard_incident(
                incident_id=one, note=given["note"], by=by
            ),
            many=lambda ids, given, by: incidents.discard_many(
                incident_ids=ids, note=given["note"], by=by
            ),
            form=ReasonForm,
        ),
    )
}


def buttons_of_run(run: Run, user: Asker, *, open_incidents: int) -> list[Button]:
    """Return what this person can do to the run in the state it is in."""
    wanted = {
        "pause": run.state == RunState.RUNNING,
        "resume": run.state == RunState.PAUSED,
        "replay": (open_incidents > 0 and not _is_given_up(run))
        or incidents.is_out_of_time(run.state, run.error),
        "undo": run.state == RunState.FAILED and _has_undo(run),
        "cancel_undo": run.state in UNDOABLE
        and _has_undo(run)
        and user.has_perm(RUN_OPERATIONS["cancel"].permission),
        "cancel": run.state in LIVE_RUNS and run.state != RunState.CANCELLING,
        "fork": run.started_at is not None,
    }
    known = dict(RUN_OPERATIONS)
    if wanted["replay"] and _has_doubtful(run):
        known["replay"] = _careful(known["replay"])
    buttons = [
        _button(known[name], "run", run.pk, user)
        for name in ("replay", "resume", "pause", "undo", "cancel_undo", "cancel", "fork")
        if wanted[name]
    ]
    if user.has_perm("workflows.start_workflow"):
        again = reverse("admin:workflows_workflow_start", args=[run.workflow_id])
        buttons.append(Button("Start another", f"{again}?like={run.pk}", "add"))
    return [button for button in buttons if button]


def buttons_of_incident(incident: Incident, user: Asker) -> list[Button]:
    """Return what this person can do about the incident."""
    if incident.resolution:
        return []
    is_doubtful = incident.error_class == ErrorClass.UNCERTAIN
    found = (
        _button(_careful(operation) if is_doubtful else operation, "incident", incident.pk, user)
        for operation in INCIDENT_OPERATIONS.values()
        if operation.name == "discard" or not _is_given_up(incident.run)
        if operation.name != "correct" or calls_a_task(incident)
    )
    return [button for button in found if button]


def _has_doubtful(run: Run) -> bool:
    """Say whether of an open incident nobody knows whether it took effect."""
    return run.incidents.filter(resolution="", error_class=ErrorClass.UNCERTAIN.value).exists()


def _careful(operation: Operation) -> Operation:
    """Return the operation as no page recommends it: what is uncertain may be done twice by it."""
    return replace(operation, tone="plain") if operation.tone == "primary" else operation


def calls_a_task(incident: Incident) -> bool:
    """Say whether the step takes arguments that could be corrected; a block takes none."""
    run, path = incident.run, incident.path
    node = node_of_row(run_id=run.pk, version_id=run.version_id, path=path)
    return node.kind is StepKind.TASK


def _is_given_up(run: Run) -> bool:
    """Say whether the run was cancelled or undone: then nothing in it can go on."""
    return run.state in {RunState.CANCELLING, RunState.CANCELLED, RunState.COMPENSATED}


def _has_undo(run: Run) -> bool:
    """Say whether a step of the run can be undone, and nobody has begun to."""
    begun = bool(run.ending and run.ending.get("undo"))
    return not begun and plan_of_version(run.version_id).can_be_undone


def _button(operation: Operation, model: str, pk: UUID, user: Asker) -> Button | None:
    if not user.has_perm(operation.permission):
        return None
    url = reverse(f"admin:workflows_{model}_{operation.name}", args=[pk])
    return Button(operation.label, url, operation.icon, operation.tone)
