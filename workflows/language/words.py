"""The closed vocabularies of the language, each word once.

Every other room takes its words from here: the schema, the engine's rules, the
database constraints and the badges on a page.
"""

from enum import StrEnum


class ErrorClass(StrEnum):
    """What kind of failure it was, and so who deals with it: a retry or a person."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    BUSINESS = "business"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"


class Join(StrEnum):
    """When a step may start, given the steps it needs. Names and meaning are Airflow's."""

    NONE_FAILED = "none_failed"
    ALL_SUCCESS = "all_success"
    ALL_DONE = "all_done"
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    ONE_DONE = "one_done"
    ALL_FAILED = "all_failed"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    NONE_SKIPPED = "none_skipped"
    ALL_SKIPPED = "all_skipped"
    ALWAYS = "always"
    AT_LEAST = "at_least"


class OnFailure(StrEnum):
    """What a run does when nothing is left to do and a step has failed."""

    FAIL = "fail"
    COMPENSATE = "compensate"
    PARK = "park"


class Losers(StrEnum):
    """What becomes of the branches that came too late for a partial join."""

    FINISH = "finish"
    CANCEL = "cancel"


class StepKind(StrEnum):
    """What a step is. The key that names the kind in a document, but for a task: `uses`."""

    TASK = "task"
    PARALLEL = "parallel"
    FIRST = "first"
    STATES = "states"
    STEPS = "steps"
    SWITCH = "switch"
    FOREACH = "foreach"
    REPEAT = "repeat"
    APPROVAL = "approval"
    CALLBACK = "callback"
    EVENT = "event"
    WAIT = "wait"
    WORKFLOW = "workflow"
    SET = "set"
    EXIT = "exit"


class ExitStatus(StrEnum):
    """How `exit` ends the run."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ConcurrencyPolicy(StrEnum):
    """What becomes of a run that starts while its key is at the limit."""

    QUEUE = "queue"
    SKIP = "skip"
    REPLACE = "replace"


class OnItemFailure(StrEnum):
    """What a `foreach` does when an item has failed."""

    STOP = "stop"
    CONTINUE = "continue"


class OnTimeout(StrEnum):
    """What an approval does when nobody has decided in time."""

    FAIL = "fail"
    APPROVE = "approve"
    REJECT = "reject"
    ESCALATE = "escalate"


class Hold(StrEnum):
    """How long a step keeps the profile it leased."""

    STEP = "step"
    RUN = "run"
