"""The target of the load, outside of all faults: it remembers what was asked of it, and when.

An effect of an idempotent kind is applied once for each key; any other is applied each time it
comes. A probe answers what has been applied under a key, and from then on the attempts up to the
one that was asked about are refused: a worker that was only asleep must not act after the answer.
Of every third key that is asked about, it says that it does not know, however often it is asked.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

UNKNOWN_EVERY = 3


@dataclass(slots=True)
class Ledger:
    """Every delivery in its order, and what has been applied."""

    deliveries: list[dict[str, Any]] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Who asked whether what they depend on is there."""
    stays: list[dict[str, Any]] = field(default_factory=list)
    """Who came with which profile, and who went."""
    is_up: bool = True
    """Whether what some steps depend on is there."""
    void: dict[str, int] = field(default_factory=dict)
    _applied: dict[str, dict[str, Any]] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)
    """The keys that were asked about, numbered."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def effect(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Take a delivery; the answer's value is that of the effect that there is now."""
        with self._lock:
            delivery = dict(order) | {"at": time.time(), "applied": False, "refused": False}
            self.deliveries.append(delivery)
            if order["attempt"] <= self.void.get(order["key"], 0):
                delivery["refused"] = True
                return {"refused": f"attempt {order['attempt']} was given up when it was probed"}
            known = self._applied.get(order["key"])
            if known is None or order["kind"] != "idempotent":
                delivery["applied"] = True
                known = self._applied[order["key"]] = delivery
            return {"value": known["value"]}

    def probe(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Answer what is applied; refuse from now on what was asked about and is not."""
        key = asked["key"]
        with self._lock:
            number = self._asked.setdefault(key, len(self._asked) + 1)
            found = self._applied.get(key)
            if number % UNKNOWN_EVERY == 0:
                answer = "unknown"
            else:
                answer = "not happened" if found is None else "happened"
                self.void[key] = max(self.void.get(key, 0), asked["attempt"])
            self.probes.append(dict(asked) | {"at": time.time(), "answer": answer})
            return {"answer": answer, "value": found and found["value"]}

    def depend(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Answer whether what a step depends on is there."""
        with self._lock:
            is_up = self.is_up
            self.calls.append(dict(asked) | {"at": time.time(), "is_up": is_up})
            return {"is_up": is_up}

    def stay(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Take note of who comes with a profile, or goes."""
        with self._lock:
            self.stays.append(dict(told) | {"at": time.time()})
            return {}

    def to_be_called(self) -> list[dict[str, Any]]:
        """Return the deliveries that say where an answer is to be sent."""
        with self._lock:
            return [one for one in self.deliveries if "url" in one]

    def look(self, key: str) -> dict[str, Any]:
        """Answer what is applied under a key."""
        with self._lock:
            return {"applied": self._applied.get(key)}

    def as_document(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        with self._lock:
            return {
                "deliveries": list(self.deliveries),
                "probes": list(self.probes),
                "calls": list(self.calls),
                "stays": list(self.stays),
            }


@contextmanager
def served(ledger: Ledger) -> Iterator[str]:
    """Serve the ledger by HTTP, and yield its address."""

    doors = {
        "/effect": ledger.effect,
        "/probe": ledger.probe,
        "/depend": ledger.depend,
        "/stay": ledger.stay,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = doors[self.path](order)
            self._answer(answer, 409 if "refused" in answer else 200)

        def do_GET(self) -> None:
            self._answer(ledger.look(self.path.removeprefix("/effect/")), 200)

        def _answer(self, answer: Mapping[str, Any], status: int) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: the ledger itself is the log."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Say nothing: whoever asked has been killed."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.1,), name="ledger", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
