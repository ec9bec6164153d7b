"""Quick steps abreast: claimed together, carried out in turn, recorded together.

So they share what a commit asks of the database and of its disk. Only what may be repeated and
has proven quick goes abreast: an outcome waits for those of its neighbours, some milliseconds as a
rule. A worker that is killed meanwhile has a handful of steps repeated instead of one.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

from workers.attempt import carry_out_timed, record
from workers.leases import Held, keeper
from workers.outage import outlast
from workers.pace import pace
from workflows import store
from workflows.services import claiming, recording, recovery
from workflows.services.plans import Pinned
from workflows.services.recording import Done, Outcome
from workflows.services.work import Taker, Work


def claim_of_runs(fences: Sequence[tuple[Pinned, str]], taker: Taker) -> list[Work]:
    """Claim the first attempts of steps of different runs, as far as nobody else has them."""
    try:
        return claiming.claim_steps(fences=fences, taker=taker, now=store.now())
    except store.ERRORS as error:
        store.outage.note(error)
    claims = [partial(_claim_again, pin, path, taker) for pin, path in fences]
    return [work for claim in claims if (work := outlast(claim)) is not None]


def claim_of_fan(pin: Pinned, taker: Taker, *, after: int = -1) -> list[Work]:
    """Claim quick steps of a fan-out, first behind a node; none when too few would go abreast."""
    if not pace.knows_quick_ones():
        return []
    claim = partial(claiming.claim_abreast, pin=pin, taker=taker)
    return outlast(lambda again: claim(after=after, now=store.now(), again=again))


class Row:
    """Claimed steps in a row. When one takes long, those before and behind it do not wait."""

    def __init__(self, held: Sequence[Held], taker: Taker) -> None:
        self._waiting = deque(held)
        self._done: list[Done] = []
        self._taker = taker
        self._lock = threading.Lock()

    def next(self) -> Held | None:
        """Take the step whose turn it is."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def note(self, done: Done) -> None:
        """Keep an outcome until all are recorded."""
        with self._lock:
            self._done.append(done)

    def finish(self) -> list[Done]:
        """Take the outcomes that nobody has recorded yet."""
        with self._lock:
            done, self._done = self._done, []
            return done

    def give_back(self) -> None:
        """Record what has ended, and let others have what has not begun. From another thread."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        unbegun = [(one.work.run, one.work.pinned.version, one.work.path) for one in waiting]
        recovery.hand_back(steps=unbegun, worker=self._taker.worker, now=store.now())
        for done in self.finish():
            try:
                record(*done, self._taker, further=False, again=False)
            except store.ERRORS:
                self.note(done)
                raise


def go_abreast(works: Sequence[Work], taker: Taker, has_time: Callable[[], bool]) -> list[Work]:
    """Carry out claimed steps; return what follows on them, claimed, while there is time."""
    with keeper.hold(*works) as held, keeper.minding(Row(held, taker)) as row:
        while (one := row.next()) is not None:
            row.note((one.work, carry_out_timed(one.work, one)))
        return _record(row.finish(), taker, further=has_time())


def _record(done: Sequence[Done], taker: Taker, *, further: bool) -> list[Work]:
    """Record outcomes together, or one by one where the answer was lost; return what follows."""
    try:
        return recording.record_outcomes(done=done, taker=taker, run_on=further, now=store.now())
    except store.ERRORS as error:
        store.outage.note(error)
        return _one_by_one(done, taker)


def _one_by_one(done: Sequence[Done], taker: Taker) -> list[Work]:
    """Record outcomes one by one; return what was claimed behind them without being heard of."""
    for work, outcome in done:
        outlast(partial(_record_alone, work, outcome, taker))
    carried_out: set[tuple[UUID, str]] = {(work.run, work.path) for work, _ in done}
    pins = {work.run: work.pinned for work, _ in done}
    claims = [partial(_claims, pin, taker) for pin in pins.values()]
    return [
        work
        for claim in claims
        for work in outlast(claim)
        if (work.run, work.path) not in carried_out
    ]


def _record_alone(work: Work, outcome: Outcome, taker: Taker, _: bool) -> None:
    record(work, outcome, taker, further=False, again=True)


def _claims(pin: Pinned, taker: Taker, _: bool) -> list[Work]:
    return claiming.claims_of(pin=pin, taker=taker)


def _claim_again(pin: Pinned, path: str, taker: Taker, _: bool) -> Work | None:
    now = store.now()
    return claiming.claim_step(pin=pin, path=path, attempt=1, taker=taker, now=now, again=True)
