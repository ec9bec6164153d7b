"""The four systems that an order goes through, small enough to ship: they keep what they did."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count

from examples.servers import Answer, Handler, Ledger, Request, free_address, serving

SYSTEMS = ("erp", "crm", "payment", "shipping")
GRANTED = {"erp": 1}
"""What a system grants before it refuses: one reservation, so that there is one to undo."""


@dataclass(slots=True)
class Targets:
    """The systems while they listen: their addresses, and what each has done.

    Those in `refusing` answer that it cannot be done.
    """

    refusing: Collection[str | None] = ()
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
def listening(
    *, refusing: Collection[str | None] = (), dead: Collection[str | None] = ()
) -> Iterator[Targets]:
    """Have the systems listen until the block ends, but for those that are dead."""
    targets = Targets(refusing)
    with ExitStack() as stack:
        for system in SYSTEMS:
            targets.urls[f"{system}_url"] = (
                free_address()
                if system in dead
                else stack.enter_context(serving(_of(targets, system)))
            )
        yield targets


def _of(targets: Targets, system: str) -> Handler:
    ledger, numbers = targets.ledgers[system], count(1)

    def do(_: Request) -> Answer:
        if system in targets.refusing and len(ledger.done) >= GRANTED.get(system, 0):
            return HTTPStatus.CONFLICT, {"why": f"{system} refuses"}
        return HTTPStatus.CREATED, {"id": f"{system}-{next(numbers)}"}

    def undo(_: Request) -> Answer:
        return HTTPStatus.OK, {}

    def handle(request: Request) -> Answer:
        return ledger.once(request, undo if request.method == "DELETE" else do)

    return handle
