"""Steps: a worker claims an attempt, and records its outcome; then it may run on."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings

from environments.models import environment_of
from workflows import store
from workflows.engine import compensating
from workflows.engine.advance import requirement
from workflows.engine.draft import names_of
from workflows.engine.events import Claimed, Drained, Failed, Parked, Refilled, StepError, Succeeded
from workflows.engine.plan import NO_NODE, Node, Plan, Reads
from workflows.engine.slice import RunView, Slice, StepView, reading
from workflows.engine.states import ASKING, Reason, RunState, StepState
from workflows.language import expressions
from workflows.language.words import ErrorClass
from workflows.links import callback_url
from workflows.services import guards, profiles
from workflows.services.patience import patiently
from workflows.services.plans import Pinned, pinned
from workflows.services.profiles import Profile
from workflows.services.progress import (
    Progress,
    Proposal,
    Wish,
    advance_ahead,
    advance_run,
    conclude_all,
    in_flight,
    propose,
    send_queued,
)
from workflows.store import Seen

Outcome = Succeeded | Failed


def lease() -> timedelta:
    """Return how long a worker may be silent about a running step before it counts as lost."""
    return timedelta(seconds=settings.ORCHESTRATOR["LEASE_SECONDS"])


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed attempt: what is to be done, and what its arguments may name."""

    pinned: Pinned = field(repr=False)
    path: str
    attempt: int
    queue: str
    uses: str
    arguments: Mapping[str, Any] = field(repr=False)
    names: Mapping[str, Any] = field(repr=False)
    seen: Seen | None = field(default=None, repr=False)
    environment: str = ""
    """The run's own; where the step is carried out is its `place`."""
    timeout: float | None = None
    probe_first: bool = False
    """Nobody knows whether the attempt before took effect: the probe is asked before the call."""
    probe_only: bool = False
    """No try is left: the probe is asked, and there is no call whatever it says."""
    refusal: StepError | None = None
    """Why the step is not to be carried out here."""
    profile: Profile | None = None
    """The profile that it has to itself."""
    tells_guard: bool = False
    """Its guard let it pass without being closed, and waits to hear how it went."""

    @property
    def node(self) -> Node:
        """What the definition says of the step."""
        return self.pinned.plan.node(self.path)

    @property
    def place(self) -> str:
        """The environment that the step is carried out in."""
        return self.node.environment or self.environment

    @property
    def run(self) -> UUID:
        """The run that the attempt belongs to."""
        return self.pinned.run


@dataclass(frozen=True, slots=True)
class Taker:
    """Who takes work, and where: a worker's name and the queue it was called from.

    The name is of one message that a worker carries out, and of no other: by it the worker knows
    its own claim again when the answer to it was lost. `brought` is the step whose message is on
    its way. `fan` is the scope of a fan-out: its queued steps are as good as a successor, and the
    body of its chord settles it, unless it is a loop, which whoever ends its items `settles`.
    What is `quick` it takes up to `width` at once of.
    """

    worker: str
    queue: str
    brought: str = ""
    fan: str | None = None
    settles: bool = False
    quick: Callable[[Node], bool] = field(default=lambda _: False)
    width: int = 1

    @property
    def unsettled(self) -> frozenset[str]:
        """The scopes that somebody else settles."""
        return frozenset() if self.fan is None or self.settles else frozenset({self.fan})

    def goes_abreast(self, node: Node) -> bool:
        """Say whether a step may be claimed with others: what asks for something may not."""
        return not _asks(node) and self.quick(node)


class PutAside(Enum):
    """What comes of a claim when the attempt has been parked: there may be others to be had."""

    PUT_ASIDE = "put_aside"


PUT_ASIDE = PutAside.PUT_ASIDE


def claim_step(  # noqa: PLR0913 - the facts of a message, named
    *, pin: Pinned, path: str, attempt: int, taker: Taker, now: datetime, again: bool = False
) -> Work | None:
    """Claim a queued attempt; None when somebody else has it, or it is no longer wanted.

    It is parked instead while its guard is open, or no profile of its pool is free.
    With `again`, an earlier call of the same taker may have come through unheard.
    """
    recall = partial(_claimed_before, pin, taker, path)
    if patiently(partial(_must_ask, pin.plan.node(path), taker)):
        asking = partial(_claim_asking, pin, path, attempt, taker, now)
        found = in_flight(asking, recall, again=again)
        return None if found is PUT_ASIDE else found
    return patiently(partial(_claim, pin, path, attempt, taker, now), recall, again=again)


