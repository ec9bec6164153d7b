"""Pay into a ledger, a file in which each payment is a line of its own."""

import time
from pathlib import Path
from typing import Literal

from workers.context import TaskContext
from workers.probing import Answer, Happened, NotHappened, Unknown
from workers.registry import task

FOREVER = 600.0


def payments(ledger: Path) -> list[str]:
    """Return the idempotency keys of what was paid."""
    return ledger.read_text().split() if ledger.exists() else []


def paid(ledger: Path, context: TaskContext, closed: bool = False) -> Answer:
    """Look into the ledger, unless it is closed."""
    if closed:
        return Unknown("the ledger is closed")
    key = context.idempotency_key
    return Happened({"paid": key}) if key in payments(ledger) else NotHappened()


@task("bank.pay", idempotent=False, probe=paid)
def pay(
    ledger: Path,
    context: TaskContext,
    hang: Literal["before", "after"] | None = None,
    closed: bool = False,
) -> dict[str, str]:
    """Pay; the first attempt hangs before or after it does, if asked to."""
    del closed
    first = context.attempt == 1
    if first and hang == "before":
        time.sleep(FOREVER)
    with ledger.open("a") as lines:
        lines.write(f"{context.idempotency_key}\n")
    if first and hang == "after":
        time.sleep(FOREVER)
    return {"paid": context.idempotency_key}
