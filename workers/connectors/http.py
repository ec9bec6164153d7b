"""`http.request`: one HTTP exchange, with its failure sorted by what helps against it.

Connections are pooled per process and never shared with a forked child; cookies are not kept.
The answer is read as a stream, so a server that sends more than was asked for costs nothing.
"""

import json as json_format
import logging
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from workers.context import TaskContext
from workers.errors import PermanentError, StepTimeout, TaskError
from workers.registry import task
from workers.sandbox import run_within
from workflows.language.fields import Timeout
from workflows.language.words import ErrorClass

SCHEMES = {"http", "https"}
MEBIBYTE = 1024 * 1024
LONGEST_RETRY_AFTER = 86_400.0
MAX_EXCERPT = 4_000
MAX_HEADERS = 64
MAX_HEADER = 1_000
KEPT_FROM_OUTPUT = {"set-cookie", "set-cookie2"}
DEFAULT_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "automation-orchestrator",
}
KEYED_METHODS = {"POST", "PUT", "PATCH", "DELETE"}

RETRIED_STATUSES = {408, 425, 429, 500, 502, 503, 504}
HOPELESS_STATUSES = {501, 505}
UNSURE_STATUSES = {500, 502, 504}
"""After these a server, or one behind it, may have done what it was asked."""

NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
Status = Annotated[int, Field(ge=100, le=599)]
StatusRange = Annotated[str, Field(pattern=r"^[1-5]\d\d-[1-5]\d\d$", examples=["200-299"])]
Scalar = str | int | float | bool


