"""What may come in: every body, query and header, key by key. An unknown key is refused."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from environments.states import ProfileState
from workflows.engine.states import RunState, StepState
from workflows.language.limits import LONGEST_GROUP
from workflows.language.words import ErrorClass
from workflows.models import Verdict
from workflows.selectors.paging import LONGEST_PAGE, PAGE
from workflows.services.migrating import MOST_RUNS

MAX_BULK = 1000
MAX_NOTE = 2000
MAX_KEY = 200
MAX_TOKEN_HOURS = 24 * 365
USUAL_TOKEN_HOURS = 24 * 30
OPEN = {"true": True, "false": False, "any": None}
"""What `open` asks for."""


class Form(serializers.Serializer[Any]):
    """Reads known keys and refuses others, naming those that it knows."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the values, or all that is wrong with them at once."""
        errors: dict[str, Any] = {}
        values: dict[str, Any] = {}
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            errors = dict(error.detail) if isinstance(error.detail, dict) else {"": error.detail}
        if isinstance(data, Mapping):
            errors |= {key: [self._unknown(key)] for key in data if key not in self.fields}
        if errors:
            raise serializers.ValidationError(errors)
        return values

    def _unknown(self, key: str) -> str:
        known = ", ".join(self.fields) or "none"
        return f"There is no {key!r} here. Known: {known}."


def read(form: type[Form], data: Any) -> dict[str, Any]:
    """Return what the form takes from the data. Raises ValidationError."""
    reader = form(data=data)
    reader.is_valid(raise_exception=True)
    values: dict[str, Any] = reader.validated_data
    return values


def read_query(form: type[Form], request: Request) -> dict[str, Any]:
    """Return what the form takes from the query. A parameter may come twice if it is a list."""
    lists = {
        name
        for name, field in form().fields.items()
        if isinstance(field, serializers.MultipleChoiceField)
    }
    given = request.query_params.lists()
    twice = {
        key: ["Give this once."] for key, texts in given if len(texts) > 1 and key not in lists
    }
    if twice:
        raise serializers.ValidationError(twice)
    return read(
        form,
        {key: texts if key in lists else texts[0] for key, texts in request.query_params.lists()},
    )


class NoForm(Form):
    """Nothing."""


class PageQuery(Form):
    """Which page of a list."""

    cursor = serializers.CharField(
        source="after",
        required=False,
        max_length=3000,
        help_text="Where `next` of the page before begins.",
    )
    limit = serializers.IntegerField(
        default=PAGE, min_value=1, max_value=LONGEST_PAGE, help_text="How many rows at most."
    )


class RunQuery(PageQuery):
    """Which runs."""

    workflow = serializers.CharField(required=False, max_length=128)
    environment = serializers.CharField(required=False, max_length=64)
    state = serializers.MultipleChoiceField(
        source="states",
        required=False,
        choices=[state.value for state in RunState],
        help_text="In one of these; give it several times.",
    )
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)
    has_open_incident = serializers.BooleanField(required=False)
    started_by = serializers.CharField(
        required=False, max_length=200, help_text="An actor, such as person:ann."
    )
    id = serializers.RegexField(
        r"^[0-9a-fA-F-]{1,36}$",
        source="id_prefix",
        required=False,
        help_text="The beginning of the run's id.",
    )
    child_of = serializers.UUIDField(
        source="parent", required=False, help_text="The child runs of this run."
    )
    top_level = serializers.BooleanField(
        source="is_top_level",
        required=False,
        help_text="Whether no step of another run has started it.",
    )


class DocumentQuery(Form):
    """How much of a run."""

    steps = serializers.BooleanField(default=True, help_text="Whether to show its steps.")


class CancelOrder(Form):
    """How a run is to be ended."""

    compensate = serializers.BooleanField(
        default=False, help_text="Whether to undo then what it has done."
    )


class UndoQuery(Form):
    """How much to show of what an undo would do."""

    limit = serializers.IntegerField(
        default=PAGE, min_value=1, max_value=LONGEST_PAGE, help_text="How many steps at most."
    )


