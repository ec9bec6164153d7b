"""Remove old finished runs, by the settings' retention or other bounds; live ones never.

Without bounds, events and lines that belong to no run go as well, as the settings say.
"""

import sys
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workflows.engine.states import FINISHED_RUNS, RunState
from workflows.management.door import Door, Exit, RefusedError, actor, duration_of
from workflows.management.output import cell, table
from workflows.services.retention import (
    Policy,
    forecast,
    policy,
    prune,
    prune_events,
    prune_lines,
)
from workflows.store.pruning import Counts

PAUSE = 0.05
"""Seconds between two batches, for those who are waiting for the database."""


class Command(Door):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.set_defaults(act=self.prune)
        parser.add_argument(
            "--older-than",
            type=duration_of,
            metavar="DURATION",
            help="runs that ended longer ago than this (30d, 12h); without it, as the settings say",
        )
        parser.add_argument(
            "--state",
            action="append",
            dest="states",
            choices=sorted(state.value for state in FINISHED_RUNS),
            type=str.upper,
            help="only runs that ended so; may be repeated",
        )
        parser.add_argument(
            "--archive",
            type=Path,
            metavar="DIR",
            help="write the runs there first; without it, where RETENTION_ARCHIVE says, if it does",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be removed")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")

    def prune(  # noqa: PLR0913 - the options of the command
        self,
        *,
        older_than: float | None,
        states: list[str] | None,
        archive: Path | None,
        dry_run: bool,
        yes: bool,
        as_json: bool,
        **_: Any,
    ) -> None:
        now, wanted = timezone.now(), _policy(older_than, states)
        folder = archive.resolve() if archive else settings.ORCHESTRATOR["RETENTION_ARCHIVE"]
        found, size = forecast(policy=wanted, now=now)
        facts = {
            "bounds": wanted.sentence(),
            "archive": None if folder is None else str(folder),
            "found": {**asdict(found), "bytes": size},
        }
        if not as_json:
            self._show(wanted, found, size)
        by_settings = older_than is None and states is None
        if dry_run or not (found.runs or by_settings):
            if as_json:
                self.print_json({**facts, "removed": _removed(Counts())})
            return
        others = ", and events and lines that are older than the settings want them,"
        where = "" if folder is None else f" The runs will be kept in {folder}."
        also = others if by_settings else ""
        self.confirm(f"Remove these {found.runs:,} runs{also} for good?{where}", yes=yes)
        removed, ended = self._remove(wanted, found.runs, now, folder)
        events = sum(prune_events(now=now)) if ended and by_settings else 0
        lines = sum(prune_lines(now=now)) if ended and by_settings else 0
        if as_json:
            self.print_json({**facts, "removed": _removed(removed, events, lines)})
        else:
            more = f", {events:,} events and {lines:,} lines" if by_settings else ""
            self.say(f"Removed {removed.runs:,} runs{more}.")
        if not ended:
            self.errors.print(
                "Interrupted. What was removed is whole; repeat the command to go on."
            )
            sys.exit(Exit.DETACHED)

    def _show(self, wanted: Policy, found: Counts, size: int) -> None:
        if not found.runs:
            self.say(f"No run is older than {wanted.sentence()}.")
            return
        shown = table("runs", "steps", "attempts", "journal", "incidents", "bytes, about")
        shown.add_row(*(cell(f"{number:,}") for number in (*asdict(found).values(), size)))
        self.say(f"Older than {wanted.sentence()}:")
        self.page.print(shown)

    def _remove(
        self, wanted: Policy, runs: int, now: datetime, folder: Path | None
    ) -> tuple[Counts, bool]:
        """Remove the runs; return how much that was, and whether it came to its end."""
        removed = Counts()
        columns = TextColumn("Removing"), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=self.errors, transient=True) as progress:
            task = progress.add_task("", total=runs)
            try:
                for batch in prune(policy=wanted, now=now, by=actor(), archive=folder):
                    removed += batch
                    progress.update(task, completed=removed.runs)
                    time.sleep(PAUSE)
            except KeyboardInterrupt:
                return removed, False
        return removed, True


def _removed(counts: Counts, events: int = 0, lines: int = 0) -> dict[str, int]:
    return {**asdict(counts), "events": events, "lines": lines}


def _policy(older_than: float | None, states: list[str] | None) -> Policy:
    """Return the policy of the options, or of the settings as far as the options leave it."""
    wanted = [RunState(state) for state in states or sorted(FINISHED_RUNS)]
    if older_than is not None:
        return Policy(dict.fromkeys(wanted, timedelta(seconds=older_than)))
    kept = {state: age for state, age in policy().kept.items() if state in wanted}
    if not kept:
        names = ", ".join(state.value for state in wanted)
        raise RefusedError(
            f"The settings keep runs that are {names} for ever (RETENTION_DAYS and"
            " RETENTION_FAILED_DAYS). Say how old they must be with --older-than."
        )
    return Policy(kept)