def claim_any_step(
    *, pin: Pinned, taker: Taker, now: datetime, after: int = -1, again: bool = False
) -> Work | None:
    """Claim a queued step of the fan-out that no other worker is taking, first behind `after`.

    With `again`, an earlier call of the same taker may have come through unheard.
    """
    once = partial(_claim_any, pin, taker, now, after)
    recall = partial(_claimed_before, pin, taker)
    while (found := in_flight(once, recall, again=again)) is PUT_ASIDE:
        pass
    return found


def record_outcome(  # noqa: PLR0913 - the facts of an outcome, named
    *,
    work: Work,
    outcome: Outcome,
    taker: Taker,
    run_on: bool,
    now: datetime,
    siblings: bool = True,
    again: bool = False,
) -> list[Work]:
    """Record how an attempt ended; with `run_on`, return what is next, claimed already.

    That is one attempt, or several that go abreast; it may be one of its `siblings` in a fan-out.
    With `again`, an earlier call of the same taker may have come through unheard.
    """
    if work.profile is not None:
        profiles.give_back(work.profile, outcome, now=now)
    wish = _wish(taker, partial(_may_follow, taker), now) if run_on else None
    recall = partial(_recorded_before, [(work, outcome)], taker)
    ahead = partial(_record_ahead, work, outcome, taker, wish, now)
    progress = patiently(ahead, recall, again=again) or in_flight(
        lambda: advance_run(
            work.pinned,
            outcome,
            now=now,
            wish=wish,
            unsettled=taker.unsettled,
            brought=taker.brought,
        ),
        recall,
    )
    pin = progress.pinned or work.pinned
    _let_go(work.pinned, pin, progress, now)
    if work.node.guard:
        guard, asked = work.node.guard, work.tells_guard
        guards.tell(work.place, guard, outcome, is_asked=asked, now=now)
    if progress.claimed:
        return patiently(partial(_works_of, pin, progress, work.queue))
    if run_on and siblings and taker.fan is not None:
        after = -1 if taker.settles else pin.plan.node(work.path).index
        sibling = claim_any_step(pin=pin, taker=taker, now=now, after=after, again=again)
        return [] if sibling is None else [sibling]
    return []


def _wish(taker: Taker, fits: Callable[[Node], bool], now: datetime) -> Wish:
    abreast, width = taker.goes_abreast, 1 if taker.brought else taker.width
    return Wish(taker.queue, taker.worker, now + lease(), fits, abreast, width)


Done = tuple[Work, Outcome]


def record_outcomes(
    *, done: Sequence[Done], taker: Taker, run_on: bool, now: datetime
) -> list[Work]:
    """Record how several attempts ended that went abreast; with `run_on`, claim what is next.

    All in one statement, as far as they meet nobody; the others in a transaction for each run.
    """
    wish = _wish(taker, taker.goes_abreast, now) if run_on else None
    runs: dict[UUID, list[Done]] = {}
    for work, outcome in done:
        runs.setdefault(work.run, []).append((work, outcome))
    proposals = [_propose_outcomes(some, taker, wish, now) for some in runs.values()]
    claimed: list[Work] = []
    for some, ahead in zip(runs.values(), conclude_all(proposals), strict=True):
        progress = ahead or _record_together(some, taker, wish, now)
        work, _ = some[0]
        pin = progress.pinned or work.pinned
        _let_go(work.pinned, pin, progress, now)
        claimed += _works_of(pin, progress, work.queue)
    return claimed


def _record_together(
    some: Sequence[Done], taker: Taker, wish: Wish | None, now: datetime
) -> Progress:
    """Record several outcomes of one run under the locks."""
    outcomes = [outcome for _, outcome in some]
    facts: dict[str, Any] = {"now": now, "wish": wish, "unsettled": taker.unsettled}
    return in_flight(
        partial(advance_run, some[0][0].pinned, *outcomes, **facts),
        partial(_recorded_before, some, taker),
    )


def _let_go(before: Pinned, pin: Pinned, progress: Progress, now: datetime) -> None:
    """Let others have the profiles that a run held, in any of its versions, once it has ended."""
    has_profiles = before.plan.has_profiles or pin.plan.has_profiles
    if has_profiles and progress.decision.run_moves:
        profiles.release_run(pin.run, now=now)


