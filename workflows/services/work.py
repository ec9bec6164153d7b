"""Work: a claimed attempt as a worker holds it, and who takes it.

It is made of the row that was claimed: what its arguments name is read here, once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings

from environments.models import environment_of
from workflows import store
from workflows.engine.advance import requirement
from workflows.engine.draft import names_of
from workflows.engine.events import StepError, Succeeded
from workflows.engine.plan import NO_NODE, Node, Plan
from workflows.engine.slice import RunView, Slice, StepView, reading
from workflows.engine.states import ASKING, Reason, RunState
from workflows.engine.values import reads_of
from workflows.language.words import ErrorClass
from workflows.links import callback_url
from workflows.services import profiles
from workflows.services.plans import Pinned
from workflows.services.profiles import Profile
from workflows.services.progress import Progress
from workflows.store import Seen


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
        return not asks(node) and self.quick(node)


def asks(node: Node) -> bool:
    """Say whether a step has something to ask for before each attempt."""
    return bool(node.guard or node.pool)


def works_of(pin: Pinned, progress: Progress, queue: str) -> list[Work]:
    """Return the attempts that were claimed."""
    works = []
    for view in progress.claimed:
        seen = progress.seen
        if seen is not None and len(progress.claimed) > 1:
            seen = _of_one(pin.plan, view, seen)
        alone = Progress(progress.decision, progress.held, (view,), seen)
        works.append(work_of(pin, alone, queue, view))
    return [work for work in works if work is not None]


def _of_one(plan: Plan, view: StepView, seen: Seen) -> Seen:
    """Return what was seen of several steps as far as one of them needs it."""
    wanted = requirement(plan, Succeeded(view.path, view.attempt)).paths
    return Seen(tuple(one for one in seen.steps if one.path in wanted))


def work_of(pin: Pinned, progress: Progress, queue: str, view: StepView | None) -> Work | None:
    """Return a claimed attempt as its worker holds it; None when nothing was claimed."""
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
        arguments, reads = corrected, reads_of(pin.plan, node, corrected)
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


def slice_of(pin: Pinned, environment: str) -> Slice:
    """Return what is known without a look of a run that has work: it runs, and where."""
    return Slice(run=RunView(str(pin.run), RunState.RUNNING, environment=environment))
