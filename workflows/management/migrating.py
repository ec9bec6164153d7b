"""`manage.py run migrate`: see whether runs can go over to another version, and have them do so."""

from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser

from workflows.engine.examined import Verdict
from workflows.management.door import Door, RefusedError, actor, add_paging, next_page, runs_named
from workflows.selectors.migrations import runs_to_migrate
from workflows.services.migrating import Preflight, migrate_runs, preflight_migration

SHOWN = 20
"""Findings of a run that are shown."""


def add_migration(parser: CommandParser, *, run: str) -> None:
    """Add which runs, to which version, and what has become of their steps."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help=run)
    parser.add_argument("--workflow", metavar="NAME", help="the live runs of this workflow instead")
    parser.add_argument(
        "--from", type=int, dest="before", metavar="N", help="of those only the ones in version N"
    )
    parser.add_argument("--failed", action="store_true", help="of those the failed ones as well")
    parser.add_argument("--to", type=int, metavar="N", help="the version; else the newest")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        type=_pair,
        dest="mapped",
        metavar="OLD=NEW",
        help="the step at OLD is the one at NEW in that version; may be repeated",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="STEP",
        help="the runs do without this step, of either version; may be repeated",
    )
    parser.add_argument(
        "--preflight", action="store_true", help="only say of each run whether it can, and why not"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_paging(parser)


def _pair(text: str) -> tuple[str, str]:
    before, sign, after = text.partition("=")
    if not (before and sign and after):
        message = f"{text!r} does not say what becomes of a step; give OLD=NEW, such as load=store"
        raise ArgumentTypeError(message)
    return before, after


def migrate(  # noqa: PLR0913 - the options of the command
    door: Door,
    *,
    runs: list[str],
    workflow: str | None,
    before: int | None,
    failed: bool,
    to: int | None,
    mapped: list[tuple[str, str]],
    without: list[str],
    preflight: bool,
    yes: bool,
    limit: int,
    after: str | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Show what a preflight says; then, unless that is all that is wanted, ask and do it."""
    ids, following = _chosen(runs, workflow, before, failed, to, after, limit)
    mapping: dict[str, str | None] = {**dict(mapped), **dict.fromkeys(without)}
    found = preflight_migration(run_ids=ids, version=to, mapping=mapping)
    if preflight:
        _show(door, found, following, as_json=as_json)
        return
    if not ids:
        door.say("There are no such runs.")
        return
    if not yes:
        _show(door, found, None, as_json=False)
    safe = sum(one.verdict is Verdict.SAFE for one in found)
    door.confirm(f"Have {safe} of {len(found)} runs go over?", yes=yes)
    report = migrate_runs(run_ids=ids, version=to, mapping=mapping, by=actor())
    door.present(report, as_json=as_json)
    if following:
        door.say(next_page(following))


def _chosen(  # noqa: PLR0913, PLR0917 - the options that choose
    runs: list[str],
    workflow: str | None,
    before: int | None,
    failed: bool,
    to: int | None,
    after: str | None,
    limit: int,
) -> tuple[Sequence[UUID], str | None]:
    if bool(runs) is bool(workflow):
        raise RefusedError("Name runs, or give --workflow for the live runs of one; not both.")
    if workflow is None:
        return runs_named(runs), None
    page = runs_to_migrate(
        workflow=workflow, before=before, version=to, with_failed=failed, after=after, limit=limit
    )
    return list(page.rows), page.next


def _show(door: Door, found: Sequence[Preflight], following: str | None, *, as_json: bool) -> None:
    verdicts = Counter(one.verdict.value for one in found)
    if as_json:
        runs = [one.as_dict() for one in found]
        door.print_json({"verdicts": verdicts, "runs": runs, "next": following})
        return
    for one in found:
        way = f"v{one.before} -> v{one.after}"
        door.say(f"{one.verdict.value}: run {one.run} of {one.workflow}, {way}")
        for finding in one.findings[:SHOWN]:
            where = f"{finding.path}: " if finding.path else ""
            door.say(f"  {where}{finding.what}." + (f" {finding.do}" if finding.do else ""))
        if len(one.findings) > SHOWN:
            door.say(f"  And {len(one.findings) - SHOWN} more; --json shows them all.")
    counted = ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items()))
    door.say(counted or "There are no such runs.")
    if following:
        door.say(next_page(following))
