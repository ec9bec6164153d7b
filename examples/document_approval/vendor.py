"""The vendor who signs: takes an envelope, works for a while, and answers where it was told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from examples.servers import Answer, Ledger, Request, serving

SIGNER = "Grace Hopper"
WORKS_FOR = 0.5
"""Seconds."""

Reply = Callable[[str, dict[str, Any]], None]


def by_http(url: str, said: dict[str, Any]) -> None:
    """Send the answer, as anybody would who was given the URL."""
    httpx.post(url, json=said, timeout=10, trust_env=False).raise_for_status()


@dataclass(slots=True)
class Vendor:
    """Where the vendor listens, and the envelopes that were taken."""

    url: str = ""
    ledger: Ledger = field(default_factory=Ledger)


@contextmanager
def listening(reply: Reply = by_http, *, works_for: float = WORKS_FOR) -> Iterator[Vendor]:
    """Have the vendor listen until the block ends, and then end what is being worked on."""
    vendor = Vendor()
    at_work: list[threading.Timer] = []

    def take(request: Request) -> Answer:
        said = {"by": SIGNER, "title": request.body["title"]}
        timer = threading.Timer(works_for, reply, (request.body["answer_to"], said))
        at_work.append(timer)
        timer.start()
        return HTTPStatus.ACCEPTED, {"envelope": len(at_work)}

    with serving(lambda request: vendor.ledger.once(request, take)) as vendor.url:
        yield vendor
        for timer in at_work:
            timer.join()
