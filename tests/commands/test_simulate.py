import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from time import process_time

import pytest

from tests.commands.builders import COPY, INLINE, a_finished_run, manage, manage_apart, saved
from workflows.selectors.shapes import RunDocument, StepDocument

WAY = ["path", "compensated", "compensable", "irreversible"]


def test_a_simulated_run_has_the_keys_of_a_stored_one(tmp_path: Path) -> None:
    answer = manage("workflow", "simulate", saved(tmp_path, COPY), "--json")

    (run,) = answer.lines()
    assert answer.status == 0
    assert list(run) == [*RunDocument.__annotations__, *WAY]
    assert list(run["steps"][0]) == list(StepDocument.__annotations__)
    assert run["state"] == "COMPLETED"


def test_what_an_undo_would_undo_is_shown_and_what_none_could(tmp_path: Path) -> None:
    undo = "compensate: {uses: log, with: {message: undone}}"
    text = COPY.replace("with: {message: fetching}", f"with: {{message: x}}, {undo}")

    answer = manage("workflow", "simulate", saved(tmp_path, text))

    assert "an undo would undo: fetch\n" in answer.out
    assert "nothing undoes: check\n" in answer.out


def test_what_was_undone_is_shown(tmp_path: Path) -> None:
    undo = "compensate: {uses: log, with: {message: undone}}"
    text = COPY.replace("with: {message: fetching}", f"with: {{message: x}}, {undo}")
    file = saved(tmp_path, f"on_failure: compensate\n{text}")

    shown = manage("workflow", "simulate", file, "--fail", "check:permanent")
    told = manage("workflow", "simulate", file, "--fail", "check:permanent", "--json")

    assert "undone: fetch\n" in shown.out
    assert told.json()["compensated"] == ["fetch"]
    assert told.json()["state"] == "COMPENSATED"


def test_a_folder_is_played_in_the_order_of_its_names_one_run_a_line(tmp_path: Path) -> None:
    saved(tmp_path, INLINE, "2.yaml")
    saved(tmp_path, COPY, "1.yaml")

    answer = manage("workflow", "simulate", tmp_path)

    assert [run["workflow"] for run in answer.lines()] == ["copy", "inline"]


def test_one_file_is_shown_as_a_table_with_bars(tmp_path: Path) -> None:
    text = COPY.replace("uses: log, with: {message: fetching}", "uses: sleep, with: {seconds: 1h}")

    answer = manage("workflow", "simulate", saved(tmp_path, text))

    (line,) = [line for line in answer.out.splitlines() if line.startswith(" fetch")]
    assert "COMPLETED" in line
    assert "1h" in line
    assert "━━━━━━━━" in line


def test_the_way_is_shown_and_why_steps_were_passed_over(tmp_path: Path) -> None:
    text = COPY + '  - {id: never, uses: log, with: {message: x}, when: "${{ 1 > 2 }}"}\n'

    answer = manage("workflow", "simulate", saved(tmp_path, text))

    assert "path   fetch > check" in " ".join(answer.out.split()).replace("path ", "path   ")
    assert "never: its `when` is false: ${{ 1 > 2 }}" in answer.out


def test_every_attempt_and_the_time_between_is_drawn(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY)

    answer = manage("workflow", "simulate", file, "--fail", "fetch:transient:2")

    (line,) = [line for line in answer.out.splitlines() if line.startswith(" fetch")]
    assert re.search("━·+━·+━", line)


def test_durations_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "durations").write_text("fetch: 2h\nlog: 1h\n")
    file = saved(tmp_path, COPY)

    answer = manage("workflow", "simulate", file, "--durations", tmp_path / "durations")

    assert "took 3h" in " ".join(answer.out.split())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fetsh: 1s", "fetsh: there is no such step; did you mean fetch?"),
        ("fetch: soon", "fetch: 'soon' is not a duration; write it like 250ms"),
        ("[1, 2]", "must map steps to durations, such as fetch: 30s."),
        ("{", "cannot be read"),
    ],
)
def test_durations_that_cannot_be_meant_are_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "durations").write_text(text)

    answer = manage(
        "workflow", "simulate", saved(tmp_path, COPY), "--durations", tmp_path / "durations"
    )

    assert answer.status == 2
    assert sentence in answer.err


