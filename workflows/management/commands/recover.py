"""Find what was lost (leases, messages, timers) and put it right; print what was done and why."""

from typing import Any

from django.core.management.base import CommandParser

from workflows import store
from workflows.management.door import Door
from workflows.services.recovery import recover


class Command(Door):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.set_defaults(act=self.recover)
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")

    def recover(self, *, as_json: bool, **_: Any) -> None:
        report = recover(now=store.now())
        if as_json:
            self.print_json({"results": list(report.lines)})
            return
        for line in report.lines or ["Nothing was lost."]:
            self.say(line)
