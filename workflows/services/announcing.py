"""Who is waited for is told in the log, for whatever reads it: a person was asked to decide.

A line is written when a request comes into being, by whoever has stored it; where that process
dies at just this moment there is none. What waits for whom is in the inbox in any case.
"""

from collections.abc import Iterable

import structlog

from workflows.engine.decision import Awaited
from workflows.engine.states import Reason
from workflows.services.plans import Pinned

log = structlog.get_logger(__name__)


def tell_who_is_asked(pinned: Pinned, environment: str, waits: Iterable[Awaited]) -> None:
    """Write a line for each request for a decision: whom it is for, and where it comes from."""
    for one in waits:
        if one.kind is Reason.APPROVAL:
            log.info(
                "approval.waits",
                group=one.name,
                approvals=one.request["approvals"],
                run=str(pinned.run),
                path=one.path,
                workflow=pinned.plan.workflow,
                environment=environment,
            )
