"""Seal what is secret at rest under the newest key of its environment; then older keys may go."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from workflows.management.door import Door, RefusedError
from workflows.services.profiles import reseal_all


class Command(Door):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.set_defaults(act=self.reseal)
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")

    def reseal(self, *, as_json: bool, **_: Any) -> None:
        done = reseal_all()
        if as_json:
            self.print_json(asdict(done))
        else:
            already = f"{done.sealed_already} were under it already"
            self.say(f"Sealed {done.sealed_anew} under the newest key; {already}.")
        if done.unreadable:
            left = ", ".join(f"{number} of {name}" for name, number in done.unreadable.items())
            message = (
                f"Not read: {left}, for this process lacks the key. Run it again with the keys"
                " of these environments, old and new, in VAULT_KEY or ENVIRONMENT_KEYS."
            )
            raise RefusedError(message)
