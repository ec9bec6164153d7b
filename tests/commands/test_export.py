"""`run export-test` makes a test of a stored run, which passes as it is and holds no secret."""

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from tests.commands.builders import COPY, a_finished_run, a_run, manage
from workflows.engine.events import Event, Failed, LeaseExpired, Repeat, StepError, Succeeded
from workflows.language.words import ErrorClass
from workflows.management.redaction import Redaction
from workflows.models import Incident, Run, Step
from workflows.services.claiming import claim_step
from workflows.services.events import hand_out, publish_event
from workflows.services.incidents import replay_incident, skip_incident
from workflows.services.plans import pinned
from workflows.services.recording import record_outcome
from workflows.services.runs import cancel_run, compensate_run
from workflows.services.timers import tick
from workflows.services.work import Taker

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parents[2]
TAKER = Taker("worker-1", "env.default.default")

SHOP = """
workflow: shop
input:
  type: object
  properties: {card: {type: object}, note: {type: string}}
steps:
  - {id: charge, uses: log, with: {message: "${{ input.note }}", fields: "${{ input.card }}"}}
  - id: both
    parallel:
      - {id: left, uses: log, with: {message: left}}
      - {id: right, uses: log, with: {message: right}, when: "${{ has(input.right) }}"}
  - {id: ship, uses: log, with: {message: ship}, output: {parcel: "${{ steps.ship.output }}"}}
output:
  receipt: ${{ steps.charge.output }}
  run: ${{ run.id }}
  ship: ${{ steps.ship.output }}
"""


class Clock:
    """The time of a test: the real one, but for the delays that are let pass."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    @property
    def now(self) -> datetime:
        return timezone.now() + self.ahead

    def attempt(self, run: Run, path: str, outcome: Event) -> None:
        """Have a worker claim the step and come to an end with it."""
        number = Step.objects.get(run=run, path=path).attempt
        pin = pinned(run.pk)
        work = claim_step(pin=pin, path=path, attempt=number, taker=TAKER, now=self.now)
        assert work is not None
        record_outcome(work=work, outcome=outcome, taker=TAKER, run_on=False, now=self.now)

    def retry(self) -> None:
        """Let the delay before the next attempt pass."""
        self.ahead += timedelta(minutes=5)
        tick(now=self.now)


def pytest_of(file: Path) -> subprocess.CompletedProcess[str]:
    """Run an exported test as its author would."""
    (file.parent / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:django", file.name],
        cwd=file.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def exported(run: Run, folder: Path) -> str:
    """Export a run, see its test pass, and return the text."""
    file = folder / "test_exported.py"
    answer = manage("run", "export-test", run.pk, "-o", file)
    assert answer.status == 0, answer.err
    done = pytest_of(file)
    assert done.returncode == 0, done.stdout + done.stderr + file.read_text()
    return file.read_text()


def error(error_class: str, code: str, message: str = "It broke.") -> StepError:
    return StepError(ErrorClass(error_class), code, message, details={"why": "it did"})


def test_a_completed_run_becomes_a_test_that_passes(tmp_path: Path) -> None:
    text = exported(a_finished_run(COPY, seconds=2), tmp_path)

    assert "    run.assert_path(\n        'fetch',\n        'check',\n    )" in text
    assert "takes=2.0" in text


def test_what_a_run_did_with_failures_and_values_is_done_again(tmp_path: Path) -> None:
    run = a_run(SHOP, input={"card": {"token": "tok-4711"}, "note": "thanks"})
    clock = Clock()
    clock.attempt(run, "charge", Failed("charge", 1, error("transient", "http.503")))
    clock.retry()
    clock.attempt(run, "charge", LeaseExpired("charge", 2, Repeat.FREELY))
    clock.attempt(run, "charge", Succeeded("charge", 3, {"receipt": 7}))
    clock.attempt(run, "both.left", Succeeded("both.left", 1, None))
    clock.attempt(run, "ship", Succeeded("ship", 1, "P-1"))

    text = exported(run, tmp_path)

    assert "fails('transient', code='http.503', message='It broke.'" in text
    assert "lost_worker(" in text
    assert ".bare('ship')" in text
    assert f"'run': '{run.pk}'" in text


def test_secrets_become_the_same_placeholder_wherever_they_stand(tmp_path: Path) -> None:
    run = a_run(SHOP, input={"card": {"token": "tok-4711"}, "note": "I paid with tok-4711"})
    clock = Clock()
    answer = {"said": "tok-4711 was charged", "url": "https://ann:hunter22@pay.example/"}
    clock.attempt(run, "charge", Succeeded("charge", 1, answer))
    clock.attempt(run, "both.left", Succeeded("both.left", 1, None))
    clock.attempt(run, "ship", Succeeded("ship", 1, None))

    text = exported(run, tmp_path)

    assert "tok-4711" not in text
    assert "hunter22" not in text
    assert "'token': 'redacted-1'" in text
    assert "'I paid with redacted-1'" in text
    assert "'said': 'redacted-1 was charged'" in text
    assert "2 values that looked secret are placeholders." in text


def test_a_failed_run_becomes_a_test_of_its_failure(tmp_path: Path) -> None:
    run = a_run(COPY)
    Clock().attempt(run, "fetch", Failed("fetch", 1, error("permanent", "disk.full")))

    text = exported(run, tmp_path)

    assert "assert run.error.code == 'disk.full'" in text


def test_what_people_did_is_done_again(tmp_path: Path) -> None:
    run = a_run(COPY)
    clock = Clock()
    clock.attempt(run, "fetch", Failed("fetch", 1, error("permanent", "disk.full")))
    replay_incident(
        incident_id=Incident.objects.get(run=run).pk,
        by="person:ann",
        arguments={"message": "again"},
    )
    clock.attempt(run, "fetch", Succeeded("fetch", 2, None))
    clock.attempt(run, "check", Failed("check", 1, error("business", "check.no")))
    incident = Incident.objects.get(run=run, resolution="")
    skip_incident(incident_id=incident.pk, by="person:ann", output={"fine": True})

    text = exported(run, tmp_path)

    assert "replay('fetch', after=" in text
    assert "arguments={'message': 'again'}" in text
    assert "skip('check', after=" in text


def test_a_cancelled_run_is_cancelled_again(tmp_path: Path) -> None:
    run = a_run(COPY)
    Clock().attempt(run, "fetch", Succeeded("fetch", 1, None))
    cancel_run(run_id=run.pk, by="person:ann")

    text = exported(run, tmp_path)

    assert "cancel(at=" in text
    assert "assert run.state == 'CANCELLED'" in text


WAITS = """
workflow: waits
on_failure: compensate
steps:
  - id: pack
    foreach: [a, b]
    steps:
      - id: scan
        uses: log
        with: {message: "${{ item }}"}
        compensate: {uses: log, with: {message: "no ${{ item }}"}}
  - {id: cool_off, wait: {for: 4m}}
  - {id: paid, event: {type: payment.settled}, output: "${{ steps.paid.output.sum }}"}
  - {id: ship, uses: log, with: {message: "${{ steps.paid.output }}"}}
