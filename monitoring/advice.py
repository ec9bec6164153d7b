"""What a run's state means to the operator who looks at it at night, and what to do next. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workflows.engine.states import PARKED, Reason, RunReason, RunState
from workflows.language.words import ErrorClass

BY_CLASS: Mapping[str, str] = {
    ErrorClass.TRANSIENT: "It failed at every attempt. If what it depends on is well again, "
    "replay it.",
    ErrorClass.TIMEOUT: "It did not end in its time. See whether what it calls is slow or down; "
    "then replay it.",
    ErrorClass.PERMANENT: "Repeating it as it is will not help. Mend the cause or correct its "
    "arguments, then replay it; or skip it if its work was done by hand.",
    ErrorClass.BUSINESS: "The data says no; nothing is broken. Ask whoever owns the data: "
    "correct the arguments and replay, skip the step, or discard it.",
    ErrorClass.WORKER_LOST: "Its worker died under it, more than once. See whether the step "
    "itself kills its worker (memory?), then replay it.",
    ErrorClass.UNCERTAIN: "Nobody knows whether it has had its effect. Look into the other "
    "system first: if the work is done, skip the step; only if it is not, replay it. A replay "
    "asks no probe.",
    ErrorClass.CANCELLED: "It was cancelled. Replay it if it is still wanted.",
}
WAITS: Mapping[str, tuple[str, str]] = {
    Reason.GUARD: (
        "a guard that is open",
        (
            "See under Guards whether what it depends on is well again. It goes on by itself when "
            "the guard closes; one that was opened by hand, somebody must close."
        ),
    ),
    Reason.PROFILE: (
        "a profile",
        (
            "All of its pool are leased or tainted: see Profiles, and clear those that are well. "
            "It goes on by itself when one is free."
        ),
    ),
    Reason.CHILD: (
        "its child run",
        "Nothing here. What needs a person in the child run is told on its own page.",
    ),
    Reason.CALLBACK: (
        "a callback",
        "Nothing, unless it is overdue: then ask whoever is to call. The step's page has the URL.",
    ),
    Reason.EVENT: (
        "an event",
        "Nothing, unless it is overdue: see under Events whether it came, and ask who sends it.",
    ),
    Reason.TIME: ("its time to come", "Nothing to do."),
}
"""What a run waits for, and what to do about it; that comes first which may need a person."""

SLOW_QUEUE = 60.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the advice depends on. `oldest_queued` is the age, in seconds, of the oldest."""

    state: str
    counts: Mapping[str, int]
    incidents: Sequence[tuple[str, str]]
    """Path and error class of the first open incidents."""
    open_incidents: int = 0
    """How many there are in all, if there are more than these."""
    error: str = ""
    oldest_queued: float = 0.0
    queue: str = ""
    asked: Sequence[str] = ()
    """The groups that are asked for a decision."""
    reason: str = ""
    waits: Mapping[str, int] = field(default_factory=dict)
    """How many steps wait, by the reason."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What is the matter, in a sentence, and what to do next."""

    tone: str
    matter: str
    next: str


LOOK_AND_DISCARD = "Look into the other system, put right what is to be put right, then discard"

OVER_FOR_GOOD = frozenset({RunState.CANCELLED, RunState.COMPENSATED})
"""From these no run goes on: what is open of it is what nobody knows the effect of."""


def advise(facts: Facts) -> Advice:  # noqa: PLR0911 - a table of the states
    """Say what is the matter with a run and what to do next."""
    if facts.incidents and facts.state != RunState.CANCELLING:
        return _in_doubt(facts) if facts.state in OVER_FOR_GOOD else _with_incidents(facts)
    match RunState(facts.state):
        case RunState.COMPLETED:
            return Advice("ok", "The run has completed.", "Nothing to do.")
        case RunState.FAILED:
            matter = facts.error or "The run has failed."
            return Advice("bad", matter, "Nothing is open to replay; start another run.")
        case RunState.PAUSED:
            matter = "The run is paused: no further step is started."
            return Advice("care", matter, "Resume it, or cancel it.")
        case RunState.CANCELLING:
            matter = "The run is being cancelled; steps under way are coming to their end."
            return Advice("care", matter, "Wait: this takes as long as a step needs to let go.")
        case RunState.CANCELLED:
            return Advice("quiet", "The run was cancelled.", "Start another if it is still wanted.")
        case RunState.COMPENSATING:
            return Advice("care", "The run is being undone.", "Wait until it has ended.")
        case RunState.COMPENSATED:
            return Advice("quiet", "What the run had done was undone.", "Nothing to do.")
        case RunState.PENDING | RunState.RUNNING:
            return _live(facts)


