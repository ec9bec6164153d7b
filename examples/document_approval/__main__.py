"""`python -m examples.document_approval`: have a document approved, signed and archived."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from examples.document_approval.vendor import listening
from examples.running import ended, on_the_platform, parser_of, started

if TYPE_CHECKING:
    from workflows.models import Run

GROUP = "document-reviewers"
REVIEWERS = ("example-reviewer-1", "example-reviewer-2")


def main() -> int:
    """Have one document go its way; return 0 if it ended as was to be expected."""
    parser = parser_of(
        "examples.document_approval", "Have a document approved, signed and archived."
    )
    parser.add_argument("--reject", action="store_true", help="the second reviewer says no")
    parser.add_argument("--by-hand", action="store_true", help="you decide, in the admin")
    wish = parser.parse_args()
    return on_the_platform(lambda: _approve(reject=wish.reject, by_hand=wish.by_hand))


def _approve(*, reject: bool, by_hand: bool) -> int:
    with listening() as vendor:
        given = {"title": "Contract 2044-7", "vendor_url": vendor.url}
        run = started(Path(__file__).parent, given, by="command:document-approval")
        if by_hand:
            print(f"  Two members of the group {GROUP} decide, under Approvals in the admin.")
        run = ended(run, meanwhile=(lambda: None) if by_hand else Reviewers(run, reject).look)
    return 0 if run.state == "COMPLETED" else 1


class Reviewers:
    """Two people of the example, who decide as soon as they are asked."""

    def __init__(self, run: "Run", reject: bool) -> None:
        self.run = run
        self.reject = reject
        self.decided = False

    def look(self) -> None:
        """Decide, if the run waits for it."""
        from workflows.models import Approval

        asked = Approval.objects.filter(run=self.run.pk, path="review", closed_at=None).first()
        if asked is not None and not self.decided:
            self.decided = True
            for name in REVIEWERS:
                self._say(asked.pk, name, rejects=self.reject and name == REVIEWERS[-1])

    def _say(self, asked: object, name: str, *, rejects: bool) -> None:
        from django.contrib.auth import get_user_model
        from django.contrib.auth.models import Group

        from workflows.models import Verdict
        from workflows.services.approvals import Said, decide

        person, is_new = get_user_model().objects.get_or_create(username=name)
        if is_new:
            person.set_unusable_password()
            person.save()
        person.groups.add(Group.objects.get_or_create(name=GROUP)[0])
        said = Said(Verdict.REJECT, "A clause is missing.") if rejects else Said(Verdict.APPROVE)
        decide(approval_id=asked, person=person, said=said, by=f"person:{name}")  # type: ignore[arg-type] # the key of a row


if __name__ == "__main__":
    sys.exit(main())
