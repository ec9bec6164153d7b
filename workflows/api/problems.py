"""Every refusal is one problem (RFC 9457): what was wrong, where, and what to do.

The only place that knows which error is which status. What is not a refusal is a
fault of ours, and is left to Django.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NotRequired

import psycopg
from django.core.exceptions import PermissionDenied
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback
from typing_extensions import TypedDict

from workflows.api.auth import SignatureError
from workflows.api.parsers import BodyTooLargeError
from workflows.language.findings import DefinitionError, Finding
from workflows.selectors.errors import CursorError, MissingError, SelectorError
from workflows.services.errors import (
    CallbackMismatchError,
    CallbackOverError,
    EnvironmentClosedError,
    IdempotencyMismatchError,
    InputRefusedError,
    NotAllowedError,
    NotFoundError,
    ServiceError,
    StateRefusedError,
)
from workflows.store import ERRORS, cure_of, outage

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


class FindingDocument(TypedDict):
    """One thing that is wrong. Of a definition, with its place in the text and the rule."""

    path: str
    message: str
    line: NotRequired[int]
    column: NotRequired[int]
    rule: NotRequired[str]
    hint: NotRequired[str]


class ProblemDocument(TypedDict):
    """Why a request was refused. Programs go by `code`."""

    type: str
    code: str
    title: str
    status: int
    detail: str
    hint: str
    findings: list[FindingDocument]


@dataclass(frozen=True, slots=True)
class Kind:
    """What the refusals of one kind have in common."""

    status: int
    code: str
    title: str
    hint: str


_ASK = "Ask an administrator for it; the permission is named in the detail."
_LOOK = "Look at the thing as it is now, then decide again."
_UNSTORABLE = Kind(
    422,
    "cannot_be_stored",
    "A value cannot be stored",
    "Look for NUL characters and numbers out of all proportion.",
)
_UNAVAILABLE = Kind(
    503,
    "unavailable",
    "The database cannot be reached",
    "Nothing that was stored is lost. Try again after Retry-After seconds; give starts an"
    " Idempotency-Key, then that is safe.",
)
_KINDS: Mapping[type[Exception], Kind] = {
    DefinitionError: Kind(
        422,
        "definition_refused",
        "The definition has errors",
        "Correct every finding; nothing was stored.",
    ),
    InputRefusedError: Kind(
        422, "input_refused", "The input was refused", "Correct every finding; nothing was changed."
    ),
    IdempotencyMismatchError: Kind(
        409,
        "idempotency_mismatch",
        "The key was used for something else",
        "Send a new key for a new order.",
    ),
    EnvironmentClosedError: Kind(
        409,
        "environment_closed",
        "The environment takes no such run",
        "Name an ACTIVE environment: GET /api/v1/environments/.",
    ),
    StateRefusedError: Kind(409, "state_refused", "The state does not allow it", _LOOK),
    NotAllowedError: Kind(
        403,
        "not_allowed",
        "You may not do this",
        "The detail says who may; GET /api/v1/approvals/?mine=true lists what is yours to decide.",
    ),
    NotFoundError: Kind(404, "not_found", "There is no such thing", "Check the name or the id."),
    MissingError: Kind(404, "not_found", "There is no such thing", "Check the name or the id."),
    CursorError: Kind(
        400,
        "bad_cursor",
        "The cursor is not valid",
        "Begin again with the first page, then follow `next`.",
    ),
    exceptions.ValidationError: Kind(
        400, "bad_request", "The request has errors", "Correct every finding; nothing was changed."
    ),
    exceptions.ParseError: Kind(
        400,
        "unreadable_body",
        "The body cannot be read",
        "Send UTF-8 JSON, as the API's description shows it.",
    ),
    exceptions.AuthenticationFailed: Kind(
        401,
        "not_authenticated",
        "Who are you?",
        "Get a new token: POST /api/v1/tokens/ with name and password.",
    ),
    exceptions.NotAuthenticated: Kind(
        401,
        "not_authenticated",
        "Who are you?",
        "Send `Authorization: Bearer <token>`; POST /api/v1/tokens/ makes one.",
    ),
    exceptions.PermissionDenied: Kind(403, "not_allowed", "You may not do this", _ASK),
    PermissionDenied: Kind(403, "not_allowed", "You may not do this", _ASK),
    SignatureError: Kind(
        403,
        "wrong_signature",
        "The signature is wrong",
        "Send it to the whole URL, exactly as it was given out.",
    ),
    exceptions.NotFound: Kind(
        404,
        "no_such_address",
        "There is nothing at this address",
        "See /api/v1/docs/; every address ends with a slash.",
    ),
    Http404: Kind(
        404,
        "no_such_address",
        "There is nothing at this address",
        "See /api/v1/docs/; every address ends with a slash.",
    ),
    exceptions.MethodNotAllowed: Kind(
        405,
        "method_not_allowed",
        "This address does not know the method",
        "See /api/v1/docs/ for its methods.",
    ),
    exceptions.NotAcceptable: Kind(
        406, "not_acceptable", "The answer would be JSON", "Accept application/json."
    ),
    BodyTooLargeError: Kind(
        413,
        "too_large",
        "The body is too large",
        "Send less at once: several bulk starts, or large values as artifacts.",
    ),
    exceptions.UnsupportedMediaType: Kind(
        415,
        "unsupported_media_type",
        "The body is in another format",
        "Send Content-Type: application/json; definitions may also be application/yaml.",
    ),
    exceptions.Throttled: Kind(
        429,
        "too_many_requests",
        "Too many requests",
        "Wait as long as Retry-After says; start many runs by /runs/bulk/.",
    ),
    DataError: _UNSTORABLE,
    psycopg.DataError: _UNSTORABLE,
    OperationalError: _UNAVAILABLE,
    InterfaceError: _UNAVAILABLE,
    psycopg.OperationalError: _UNAVAILABLE,
    psycopg.InterfaceError: _UNAVAILABLE,
    CallbackMismatchError: Kind(
        409,
        "callback_mismatch",
        "Another callback has come before",
        "A URL takes one callback; ask for a new URL if the first was wrong.",
    ),
    CallbackOverError: Kind(
        410,
        "callback_over",
        "Nobody waits for this any more",
        "Nothing was changed. Ask who gave you the URL whether there is another one.",
    ),
    ServiceError: Kind(409, "refused", "The request was refused", _LOOK),
}


def answer(error: Exception, context: Mapping[str, Any]) -> Response | None:  # noqa: ARG001 - the framework's signature
    """Return the answer to a refusal, None for what is none."""
    kind = _kind_of(error)
    if kind is None:
        return None
    set_rollback()
    problem: ProblemDocument = {
        "type": f"urn:orchestrator:{kind.code}",
        "code": kind.code,
        "title": kind.title,
        "status": kind.status,
        "detail": _detail(error, kind),
        "hint": kind.hint,
        "findings": list(_findings(error)),
    }
    response = Response(
        problem, status=kind.status, headers=_headers(error, kind), content_type=CONTENT_TYPE
    )
    if kind is _UNAVAILABLE:
        outage.note(error)
        # Django's own mark of a response about which the log has been told.
        response._has_been_logged = True  # type: ignore[attr-defined] # noqa: SLF001
    return response


def finding_document(found: Finding) -> FindingDocument:
    """Return a finding about a definition as JSON."""
    return {
        "path": found.path,
        "message": found.message,
        "line": found.line,
        "column": found.column,
        "rule": found.rule,
        "hint": found.hint,
    }


def _kind_of(error: Exception) -> Kind | None:
    if isinstance(error, ERRORS) and cure_of(error) is not None:
        return _UNAVAILABLE
    return next((_KINDS[one] for one in type(error).__mro__ if one in _KINDS), None)


def _detail(error: Exception, kind: Kind) -> str:
    match error:
        case DefinitionError(findings=findings):
            return f"{len(findings)} finding{'s' if len(findings) > 1 else ''}."
        case exceptions.ValidationError():
            return "What was sent is not what this address takes."
        case exceptions.APIException(detail=detail):
            return str(detail)
        case ServiceError() | SelectorError():
            return str(error)
        case _:
            return f"{kind.title}."


def _findings(error: Exception) -> Iterator[FindingDocument]:
    match error:
        case DefinitionError(findings=findings):
            yield from map(finding_document, findings)
        case InputRefusedError(findings=findings):
            for finding in findings:
                yield {"path": str(finding.get("path", "")), "message": str(finding["message"])}
        case exceptions.ValidationError(detail=detail):
            yield from _flat("", detail)


def _flat(path: str, detail: Any) -> Iterator[FindingDocument]:
    """Yield the framework's nested details, each with the path to its place in the body."""
    if isinstance(detail, Mapping):
        for key, item in detail.items():
            inner = f"[{key}]" if isinstance(key, int) else f".{key}"
            yield from _flat(path if key == "non_field_errors" else path + inner, item)
    elif isinstance(detail, list) and any(isinstance(item, Mapping) for item in detail):
        for number, item in enumerate(detail):
            yield from _flat(f"{path}[{number}]", item)
    elif isinstance(detail, list):
        for item in detail:
            yield from _flat(path, item)
    else:
        yield {"path": path.removeprefix("."), "message": str(detail)}


def _headers(error: Exception, kind: Kind) -> dict[str, str]:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = str(challenge)
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait) + 1)
    elif kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return headers
