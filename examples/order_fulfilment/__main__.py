"""`python -m examples.order_fulfilment [--fail SYSTEM]`: fulfil an order, or have it undone."""

import sys
from pathlib import Path

from examples.order_fulfilment.targets import SYSTEMS, listening
from examples.running import ended, on_the_platform, parser_of, started

ORDER = {
    "order": "A-1001",
    "amount": 129.5,
    "lines": [{"sku": "lamp", "count": 2}, {"sku": "bulb", "count": 4}],
}


def main() -> int:
    """Run one order; return 0 if it ended as was to be expected."""
    parser = parser_of("examples.order_fulfilment", "Fulfil an order, or have it undone.")
    parser.add_argument("--fail", choices=SYSTEMS, help="this system refuses what it is asked for")
    parser.add_argument("--kill", choices=SYSTEMS, help="this system is dead: nobody listens there")
    wish = parser.parse_args()
    return on_the_platform(lambda: _fulfil(fail=wish.fail, kill=wish.kill))


def _fulfil(*, fail: str | None, kill: str | None) -> int:
    with listening(refusing={fail}, dead={kill}) as targets:
        run = started(
            Path(__file__).parent, {**ORDER, **targets.urls}, by="command:order-fulfilment"
        )
        run = ended(run)
        print("what each system has done:")
        for system in SYSTEMS:
            print(f"  {system:<9} {', '.join(targets.done(system)) or 'nothing'}")
    return 0 if run.state == ("COMPENSATED" if fail or kill else "COMPLETED") else 1


if __name__ == "__main__":
    sys.exit(main())