class StepQuery(PageQuery):
    """Which steps of a run."""

    state = serializers.MultipleChoiceField(
        source="states",
        required=False,
        choices=[state.value for state in StepState],
        help_text="In one of these; give it several times.",
    )


class JournalQuery(PageQuery):
    """Which lines of a run's journal."""

    path = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=1000,
        help_text="A step's path; empty for the lines of the run itself.",
    )


class WaitQuery(PageQuery):
    """Which waits of a run: open ones, unless asked otherwise."""

    open = serializers.ChoiceField(
        default="true", choices=["true", "false", "any"], help_text="Open, closed or both."
    )


class IncidentQuery(PageQuery):
    """Which incidents: open ones, unless asked otherwise."""

    open = serializers.ChoiceField(
        default="true", choices=["true", "false", "any"], help_text="Open, resolved or both."
    )
    error_class = serializers.ChoiceField(
        required=False, choices=[word.value for word in ErrorClass]
    )
    code = serializers.CharField(required=False, max_length=200)
    workflow = serializers.CharField(required=False, max_length=128)
    environment = serializers.CharField(required=False, max_length=64)
    run = serializers.UUIDField(required=False)


class EventQuery(PageQuery):
    """Which events."""

    type = serializers.CharField(required=False, max_length=200)
    source = serializers.CharField(required=False, max_length=400)  # type: ignore[assignment] # a serializer's own word, and ours
    event_id = serializers.CharField(
        source="id", required=False, max_length=255, help_text="The id that its source gave it."
    )


class ApprovalQuery(PageQuery):
    """Which requests for a decision: open ones, unless asked otherwise."""

    open = serializers.ChoiceField(
        default="true", choices=["true", "false", "any"], help_text="Open, closed or both."
    )
    mine = serializers.BooleanField(default=False, help_text="Those that you can decide on.")
    group = serializers.CharField(required=False, max_length=LONGEST_GROUP)
    workflow = serializers.CharField(required=False, max_length=128)
    environment = serializers.CharField(required=False, max_length=64)
    run = serializers.UUIDField(required=False)


class DecideOrder(Form):
    """What is said to a request."""

    verdict = serializers.ChoiceField(choices=[word.value for word in Verdict])
    note = serializers.CharField(
        required=False, allow_blank=True, max_length=MAX_NOTE, help_text="A rejection needs one."
    )
    form = serializers.DictField(
        required=False, allow_null=True, help_text="What the form of the request asks for."
    )


class DecideManyOrder(DecideOrder):
    """What is said to several requests."""

    approvals = serializers.ListField(
        child=serializers.UUIDField(), allow_empty=False, max_length=LONGEST_PAGE
    )


class HandOrder(Form):
    """To whom a vote is handed."""

    to = serializers.CharField(max_length=150, help_text="The name that they log in with.")
    note = serializers.CharField(required=False, allow_blank=True, max_length=MAX_NOTE)


class SpanOrder(HandOrder):
    """To whom all votes are handed, and for how long."""

    begins_at = serializers.DateTimeField(required=False, help_text="Else at once.")
    ends_at = serializers.DateTimeField()


class KeyHeader(Form):
    """The header of a start that may be sent again."""

    idempotency_key = serializers.CharField(required=False, max_length=MAX_KEY)


class StartOrder(Form):
    """A run to be started."""

    workflow = serializers.CharField(max_length=128)
    input = serializers.DictField(required=False)
    environment = serializers.CharField(
        required=False, max_length=64, help_text="Else the one that the definition names."
    )
    version = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="Else the newest."
    )


class KeyedOrder(StartOrder):
    """A run to be started among others."""

    idempotency_key = serializers.CharField(required=False, max_length=MAX_KEY)


class BulkOrder(Form):
    """Many runs to be started. One that is wrong refuses them all; a key in use only its own."""

    runs = KeyedOrder(many=True, allow_empty=False, max_length=MAX_BULK)  # type: ignore[call-arg] # of `many`