"""


def test_a_run_that_waited_and_was_undone_is_played_again(tmp_path: Path) -> None:
    run, clock = a_run(WAITS), Clock()
    for number in range(2):
        path = f"pack[{number}].scan"
        clock.attempt(run, path, Succeeded(path, 1, {"n": number}))
    clock.retry()
    event = {"type": "payment.settled", "id": "1", "source": "bank", "data": {"sum": 7}}
    publish_event(event={"specversion": "1.0", **event}, by="person:ann")
    hand_out(now=clock.now)
    clock.attempt(run, "ship", Failed("ship", 1, error("permanent", "ship.sunk")))
    for number in (1, 0):
        path = f"pack[{number}].scan.compensate"
        clock.attempt(run, path, Succeeded(path, 1, None))

    text = exported(run, tmp_path)

    assert "assert run.state == 'COMPENSATED'" in text
    assert "'pack[1].scan': returns({'n': 1}" in text
    assert "'paid': returns(7, takes=" in text


def test_a_failed_run_that_a_person_undid_is_undone_again(tmp_path: Path) -> None:
    run = a_run(WAITS.replace("compensate\nsteps", "fail\nsteps"))
    clock = Clock()
    clock.attempt(run, "pack[0].scan", Succeeded("pack[0].scan", 1, None))
    failure = Failed("pack[1].scan", 1, error("permanent", "scan.no"))
    clock.attempt(run, "pack[1].scan", failure)
    compensate_run(run_id=run.pk, by="person:ann")
    path = "pack[0].scan.compensate"
    clock.attempt(run, path, Succeeded(path, 1, None))

    assert "compensate(at=" in exported(run, tmp_path)


def test_a_run_that_goes_on_is_refused() -> None:
    run = a_run(COPY)

    answer = manage("run", "export-test", run.pk)

    assert answer.status == 2
    assert answer.err == f"The run {run.pk} is RUNNING. Only a run that has ended can be a test."


def test_without_a_file_the_test_is_printed() -> None:
    run = a_finished_run(COPY, seconds=1)

    assert "def test_the_run_goes_as_it_went() -> None:" in manage("run", "export-test", run.pk).out
    assert manage("run", "export-test", run.pk, "--json").json()["run"] == str(run.pk)


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    run = a_finished_run(COPY, seconds=1)

    answer = manage("run", "export-test", run.pk, "-o", tmp_path / "no" / "such" / "folder.py")

    assert answer.status == 2
    assert "cannot be written" in answer.err


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ({"password": "hunter22"}, {"password": "redacted-1"}),
        ({"X-Api-Key": "k-1"}, {"X-Api-Key": "redacted-1"}),
        (
            {"secrets": {"a": "one1", "b": ["two2"]}},
            {"secrets": {"a": "redacted-1", "b": ["redacted-2"]}},
        ),
        ({"pin": 4711, "n": 4711}, {"pin": 1, "n": 4711}),
        ({"token": True, "secret": None}, {"token": True, "secret": None}),
        ({"token": "***"}, {"token": "***"}),
        ({"token": "${{ input.t }}"}, {"token": "${{ input.t }}"}),
        (
            {"to": f"https://x/api/v1/callbacks/{UUID(int=7)}/pay/1/s1gned-by-us/"},
            {"to": "https://x/api/v1/callbacks/redacted-1/"},
        ),
        ({"say": "Bearer abcdefgh123"}, {"say": "Bearer redacted-1"}),
        ({"user": "ann", "note": "spinning"}, {"user": "ann", "note": "spinning"}),
    ],
)
def test_what_looks_secret_is_redacted(value: Any, clean: Any) -> None:
    redaction = Redaction()

    redaction.learn(value)

    assert redaction.clean(value) == clean
