"""All that is known after the storm, and what a verdict on it is made of."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.outside import Outside
from tests.chaos.stage import Outage
from tests.chaos.watching import Eyes
from workflows.engine.plan import NO_LONGER, Plan, load_plan

MOST_SHOWN = 10

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """The verdict on one invariant."""

    invariant: str
    violations: tuple[str, ...] = ()
    looked_at: str = ""

    def __str__(self) -> str:
        mark = "VIOLATED" if self.violations else "ok"
        figures = f"  ({self.looked_at})" if self.looked_at else ""
        shown = [f"\n             {text}" for text in self.violations[:MOST_SHOWN]]
        if len(self.violations) > MOST_SHOWN:
            shown.append(f"\n             and {len(self.violations) - MOST_SHOWN} more")
        return f"{mark:>8}  {self.invariant}{figures}{''.join(shown)}"


@dataclass
class Facts:
    """All that is known after the storm."""

    connection: psycopg.Connection[Any]
    ledger: Ledger
    load: Load
    outside: Outside
    eyes: Eyes
    outages: Sequence[Outage]
    wedged: Sequence[float] = ()
    alarms: Sequence[str] = ()
    """What was said of queues when nothing waited in them."""
    left: Sequence[str] = ()
    """What the services and the machine still held when everything had come to rest."""

    def rows(self, query: str, *values: Any) -> list[Row]:
        """Return what a query finds."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values or None).fetchall()

    @cached_property
    def plans(self) -> Mapping[str, Plan]:
        """Every version's plan."""
        found = self.rows("SELECT id::text, plan FROM workflows_version")
        return {row["id"]: load_plan(bytes(row["plan"])) for row in found}

    @cached_property
    def runs(self) -> Mapping[str, Row]:
        """Every run."""
        query = """
            SELECT r.id::text, r.version_id::text AS version, w.name AS workflow, r.state,
                r.input, r.output, r.error, r.idempotency_key AS key,
                r.concurrency_key, r.parent_id::text AS parent
            FROM workflows_run r JOIN workflows_workflow w ON w.id = r.workflow_id
        """
        return {row["id"]: row for row in self.rows(query)}

    @cached_property
    def moved(self) -> frozenset[str]:
        """The runs whose earlier steps are not of the plan that they have now."""
        found = self.rows("SELECT DISTINCT run_id::text AS run FROM workflows_migration")
        return frozenset(row["run"] for row in found)

    @cached_property
    def steps(self) -> Mapping[tuple[str, str], Row]:
        """Every step, with what it `uses`."""
        query = """
            SELECT run_id::text AS run, path, node, state, reason, attempt, output, worker,
                completion
            FROM workflows_step
        """
        found = {}
        for row in self.rows(query):
            nodes = self.plans[self.runs[row["run"]]["version"]].nodes
            uses = "" if row["node"] == NO_LONGER else nodes[row["node"]].uses
            row["uses"] = uses.removeprefix("chaos.")
            found[row["run"], row["path"]] = row
        return found

    @cached_property
    def attempts(self) -> Mapping[tuple[str, str], list[Row]]:
        """The attempts that are over, of each step in their order."""
        query = """
            SELECT a.run_id::text AS run, s.path, a.number, a."end", a.error, a.late, a.worker,
                a.started_at, a.finished_at
            FROM workflows_attempt a JOIN workflows_step s ON s.id = a.step_id ORDER BY a.number
        """
        found = defaultdict(list)
        for row in self.rows(query):
            found[row["run"], row["path"]].append(row)
        return found

    @cached_property
    def taken(self) -> Mapping[tuple[str, str, int], float]:
        """When each attempt was taken, as the journal has it."""
        query = """
            SELECT run_id::text AS run, path, attempt, extract(epoch FROM at)::float8 AS at
            FROM workflows_journal WHERE before = 'QUEUED' AND after = 'RUNNING'
        """
        return {(row["run"], row["path"], row["attempt"]): row["at"] for row in self.rows(query)}

    @cached_property
    def deliveries(self) -> Mapping[tuple[str, str], list[Row]]:
        """What the ledger was asked for, by step."""
        found = defaultdict(list)
        for one in self.ledger.deliveries:
            found[one["run"], one["path"]].append(one)
        return found

    def of_kind(self, kind: str) -> Iterator[tuple[tuple[str, str], list[Row]]]:
        """Go through the steps that asked the ledger for an effect of a kind."""
        for step, deliveries in self.deliveries.items():
            if deliveries[0]["kind"] == kind:
                yield step, deliveries


Check = Callable[[Facts], tuple[list[str], str]]
CHECKS: dict[str, Check] = {}


def invariant(name: str) -> Callable[[Check], Check]:
    """Have a check give the verdict on an invariant."""

    def add(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return add
