"""Join rules: whether a step may start, given how the steps it needs have ended.

Names and meaning are Airflow's. A rule is asked again after each need that ends, and
answers as soon as no later end can change the answer, so that a race between
workers decides nothing.
"""

from enum import StrEnum
from typing import NamedTuple, assert_never

from workflows.language.words import Join


class Ruling(StrEnum):
    """What a join rule says of a step."""

    WAIT = "wait"
    START = "start"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_SKIPPED = "upstream_skipped"
    CONTESTED = "contested"
    """Both a failure and a skip would do; `precedence` says which came first."""


class Tally(NamedTuple):
    """How many of a step's needs have ended, and how. A tuple, as the view that it is part of.

    `upstream_failed` counts the needs that never ran because of a failure before
    them: they are failures to every rule except `one_done`, which asks for work done.
    """

    ok: int = 0
    failed: int = 0
    skipped: int = 0
    upstream_failed: int = 0

    @property
    def done(self) -> int:
        """Return how many needs have ended."""
        return self.ok + self.failed + self.skipped + self.upstream_failed

    def without(self, other: "Tally") -> "Tally":
        """Return what is left when those of another tally are taken out."""
        return Tally(
            self.ok - other.ok,
            self.failed - other.failed,
            self.skipped - other.skipped,
            self.upstream_failed - other.upstream_failed,
        )

    @property
    def bad(self) -> int:
        """Return how many of them ended badly, or never ran for a failure before them."""
        return self.failed + self.upstream_failed


def ruling(join: Join, tally: Tally, *, needs: int, at_least: int = 0) -> Ruling:  # noqa: C901, PLR0911, PLR0912 - one rule a case, read as a table
    """Say whether a step with `needs` needs may start, must be skipped, or waits on."""
    if needs == 0 or join is Join.ALWAYS:
        return Ruling.START
    every = tally.done >= needs
    match join:
        case Join.NONE_FAILED:
            return _first((tally.bad, Ruling.UPSTREAM_FAILED), (every, Ruling.START))
        case Join.ALL_SUCCESS:
            return _first(
                (tally.bad and tally.skipped and every, Ruling.CONTESTED),
                (tally.bad and every, Ruling.UPSTREAM_FAILED),
                (tally.skipped and every, Ruling.UPSTREAM_SKIPPED),
                (every, Ruling.START),
            )
        case Join.ALL_DONE:
            return _first((every, Ruling.START))
        case Join.ALL_DONE_MIN_ONE_SUCCESS:
            return _first(
                (tally.skipped, Ruling.UPSTREAM_SKIPPED),
                (every and tally.ok, Ruling.START),
                (every, Ruling.UPSTREAM_FAILED),
            )
        case Join.ONE_SUCCESS:
            return _first(
                (tally.ok, Ruling.START),
                (every and tally.done == tally.skipped, Ruling.UPSTREAM_SKIPPED),
                (every, Ruling.UPSTREAM_FAILED),
            )
        case Join.ONE_FAILED:
            return _first((tally.bad, Ruling.START), (every, Ruling.UPSTREAM_SKIPPED))
        case Join.ONE_DONE:
            return _first(
                (tally.ok + tally.failed, Ruling.START),
                (every, Ruling.UPSTREAM_SKIPPED),
            )
        case Join.ALL_FAILED:
            return _first(
                (tally.ok + tally.skipped, Ruling.UPSTREAM_SKIPPED),
                (every, Ruling.START),
            )
        case Join.NONE_FAILED_MIN_ONE_SUCCESS:
            return _first(
                (tally.bad, Ruling.UPSTREAM_FAILED),
                (tally.skipped == needs, Ruling.UPSTREAM_SKIPPED),
                (every, Ruling.START),
            )
        case Join.NONE_SKIPPED:
            return _first((tally.skipped, Ruling.UPSTREAM_SKIPPED), (every, Ruling.START))
        case Join.ALL_SKIPPED:
            return _first(
                (tally.ok + tally.bad, Ruling.UPSTREAM_SKIPPED),
                (every, Ruling.START),
            )
        case Join.AT_LEAST:
            return _at_least(tally, needs=needs, at_least=at_least)
        case _:  # pragma: no cover
            assert_never(join)


def _at_least(tally: Tally, *, needs: int, at_least: int) -> Ruling:
    still_possible = tally.ok + needs - tally.done
    return _first(
        (tally.ok >= at_least, Ruling.START),
        (still_possible < at_least and tally.bad, Ruling.UPSTREAM_FAILED),
        (tally.done >= needs, Ruling.UPSTREAM_SKIPPED),
    )


def _first(*answers: tuple[object, Ruling]) -> Ruling:
    return next((answer for holds, answer in answers if holds), Ruling.WAIT)