class ForkOrder(Form):
    """Where another run is to begin."""

    path = serializers.CharField(max_length=1000, help_text="The step that it begins at.")
    input = serializers.DictField(required=False, help_text="Else that of the run.")
    version = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="Else that of the run."
    )


class MappingField(serializers.DictField):
    """What has become of steps: the path that each has now, or null."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            child=serializers.CharField(max_length=1000, allow_null=True),
            required=False,
            help_text="The paths of steps, without the numbers of rounds: each with the one that it"
            " has in the new version, or null where the run does without the step.",
            **options,
        )

    def to_internal_value(self, data: Any) -> dict[str, str | None]:
        """Return the mapping; there may be at most as many as a call takes of anything."""
        found: dict[str, str | None] = super().to_internal_value(data)
        if len(found) > MAX_BULK:
            raise serializers.ValidationError(f"Map at most {MAX_BULK} steps.")
        return found


class MigrateOrder(Form):
    """Which runs are to go over to another version, and what has become of their steps."""

    runs = serializers.ListField(
        child=serializers.UUIDField(), allow_empty=False, max_length=MOST_RUNS
    )
    version = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="Else the newest."
    )
    mapping = MappingField()


class PreflightOrder(Form):
    """Which runs to look at: those named, or a page of those of a workflow."""

    runs = serializers.ListField(
        child=serializers.UUIDField(), required=False, allow_empty=False, max_length=LONGEST_PAGE
    )
    workflow = serializers.CharField(
        required=False, max_length=128, help_text="Its runs that are in another version."
    )
    from_version = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="Only those in this version."
    )
    failed = serializers.BooleanField(default=False, help_text="Failed runs as well.")
    cursor = serializers.CharField(
        required=False, max_length=3000, help_text="The `next` of the page before."
    )
    limit = serializers.IntegerField(
        default=PAGE, min_value=1, max_value=LONGEST_PAGE, help_text="How many runs at most."
    )
    version = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="Else the newest."
    )
    mapping = MappingField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Runs are named in one way."""
        if ("runs" in attrs) is ("workflow" in attrs):
            raise serializers.ValidationError({"runs": ["Give either `runs` or `workflow`."]})
        return attrs


class ReplayOrder(Form):
    """How to replay the step of an incident."""

    arguments = serializers.DictField(
        required=False, help_text="The step's parameters, corrected. Else it gets the same."
    )
    note = serializers.CharField(required=False, allow_blank=True, max_length=MAX_NOTE)


class SkipOrder(Form):
    """How to count the step of an incident as done."""

    output = serializers.JSONField(
        required=False, allow_null=True, help_text="What the steps after it see as its output."
    )
    note = serializers.CharField(required=False, allow_blank=True, max_length=MAX_NOTE)


class DiscardOrder(Form):
    """Why the step of an incident is given up."""

    note = serializers.CharField(max_length=MAX_NOTE)


class GuardQuery(PageQuery):
    """Which guards."""

    environment = serializers.CharField(required=False, max_length=64)


class GuardOrder(Form):
    """Why a guard is opened or closed by hand."""

    why = serializers.CharField(
        max_length=MAX_NOTE, help_text="Kept in its journal, with the actor."
    )


class ProfileQuery(PageQuery):
    """Which profiles."""

    environment = serializers.CharField(required=False, max_length=64)
    pool = serializers.CharField(required=False, max_length=100)
    state = serializers.ChoiceField(required=False, choices=[state.value for state in ProfileState])


class ProfileOrder(Form):
    """Why a profile is cleared, disabled or enabled."""

    why = serializers.CharField(
        max_length=MAX_NOTE, help_text="Kept in its journal, with the actor."
    )


class TokenOrder(Form):
    """How long a token is to be valid."""

    hours = serializers.IntegerField(
        default=USUAL_TOKEN_HOURS, min_value=1, max_value=MAX_TOKEN_HOURS
    )
