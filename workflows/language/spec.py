"""The whole language as values: one `Spec` is one workflow document.

Frozen, and strict about unknown keys. A Spec says only what the document says;
whether that makes sense as a whole is for `loader` to find out. It survives
`model_validate(model_dump(mode="json", by_alias=True))`; durations are then
seconds. `None` on a key without a default, or on `with`, is the same as leaving
it out.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from workflows.language import fields as f
from workflows.language.words import (
    ConcurrencyPolicy,
    ExitStatus,
    Hold,
    Join,
    Losers,
    OnFailure,
    OnItemFailure,
    OnTimeout,
    StepKind,
)

KIND_KEYS: dict[str, StepKind] = {
    "uses": StepKind.TASK,
    "parallel": StepKind.PARALLEL,
    "first": StepKind.FIRST,
    "states": StepKind.STATES,
    "switch": StepKind.SWITCH,
    "foreach": StepKind.FOREACH,
    "repeat": StepKind.REPEAT,
    "approval": StepKind.APPROVAL,
    "callback": StepKind.CALLBACK,
    "event": StepKind.EVENT,
    "wait": StepKind.WAIT,
    "workflow": StepKind.WORKFLOW,
    "set": StepKind.SET,
    "exit": StepKind.EXIT,
    "steps": StepKind.STEPS,
}
JOIN_RULES = tuple(rule.value for rule in Join if rule is not Join.AT_LEAST)


class Model(BaseModel):
    """What every part of a document has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


class JoinSpec(Model):
    """When the step may start: `rule`, and how many for the rule `at_least`."""

    rule: Join = Join.NONE_FAILED
    at_least: f.Count | None = None

    @model_serializer
    def _as_written(self) -> str | dict[str, int]:
        return self.rule.value if self.at_least is None else {"at_least": self.at_least}


def _join(value: object) -> object:
    if isinstance(value, JoinSpec):
        return value
    if isinstance(value, str) and value in JOIN_RULES:
        return {"rule": value}
    if isinstance(value, dict) and set(value) == {"at_least"} and value["at_least"] is not None:
        return {"rule": Join.AT_LEAST, **value}
    raise PydanticCustomError(
        "join",
        "the join is none of the known rules",
        {"hint": "write one of " + ", ".join(JOIN_RULES) + " or {at_least: N}"},
    )


_JOIN_SCHEMA = {
    "anyOf": [
        {"enum": list(JOIN_RULES)},
        {
            "type": "object",
            "properties": {"at_least": {"type": "integer", "minimum": 1}},
            "required": ["at_least"],
            "additionalProperties": False,
        },
    ]
}
JoinField = Annotated[JoinSpec, BeforeValidator(_join), WithJsonSchema(_JOIN_SCHEMA)]


class RetryPolicy(Model):
    """How failed attempts are repeated, every value decided.

    These are the defaults of the language: a step without any `retry` is tried
    three times, one second after the first failure, two after the second.
    Times are seconds; `jitter` is a fraction, or `full`.
    """

    max_attempts: f.Count = 3
    initial_delay: f.Duration = 1.0
    max_delay: f.Duration = 60.0
    multiplier: f.Factor = 2.0
    jitter: f.Jitter = 0.1
    retry_on: tuple[str, ...] = ()
    give_up_on: tuple[str, ...] = ()
    max_duration: f.Duration | None = None
    worker_lost_attempts: f.Count = 3


class RetrySpec(Model):
    """How failed attempts are repeated. A key left out is taken from the workflow's `retry`."""

    max_attempts: f.Count | None = Field(None, description="Tries in all, the first included.")
    initial_delay: f.Duration | None = Field(None, description="Before the second attempt.")
    max_delay: f.Duration | None = Field(None, description="No delay is longer than this.")
    multiplier: f.Factor | None = Field(None, description="Each delay is this times the last.")
    jitter: f.Jitter | None = Field(None, description="Share of the delay drawn by chance.")
    retry_on: tuple[str, ...] | None = Field(
        None, description="Retry these error classes or codes, and nothing else."
    )
    give_up_on: tuple[str, ...] | None = Field(
        None, description="Never retry these error classes or codes."
    )
    max_duration: f.Timeout | None = Field(None, description="Bounds all attempts together.")
    worker_lost_attempts: f.Count | None = Field(
        None, description="Tries in all when a worker is lost under the step."
    )


