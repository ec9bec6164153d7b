"""The shared memory of a worker: one place for each process, told apart from all others."""

import os
import time

import pytest

from workers.slots import PLACES, Seat, Slots, family_of, host_of, names_of, process_of


def test_who_gets_a_place_hears_who_had_it_and_how_long_that_one_could_have_worked() -> None:
    slots = Slots()

    assert slots.take(3) is None
    slots.mark(17.5)

    assert slots.take(3) == Seat(os.getpid(), 17.5)
    assert slots.take(3) == Seat(os.getpid(), 0.0)


def test_only_who_is_past_its_limit_and_grace_is_overdue() -> None:
    slots, now = Slots(), time.monotonic()
    for place, limit in enumerate((0.0, now - 9, now - 11, now + 60)):
        slots.take(place)
        slots.mark(limit)

    assert slots.overdue(grace=10) == {Seat(os.getpid(), now - 11)}


def test_a_step_that_has_ended_is_watched_no_more() -> None:
    slots = Slots()
    slots.take(PLACES - 1)
    slots.mark(time.monotonic() - 60)

    slots.mark(0.0)

    assert slots.overdue(grace=0) == frozenset()


@pytest.mark.parametrize("place", [None, PLACES])
def test_a_process_without_a_place_is_nobody_to_be_watched(place: int | None) -> None:
    slots = Slots()
    assert place is None or slots.take(place) is None

    slots.mark(time.monotonic() - 60)

    assert slots.overdue(grace=0) == frozenset()


def test_a_stop_is_heard() -> None:
    slots = Slots()
    before = slots.stopping

    slots.stop()

    assert (before, slots.stopping) == (False, True)


def test_the_names_of_a_workers_processes_begin_alike_and_differ() -> None:
    mine, other = names_of("env-lab@box"), names_of("env-lab@box", 4711)

    assert not names_of("env-lab@box", 47112).startswith(other)
    assert mine.startswith(family_of("env-lab@box"))
    assert other.startswith(family_of("env-lab@box"))
    assert other.endswith(".4711-")


def test_a_name_tells_its_process_and_its_worker() -> None:
    name = f"{names_of('env-default@host', 17)}a1b2"

    assert process_of(name) == f"{family_of('env-default@host')}17"
    assert host_of(name) == "env-default@host"
