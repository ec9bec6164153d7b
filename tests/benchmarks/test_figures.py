"""What the benchmarks make of the values they measure."""

import pytest

from benchmarks.figures import Figure, Target, best_of, in_turn, ratios, short, spread


def test_a_ratio_above_one_is_better_whichever_way_is_up() -> None:
    steps_a_second = ratios([200.0], [100.0], "higher")
    seconds = ratios([1.0], [2.0], "lower")

    assert steps_a_second == seconds == (2.0,)


def test_ratios_are_taken_round_by_round() -> None:
    found = ratios([10.0, 30.0], [10.0, 10.0], "higher")

    assert found == (1.0, 3.0)


def test_the_best_is_the_largest_rate_and_the_shortest_time() -> None:
    trials = {"prefork": 10.0, "solo": 20.0}

    assert (best_of(trials, "higher"), best_of(trials, "lower")) == ("solo", "prefork")


def test_each_side_begins_once_in_as_many_rounds_as_there_are_sides() -> None:
    rounds = [in_turn(["ours", "same", "best"], number) for number in range(3)]

    assert [one[0] for one in rounds] == ["ours", "same", "best"]
    assert all(sorted(one) == ["best", "ours", "same"] for one in rounds)


@pytest.mark.parametrize(
    ("target", "values", "verdict"),
    [
        (Target(2.0), (1.0, 2.0, 9.0), "met"),
        (Target(2.0), (1.0, 1.9, 9.0), "not met"),
        (Target(110, "lower"), (110.0,), "met"),
        (Target(110, "lower"), (110.1,), "not met"),
        (None, (1.0,), ""),
    ],
    ids=["reached", "missed", "within", "beyond", "without"],
)
def test_the_verdict_is_the_medians(
    target: Target | None, values: tuple[float, ...], verdict: str
) -> None:
    assert Figure("chain", "a ratio", values, "", target).verdict == verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.12"), (2.0, "2.00"), (12.34, "12.3"), (456.7, "457"), (12345.6, "12,346")],
)
def test_a_value_is_written_without_more_digits_than_it_deserves(value: float, text: str) -> None:
    assert short(value) == text


def test_the_spread_of_a_single_value_is_not_written() -> None:
    assert (spread([3.0, 1.0, 2.0]), spread([3.0])) == ("1.00 to 3.00", "")
