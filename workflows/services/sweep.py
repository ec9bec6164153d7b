"""A sweep goes over what may be wrong or due in many runs; trouble with one stays with that one."""

from collections.abc import Callable
from uuid import UUID

import structlog

from workflows import store

log = structlog.get_logger(__name__)


def helped(run_id: UUID | None, path: str, work: Callable[[], bool]) -> bool:
    """Do one thing of a sweep, and say whether it did anything; what it raises is logged.

    A database that is out of reach is nobody's own trouble: that is raised.
    """
    try:
        return work()
    except Exception as error:
        if store.cure_of(error) is not None:
            raise
        log.exception("sweep.trouble", run=str(run_id or ""), path=path)
        return False