def _propose_outcomes(
    some: Sequence[Done], taker: Taker, wish: Wish | None, now: datetime
) -> Proposal | None:
    """Decide several outcomes of one run, and claim what follows."""
    first, _ = some[0]
    if any(work.seen is None for work, _ in some):
        return None
    seen = {view.path: view for work, _ in some if work.seen for view in work.seen.steps}
    single = len(some) == 1
    alone = first.seen.alone if single and first.seen else frozenset[str]()
    return propose(
        first.pinned,
        Seen(tuple(seen.values()), alone),
        *(outcome for _, outcome in some),
        environment=first.environment,
        now=now,
        wish=wish,
        unsettled=taker.unsettled,
    )


def claim_steps(*, fences: Sequence[tuple[Pinned, str]], taker: Taker, now: datetime) -> list[Work]:
    """Claim the first attempts at steps, each of a run of its own, as far as they can be had."""
    fences = [(pin, path) for pin, path in fences if not _asks(pin.plan.node(path))]
    proposals = [_propose_claims(pin, [path], taker, now) for pin, path in fences]
    return [
        work
        for (pin, _), progress in zip(fences, conclude_all(proposals), strict=True)
        if progress is not None
        for work in _works_of(pin, progress, taker.queue)
    ]


def claim_abreast(
    *, pin: Pinned, taker: Taker, now: datetime, after: int = -1, again: bool = False
) -> list[Work]:
    """Claim the first attempts at quick queued steps of the fan-out; several or none.

    Those come first that are behind the node `after`.
    With `again`, an earlier call of the same taker may have come through unheard.
    """
    recall = partial(_all_claimed_before, pin, taker)
    return in_flight(partial(_claim_abreast, pin, taker, after, now), recall, again=again)


def _claim_abreast(pin: Pinned, taker: Taker, after: int, now: datetime) -> list[Work]:
    scope, width = taker.fan or "", taker.width
    found = store.all_queued(pin.run, scope, taker.queue, after=after, limit=width)
    paths = [
        path
        for path, attempt in found
        if attempt == 1 and pin.knows(path) and taker.goes_abreast(pin.plan.node(path))
    ]
    proposal = _propose_claims(pin, paths, taker, now) if len(paths) > 1 else None
    progress = None if proposal is None else proposal.commit()
    return [] if progress is None else _works_of(pin, progress, taker.queue)


def _works_of(pin: Pinned, progress: Progress, queue: str) -> list[Work]:
    """Return the attempts that were claimed."""
    works = []
    for view in progress.claimed:
        seen = progress.seen
        if seen is not None and len(progress.claimed) > 1:
            seen = _of_one(pin.plan, view, seen)
        alone = Progress(progress.decision, progress.held, (view,), seen)
        works.append(_work_of(pin, alone, queue, view))
    return [work for work in works if work is not None]


def _of_one(plan: Plan, view: StepView, seen: Seen) -> Seen:
    """Return what was seen of several steps as far as one of them needs it."""
    wanted = requirement(plan, Succeeded(view.path, view.attempt)).paths
    return Seen(tuple(one for one in seen.steps if one.path in wanted))


def _propose_claims(
    pin: Pinned, paths: Sequence[str], taker: Taker, now: datetime
) -> Proposal | None:
    until = now + lease()
    return propose(
        pin,
        Seen(tuple(_queued(pin, path, 1) for path in paths)),
        *(Claimed(path, 1, taker.worker, until) for path in paths),
        environment=environment_of(taker.queue),
        now=now,
        unsettled=taker.unsettled,
    )


def _queued(pin: Pinned, path: str, attempt: int, reason: Reason | None = None) -> StepView:
    node = pin.plan.node(path)
    return StepView(
        path=path,
        node=node.index,
        scope=pin.plan.path(node.scope, path),
        state=StepState.QUEUED,
        attempt=attempt,
        reason=reason,
    )


def claims_of(*, pin: Pinned, taker: Taker) -> list[Work]:
    """Return all that the taker has claimed of a run, whether or not it has heard of it."""
    pin = pinned(pin.run)
    held = _slice_of(pin, environment_of(taker.queue))
    claimed = tuple(store.all_held_by(pin.run, taker.worker))
    return _works_of(pin, Progress(held=held, claimed=claimed), taker.queue)


def _all_claimed_before(pin: Pinned, taker: Taker) -> list[Work] | None:
    return claims_of(pin=pin, taker=taker) or None


