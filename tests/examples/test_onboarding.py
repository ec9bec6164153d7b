"""The onboarding talks to its three targets: each once, in order, under the step's own key."""

import pytest

from examples.onboarding.targets import Targets, listening
from tests.support.platform import Platform
from workflows.models import Run
from workflows.services.incidents import replay_run
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("examples")]


def test_each_target_is_called_once_and_in_order(platform: Platform) -> None:
    with listening() as targets:
        done = platform.finished(start(targets))

    assert done.state == "COMPLETED"
    assert done.output["plan"] == "business"
    assert [call.what for call in targets.calls] == [
        "POST /accounts",
        "POST /accounts/account-1/plan",
        "mail",
    ]


def test_each_call_carries_the_idempotency_key_of_its_step(platform: Platform) -> None:
    with listening() as targets:
        done = platform.finished(start(targets))

    account, provision, mail = (call.key for call in targets.calls)
    assert account == f"{done.pk}:account"
    assert provision == f"{done.pk}:provision"
    assert mail == f"<{done.pk}-welcome@example.com>"


def test_the_mail_greets_the_customer_and_names_the_account(platform: Platform) -> None:
    with listening() as targets:
        platform.finished(start(targets))

    mail = targets.calls[-1].told
    assert mail["To"] == "ada@example.com"
    assert mail["Subject"] == "Welcome, Ada Lovelace"
    assert "your account account-1 is ready, with the plan business" in mail["text"]


def test_what_was_refused_is_done_after_a_replay_and_nothing_else_again(
    platform: Platform,
) -> None:
    with listening() as targets:
        targets.out_of_plans = True
        failed = platform.finished(start(targets))
        targets.out_of_plans = False

        replay_run(run_id=failed.pk, by="person:tester")
        done = platform.reached(failed, "COMPLETED")

    assert failed.error["code"] == "http.409"
    assert [call.what for call in targets.calls] == [
        "POST /accounts",
        "POST /accounts/account-1/plan",
        "mail",
    ]
    assert dict(done.steps.values_list("path", "attempt")) == {
        "account": 1,
        "provision": 2,
        "welcome": 1,
    }


def start(targets: Targets) -> Run:
    """Start the onboarding of one customer with these targets."""
    given = {
        "name": "Ada Lovelace",
        "email": "ada@example.com",
        "plan": "business",
        "accounts_url": targets.accounts_url,
        "mail_port": targets.mail_port,
    }
    return start_run(workflow="onboarding", input=given, by="person:tester").run