def retry_policy(*layers: RetrySpec | None) -> RetryPolicy:
    """Merge the layers key by key, a later one over an earlier, over the defaults."""
    given: dict[str, Any] = {}
    for layer in layers:
        if layer is not None:
            given.update((key, value) for key, value in layer if value is not None)
    return RetryPolicy(**given)


class CaseSpec(Model):
    """One branch of a switch: `when` and its steps, or `else` and its steps."""

    when: f.Condition | None = Field(None, description="Taken when this is the first true one.")
    otherwise: f.Flag = Field(False, alias="else", description="Taken when no other is true.")
    steps: tuple["StepSpec", ...] = Field(description="What the branch does, in order.")

    @model_validator(mode="before")
    @classmethod
    def _bare_else(cls, value: object) -> object:
        if isinstance(value, dict) and "else" in value and value["else"] is None:
            return {**value, "else": True}
        return value


class CatchSpec(Model):
    """A fallback path: its output replaces the output of the step that failed."""

    on: tuple[str, ...] = Field((), description="Error classes or codes; none given: any error.")
    steps: tuple["StepSpec", ...] = Field(description="What is done instead, in order.")


class CompensateSpec(Model):
    """What undoes the step when the run is compensated."""

    uses: f.Name
    arguments: f.Arguments = Field(default_factory=dict, alias="with")
    timeout: f.Timeout | None = None
    retry: RetrySpec | None = None
    queue_class: f.Name | None = Field(None, alias="class")


class ProfileSpec(Model):
    """The profile that the step leases."""

    pool: f.Name
    hold: Hold = Hold.STEP


class NextSpec(Model):
    """A transition of a state: to which state, and when."""

    when: f.Condition | None = Field(None, description="Taken when this is the first true one.")
    to: f.Identifier | None = Field(None, description="The state. Left out: the end of the block.")


def _transitions(value: object) -> object:
    return [{"to": value}] if isinstance(value, str) else value


Transitions = Annotated[
    tuple[NextSpec, ...],
    BeforeValidator(_transitions, json_schema_input_type=str | tuple[NextSpec, ...]),
]


class RepeatSpec(Model):
    """The body is done again until the condition is true."""

    until: f.Condition | None = None
    every: f.Duration | None = Field(None, description="The pause between two rounds.")
    max_times: f.Count | None = None


class ApprovalSpec(Model):
    """A decision of people."""

    group: str = Field(description="The group whose members decide.")
    message: str | None = Field(None, description="What they are asked, in a sentence or two.")
    approvals: f.Count = Field(1, description="How many of them must approve.")
    timeout: f.Timeout | None = Field(None, description="How long is waited for a decision.")
    on_timeout: OnTimeout = Field(
        OnTimeout.FAIL, description="What the step does when nobody has decided in time."
    )
    escalate_to: str | None = Field(
        None, description="The group that is asked instead, for as long again, on escalate."
    )
    form: dict[str, Any] | None = Field(
        None, description="JSON Schema of what is filled in with an approval; an object."
    )
    allow_self: f.Flag = Field(
        False, description="Whether who has started the run may decide as well."
    )


class CallbackSpec(Model):
    """A request to the step's one-time URL; its body is the step's output."""

    timeout: f.Timeout | None = None


class EventSpec(Model):
    """An event from outside; its data is the step's output."""

    type: f.EventType = Field(description="The type of the CloudEvent.")
    match: f.Condition | None = Field(None, description="Which events of the type; none: any.")
    since: f.Duration | None = Field(
        None, description="How long before the step began to wait the event may have come."
    )
    timeout: f.Timeout | None = None