def _claimed_before(pin: Pinned, taker: Taker, path: str | None = None) -> Work | None:
    """Return what the taker has claimed without hearing of it; of one step, or of any."""
    pin = pinned(pin.run)
    claimed = store.held_by(pin.run, taker.worker, path)
    held = _slice_of(pin, environment_of(taker.queue))
    return _work_of(pin, Progress(held=held), taker.queue, claimed)


def _recorded_before(some: Sequence[Done], taker: Taker) -> Progress | None:
    """Return what came of outcomes whose answer was lost; None when they were not recorded."""
    work, _ = some[0]
    if not store.has_ended_by(work.run, work.path, work.attempt, taker.worker):
        return None
    pin = pinned(work.run)
    send_queued(pin, work.environment)
    done = {one.path for one, _ in some}
    views = store.all_held_by(work.run, taker.worker)
    following = tuple(view for view in views if view.path not in done)
    return Progress(held=_slice_of(pin, work.environment), claimed=following, pinned=pin)


def _slice_of(pin: Pinned, environment: str) -> Slice:
    return Slice(run=RunView(str(pin.run), RunState.RUNNING, environment=environment))


def _record_ahead(
    work: Work, outcome: Outcome, taker: Taker, wish: Wish | None, now: datetime
) -> Progress | None:
    if work.seen is None:
        return None
    return advance_ahead(
        work.pinned,
        work.seen,
        outcome,
        environment=work.environment,
        now=now,
        wish=wish,
        unsettled=taker.unsettled,
        brought=taker.brought,
    )


def has_queued(*, pin: Pinned, taker: Taker) -> bool:
    """Say whether a queued step of the fan-out still waits for a worker."""
    scope = taker.fan or ""
    found = in_flight(lambda: store.next_queued(pin.run, scope, taker.queue, after=-1))
    return found is not None


def refill_loops(*, pin: Pinned, loops: Sequence[str], now: datetime) -> None:
    """Begin items of loops that have room for some; of a run that has been removed, of none."""
    with suppress(store.NoRunError):
        in_flight(lambda: advance_run(pin, *map(Refilled, loops), now=now))


def settle_scope(*, pin: Pinned, scope: str, now: datetime) -> None:
    """End a scope of which nothing lives any more; a scope that still lives is left alone.

    A run that has been removed meanwhile has nothing to settle.
    """
    with suppress(store.NoRunError):
        in_flight(lambda: advance_run(pin, Drained(scope), now=now))


def _asks(node: Node) -> bool:
    """Say whether a step has something to ask for before each attempt."""
    return bool(node.guard or node.pool)


def _must_ask(node: Node, taker: Taker) -> bool:
    """Say whether an attempt may be claimed only if its guard, or its pool, lets it pass."""
    if node.pool:
        return True
    return bool(node.guard) and guards.is_shut(environment_of(taker.queue), node.guard)


def _may_follow(taker: Taker, node: Node) -> bool:
    return not _must_ask(node, taker)


def _claim_any(pin: Pinned, taker: Taker, now: datetime, after: int) -> Work | PutAside | None:
    found = store.next_queued(pin.run, taker.fan or "", taker.queue, after=after)
    if found is None or not pin.knows(found[0]):
        return None
    must_ask = _must_ask(pin.plan.node(found[0]), taker)
    return (_claim_asking if must_ask else _claim)(pin, *found, taker, now)


def _claim_asking(
    pin: Pinned, path: str, attempt: int, taker: Taker, now: datetime
) -> Work | PutAside | None:
    """Claim an attempt if guard and pool let it pass, else park it. The caller has a transaction.

    What it waits for longest comes last, so that it holds no profile while its guard is open.
    """
    node, place = pin.plan.node(path), environment_of(taker.queue)
    if not _is_here(pin, node, taker.queue):
        return None
    parked: Parked | None = None
    kept: list[Callable[[], None]] = []
    for has, ask in ((node.guard, guards.pass_guard), (node.pool, profiles.lease_profile)):
        if has and parked is None:
            parked, keep = ask(pin, path, attempt, environment=place, now=now)
            kept = [keep] if parked else [*kept, keep]
    event = parked or Claimed(path, attempt, taker.worker, now + lease())
    progress = advance_run(pin, event, now=now, unsettled=taker.unsettled)
    if not progress.decision.moves or progress.held is None:
        return None
    if parked is not None and node.pool:
        profiles.let_go_of(pin, path, attempt)
    for keep in kept:
        keep()
    if parked is not None:
        return PUT_ASIDE
    work = _work_of(pin, progress, taker.queue, progress.held.steps[path])
    return None if work is None else replace(work, tells_guard=bool(node.guard))


