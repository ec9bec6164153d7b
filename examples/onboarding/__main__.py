"""`python -m examples.onboarding`: start the targets, apply the workflow, run it, show the result.

The platform must be running in another terminal: `make run`.
"""

import os
import sys
import time
from pathlib import Path

import django

ENDS_WITHIN = 60.0
CUSTOMER = {"name": "Ada Lovelace", "email": "ada@example.com", "plan": "business"}


def main() -> int:
    """Run the onboarding of one customer; return 0 if it completed."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    django.setup()
    from django.conf import settings
    from django.db import OperationalError

    try:
        return _onboard()
    except OperationalError:
        sys.exit(settings.ENV.why_unreachable())


def _onboard() -> int:
    from examples.onboarding.targets import listening
    from workflows.models import Run
    from workflows.services.definitions import apply_definition
    from workflows.services.runs import start_run

    path = Path(__file__).with_name("workflow.yaml")
    apply_definition(text=path.read_text(), source=str(path), by="command:onboarding")
    with listening() as targets:
        given = {
            **CUSTOMER,
            "accounts_url": targets.accounts_url,
            "mail_port": targets.mail_port,
        }
        run = start_run(workflow="onboarding", input=given, by="command:onboarding").run
        print(f"run {run.pk}")
        deadline = time.monotonic() + ENDS_WITHIN
        while run.finished_at is None:
            if time.monotonic() > deadline:
                sys.exit(f"It did not end in {ENDS_WITHIN:g} s. Is the platform up? `make run`")
            time.sleep(0.1)
            run = Run.objects.get(pk=run.pk)
        for call in targets.calls:
            print(f"  {call.what:<32} {call.key}")
        print(f"{run.state}: {run.output or run.error}")
    return 0 if run.state == "COMPLETED" else 1


if __name__ == "__main__":
    sys.exit(main())
