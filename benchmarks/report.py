"""Show the results: tables on the terminal, and the page `docs/benchmarks.md`, from the same rows.

Pure: it knows the results as they are kept in JSON, and nothing of how they were measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from benchmarks.figures import NOT_MET, short, spread

INTRODUCTION = """\
# Benchmarks

For those who want to know what the platform costs. Everything here was measured by one command on
one machine, which carried PostgreSQL, Redis, the workers and the client at once. The page is
written by that command. Other machines give other figures.

How it is measured:

* The platform runs by its own programs, as `make run` starts them: web, clock, engine, and one
  worker with two processes; Flower is left out except where it says idle. Every step is committed
  before the next begins, with the durability that PostgreSQL has by default.
* Bare Celery does the same work with tasks that do nothing, and persists nothing. It is measured
  twice. Under *the same settings*: the platform's own Celery settings and worker options, with the
  same broker. And at its best: in the fastest of the ways listed at the end, without results and
  events; which that is, quick trials in the same run tell.
* The platform's own code is what is compared, so bare Celery does without it. That includes the
  consumer of its workers, which gathers the events for Flower.
* In a round everybody does the same work once, in turn; who begins changes with the round. The
  first round is thrown away. A ratio is taken within a round and says how many times better the
  platform is: above 1 it is the faster one. Shown are medians, and the lowest and highest round.
* Time begins with the first submission and ends when a client sees that all has ended. For the
  end of a lone run, ours or Celery's, it begins to look after 5 ms, and then every half: whoever
  looks takes the processor from those that it waits for.
* A history is kept: by default the platform would remove what is older than 90 days, for a second
  of every minute, and that is no part of what is compared.
* A fan-out of "10,000" has 9,999 branches: with the block around them, that is all the steps that a
  definition may have.

`make bench` measures all but the long history, which `make bench ARGS="--history"` adds. With
`ARGS="--only chain latency --repeats 9"` it measures those alone, in nine rounds. The services are
its own, below `.local/benchmarks`, and removed afterwards; so is the RabbitMQ, which it starts if
one is installed. The values of every round are in `benchmarks/results/latest.json`.
"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table with its title."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def as_rich(self) -> Table:
        """Return the table as the terminal shows it."""
        table = Table(*self.columns, title=self.title, title_justify="left", expand=False)
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        """Return the table as a page shows it."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sheets(results: Mapping[str, Any]) -> list[Sheet]:
    """Return the tables of all that was measured."""
    found = [
        Sheet(
            "Beside bare Celery",
            ("name", "what", "platform", "bare Celery", "ratio", "from, to", "target", "verdict"),
            [row for one in results["contests"] for row in _beside(one)],
        ),
        Sheet(
            "By itself",
            ("name", "what", "measured", "from, to", "target", "verdict"),
            [
                *(_alone(one) for one in results["contests"] if one["target"]),
                *(_alone(one) for one in results["figures"]),
            ],
        ),
        _trials(results["trials"]),
    ]
    return [one for one in found if one.rows]


def document(results: Mapping[str, Any]) -> str:
    """Return the page."""
    about = results["about"]
    facts = [
        ("command", f"`{about['command']}`"),
        ("date", about["date"]),
        ("revision", f"`{about['revision']}`"),
        ("rounds", str(about["repeats"])),
        *about["machine"].items(),
        ("versions", ", ".join(f"{name} {number}" for name, number in about["versions"].items())),
        ("PostgreSQL", ", ".join(f"{name} {value}" for name, value in about["postgresql"].items())),
    ]
    warning = f"**{about['warning']}**" if about["warning"] else ""
    parts = [INTRODUCTION, warning, Sheet("", ("", ""), facts).as_markdown()]
    for sheet in sheets(results):
        parts += [f"## {sheet.title}", sheet.as_markdown()]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def missed(results: Mapping[str, Any]) -> list[str]:
    """Say which targets were not met, and by what."""
    beside = [
        (f"{one['name']}, {ratio['what']}", ratio)
        for one in results["contests"]
        for ratio in one["ratios"].values()
    ]
    alone = [
        (f"{one['name']}, {one['what']}", one) for one in results["contests"] + results["figures"]
    ]
    return [
        f"{name}: {measured(one)}, aimed at {one['target']}"
        for name, one in beside + alone
        if one["verdict"] == NOT_MET
    ]


def _beside(one: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    names = {"same": "the same settings", "best": one["best"]}
    for who, ratio in one["ratios"].items():
        theirs = sorted(values[who] for values in one["rounds"])
        yield (
            *((one["name"], one["what"], measured(one)) if who == "same" else ("", "", "")),
            f"{short(theirs[len(theirs) // 2])} {one['unit']}, {names[who]}",
            short(ratio["median"]),
            spread(ratio["values"]),
            ratio["target"],
            ratio["verdict"],
        )


def measured(one: Mapping[str, Any]) -> str:
    """Write the median with its unit."""
    return f"{short(one['median'])} {one['unit']}".rstrip()


def _alone(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        one["name"],
        one["what"],
        measured(one),
        spread(one["values"]),
        one["target"],
        one["verdict"],
    )


def _trials(trials: Mapping[str, Mapping[str, Any]]) -> Sheet:
    names = [name for name, found in trials.items() if found["values"]]
    ways: Sequence[str] = list(trials[names[0]]["values"]) if names else []
    columns = tuple(f"{name}, {trials[name]['unit']}" for name in names)
    rows = [(way, *(short(trials[name]["values"][way]) for name in names)) for way in ways]
    return Sheet("Ways of running bare Celery, in quick trials", ("way", *columns), rows)