@pytest.mark.django_db
def test_durations_may_be_the_medians_of_the_runs_so_far(tmp_path: Path) -> None:
    for seconds in (10, 30, 80):
        a_finished_run(COPY, seconds=seconds)

    answer = manage(
        "workflow", "simulate", saved(tmp_path, COPY), "--durations", "history", "--json"
    )

    begun, ended = (
        datetime.fromisoformat(answer.json()[key]) for key in ("started_at", "finished_at")
    )
    assert ended - begun == timedelta(seconds=60)


def test_what_is_waited_for_comes_at_once(tmp_path: Path) -> None:
    text = (
        "workflow: w\nsteps:\n  - {id: sign, approval: {group: g}}\n  - {id: e, event: {type: t}}\n"
    )

    answer = manage("workflow", "simulate", saved(tmp_path, text), "--json")

    assert answer.json()["state"] == "COMPLETED"
    assert answer.json()["steps"][0]["output"]["approved"] is True


def test_child_runs_are_those_of_the_other_files(tmp_path: Path) -> None:
    saved(tmp_path, COPY, "1.yaml")
    parent = "workflow: parent\nsteps: [{id: c, workflow: copy}]\n"
    saved(tmp_path, parent, "2.yaml")

    answer = manage("workflow", "simulate", tmp_path, "--fail", "fetch:permanent")

    assert [run["state"] for run in answer.lines()] == ["FAILED", "FAILED"]
    assert answer.lines()[1]["steps"][0]["error"]["code"] == "drill.failed"


def test_the_input_gets_its_defaults(tmp_path: Path) -> None:
    answer = manage("workflow", "simulate", saved(tmp_path, INLINE), "--json")

    assert answer.json()["input"] == {"size": 1}
    assert answer.json()["output"] == {"size": 2}


def test_an_input_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, INLINE)

    answer = manage("workflow", "simulate", file, "--input", '{"size": "big"}')

    assert answer.status == 2
    assert f"{file}: input: size: it is a string, and must be of type integer" in answer.err


def test_a_simulated_run_that_fails_is_status_1(tmp_path: Path) -> None:
    file = saved(tmp_path, INLINE)

    answer = manage("workflow", "simulate", file, "--input", '{"size": 9}', "--json")

    assert answer.status == 1
    assert answer.json()["state"] == "FAILED"
    assert answer.err == f"{file}: the simulated run is FAILED."


def test_a_drill_that_fails_twice_is_survived_by_three_attempts(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY)

    answer = manage("workflow", "simulate", file, "--fail", "fetch:transient:2", "--json")

    assert answer.status == 0
    assert [step["attempt"] for step in answer.json()["steps"]] == [3, 1]


def test_a_drill_without_end_fails_the_run(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY)

    answer = manage("workflow", "simulate", file, "--fail", "check:business", "--json")

    steps = answer.json()["steps"]
    assert answer.status == 1
    assert [step["state"] for step in steps] == ["COMPLETED", "FAILED"]
    assert steps[1]["error"]["class"] == "business"


def test_a_drill_for_an_unknown_step_is_refused_with_the_nearest(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY)

    answer = manage("workflow", "simulate", file, "--fail", "fetsh:timeout")

    assert answer.status == 2
    assert answer.err == "--fail fetsh: there is no such step; did you mean fetch?"


def test_a_drill_with_an_unknown_class_is_refused_with_the_nearest(tmp_path: Path) -> None:
    answer = manage_apart("workflow", "simulate", "x.yaml", "--fail", "fetch:permanant")

    assert answer.status == 2
    assert "'permanant' is no error class, nor a code such as http.503; did you mean" in answer.err


ASK = """
workflow: ask
steps:
  - id: sign
    approval: {group: finance}
    catch:
      - on: [approval.rejected]
        steps: [{id: no, uses: log, with: {message: "${{ error.details.note }}"}}]
  - id: book
    uses: http.request
    with: {url: "https://book.example"}
    retry: {initial_delay: 1s, jitter: 0}
  - {id: tell, uses: log, with: {message: "${{ steps.book.output.json.id }}"}}
"""


