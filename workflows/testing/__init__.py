"""The test kit for authors: a workflow played in memory, on a virtual clock, with stubbed tasks.

The same engine as in earnest, without a database, a broker or a worker; it loads neither Django
nor Celery. A wait of seven days takes no time.

    order = Workflow.load("order.yaml")

    def test_a_refused_card_ends_the_order() -> None:
        run = order.run(input={"order": 7}, stubs={"charge": fails("business")})

        run.assert_failed(step="charge")
        run.assert_not_ran("ship")
"""

from workflows.engine.stubs import Call, Result
from workflows.testing.acts import (
    approve,
    callback,
    cancel,
    compensate,
    discard,
    event,
    pause,
    reject,
    replay,
    resume,
    skip,
)
from workflows.testing.errors import EndlessRunError, KitError, StubError, UnknownNameError
from workflows.testing.run import Run, Step
from workflows.testing.stubs import attempts, calls, fails, lost_worker, never, returns, runs, takes
from workflows.testing.workflow import Workflow

__all__ = [
    "Call",
    "EndlessRunError",
    "KitError",
    "Result",
    "Run",
    "Step",
    "StubError",
    "UnknownNameError",
    "Workflow",
    "approve",
    "attempts",
    "callback",
    "calls",
    "cancel",
    "compensate",
    "discard",
    "event",
    "fails",
    "lost_worker",
    "never",
    "pause",
    "reject",
    "replay",
    "resume",
    "returns",
    "runs",
    "skip",
    "takes",
]