class WaitSpec(Model):
    """Time: `for` a duration or `until` a timestamp."""

    duration: f.DurationOrTemplate | None = Field(None, alias="for")
    until: str | None = None


class ExitSpec(Model):
    """The end of the run, before its last step."""

    when: f.Condition | None = None
    status: ExitStatus = ExitStatus.COMPLETED
    output: Any = None


class StepSpec(Model):
    """A node of the definition. Exactly one key, such as `uses` or `parallel`, says what it is."""

    id: f.Identifier = Field(description="Unique in the document; others read steps.<id>.")
    name: str | None = Field(None, description="What people see instead of the id.")
    description: str | None = Field(None, description="What the step is for.")
    needs: tuple[str, ...] | None = Field(
        None, description="Steps of the same scope. Left out: the step before; []: at once."
    )
    join: JoinField = Field(JoinSpec(), description="When to start, given what became of `needs`.")
    losers: Losers = Field(
        Losers.FINISH, description="What becomes of needed steps that a partial join left behind."
    )
    when: f.Condition | None = Field(None, description="False: the step is skipped.")
    timeout: f.Timeout | None = Field(
        None, description="Bounds each attempt; of a block, the whole."
    )
    retry: RetrySpec | None = Field(None, description="Over the workflow's retry, key by key.")
    catch: tuple[CatchSpec, ...] = Field(
        (), description="Fallback paths; the first match is taken."
    )
    optional: f.Flag = Field(False, description="A failure is recorded and counts as done.")
    idempotent: f.Flag | None = Field(
        None,
        description="Whether it may be repeated when nobody knows whether it took effect."
        " Left out: as its task type says.",
    )
    fail_fast: f.Flag = Field(False, description="A failure in the block cancels the rest of it.")
    compensate: CompensateSpec | None = Field(
        None, description="Undoes the step when the run is compensated."
    )
    irreversible: f.Flag = Field(
        False, description="What it does cannot be undone; whoever undoes the run is told so."
    )
    queue_class: f.Name | None = Field(None, alias="class", description="The queue class.")
    environment: f.Slug | None = Field(None, description="Moves this step to another environment.")
    profile: ProfileSpec | None = Field(None, description="The profile that the step leases.")
    guard: f.Name | None = Field(None, description="The dependency whose circuit breaker counts.")
    arguments: f.Arguments = Field(
        default_factory=dict, alias="with", description="The parameters of the task."
    )
    output: Any = Field(None, description="Replaces the step's output.")

    uses: f.Name | None = Field(None, description="The task type that carries the step out.")
    parallel: tuple["StepSpec", ...] | None = Field(
        None, description="Branches; all start at once."
    )
    first: tuple["StepSpec", ...] | None = Field(
        None, description="Branches; the first that ends well wins, and the others are withdrawn."
    )
    states: tuple["StepSpec", ...] | None = Field(
        None, description="States; which comes next is said by `next`, and cycles are allowed."
    )
    start: f.Identifier | None = Field(
        None, description="The state to begin with. Left out: the first in the list."
    )
    max_visits: f.Count = Field(1000, description="Visits of all states together, at most.")
    next: Transitions | None = Field(
        None, description="Of a state: where it goes when it has ended. Left out: the end."
    )
    steps: tuple["StepSpec", ...] | None = Field(None, description="A body, in order.")
    switch: tuple[CaseSpec, ...] | None = Field(None, description="The first true branch is taken.")
    foreach: f.Items | None = Field(None, description="The body is done once for each item.")
    item_name: f.Identifier = Field("item", alias="as", description="What the body calls the item.")
    max_parallel: f.Count = Field(100, description="Items under way at the same time.")
    until: f.Condition | None = Field(None, description="No further items once this is true.")
    stragglers: Losers = Field(
        Losers.FINISH, description="What becomes of items under way once `until` is true."
    )
    on_item_failure: OnItemFailure = Field(
        OnItemFailure.STOP, description="Whether a failed item stops the others."
    )
    repeat: RepeatSpec | None = Field(None, description="The body is done until this says so.")
    approval: ApprovalSpec | None = Field(None, description="Waits for a decision of people.")
    callback: CallbackSpec | None = Field(
        None, description="Waits for a request to a one-time URL; its body is the output."
    )
    event: EventSpec | None = Field(None, description="Waits for an event; its data is the output.")
    wait: WaitSpec | None = Field(None, description="Waits for time to pass.")
    workflow: f.Slug | None = Field(None, description="A workflow to run as a child.")
    version: f.Count | None = Field(
        None,
        description="The version of the child; left out: the newest when it starts.",
    )
    set: dict[str, Any] | None = Field(None, description="Run variables, read as vars.<name>.")
    exit: ExitSpec | None = Field(None, description="Ends the run here.")

    @model_validator(mode="after")
    def _has_one_kind(self) -> Self:
        values = vars(self)
        given = [key for key in KIND_KEYS if values[key] is not None]
        if given in (["foreach", "steps"], ["repeat", "steps"]):
            given.pop()
        elif given in (["foreach"], ["repeat"]):
            raise PydanticCustomError("no-body", "the loop has no `steps` to repeat")
        if len(given) != 1:
            raise PydanticCustomError("step-kind", "the step has not exactly one kind")
        return self

    @cached_property
    def kind(self) -> StepKind:
        """What the step is."""
        return next(kind for key, kind in KIND_KEYS.items() if getattr(self, key) is not None)

    @property
    def bodies(self) -> tuple[tuple["StepSpec", ...], ...]:
        """The sequences of child steps that are done in the ordinary way; without `catch`."""
        for branches in (self.parallel, self.first, self.states):
            if branches is not None:
                return (branches,)
        if self.switch is not None:
            return tuple(case.steps for case in self.switch)
        return () if self.steps is None else (self.steps,)


