"""The answers that only this door gives."""

from typing import Literal

from typing_extensions import TypedDict

from workflows.api.problems import FindingDocument
from workflows.selectors.shapes import Id, RunStateName, Time, Url, VersionSummary
from workflows.services.report import Report

VerdictName = Literal["SAFE", "NEEDS_MAPPING", "BLOCKED"]


class StartedDocument(TypedDict):
    """What became of an order of a bulk start.

    `created` is false if its idempotency key was known. `refused` says why there is no run:
    the key was used with another input.
    """

    id: Id | None
    workflow: str
    state: RunStateName | None
    created: bool
    refused: str | None


class BulkDocument(TypedDict):
    """What became of a bulk start, in the order of the orders."""

    created: int
    refused: int
    runs: list[StartedDocument]


class RefusalDocument(TypedDict):
    """One thing that was left as it is."""

    id: Id
    why: str


class ReportDocument(TypedDict):
    """What became of each thing."""

    sentence: str
    done: list[Id]
    refused: list[RefusalDocument]


def report_document(report: Report) -> ReportDocument:
    """Return a report as JSON."""
    return {
        "sentence": report.sentence(),
        "done": [str(one) for one in report.done],
        "refused": [{"id": str(one.id), "why": one.why} for one in report.refused],
    }


class MigrationFinding(TypedDict):
    """Something to know about a migration: where, what, and what can be done about it."""

    verdict: VerdictName
    path: str
    what: str
    do: str


class PreflightDocument(TypedDict):
    """What a preflight says of a run."""

    run: Id
    workflow: str
    from_version: int
    to_version: int
    verdict: VerdictName
    findings: list[MigrationFinding]


class PreflightPage(TypedDict):
    """What a preflight says of runs: how many of them have each verdict, and each of them.

    `next` is the cursor of the page that follows, if there is one.
    """

    verdicts: dict[str, int]
    runs: list[PreflightDocument]
    next: str | None


class PublishedEvent(TypedDict):
    """An event as it was published. A duplicate was known already, and did nothing again."""

    id: Id
    event_id: str
    source: str
    type: str
    duplicate: bool
    received_at: Time


class PublishedDocument(TypedDict):
    """What became of each event, in their order."""

    received: int
    duplicates: int
    events: list[PublishedEvent]


class AppliedDocument(VersionSummary):
    """A version that was applied. `warnings` may be wrong with it, and can be mended later."""

    warnings: list[FindingDocument]


class CheckDocument(TypedDict):
    """A definition without findings."""

    workflow: str
    environment: str
    steps: int


class ReceiptDocument(TypedDict):
    """What became of a callback."""

    status: Literal["received", "kept", "already received"]
    detail: str


class LinkDocument(TypedDict):
    """Where the callback of a step is to be sent; each attempt of the step has its own URL."""

    url: Url
    attempt: int


class TokenDocument(TypedDict):
    """A token, without what it is used with."""

    key: str
    created_at: Time
    expires_at: Time | None


class NewTokenDocument(TokenDocument):
    """A new token. It is shown this once: what is stored is a digest."""

    token: str
