"""Building much at once."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Build without the garbage collector, which would look again and again at what is there.

    Of a document of 10,000 steps that is a third of the time, and none of it is garbage yet. The
    collector is one for all threads: whoever is first to be done has it work for all.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