def _claim(pin: Pinned, path: str, attempt: int, taker: Taker, now: datetime) -> Work | None:
    if not _is_here(pin, pin.plan.node(path), taker.queue):
        return None
    if compensating.is_undo(pin.plan, path):
        return in_flight(partial(_claim_undo, pin, path, attempt, taker, now))
    reason = store.why_queued(pin.run, path, attempt) if attempt > 1 else None
    queued = _queued(pin, path, attempt, reason)
    progress = advance_ahead(
        pin,
        Seen((queued,)),
        Claimed(path, attempt, taker.worker, now + lease()),
        environment=environment_of(taker.queue),
        now=now,
        unsettled=taker.unsettled,
    )
    return None if progress is None else next(iter(_works_of(pin, progress, taker.queue)), None)


def _claim_undo(pin: Pinned, path: str, attempt: int, taker: Taker, now: datetime) -> Work | None:
    """Claim under locks: what is decided ahead is of runs that run, and this one is undone."""
    claimed = Claimed(path, attempt, taker.worker, now + lease())
    progress = advance_run(pin, claimed, now=now)
    held = progress.held
    view = held.steps[path] if held and progress.decision.moves else None
    return _work_of(pin, progress, taker.queue, view)


def _work_of(pin: Pinned, progress: Progress, queue: str, view: StepView | None) -> Work | None:
    if view is None or progress.held is None:
        return None
    node = pin.plan.nodes[view.node]
    held = progress.held
    home, refusal = held.run.environment, None
    if node.environment:
        home, refusal = _standing(pin, view, node)
    profile = None
    if node.pool:
        place = environment_of(queue)
        profile = profiles.profile_of(pin, view.path, view.attempt, environment=place)
        refusal = refusal or profile.refusal
    arguments, reads = node.arguments, node.call
    # A person corrects what has failed: an attempt, or the condition that comes before the first.
    may_be_corrected = view.attempt > 1 or node.when is not None
    corrected = store.corrected_arguments(pin.run, view.path) if may_be_corrected else None
    if corrected is not None:
        arguments, reads = corrected, _reads(pin.plan, node, corrected)
    names: Mapping[str, Any] = {}
    if reads.roots:
        run = held.run if node.undoes == NO_NODE else store.run_view(pin.run)
        known = Slice(run=run, link=partial(callback_url, held.run.id))
        wanted = reading(pin.plan, reads, view.path)
        store.read(store.cursor(), pin.run, pin.plan, known, wanted)
        names = names_of(pin.plan, known, node, view.path, reads)
    return Work(
        pinned=pin,
        path=view.path,
        attempt=view.attempt,
        queue=queue,
        uses=node.uses,
        arguments=arguments,
        names=names,
        seen=progress.seen,
        environment=home,
        timeout=node.timeout,
        probe_first=view.reason in ASKING,
        probe_only=view.reason is Reason.LAST_PROBE,
        refusal=refusal,
        profile=profile,
    )


def _is_here(pin: Pinned, node: Node, queue: str) -> bool:
    """Say whether a step is for the workers of a queue's environment, whoever sent it there."""
    place = environment_of(queue)
    if node.environment:
        return node.environment == place
    return place not in pin.plan.elsewhere or store.standing(pin.run, place).home == place


def _standing(pin: Pinned, view: StepView, node: Node) -> tuple[str, StepError | None]:
    """Return the run's own environment, and why the step's does not let it in, if so."""
    found = store.standing(pin.run, node.environment)
    if found.is_admitted:
        return found.home, None
    message = (
        f"the environment {node.environment} does not admit steps of runs in {found.home}, so"
        f" {view.path} was not carried out; add {found.home} to what {node.environment} admits"
    )
    return found.home, StepError(ErrorClass.PERMANENT, "environment.not_admitted", message)


def _reads(plan: Plan, node: Node, arguments: Mapping[str, Any]) -> Reads:
    """Return what corrected arguments name; of steps, those that the definition has."""
    found = expressions.references(arguments)
    steps = found.steps & plan.by_id.keys()
    if "error" in found.roots and node.caught != NO_NODE:
        steps |= {plan.nodes[node.caught].id}
    return Reads(found.roots, steps)
