"""Before a worker forks: what its processes will need is loaded once, and shared by all of them.

Memory is shared until somebody writes to it. The garbage collector writes to every object that it
looks at, so what is there before the fork is taken out of its sight: it would never be garbage.
Linked to Celery by being imported.
"""

import gc

from celery.signals import worker_init

from workers.registry import catalog


@worker_init.connect
def share(**_: object) -> None:
    """Load all task types, and let the collector alone with what was loaded."""
    catalog.names()
    gc.collect()
    gc.freeze()