class Timeouts(BaseModel):
    """How long to wait for what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect: Timeout = 10.0
    read: Timeout = 30.0
    total: Timeout = 60.0


def class_of(status: int) -> ErrorClass:
    """Say who deals with a status: another try, or a person."""
    if status in RETRIED_STATUSES or (status >= 500 and status not in HOPELESS_STATUSES):  # noqa: PLR2004 - the range of server errors
        return ErrorClass.TRANSIENT
    return ErrorClass.PERMANENT


CODES: Mapping[str, ErrorClass] = {
    "http.connect": ErrorClass.TRANSIENT,
    "http.timeout": ErrorClass.TIMEOUT,
    "http.protocol": ErrorClass.TRANSIENT,
    "http.tls": ErrorClass.PERMANENT,
    "http.redirects": ErrorClass.PERMANENT,
    "http.invalid": ErrorClass.PERMANENT,
    "http.too_large": ErrorClass.PERMANENT,
    **{f"http.{status}": class_of(status) for status in range(100, 600)},
}

FAULTS: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    ((httpx.TimeoutException,), "http.timeout", "did not answer in time"),
    ((httpx.UnsupportedProtocol,), "http.invalid", "is not reached by http or https"),
    ((httpx.LocalProtocolError,), "http.invalid", "would be sent a request that breaks HTTP"),
    ((httpx.TooManyRedirects,), "http.redirects", "redirects without end"),
    ((httpx.RemoteProtocolError,), "http.protocol", "did not keep to HTTP"),
    ((httpx.DecodingError,), "http.protocol", "sent a body that cannot be decoded"),
    ((httpx.TransportError,), "http.connect", "cannot be reached, or broke the connection"),
)
"""What httpx raises, in the order in which it is asked; the first that fits names the code."""


@task("http.request", codes=CODES)
def request(  # noqa: PLR0913, PLR0917 - a step's parameters, given by name
    url: str,
    context: TaskContext,
    method: Method = "GET",
    headers: dict[str, str] | None = None,
    query: dict[str, Scalar | list[Scalar]] | None = None,
    json: JsonValue = None,
    body: str | None = None,
    form: dict[str, Scalar | list[Scalar]] | None = None,
    timeout: Timeout | Timeouts = 60.0,
    follow_redirects: bool = False,
    expect: Status | StatusRange | list[Status | StatusRange] = "200-299",
    max_bytes: Annotated[int, Field(ge=0, le=64 * MEBIBYTE)] = MEBIBYTE,
    verify: bool = True,
) -> dict[str, Any]:
    """Send an HTTP request and give its answer.

    POST, PUT, PATCH and DELETE carry an `Idempotency-Key` that is the same for every attempt,
    unless `headers` names one; where the server does not heed it, the step says
    `idempotent: false`, and what may have been done is then left to a person. `timeout` is the
    whole exchange, or `{connect, read, total}`. `expect` are the statuses that count as success:
    `201`, `200-299`, or a list of these. Any other status is the error `http.<status>`. The output
    is `{status, headers, json | text, bytes, elapsed_ms, url}`; cookies that the server sets are
    not in it.
    """
    if sum(given is not None for given in (json, body, form)) > 1:
        message = "Give one of `json`, `body` and `form`, not several: a request has one body."
        raise PermanentError(message, code="task.parameters")
    limits = timeout if isinstance(timeout, Timeouts) else _within(timeout)
    prepared = _prepare(
        method, url, headers or {}, params=query, json=json, content=body, data=form
    )
    prepared.extensions["timeout"] = httpx.Timeout(limits.read, connect=limits.connect).as_dict()
    if method in KEYED_METHODS:
        prepared.headers.setdefault("Idempotency-Key", context.idempotency_key)
    once = method in KEYED_METHODS and not context.idempotent
    answer = _exchange(
        prepared,
        limits,
        follow_redirects=follow_redirects,
        max_bytes=max_bytes,
        verify=verify,
        once=once,
    )
    expected = expect if isinstance(expect, list) else [expect]
    if not any(_covers(item, answer.status) for item in expected):
        raise _refusal(answer, prepared, context, once=once)
    if answer.cut:
        message = (
            f"{_shown(prepared)} answered with more than {max_bytes:,} bytes. Ask it for less, "
            "or raise `max_bytes`."
        )
        raise PermanentError(message, code="http.too_large", details={"limit": max_bytes})
    return answer.output(context)


class Answer:
    """What came back: at most as much of the body as was asked for."""

    def __init__(self, response: httpx.Response, body: bytes, *, cut: bool, elapsed: float) -> None:
        self.response = response
        self.status = response.status_code
        self.body = body
        self.cut = cut
        self.elapsed = elapsed

    def text(self) -> str:
        """Decode the body by the charset the server named; what does not fit is replaced."""
        try:
            return self.body.decode(self.response.charset_encoding or "utf-8", "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def excerpt(self, context: TaskContext) -> str:
        """Give the beginning of the body; never its cut end, where half a secret may stand."""
        text: str = context.mask(self.text())
        return (text[:-MAX_EXCERPT] if self.cut else text)[:MAX_EXCERPT]

    def headers(self, context: TaskContext) -> dict[str, str]:
        """Give the headers, lower-case and bounded in number and length."""
        kept = [item for item in self.response.headers.items() if item[0] not in KEPT_FROM_OUTPUT]
        return {name: context.mask(value)[:MAX_HEADER] for name, value in kept[:MAX_HEADERS]}

    def output(self, context: TaskContext) -> dict[str, Any]:
        """Give the step's output."""
        return {
            "status": self.status,
            "headers": self.headers(context),
            **self._content(),
            "bytes": len(self.body),
            "elapsed_ms": round(self.elapsed * 1000),
            "url": _without_credentials(self.response.url),
        }

    def _content(self) -> dict[str, Any]:
        kind = self.response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json" or kind.endswith("+json"):
            try:
                return {"json": json_format.loads(self.body)}
            except (ValueError, RecursionError):
                pass
        return {"text": self.text()}


def _within(total: float) -> Timeouts:
    usual = Timeouts()
    return Timeouts(connect=min(usual.connect, total), read=total, total=total)


def _prepare(method: str, url: str, headers: Mapping[str, str], **parts: Any) -> httpx.Request:
    # The library's own text is not shown: it may quote a password out of a URL that it misread.
    with suppress(httpx.InvalidURL, ValueError, TypeError):
        prepared = httpx.Request(method, url, headers=DEFAULT_HEADERS, **parts)
        prepared.headers.update(headers)
        if prepared.url.scheme in SCHEMES and prepared.url.host:
            return prepared
    message = (
        "The request cannot be made: its URL or a header is not valid. "
        "Write the URL as https://host/path, and headers in ASCII."
    )
    raise PermanentError(message, code="http.invalid")


