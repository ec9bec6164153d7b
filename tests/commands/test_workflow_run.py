import json
from pathlib import Path

import pytest

from tests.commands.builders import COPY, INLINE, applied, manage, manage_apart
from workflows.models import Run
from workflows.selectors.runs import get_run, run_document

pytestmark = pytest.mark.django_db


def test_a_run_is_started_and_its_id_is_told() -> None:
    applied(COPY)

    answer = manage("workflow", "run", "copy")

    run = Run.objects.get()
    assert answer.status == 0
    assert f"Started the run {run.pk} of copy v1 in the environment default." in answer.out
    assert f"manage.py run watch {run.pk}" in answer.out
    assert run.started_by.startswith("command:")


def test_waiting_for_a_run_that_completes_is_status_0() -> None:
    applied(INLINE)

    answer = manage("workflow", "run", "inline", "--wait")

    assert answer.status == 0
    assert " double: COMPLETED" in answer.out
    assert "of inline v1 is COMPLETED after" in answer.out
    assert '"size": 2' in answer.out


def test_waiting_for_a_run_that_fails_is_status_1() -> None:
    applied(INLINE)

    answer = manage("workflow", "run", "inline", "--wait", "--input", '{"size": 9}')

    assert answer.status == 1
    assert "of inline v1 is FAILED after" in answer.err


def test_json_is_the_run_as_the_api_shows_it() -> None:
    applied(INLINE)

    answer = manage("workflow", "run", "inline", "--wait", "--json")

    assert answer.out.count("\n") == 1
    assert answer.json() == json.loads(json.dumps(run_document(get_run(Run.objects.get().pk))))


def test_the_input_can_come_from_a_file(tmp_path: Path) -> None:
    applied(INLINE)
    (tmp_path / "input.json").write_text('{"size": 3}')

    manage("workflow", "run", "inline", "--input", f"@{tmp_path}/input.json")

    assert Run.objects.get().input == {"size": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{size: 3}", "--input:1:2: this is not JSON: Expecting property name"),
        ('{"size": NaN}', "--input: this is not JSON: NaN is no number that JSON has"),
        ("[3]", "--input must be a JSON object"),
        ('{"size": "3"}', "input: size: it is a string, and must be of type integer"),
        ("@none.json", "--input: the file none.json cannot be read: No such file"),
        ("[" * 100_000, "--input: this is not JSON: it is nested too deep"),
    ],
)
def test_an_input_that_cannot_be_taken_is_refused_and_starts_nothing(text: str, said: str) -> None:
    applied(INLINE)

    answer = manage("workflow", "run", "inline", "--input", text)

    assert answer.status == 2
    assert said in answer.err
    assert not Run.objects.exists()


def test_a_key_starts_one_run() -> None:
    applied(COPY)

    first = manage("workflow", "run", "copy", "--key", "monday", "--json").json()
    second = manage("workflow", "run", "copy", "--key", "monday", "--json").json()

    assert first["id"] == second["id"]
    assert Run.objects.count() == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cpoy"], "There is no workflow cpoy. `manage.py workflow list` shows"),
        (["copy", "--version", "7"], "There is no workflow copy v7."),
        (["copy", "--environment", "mars"], "There is no environment mars."),
    ],
)
def test_what_does_not_exist_is_named(arguments: list[str], said: str) -> None:
    applied(COPY)

    answer = manage("workflow", "run", *arguments)

    assert answer.status == 2
    assert answer.err.startswith(said)


def test_when_the_time_is_up_the_run_goes_on() -> None:
    applied(COPY)

    answer = manage("workflow", "run", "copy", "--wait", "--timeout", "100ms")

    run = Run.objects.get()
    assert answer.status == 124
    assert answer.err.endswith(f"the run goes on. Watch it again: manage.py run watch {run.pk}")
    assert run.state == "RUNNING"


@pytest.mark.django_db(transaction=True)
def test_a_process_ends_with_the_status_of_the_run(process_env: dict[str, str]) -> None:
    applied(INLINE)
    command = ("workflow", "run", "inline", "--wait", "--input", "-")

    well = manage_apart(*command, stdin='{"size": 5}', **process_env)
    badly = manage_apart(*command, stdin='{"size": 6}', **process_env)

    assert (well.status, badly.status) == (0, 1)
    assert "\x1b" not in well.out + badly.err
