"""An HTTP exchange: what is sent, what is given, and a code and a class for each way to fail."""

import gzip
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.workers.builders import assignment, carry_out, error_of, everything_said, output_of
from workers.connectors import http
from workers.executor import execute
from workers.registry import catalog
from workflows.engine.events import StepError
from workflows.language.words import ErrorClass

REFUSED = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def request(url: str, **parameters: Any) -> Any:
    return carry_out("http.request", url=url, **parameters)


def mirror(seen: Request) -> Response:
    """Answer with what was asked."""
    told = {
        "method": seen.method,
        "query": seen.args.to_dict(flat=False),
        "headers": {name.lower(): value for name, value in seen.headers.items()},
        "body": seen.get_data(as_text=True),
    }
    return Response(json.dumps(told), content_type="application/json")


@contextmanager
def raw_server(*answers: bytes, drip: float = 0.0) -> Iterator[str]:
    """Serve one connection per answer, byte for byte; then say nothing until the client goes."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    send(connection, answer)

    def send(connection: socket.socket, answer: bytes) -> None:
        if not drip:
            connection.sendall(answer)
            return
        for byte in answer:
            connection.sendall(bytes([byte]))
            if ended.wait(drip):
                return
        ended.wait(20)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        ended.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)
        listener.close()


def test_the_answer_is_given_with_its_json(httpserver: HTTPServer) -> None:
    body = '{"id": 7}'
    httpserver.expect_request("/things").respond_with_data(
        body, content_type="application/json", headers={"X-Kind": "a"}
    )

    output = output_of(request(httpserver.url_for("/things")))

    assert output.pop("elapsed_ms") >= 0
    assert output.pop("headers").items() >= {("x-kind", "a"), ("content-type", "application/json")}
    assert output == {
        "status": 200,
        "json": {"id": 7},
        "bytes": len(body),
        "url": httpserver.url_for("/things"),
    }


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=latin-1", "grün".encode("latin-1"), "grün"),
        ("text/plain; charset=unheard-of", "grün".encode(), "grün"),
        ("application/octet-stream", b"\xff", "\ufffd"),
        ("application/json", b"{not json", "{not json"),
        ("application/json", b"[" * 100_000, "[" * 100_000),
    ],
)
def test_what_is_no_json_is_text(
    content_type: str, body: bytes, text: str, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/").respond_with_data(body, content_type=content_type)

    output = output_of(request(httpserver.url_for("/")))

    assert output["text"] == text
    assert "json" not in output


def test_everything_asked_for_is_sent(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_handler(mirror)

    seen = output_of(
        request(
            httpserver.url_for("/"),
            method="POST",
            query={"a": [1, 2], "b": "x y"},
            headers={"X-Token": "t"},
            json={"n": [1]},
        )
    )["json"]

    assert (seen["method"], json.loads(seen["body"])) == ("POST", {"n": [1]})
    assert seen["query"] == {"a": ["1", "2"], "b": ["x y"]}
    assert seen["headers"]["x-token"] == "t"
    assert seen["headers"]["user-agent"] == "automation-orchestrator"
    assert seen["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("given", "body"),
    [({"body": "plain"}, "plain"), ({"form": {"a": 1, "b": ["x", "y"]}}, "a=1&b=x&b=y")],
)
def test_a_body_may_be_text_or_a_form(given: Any, body: str, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_handler(mirror)

    seen = output_of(request(httpserver.url_for("/"), method="PUT", **given))["json"]

    assert seen["body"] == body


def test_a_request_has_one_body(httpserver: HTTPServer) -> None:
    error = error_of(request(httpserver.url_for("/"), method="POST", json={}, body="x"))

    assert error.code == "task.parameters"
    assert not httpserver.log


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_changing_request_carries_the_idempotency_key(
    method: str, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/").respond_with_handler(mirror)

    seen = output_of(request(httpserver.url_for("/"), method=method))["json"]

    assert seen["headers"]["idempotency-key"] == "run-1:step"


def test_an_idempotency_key_of_the_steps_own_wins(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_handler(mirror)
    own = {"idempotency-KEY": "mine"}

    posted = output_of(request(httpserver.url_for("/"), method="POST", headers=own))["json"]
    got = output_of(request(httpserver.url_for("/")))["json"]

    assert posted["headers"]["idempotency-key"] == "mine"
    assert "idempotency-key" not in got["headers"]


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (302, ErrorClass.PERMANENT),
        (400, ErrorClass.PERMANENT),
        (404, ErrorClass.PERMANENT),
        (408, ErrorClass.TRANSIENT),
        (425, ErrorClass.TRANSIENT),
        (429, ErrorClass.TRANSIENT),
        (500, ErrorClass.TRANSIENT),
        (501, ErrorClass.PERMANENT),
        (503, ErrorClass.TRANSIENT),
        (505, ErrorClass.PERMANENT),
        (520, ErrorClass.TRANSIENT),
    ],
)
def test_a_status_is_an_error_of_its_class(
    status: int, error_class: ErrorClass, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/").respond_with_data("why", status=status)

    error = error_of(request(httpserver.url_for("/")))

    assert (error.error_class, error.code) == (error_class, f"http.{status}")
    assert (error.details["status"], error.details["body"]) == (status, "why")
    assert catalog.codes("http.request")[error.code] is error_class


@pytest.mark.parametrize("expect", [404, "400-499", [201, "404-404"]])
def test_an_expected_status_is_no_error(expect: Any, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("gone", status=404)

    assert output_of(request(httpserver.url_for("/"), expect=expect))["status"] == 404


def test_a_status_that_is_not_expected_is_an_error_even_if_it_is_a_good_one(
    httpserver: HTTPServer,
) -> None:
    httpserver.expect_request("/").respond_with_data("ok", status=200)

    assert error_of(request(httpserver.url_for("/"), expect=[201])).code == "http.200"


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("120", 120, 120),
        ("999999999", 86_400, 86_400),
        (timedelta(hours=2), 7000, 7200),
        (timedelta(hours=-2), 0, 0),
    ],
    ids=["seconds", "more than a day", "a time to come", "a time gone by"],
)
def test_a_server_may_say_when_to_come_back(
    header: str | timedelta, low: float, high: float, httpserver: HTTPServer
) -> None:
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    httpserver.expect_request("/").respond_with_data(status=503, headers={"Retry-After": header})

    retry_after = error_of(request(httpserver.url_for("/"))).retry_after

    assert retry_after is not None
    assert low <= retry_after <= high


@pytest.mark.parametrize("header", ["soon", "", "-5", "1.5", "²", "Tue, 99 Foo 2026"])
def test_a_retry_after_that_cannot_be_read_is_none(header: str, httpserver: HTTPServer) -> None:
    headers = {"Retry-After": header.encode().decode("latin-1")}
    httpserver.expect_request("/").respond_with_data(status=503, headers=headers)

    assert error_of(request(httpserver.url_for("/"))).retry_after is None


def test_a_redirect_is_followed_only_when_asked_for(httpserver: HTTPServer) -> None:
    target = httpserver.url_for("/new")
    httpserver.expect_request("/old").respond_with_data(status=302, headers={"Location": target})
    httpserver.expect_request("/new").respond_with_data("here")

    refused = error_of(request(httpserver.url_for("/old")))
    followed = output_of(request(httpserver.url_for("/old"), follow_redirects=True))

    assert refused.code == "http.302"
    assert "follow_redirects: true" in refused.message
    assert (followed["text"], followed["url"]) == ("here", target)


@pytest.mark.parametrize(
    ("location", "code"),
    [("/", "http.redirects"), ("file:///etc/hostname", "http.invalid")],
)
def test_a_redirect_that_leads_nowhere_is_an_error(
    location: str, code: str, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/").respond_with_data(status=302, headers={"Location": location})

    error = error_of(request(httpserver.url_for("/"), follow_redirects=True))

    assert error.code == code


@pytest.mark.parametrize("compressed", [False, True])
def test_an_answer_too_large_is_refused(compressed: bool, httpserver: HTTPServer) -> None:
    body = b"x" * 1_000_000
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    httpserver.expect_request("/").respond_with_data(
        gzip.compress(body) if compressed else body, headers=headers
    )

    error = error_of(request(httpserver.url_for("/"), max_bytes=1000))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "http.too_large")
    assert "more than 1,000 bytes" in error.message


def test_an_answer_as_large_as_allowed_is_given(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data(b"x" * 1000)

    assert output_of(request(httpserver.url_for("/"), max_bytes=1000))["bytes"] == 1000


def test_a_server_that_is_not_there_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    error = error_of(request(f"http://127.0.0.1:{port}/"))

    assert (error.error_class, error.code) == (ErrorClass.TRANSIENT, "http.connect")
    assert f"GET http://127.0.0.1:{port}/ cannot be reached" in error.message


@pytest.mark.parametrize("timeout", [{"read": 0.05}, "100ms", {"total": 0.1}])
def test_a_silent_server_is_a_timeout(timeout: Any) -> None:
    with raw_server(b"H", drip=20) as url:
        error = error_of(request(url, timeout=timeout))

    assert (error.error_class, error.code) == (ErrorClass.TIMEOUT, "http.timeout")


def once_only(url: str, **parameters: Any) -> StepError:
    """Have a request sent that must not be sent twice, and return why it failed."""
    told = {"url": url, "method": "POST", **parameters}
    return error_of(execute(assignment("http.request", told, idempotent=False), registry=catalog))


@pytest.mark.parametrize(
    ("answer", "code"),
    [(b"H", "http.timeout"), (b"", "http.protocol"), (REFUSED % 502, "http.502")],
)
def test_a_request_that_must_not_be_sent_twice_is_uncertain_once_it_was_sent(
    answer: bytes, code: str
) -> None:
    is_silent = answer == b"H"
    with raw_server(answer, drip=20 if is_silent else 0.0) as url:
        error = once_only(url, timeout=0.2 if is_silent else 30)

    assert (error.error_class, error.code) == (ErrorClass.UNCERTAIN, code)


def test_a_request_that_was_not_sent_or_was_refused_may_be_sent_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with raw_server(REFUSED % 503) as url:
        refused = once_only(url)
    with raw_server(REFUSED % 502) as url:
        only_read = once_only(url, method="GET")

    away = once_only(f"http://127.0.0.1:{port}/")
    assert {one.error_class for one in (refused, only_read, away)} == {ErrorClass.TRANSIENT}


def test_a_server_that_drips_does_not_outrun_the_total() -> None:
    began = time.monotonic()

    with raw_server(OK.replace(b"2", b"9000") + b"x" * 9000, drip=0.01) as url:
        error = error_of(request(url, timeout={"total": 0.2, "read": 5}))

    assert error.code == "http.timeout"
    assert time.monotonic() - began < 5


def test_the_steps_own_timeout_stays_the_steps() -> None:
    with raw_server(b"H", drip=20) as url:
        step = assignment("http.request", {"url": url}, timeout=0.1)
        error = error_of(execute(step, registry=catalog))

    assert error.code == "task.timeout"


def test_after_an_interruption_the_next_request_is_sound(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("ok")
    with raw_server(b"H", drip=20) as url:
        request(url, timeout=0.05)

    assert not http._clients
    assert output_of(request(httpserver.url_for("/")))["text"] == "ok"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", OK.replace(b"2\r", b"9\r")])
def test_a_server_that_breaks_the_protocol_is_tried_again(answer: bytes) -> None:
    with raw_server(answer) as url:
        error = error_of(request(url))

    assert (error.error_class, error.code) == (ErrorClass.TRANSIENT, "http.protocol")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "file:///etc/hostname",
        "host/x",
        "http://",
        "http://u:pa:ss@h:x/",
        "http:///x",
    ],
)
def test_only_http_and_https_urls_are_asked(url: str) -> None:
    error = error_of(request(url))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "http.invalid")
    assert "pa:ss" not in everything_said(request(url))


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "grün"])
def test_a_header_that_breaks_the_protocol_is_refused(value: str, httpserver: HTTPServer) -> None:
    error = error_of(request(httpserver.url_for("/"), headers={"X-A": value}))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "http.invalid")
    assert not httpserver.log


def test_credentials_in_a_url_are_used_and_not_shown(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/ok").respond_with_handler(mirror)
    httpserver.expect_request("/no").respond_with_data(status=403)
    with_password = httpserver.url_for("/").replace("//", "//user:hunter2@", 1)

    good, bad = request(f"{with_password}ok"), request(f"{with_password}no")

    assert output_of(good)["json"]["headers"]["authorization"].startswith("Basic ")
    assert output_of(good)["url"] == httpserver.url_for("/ok")
    assert "hunter2" not in everything_said(good) + everything_said(bad)


def test_a_secret_that_a_server_sends_back_is_masked(httpserver: HTTPServer) -> None:
    echoed = {"X-Echo": "x" * 990 + "hunter2hunter2"}
    httpserver.expect_request("/").respond_with_data("hunter2" * 1000, status=400, headers=echoed)
    step = assignment(
        "http.request", {"url": httpserver.url_for("/")}, secrets={"hunter2", "hunter2hunter2"}
    )

    outcome = execute(step, registry=catalog)

    assert error_of(outcome).code == "http.400"
    assert "hunt" not in everything_said(outcome)


def test_a_cookie_is_neither_kept_nor_given(httpserver: HTTPServer) -> None:
    cookie = {"Set-Cookie": "session=hunter2; Path=/", "Location": "/next"}
    httpserver.expect_request("/login").respond_with_data("ok", headers=cookie)
    httpserver.expect_request("/old").respond_with_data(status=302, headers=cookie)
    httpserver.expect_request("/next").respond_with_handler(mirror)

    first = output_of(request(httpserver.url_for("/login")))
    second = output_of(request(httpserver.url_for("/old"), follow_redirects=True))

    assert "set-cookie" not in first["headers"]
    assert "cookie" not in second["json"]["headers"]


def test_a_forked_process_has_connections_of_its_own(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("ok")
    request(httpserver.url_for("/"))
    inherited = len(http._clients)

    child = os.fork()
    if child == 0:
        os._exit(len(http._clients))

    assert inherited == 1
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_redirect_to_what_is_no_url_breaks_the_protocol() -> None:
    with raw_server(
        b"HTTP/1.1 302 Found\r\nLocation: http://h:x\r\nContent-Length: 0\r\n\r\n"
    ) as url:
        error = error_of(request(url, follow_redirects=True))

    assert error.code == "http.protocol"


def test_a_certificate_that_nobody_signed_is_refused_unless_told_otherwise(
    tls_server: HTTPServer,
) -> None:
    tls_server.expect_request("/").respond_with_data("ok")

    refused = error_of(request(tls_server.url_for("/")))
    accepted = output_of(request(tls_server.url_for("/"), verify=False))

    assert (refused.error_class, refused.code) == (ErrorClass.PERMANENT, "http.tls")
    assert accepted["text"] == "ok"


@pytest.fixture(autouse=True)
def fresh_clients() -> Iterator[None]:
    yield
    for client in http._clients.values():
        client.close()
    http._clients.clear()


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[HTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))
    with HTTPServer(host="127.0.0.1", ssl_context=context) as server:
        yield server


def self_signed(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
