"""`python -m examples.onboarding`: start the targets, apply the workflow and run it."""

import sys
from pathlib import Path

from examples.onboarding.targets import listening
from examples.running import ended, on_the_platform, parser_of, started

CUSTOMER = {"name": "Ada Lovelace", "email": "ada@example.com", "plan": "business"}


def main() -> int:
    """Run the onboarding of one customer; return 0 if it completed."""
    parser_of("examples.onboarding", "Welcome a customer: account, plan and mail.").parse_args()
    return on_the_platform(_onboard)


def _onboard() -> int:
    with listening() as targets:
        given = {
            **CUSTOMER,
            "accounts_url": targets.accounts_url,
            "mail_port": targets.mail_port,
        }
        run = ended(started(Path(__file__).parent, given, by="command:onboarding"))
        print("what the systems were asked, under which key:")
        for call in targets.calls:
            print(f"  {call.what:<32} {call.key}")
    return 0 if run.state == "COMPLETED" else 1


if __name__ == "__main__":
    sys.exit(main())