def test_steps_yield_what_is_given(tmp_path: Path) -> None:
    file = saved(tmp_path, ASK)

    answer = manage("workflow", "simulate", file, "--outputs", '{"book": {"json": {"id": "B-7"}}}')
    by_type = manage(
        "workflow", "simulate", file, "--outputs", '{"http.request": {"json": {"id": 1}}}'
    )

    assert (answer.status, by_type.status) == (0, 0)


def test_a_run_that_lacks_an_output_says_how_to_give_it(tmp_path: Path) -> None:
    answer = manage("workflow", "simulate", saved(tmp_path, ASK))

    assert answer.status == 1
    assert 'hint: Say what steps yield that nothing is known of: --outputs \'{"STEP"' in answer.err


def test_an_output_of_an_unknown_step_is_refused_with_the_nearest(tmp_path: Path) -> None:
    answer = manage("workflow", "simulate", saved(tmp_path, ASK), "--outputs", '{"bok": 1}')

    assert answer.status == 2
    assert answer.err == "--outputs: bok: there is no such step; did you mean book?"


def test_what_is_waited_for_can_fail_by_a_code_too(tmp_path: Path) -> None:
    file, told = saved(tmp_path, ASK), '{"book": {"json": {"id": 1}}}'
    fail = ("--fail", "sign:approval.rejected", "--outputs", told, "--json")

    answer = manage("workflow", "simulate", file, *fail)

    assert answer.json()["path"] == ["sign.catch[0].no", "sign", "book", "tell"]


def test_a_code_has_the_class_that_its_task_type_declares_and_durations_hold(
    tmp_path: Path,
) -> None:
    file, told = saved(tmp_path, ASK), '{"book": {"json": {"id": 1}}}'
    takes = saved(tmp_path, "book: 10s\nsign: 2h", "durations.yaml")
    options = ("--outputs", told, "--durations", takes, "--json")

    retried = manage("workflow", "simulate", file, "--fail", "book:http.503:1", *options).json()
    refused = manage("workflow", "simulate", file, "--fail", "book:http.409", *options).json()

    assert [step["attempt"] for step in retried["steps"]] == [1, 2, 1]
    assert retried["finished_at"] == "2000-01-01T02:00:21Z"
    assert refused["error"]["class"] == "permanent"


def test_a_block_is_not_made_to_fail(tmp_path: Path) -> None:
    block = "workflow: b\nsteps: [{id: all, parallel: [{id: a, uses: log, with: {message: x}}]}]"

    answer = manage("workflow", "simulate", saved(tmp_path, block), "--fail", "all:permanent")

    assert answer.err == (
        "--fail all: it is a block (parallel), which fails when a step inside of it does."
    )


def test_the_variables_of_the_environment_can_be_given(tmp_path: Path) -> None:
    file = saved(tmp_path, INLINE.replace("input.size * 2", "env.factor * 2"))

    answer = manage("workflow", "simulate", file, "--env", '{"factor": 5}', "--json")

    assert answer.json()["output"] == {"size": 10}


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY)
    command = ("workflow", "simulate", file, "--fail", "fetch:transient:2", "--json", "--seed")

    first, again, other = (manage(*command, seed).out for seed in (7, 7, 8))

    assert first == again
    assert first != other


def test_four_hundred_files_take_less_than_ten_seconds(tmp_path: Path) -> None:
    steps = [
        {
            "id": f"s{n}",
            "uses": "log",
            "with": {"message": "x"},
            "needs": [f"s{n - 1}"] if n else [],
        }
        for n in range(8)
    ]
    for number in range(400):
        text = json.dumps({"workflow": f"w{number}", "steps": steps})
        saved(tmp_path, text, f"{number:03}.json")

    began = process_time()
    answer = manage("workflow", "simulate", tmp_path)

    assert process_time() - began < 10
    assert len(answer.lines()) == 400


def test_simulating_needs_no_services(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY)

    answer = manage_apart("workflow", "simulate", file, LOCAL_DIR=str(tmp_path / "empty"))

    assert answer.status == 0
    assert "COMPLETED" in answer.out
