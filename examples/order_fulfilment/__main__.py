"""`python -m examples.order_fulfilment [--fail SYSTEM]`: fulfil an order, or have it undone."""

import argparse
import sys
from pathlib import Path

from examples.order_fulfilment.targets import SYSTEMS, listening
from examples.running import ended, on_the_platform, started

ORDER = {
    "order": "A-1001",
    "amount": 129.5,
    "lines": [{"sku": "lamp", "count": 2}, {"sku": "bulb", "count": 4}],
}


def main() -> int:
    """Run one order; return 0 if it ended as was to be expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fail", choices=SYSTEMS, help="the system that refuses")
    fail: str | None = parser.parse_args().fail
    return on_the_platform(lambda: _fulfil(fail))


def _fulfil(fail: str | None) -> int:
    with listening(*filter(None, [fail])) as targets:
        run = started(
            Path(__file__).parent, {**ORDER, **targets.urls}, by="command:order-fulfilment"
        )
        run = ended(run)
        for system in SYSTEMS:
            print(f"  {system:<9} {', '.join(targets.done(system)) or 'nothing'}")
    return 0 if run.state == ("COMPENSATED" if fail else "COMPLETED") else 1


if __name__ == "__main__":
    sys.exit(main())
