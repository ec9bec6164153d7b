"""A crowd on one run: workers, clocks and sweeps on connections of their own, all at once."""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

from random import Random

import pytest
from django.utils import timezone

from tests.workflows.builders import a_run, at_once, claim, finish, in_future, state, step, task
from workflows.engine.simulate import simulate
from workflows.models import Attempt, Run, Step
from workflows.services.plans import pinned
from workflows.services.recovery import recover
from workflows.services.timers import tick

pytestmark = pytest.mark.usefixtures("committed")

STEPS = 40


def a_tangle(chance: Random) -> Run:
    """Start a run of steps that each need some of those before them."""
    names = [f"s{n}" for n in range(STEPS)]
    needs = [chance.sample(names[:n], min(n, chance.randint(0, 4))) for n in range(STEPS)]
    return a_run(*(task(name, needs=before) for name, before in zip(names, needs, strict=True)))


def work(run: Run, chance: Random) -> None:
    """Do whatever is queued, in any order and often too late, until the run has ended."""
    while Run.objects.get(pk=run.pk).finished_at is None:
        queued = list(Step.objects.filter(run=run, state="QUEUED"))
        for found in chance.sample(queued, min(len(queued), 2)):
            taken = claim(run, found.path, found.attempt)
            while taken is not None:
                taken = finish(taken, run_on=chance.random() < 0.7)
        tick(now=timezone.now())
        recover(now=in_future(chance.choice([0, 11])))


@pytest.mark.parametrize("seed", range(3))
def test_a_tangle_of_steps_is_done_once_each_by_a_crowd(seed: int) -> None:
    run = a_tangle(Random(seed))

    at_once(*(lambda n=n: work(run, Random(n)) for n in range(4)))

    assert state(run) == simulate(pinned(run.pk).plan).state
    assert Attempt.objects.filter(run=run, end="completed").count() == STEPS
    assert Attempt.objects.filter(run=run).count() == STEPS
    assert step(run, f"s{STEPS - 1}").state == "COMPLETED"
