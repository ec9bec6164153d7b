"""A schedule is made of the seed and the minutes alone."""

from collections import Counter

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.schedule import CALM, schedule_of


def test_the_same_seed_and_minutes_are_the_same_schedule() -> None:
    first = schedule_of(seed=7, seconds=600, faults=FAULTS)

    assert schedule_of(seed=7, seconds=600, faults=FAULTS) == first
    assert schedule_of(seed=8, seconds=600, faults=FAULTS) != first


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("seconds", [60.0, 180.0, 600.0])
def test_no_fault_comes_again_before_every_other_has_come(seed: int, seconds: float) -> None:
    found = schedule_of(seed=seed, seconds=seconds, faults=FAULTS)

    counts = Counter(one.fault for one in found)
    assert counts.keys() == {fault.name for fault in FAULTS}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_faults_come_in_order_and_after_a_calm() -> None:
    times = [one.at for one in schedule_of(seed=7, seconds=300, faults=FAULTS)]

    assert times == sorted(times)
    assert CALM <= times[0] < times[-1] <= 300