class ConcurrencySpec(Model):
    """How many runs with the same key there may be at a time."""

    key: str
    limit: f.Count = 1
    policy: ConcurrencyPolicy = ConcurrencyPolicy.QUEUE


class EventTriggerSpec(Model):
    """Events that start runs."""

    type: f.EventType = Field(description="The type of the CloudEvent.")
    match: f.Condition | None = Field(None, description="Which events of the type; none: any.")
    input: f.Input | None = Field(
        None, description="The input of the run. Left out: the data of the event."
    )


class TriggerSpec(Model):
    """What starts runs by itself."""

    event: EventTriggerSpec


class Spec(Model):
    """One workflow document."""

    workflow: f.Slug = Field(description="The identity of the workflow.")
    description: str | None = None
    environment: f.Slug = Field("default", description="Where it runs unless a run says otherwise.")
    input: dict[str, Any] | None = Field(
        None, description="JSON Schema 2020-12 of the input; also draws the start form."
    )
    triggers: tuple[TriggerSpec, ...] = Field((), description="What starts runs by itself.")
    timeout: f.Timeout | None = Field(None, description="Ends the whole run.")
    sla: f.Timeout | None = Field(None, description="Alerts, and stops nothing.")
    concurrency: ConcurrencySpec | None = None
    retry: RetrySpec | None = Field(None, description="What steps take unless they say otherwise.")
    on_failure: OnFailure = OnFailure.FAIL
    fail_fast: f.Flag = False
    steps: tuple[StepSpec, ...] = Field(description="In order, unless a step says `needs`.")
    output: Any = Field(None, description="The output of the run.")

    def retry_of(self, step: StepSpec) -> RetryPolicy:
        """Return how `step` is retried: its keys over the workflow's over the defaults."""
        return retry_policy(self.retry, step.retry)

    def walk(self) -> Iterator[tuple[str, StepSpec]]:
        """Yield every step with its path, each before the steps inside it."""
        todo = [("", step) for step in reversed(self.steps)]
        while todo:
            prefix, step = todo.pop()
            path = f"{prefix}{step.id}"
            yield path, step
            inner = [*step.bodies, *(catch.steps for catch in step.catch)]
            todo.extend((f"{path}.", child) for body in reversed(inner) for child in reversed(body))
