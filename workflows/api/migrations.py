"""Migrations: whether live runs can go over to another version, and having them do so."""

from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.door import Door
from workflows.api.forms import MigrateOrder, PreflightOrder
from workflows.api.shapes import PreflightPage, ReportDocument, report_document
from workflows.selectors.migrations import runs_to_migrate
from workflows.services.migrating import migrate_runs, preflight_migration


class Preflight(Door):
    """What would become of runs."""

    needs = {"POST": "workflows.view_run"}

    @extend_schema(
        operation_id="preflight_migration", request=PreflightOrder, responses=PreflightPage
    )
    def post(self, request: Request) -> Response:
        """Say of runs whether they can go over to another version, and why not; nothing changes.

        SAFE: it can. NEEDS_MAPPING: say what has become of steps, or that the run does without
        them. BLOCKED: it cannot, or not now.
        """
        order = self.body(PreflightOrder)
        ids, following = _runs_of(order)
        found = preflight_migration(
            run_ids=ids, version=order.get("version"), mapping=order.get("mapping")
        )
        verdicts = Counter(one.verdict.value for one in found)
        runs = [one.as_dict() for one in found]
        return Response({"verdicts": verdicts, "runs": runs, "next": following})


class MigrateRuns(Door):
    """Runs that go over to another version."""

    needs = {"POST": "workflows.migrate_run"}

    @extend_schema(operation_id="migrate_runs", request=MigrateOrder, responses=ReportDocument)
    def post(self, request: Request) -> Response:
        """Have runs go over to another version, each by itself; what is not safe is refused.

        A run that is in that version already is done with.
        """
        order = self.body(MigrateOrder)
        report = migrate_runs(
            run_ids=order["runs"],
            version=order.get("version"),
            mapping=order.get("mapping"),
            by=self.actor,
        )
        return Response(report_document(report))


def _runs_of(order: Mapping[str, Any]) -> tuple[list[UUID], str | None]:
    if "runs" in order:
        return order["runs"], None
    page = runs_to_migrate(
        workflow=order["workflow"],
        before=order.get("from_version"),
        version=order.get("version"),
        with_failed=order["failed"],
        after=order.get("cursor"),
        limit=order["limit"],
    )
    return list(page.rows), page.next
