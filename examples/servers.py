"""Small JSON servers on free loopback ports: the systems that the examples talk to."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """What a server was asked: `key` is the idempotency key, or empty."""

    method: str
    path: str
    body: Any
    key: str

    @property
    def what(self) -> str:
        """The method and the path."""
        return f"{self.method} {self.path}"


Answer = tuple[int, Any]
"""A status and a body."""

Handler = Callable[[Request], Answer]


@dataclass(slots=True)
class Ledger:
    """What was done, in order. Like a real system, a repeated key gets the first answer again."""

    done: list[Request] = field(default_factory=list)
    _answers: dict[str, Answer] = field(default_factory=dict)
    _one_by_one: threading.Lock = field(default_factory=threading.Lock)

    def once(self, request: Request, do: Handler) -> Answer:
        """Do what is asked, once for each key; what is refused is not done."""
        with self._one_by_one:
            if request.key and request.key in self._answers:
                return self._answers[request.key]
            status, body = do(request)
            if status < 400:  # noqa: PLR2004 - below it a request has succeeded
                self.done.append(request)
                self._answers[request.key] = status, body
            return status, body


@contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """Have a server answer with what the handler returns, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _speaking(handler))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def free_address() -> str:
    """Return an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def _speaking(handler: Handler) -> type[BaseHTTPRequestHandler]:
    class Speaker(BaseHTTPRequestHandler):
        """GET, POST and DELETE, JSON in and JSON out."""

        protocol_version = "HTTP/1.1"

        def _speak(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            key = self.headers.get("Idempotency-Key", "")
            asked = Request(self.command, self.path, json.loads(text or b"null"), key)
            status, said = handler(asked)
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._speak()

        def do_POST(self) -> None:
            self._speak()

        def do_DELETE(self) -> None:
            self._speak()

        def log_message(self, *_: Any) -> None:
            """Stay quiet: what was done is in the ledger."""

    return Speaker
