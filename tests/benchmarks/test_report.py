"""The tables and the page that the benchmarks make of their results."""

from typing import Any

from benchmarks.contests import Contest
from benchmarks.figures import Figure, Target
from benchmarks.measuring import Result
from benchmarks.report import document, missed, sheets


def results_of(rounds: list[dict[str, float]]) -> dict[str, Any]:
    contest = Contest(
        "chain", "many runs", "steps/s", lambda _: 0.0, None, targets={"same": 2.0, "best": 1.5}
    )
    memory = Figure("memory", "worker, child", (90.0,), "MiB", Target(110, "lower"))
    return {
        "about": {
            "command": "make bench",
            "date": "2026-01-02",
            "revision": "abc1234",
            "repeats": len(rounds),
            "warning": "Others worked on this machine.",
            "machine": {"processor": "Some Processor", "cores": "2"},
            "versions": {"Python": "3.13.1"},
            "postgresql": {"fsync": "on"},
        },
        "contests": [Result(contest, "two solo workers", rounds).as_json()],
        "figures": [memory.as_json()],
        "trials": {"chain": {"unit": "steps/s", "values": {"two solo workers": 1000.0}}},
    }


ROUNDS = [
    {"ours": 1200.0, "same": 500.0, "best": 1000.0},
    {"ours": 1500.0, "same": 500.0, "best": 1000.0},
    {"ours": 1800.0, "same": 500.0, "best": 1500.0},
]


def test_a_contest_is_shown_beside_both_ways_of_running_bare_celery() -> None:
    beside = sheets(results_of(ROUNDS))[0]

    assert beside.rows == [
        (
            "chain",
            "many runs",
            "1,500 steps/s",
            "500 steps/s, the same settings",
            "3.00",
            "2.40 to 3.60",
            "≥ 2",
            "met",
        ),
        ("", "", "", "1,000 steps/s, two solo workers", "1.20", "1.20 to 1.50", "≥ 1.5", "not met"),
    ]


def test_what_was_missed_is_said_with_what_was_aimed_at() -> None:
    found = missed(results_of(ROUNDS))

    assert found == ["chain, relative to bare Celery under its best settings: 1.20, aimed at ≥ 1.5"]


def test_the_page_names_the_command_the_machine_the_versions_and_every_way_tried() -> None:
    page = document(results_of(ROUNDS))

    for wanted in (
        "`make bench`",
        "Others worked on this machine.",
        "Some Processor",
        "Python 3.13.1",
        "fsync on",
    ):
        assert wanted in page
    assert "| two solo workers | 1,000 |" in page


def test_the_page_shows_no_table_of_what_was_not_measured() -> None:
    results = results_of(ROUNDS) | {"contests": [], "trials": {}}

    titles = [sheet.title for sheet in sheets(results)]

    assert titles == ["By itself"]
