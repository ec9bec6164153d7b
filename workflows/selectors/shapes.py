"""The JSON that every door shows, each shape once. The API's description is made from these.

The shape of a run is a promise to scripts: keys and their order do not change.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import WithJsonSchema
from typing_extensions import TypedDict

from environments.states import EnvironmentState, ProfileState
from workflows.engine.breaker import BreakerState
from workflows.engine.decision import AttemptEnd
from workflows.engine.states import OUTSIDE, RunState, StepState
from workflows.language.words import ErrorClass

Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Url = Annotated[str, WithJsonSchema({"type": "string", "format": "uri"})]
RunStateName = Annotated[str, WithJsonSchema({"enum": [state.value for state in RunState]})]
BreakerStateName = Annotated[str, WithJsonSchema({"enum": [state.value for state in BreakerState]})]
ProfileStateName = Annotated[str, WithJsonSchema({"enum": [state.value for state in ProfileState]})]
StepStateName = Annotated[str, WithJsonSchema({"enum": [state.value for state in StepState]})]
EnvironmentStateName = Annotated[
    str, WithJsonSchema({"enum": [state.value for state in EnvironmentState]})
]
AttemptEndName = Annotated[str, WithJsonSchema({"enum": [end.value for end in AttemptEnd]})]
ErrorClassName = Annotated[str, WithJsonSchema({"enum": [word.value for word in ErrorClass]})]

EffectName = Annotated[str, WithJsonSchema({"enum": ["woke", "started", "refused"]})]

ErrorDocument = TypedDict(
    "ErrorDocument",
    {"class": ErrorClassName, "code": str, "message": str, "details": dict[str, Any]},
)
"""Why a step or a run failed."""


Shape = TypeVar("Shape")


class PageDocument(TypedDict, Generic[Shape]):
    """A page of a list. `next` is the address of the page after it, if there is one."""

    next: Url | None
    results: list[Shape]


class StepDocument(TypedDict):
    """A step of a run."""

    path: str
    state: StepStateName
    reason: str | None
    attempt: int
    output: Any
    error: ErrorDocument | None
    queued_at: Time | None
    started_at: Time | None
    finished_at: Time | None


class ParentDocument(TypedDict):
    """The step that waits, or waited, for a child run."""

    run: Id
    path: str


class PlaceDocument(TypedDict):
    """What a run waits for: a place among the runs with its concurrency key, and who has them.

    `number` is its own in the line of those that wait.
    """

    key: str
    limit: int
    number: int
    runs: list[Id]


class MigrationDocument(TypedDict):
    """How a run has gone over from a version of its workflow to another.

    `mapping` is what was said of steps: the path that they have since, or null where the run does
    without them.
    """

    from_version: int
    to_version: int
    by: str
    at: Time
    mapping: dict[str, str | None]


class RunFacts(TypedDict):
    """A run without its steps; `late_since` its SLA passed, if it had not ended by then.

    It has a parent if a step of another run has started it. `version` is the one that it is in;
    `migrations` tell which it was in before.
    """

    id: Id
    workflow: str
    version: int
    environment: str
    state: RunStateName
    reason: str | None
    input: dict[str, Any]
    output: Any
    error: ErrorDocument | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    late_since: Time | None
    parent: ParentDocument | None
    waits_for: PlaceDocument | None
    forked_from: Id | None
    migrations: list[MigrationDocument]


class RunDocument(RunFacts):
    """A run and all its steps, ordered as in the definition."""

    steps: list[StepDocument]


class RunSummary(TypedDict):
    """A run in a list: no values, no steps."""

    id: Id
    workflow: str
    version: int
    environment: str
    state: RunStateName
    reason: str | None
    error: ErrorDocument | None
    started_by: str
    open_incidents: int
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    late_since: Time | None
    parent: ParentDocument | None


class AttemptDocument(TypedDict):
    """A try at a step that is over. `late` came after it had been given up, and changed nothing."""

    number: int
    end: AttemptEndName
    worker: str
    error: ErrorDocument | None
    late: Any
    started_at: Time | None
    finished_at: Time


class WaitDocument(TypedDict):
    """What a step waits for from outside, or has waited for, and by what that was ended.

    `name` says which event, group or workflow is waited for; `until` is the end of its patience.
    """

    path: str
    attempt: int
    kind: Annotated[str, WithJsonSchema({"enum": sorted(OUTSIDE)})]
    name: str
    request: dict[str, Any]
    opened_at: Time
    until: Time | None
    closed_at: Time | None
    end: AttemptEndName | None
    answer: Any
    answered_by: str | None


class UndoneStep(TypedDict):
    """A step that would be undone: by what, and with which arguments.

    `unresolved` says of each argument that nobody can know yet why; it stands as it was written.
    """

    path: str
    state: StepStateName
    uses: str
    arguments: dict[str, Any]
    unresolved: dict[str, str]


class LastingStep(TypedDict):
    """A step that has done something, or may have, which would not be undone; and why."""

    path: str
    state: StepStateName
    why: str


class UndoDocument(TypedDict):
    """What it would do to undo a run now: the steps in the order in which they would be undone.

    Both lists are cut off; `undone_in_all` and `lasting_in_all` count all.
    """

    run: Id
    state: RunStateName
    refused: str | None
    undone: list[UndoneStep]
    undone_in_all: int
    lasting: list[LastingStep]
    lasting_in_all: int


class JournalLine(TypedDict):
    """A transition; of the run itself if the path is empty."""

    id: int
    at: Time
    path: str
    before: str
    after: str
    attempt: int
    reason: str | None
    actor: str


class IncidentDocument(TypedDict):
    """A step that needs a person, or needed one: an open incident has no resolution."""

    id: Id
    run: Id
    workflow: str
    environment: str
    path: str
    attempt: int
    error: ErrorDocument
    opened_at: Time
    resolution: Literal["replayed", "skipped", "discarded", "cancelled", "compensated"] | None
    resolved_at: Time | None
    resolved_by: str | None
    note: str


class EventSummary(TypedDict):
    """An event in a list. `event_id` is the id that its source gave it."""

    id: Id
    event_id: str
    source: str
    type: str
    subject: str | None
    received_at: Time
    received_by: str
    handed_out: bool


class EventDocument(EventSummary):
    """An event: the whole CloudEvent, and how many starts of runs by it were refused."""

    event: dict[str, Any]
    refused_starts: int


class EffectDocument(TypedDict):
    """What an event did: it woke a step, started a run, or was refused to, for a reason."""

    id: Id
    kind: EffectName
    workflow: str
    run: Id | None
    path: str | None
    reason: str | None
    at: Time
    by: str


class VoteDocument(TypedDict):
    """What `person` has said to a request, in the place of `member`."""

    id: Id
    person: str
    member: str
    verdict: Literal["approve", "reject"]
    note: str
    form: dict[str, Any] | None
    at: Time
    by: str


class ApprovalSummary(TypedDict):
    """A request for a decision in a list. `outcome` says what has become of it."""

    id: Id
    run: Id
    workflow: str
    environment: str
    path: str
    title: str
    message: str
    group: str
    escalated: bool
    approvals: int
    approved: int
    outcome: Annotated[
        str,
        WithJsonSchema(
            {"enum": ["open", "approved", "rejected", "timed_out", "escalated", "withdrawn"]}
        ),
    ]
    started_by: str
    opened_at: Time
    due_at: Time | None
    closed_at: Time | None
    closed_by: str | None


class ApprovalDocument(ApprovalSummary):
    """A request for a decision, with all that one needs to decide."""

    allow_self: bool
    form: dict[str, Any] | None
    input: dict[str, Any]
    votes: list[VoteDocument]


class DelegationDocument(TypedDict):
    """A vote that was handed on: on one request, or on all for a span of time."""

    id: Id
    giver: str
    taker: str
    approval: Id | None
    begins_at: Time
    ends_at: Time | None
    note: str
    given_at: Time
    given_by: str
    withdrawn_at: Time | None


class LastRun(TypedDict):
    """The newest run of a workflow."""

    id: Id
    state: RunStateName
    created_at: Time
    finished_at: Time | None


class WorkflowDocument(TypedDict):
    """A workflow, its newest version and its newest run."""

    name: str
    description: str
    version: int | None
    environment: str | None
    created_at: Time
    last_run: LastRun | None


class VersionSummary(TypedDict):
    """A version in a list."""

    workflow: str
    number: int
    environment: str
    digest: str
    created_by: str
    created_at: Time


class VersionDocument(VersionSummary):
    """A version: the text as it was applied, and the document as it was checked."""

    source: str
    document: dict[str, Any]


class EnvironmentDocument(TypedDict):
    """An isolated place where steps run."""

    name: str
    description: str
    state: EnvironmentStateName
    classes: list[str]
    queues: list[str]
    variables: dict[str, Any]
    admits: list[str]
    live_runs: int
    open_incidents: int
    created_at: Time


class GuardDocument(TypedDict):
    """A guard: the circuit breaker of a dependency in an environment. Its times are in seconds.

    `standing` says where it stands in words; `held_by_hand` that only a person closes it.
    """

    environment: str
    name: str
    state: BreakerStateName
    standing: str
    why: str
    since: Time | None
    next_trial_at: Time | None
    held_by_hand: bool
    recent_failures: int
    parked_steps: int
    threshold: int
    window: int
    cool_down: int
    longest_cool_down: int


class ParkedDocument(TypedDict):
    """A step that is parked, and the number that its next attempt will have."""

    run: Id
    path: str
    attempt: int
    since: Time


class ProfileDocument(TypedDict):
    """A profile, without what is in it. `run` and `path` say who has it.

    `folder` is where its working folder is, below PROFILE_DIR of the environment's workers.
    """

    id: int
    environment: str
    pool: str
    name: str
    state: ProfileStateName
    run: Id | None
    path: str | None
    attempt: int | None
    held_for_run: bool
    leased_at: Time | None
    saved_at: Time | None
    why: str
    folder: str


def json_time(moment: datetime) -> str:
    """Return the time in UTC as ISO-8601, with `Z`."""
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def json_time_or_none(moment: datetime | None) -> str | None:
    """Return the time as `json_time` does, if there is one."""
    return None if moment is None else json_time(moment)
