"""A small cluster: a web service in several versions, traffic to it, and what deploys it.

All of it is real, on free loopback ports: each version is an HTTP server of its own, clients send
requests one after the other, and the share of a version is the share of them that it answers.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count

import httpx

from examples.servers import Answer, Handler, Request, serving

CLIENTS = 4
BAD_EVERY = 3
"""Of a bad version, every third request fails."""


@dataclass(slots=True)
class Version:
    """A version that is deployed: where it listens, its share, and what it has answered."""

    url: str
    share: float = 0.0
    requests: int = 0
    errors: int = 0

    def as_dict(self) -> dict[str, float]:
        """Return what the telemetry tells."""
        rate = self.errors / self.requests if self.requests else 0.0
        return {"requests": self.requests, "errors": self.errors, "error_rate": rate}


@dataclass(slots=True)
class Cluster:
    """What is deployed, which version is the stable one, and what has been done, in order."""

    url: str = ""
    stable: str = "v1"
    versions: dict[str, Version] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    places: ExitStack = field(default_factory=ExitStack)
    bad: frozenset[str] = frozenset()

    def deploy(self, name: str) -> Version:
        """Start a version, unless it is there already."""
        with self._lock:
            if name not in self.versions:
                service = _service(fails=name in self.bad)
                self.versions[name] = Version(self.places.enter_context(serving(service)))
            return self.versions[name]

    def chosen(self, number: int) -> Version:
        """Return who answers the request of that number: by the shares, spread evenly."""
        with self._lock:
            for name, version in self.versions.items():
                before, after = (number * version.share) // 1, ((number + 1) * version.share) // 1
                if name != self.stable and after > before:
                    return version
            return self.versions[self.stable]

    def count(self, version: Version, *, failed: bool) -> None:
        """Note an answer."""
        with self._lock:
            version.requests += 1
            version.errors += failed

    def handle(self, request: Request) -> Answer:
        """Deploy, remove, share out, tell, and make stable."""
        match request.method, *request.path.strip("/").split("/"):
            case "POST", "versions", name:
                answer = HTTPStatus.CREATED, {"url": self.deploy(name).url}
            case "DELETE", "versions", name if name != self.stable:
                self.versions.pop(name, None)
                answer = HTTPStatus.OK, {}
            case "POST", "traffic":
                self.versions[request.body["version"]].share = request.body["share"]
                answer = HTTPStatus.CREATED, {}
            case "GET", "telemetry", name:
                return HTTPStatus.OK, self.versions[name].as_dict()
            case "POST", "stable":
                self.stable = request.body["version"]
                answer = HTTPStatus.CREATED, {}
            case _:
                return HTTPStatus.NOT_FOUND, {"why": "there is no such thing"}
        self.done.append(request.what)
        return answer


@contextmanager
def running(*bad: str) -> Iterator[Cluster]:
    """Have a cluster with a stable version and traffic to it; the versions in `bad` fail."""
    cluster = Cluster(bad=frozenset(bad))
    stopping = threading.Event()
    with cluster.places as places:
        cluster.deploy(cluster.stable)
        cluster.url = places.enter_context(serving(cluster.handle))
        send = _client(cluster, count(), stopping)
        threads = [threading.Thread(target=send, daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield cluster
        finally:
            stopping.set()
            for thread in threads:
                thread.join()


def _client(
    cluster: Cluster, numbers: Iterator[int], stopping: threading.Event
) -> Callable[[], None]:
    def send() -> None:
        with httpx.Client(timeout=5, trust_env=False) as client:
            while not stopping.wait(0.01):
                version = cluster.chosen(next(numbers))
                cluster.count(version, failed=client.get(version.url).is_error)

    return send


def _service(*, fails: bool) -> Handler:
    numbers = count(1)

    def answer(request: Request) -> Answer:
        if fails and request.path != "/selftest" and next(numbers) % BAD_EVERY == 0:
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"why": "a bug that no test has found"}
        return HTTPStatus.OK, {"hello": "world"}

    return answer
