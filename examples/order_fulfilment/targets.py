"""The four systems that an order goes through, small enough to ship: they keep what they did."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count

from examples.servers import Answer, Handler, Ledger, Request, serving

SYSTEMS = ("erp", "crm", "payment", "shipping")


@dataclass(slots=True)
class Targets:
    """The systems while they listen: their addresses, and what each has done.

    Those in `refusing` answer that it cannot be done.
    """

    refusing: set[str] = field(default_factory=set)
    urls: dict[str, str] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(
        default_factory=lambda: {system: Ledger() for system in SYSTEMS}
    )

    def done(self, system: str) -> list[str]:
        """Return what a system has done, in order."""
        return [request.what for request in self.ledgers[system].done]

    def holds(self, system: str) -> int:
        """Return how much of what a system has done it has not undone."""
        undone = sum(
            one.method == "DELETE" or one.path.endswith("/refund")
            for one in self.ledgers[system].done
        )
        return len(self.ledgers[system].done) - 2 * undone


@contextmanager
def listening(*refusing: str) -> Iterator[Targets]:
    """Have the four systems listen until the block ends."""
    targets = Targets(set(refusing))
    with ExitStack() as stack:
        for system in SYSTEMS:
            targets.urls[f"{system}_url"] = stack.enter_context(serving(_of(targets, system)))
        yield targets


def _of(targets: Targets, system: str) -> Handler:
    numbers = count(1)

    def do(_: Request) -> Answer:
        return HTTPStatus.CREATED, {"id": f"{system}-{next(numbers)}"}

    def undo(_: Request) -> Answer:
        return HTTPStatus.OK, {}

    def handle(request: Request) -> Answer:
        undoes = request.method == "DELETE"
        if system in targets.refusing and not undoes:
            return HTTPStatus.CONFLICT, {"why": f"{system} refuses"}
        return targets.ledgers[system].once(request, undo if undoes else do)

    return handle