def _with_incidents(facts: Facts) -> Advice:
    path, error_class = facts.incidents[0]
    others = _others(facts)
    more = f" and {others:,} more" if others else ""
    verb = "need" if others else "needs"
    goes_on = " Other steps go on meanwhile." if facts.state == RunState.RUNNING else ""
    if facts.state == RunState.COMPENSATING:
        goes_on = " Other steps are undone meanwhile."
    if facts.reason == RunReason.PARKED:
        goes_on = " The run is parked: it goes on, or ends, when a person has decided."
    matter = f"{path}{more} {verb} a person.{goes_on}"
    return Advice("bad", matter, BY_CLASS.get(error_class, "Look at the error, then replay it."))


def _others(facts: Facts) -> int:
    """Return how many incidents are open beside the first."""
    return max(facts.open_incidents, len(facts.incidents)) - 1


def advise_on(error_class: str, run_state: str) -> str:
    """Say what to do about an open incident of a run in that state."""
    if run_state in OVER_FOR_GOOD:
        return f"{LOOK_AND_DISCARD} it with a note of what you found."
    return BY_CLASS.get(error_class, "Look at the error, then replay it.")


def _in_doubt(facts: Facts) -> Advice:
    path, others = facts.incidents[0][0], _others(facts)
    more = f" and {others:,} more" if others else ""
    end = "cancelled" if facts.state == RunState.CANCELLED else "undone"
    matter = f"The run was {end}, and nobody knows whether {path}{more} took effect."
    return Advice("bad", matter, f"{LOOK_AND_DISCARD} the incident with a note of what you found.")


def _live(facts: Facts) -> Advice:
    if facts.state == RunState.PENDING and facts.reason:
        matter = "The run waits for a place: its workflow has few with the same key at a time."
        return Advice("quiet", matter, "Nothing: it begins by itself. Cancel it if it is unwanted.")
    if facts.oldest_queued > SLOW_QUEUE and not facts.counts.get("RUNNING"):
        matter = f"No worker has taken the next step for {_long(facts.oldest_queued)}."
        hint = f"See in Flower whether a worker listens on {facts.queue}, or is busy elsewhere."
        return Advice("care", matter, hint)
    if facts.asked and not _is_busy(facts):
        matter = f"The run waits for a decision of {' and '.join(facts.asked)}."
        return Advice("busy", matter, "A member of the group decides, under Approvals.")
    parked = sum(facts.waits.get(reason, 0) for reason in PARKED)
    if parked or not _is_busy(facts):
        for reason, (what, hint) in WAITS.items():
            if facts.waits.get(reason):
                tone = "care" if reason in PARKED else "busy"
                return Advice(tone, f"The run waits for {what}{_more(facts)}.", hint)
    if facts.counts.get("RETRYING"):
        matter = "The run is under way; a step has failed and will be tried again by itself."
        return Advice("busy", matter, "Nothing to do yet.")
    return Advice("busy", "The run is under way.", "Nothing to do.")


def _long(seconds: float) -> str:
    """Say how long that is, in a unit in which it is no large number."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _more(facts: Facts) -> str:
    """Say what else goes on while a step waits."""
    return "; other steps go on meanwhile" if _is_busy(facts) else ""


def _is_busy(facts: Facts) -> bool:
    """Say whether a worker is at something, or is to be."""
    parked = sum(facts.waits.get(reason, 0) for reason in PARKED)
    counts = {**facts.counts, "RETRYING": facts.counts.get("RETRYING", 0) - parked}
    return any(counts.get(state) for state in ("QUEUED", "RUNNING", "RETRYING"))