def _exchange(  # noqa: PLR0913 - the parameters of a step, and what they come to
    prepared: httpx.Request,
    limits: Timeouts,
    *,
    follow_redirects: bool,
    max_bytes: int,
    verify: bool,
    once: bool,
) -> Answer:
    def exchange() -> Answer:
        began = time.monotonic()
        with _pooled(verify=verify) as client:
            response = client.send(prepared, stream=True, follow_redirects=follow_redirects)
            try:
                body, cut = _read(response, max_bytes)
            finally:
                response.close()
        return Answer(response, body, cut=cut, elapsed=time.monotonic() - began)

    try:
        return run_within(limits.total, exchange)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _fault(prepared, error, once=once) from error
    except StepTimeout as limit:
        # Where it is the step's time that is up, the outer `run_within` says so all the same.
        raise _fault(prepared, httpx.ReadTimeout("total"), once=once) from limit


def _read(response: httpx.Response, max_bytes: int) -> tuple[bytes, bool]:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > max_bytes:
            return bytes(body[:max_bytes]), True
    return bytes(body), False


def _fault(prepared: httpx.Request, error: Exception, *, once: bool) -> TaskError:
    """Name what went wrong; `once`: a request that may have been sent must not be sent again."""
    where = _shown(prepared)
    if _is_tls(error):
        return PermanentError(f"{where}: its certificate is refused: {error}", code="http.tls")
    for kinds, code, said in FAULTS:
        if isinstance(error, kinds):
            reason = f" ({error})" if str(error) and code != "http.timeout" else ""
            is_unsure = once and not isinstance(error, NOT_SENT)
            known = ErrorClass.UNCERTAIN if is_unsure else CODES[code]
            return TaskError(f"{where} {said}{reason}.", code=code, error_class=known)
    return TaskError(f"{where} redirects to an invalid URL.", code="http.invalid")


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _refusal(
    answer: Answer, prepared: httpx.Request, context: TaskContext, *, once: bool
) -> TaskError:
    advice = (
        " Set `follow_redirects: true` to follow it."
        if answer.response.has_redirect_location
        else ""
    )
    return TaskError(
        f"{_shown(prepared)} answered {answer.status} {answer.response.reason_phrase}.{advice}",
        code=f"http.{answer.status}",
        error_class=ErrorClass.UNCERTAIN
        if once and answer.status in UNSURE_STATUSES
        else class_of(answer.status),
        retry_after=_retry_after(answer.response.headers),
        details={
            "status": answer.status,
            "url": _without_credentials(answer.response.url),
            "headers": answer.headers(context),
            "body": answer.excerpt(context),
        },
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read seconds or an HTTP date (RFC 9110, 10.2.3); at most a day."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def _covers(expected: int | str, status: int) -> bool:
    if isinstance(expected, int):
        return status == expected
    low, high = expected.split("-")
    return int(low) <= status <= int(high)


def _shown(prepared: httpx.Request) -> str:
    return f"{prepared.method} {_without_credentials(prepared.url)}"


def _without_credentials(url: httpx.URL) -> str:
    return str(url.copy_with(username=None, password=None) if url.userinfo else url)


_clients: dict[bool, httpx.Client] = {}
os.register_at_fork(after_in_child=_clients.clear)


@contextmanager
def _pooled(*, verify: bool) -> Iterator[httpx.Client]:
    """Lend the process's client; one whose exchange was interrupted is not used again."""
    client = _clients.get(verify)
    if client is None:
        nowhere = DefaultCookiePolicy(allowed_domains=[])
        client = httpx.Client(verify=verify, cookies=CookieJar(policy=nowhere))
        _clients[verify] = client
    try:
        yield client
    except Exception:
        raise
    except BaseException:
        _clients.pop(verify, None)
        raise


# They log URLs at INFO and headers at DEBUG, and both may hold a secret.
for library in ("httpx", "httpcore"):
    logging.getLogger(library).setLevel(logging.WARNING)
