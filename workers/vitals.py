"""Whether each queue is being consumed, judged from what workers and canaries have said. Pure.

A canary is a message that each queue is given again and again, and that whoever takes it answers
in the database; a pulse is what each worker says of itself. A queue is wedged when it has workers
and something to do, and nobody takes it. Who is at long steps is busy, not wedged: the steps' own
leases prove it. No clock of a worker counts: all times are the database's, and ages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class Health(StrEnum):
    """How a queue is."""

    HEALTHY = "healthy"
    BUSY = "busy"
    WEDGED = "wedged"
    UNSERVED = "unserved"
    AWAY = "away"
    """Its workers do not reach the broker."""
    STOPPED = "stopped"
    """The engine's own: it consumes, but beat sends nothing."""
    UNKNOWN = "unknown"
    """Nobody has looked: the engine stands still."""


GOOD = frozenset({Health.HEALTHY, Health.BUSY})


@dataclass(frozen=True, slots=True)
class Periods:
    """How often canaries are sent, in seconds, and what follows from that."""

    canary: float

    @property
    def pulse(self) -> float:
        """How often a worker speaks."""
        return self.canary / 2

    @property
    def silence(self) -> float:
        """After how long a worker that does not speak counts as hung or killed."""
        return self.canary * 1.5

    @property
    def patience(self) -> float:
        """How long a canary may wait while nothing else is taken either."""
        return self.canary * 2

    @property
    def reported_within(self) -> float:
        """How long it takes at most until pages and the health endpoint tell a wedged queue."""
        return self.canary + self.patience + self.pulse

    @property
    def logged_within(self) -> float:
        """How long it takes at most until the log has it: the next round of canaries."""
        return self.reported_within + self.canary

    @property
    def restart(self) -> float:
        """After how long a worker that takes nothing, and carries out nothing, ends itself."""
        return self.canary * 5


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker has said of itself at `seen_at`; ages are seconds before that."""

    name: str
    queues: Sequence[str]
    processes: int
    seen_at: datetime
    uptime: float
    broker_uptime: float | None
    """For how long the broker has answered it; None while it does not."""
    taken: Mapping[str, float] = field(default_factory=dict)
    """How long ago it last took a message from a queue."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """How many messages it saw in a queue."""

    def idle_since(self, queue: str) -> datetime:
        """Since when it could have taken something from the queue, and has not."""
        ages = [self.uptime, self.broker_uptime or 0.0]
        if queue in self.taken:
            ages.append(self.taken[queue])
        return self.seen_at - timedelta(seconds=min(ages))


@dataclass(frozen=True, slots=True)
class Canary:
    """When the first canary of a queue that has not come was sent, and when the last came."""

    sent_at: datetime | None = None
    came_at: datetime | None = None

    @property
    def owed_since(self) -> datetime | None:
        """Since when one is on its way."""
        if self.sent_at is None or (self.came_at is not None and self.came_at >= self.sent_at):
            return None
        return self.sent_at


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known. `running` counts the live steps of each worker."""

    now: datetime
    periods: Periods
    engine: str
    workers: Sequence[Worker]
    canaries: Mapping[str, Canary]
    running: Mapping[str, int] = field(default_factory=dict)

    def age(self, time: datetime) -> float:
        """Return how many seconds ago a time was."""
        return (self.now - time).total_seconds()

    def is_silent(self, worker: Worker) -> bool:
        """Say whether a worker has not spoken when it should have."""
        return self.age(worker.seen_at) > self.periods.silence

    @property
    def looked_at(self) -> datetime | None:
        """When the engine last sent canaries."""
        return self.canaries.get(self.engine, Canary()).came_at


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a queue is, since when, what that means, and what to do."""

    queue: str
    health: Health
    since: datetime | None = None
    matter: str = ""
    next: str = ""

    @property
    def is_good(self) -> bool:
        """Say whether nobody need do anything."""
        return self.health in GOOD


def judge(queue: str, facts: Facts) -> Verdict:
    """Say how a queue is."""
    workers = [worker for worker in facts.workers if queue in worker.queues]
    if not workers:
        return Verdict(
            queue,
            Health.UNSERVED,
            facts.canaries.get(queue, Canary()).came_at,
            "No worker listens on it.",
            f"Start one: python -m orchestrator {_program(queue, facts)}",
        )
    live = [worker for worker in workers if not facts.is_silent(worker)]
    if not live:
        last = max(worker.seen_at for worker in workers)
        return Verdict(
            queue,
            Health.WEDGED,
            last,
            f"{_names(workers)} does not speak any more: hung, or killed.",
            "See whether it still runs, and restart it.",
        )
    if all(worker.broker_uptime is None for worker in live):
        return Verdict(
            queue,
            Health.AWAY,
            None,
            "Its workers do not reach the broker.",
            "See whether Redis runs, answers and has memory left; the workers come back to it.",
        )
    if queue == facts.engine:
        return _of_engine(queue, facts, live)
    return _of_environment(queue, facts, live)


def _of_engine(queue: str, facts: Facts, live: Sequence[Worker]) -> Verdict:
    """The engine's own canary is the round in which it sends the others'; beat asks for it."""
    allowed = facts.periods.canary + facts.periods.patience
    since = max([*(worker.idle_since("") for worker in live), facts.looked_at or _long_ago(facts)])
    if facts.age(since) <= allowed:
        return Verdict(queue, Health.HEALTHY, facts.looked_at)
    if any(worker.waiting.get(queue) for worker in live):
        return _wedged(queue, since, live)
    return Verdict(
        queue,
        Health.STOPPED,
        since,
        "Nothing is sent to it: no timer fires, and nothing is recovered.",
        "See whether beat runs, and restart it.",
    )


def _of_environment(queue: str, facts: Facts, live: Sequence[Worker]) -> Verdict:
    looked = facts.looked_at
    if looked is None:
        return Verdict(
            queue,
            Health.UNKNOWN,
            None,
            "Nobody has looked at it yet.",
            f"The engine looks soon after its start; if it does not, see {facts.engine}.",
        )
    if facts.age(looked) > facts.periods.canary + facts.periods.patience:
        return Verdict(
            queue,
            Health.UNKNOWN,
            looked,
            "Nobody has looked at it: the engine stands still.",
            f"See what is said of {facts.engine}.",
        )
    canary = facts.canaries.get(queue, Canary())
    owed = canary.owed_since
    if owed is None:
        return Verdict(queue, Health.HEALTHY, canary.came_at)
    since = max([owed, *(worker.idle_since(queue) for worker in live)])
    if facts.age(since) <= facts.periods.patience:
        return Verdict(queue, Health.HEALTHY, canary.came_at)
    if all(facts.running.get(worker.name, 0) >= worker.processes for worker in live):
        processes = sum(worker.processes for worker in live)
        return Verdict(
            queue,
            Health.BUSY,
            since,
            f"All {processes} processes of its workers are at long steps.",
            "Nothing is wrong. Start another worker if what waits should not wait.",
        )
    return _wedged(queue, since, live)


def _wedged(queue: str, since: datetime, live: Sequence[Worker]) -> Verdict:
    return Verdict(
        queue,
        Health.WEDGED,
        since,
        f"{_names(live)} lives and takes nothing from it.",
        "Restart it. It ends itself after a while if it carries out nothing.",
    )


def is_overdue(facts: Facts) -> bool:
    """Say whether a canary is so late that it must be asked who is at long steps."""
    owed = (canary.owed_since for canary in facts.canaries.values())
    return any(since is not None and facts.age(since) > facts.periods.patience for since in owed)


def _program(queue: str, facts: Facts) -> str:
    return "engine" if queue == facts.engine else f"worker {queue.split('.')[1]}"


def _names(workers: Sequence[Worker]) -> str:
    return ", ".join(sorted(worker.name for worker in workers))


def _long_ago(facts: Facts) -> datetime:
    return facts.now - timedelta(days=1)
