from pathlib import Path

from tests.commands.builders import COPY, INLINE, manage, manage_apart, saved


def test_a_good_definition_is_named(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY)

    answer = manage("workflow", "validate", file)

    assert answer.status == 0
    assert answer.out == f"{file}: copy is well defined.\n"


def test_a_folder_stands_for_its_definitions(tmp_path: Path) -> None:
    saved(tmp_path, COPY, "b.yml")
    saved(tmp_path, INLINE, "a.yaml")
    saved(tmp_path, "not a definition", "notes.txt")

    answer = manage("workflow", "validate", tmp_path, "--json")

    assert [found["workflow"] for found in answer.json()["results"]] == ["inline", "copy"]


def test_json_has_the_findings_of_every_file(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY.replace("log", "lgo"))

    answer = manage("workflow", "validate", file, "--json")

    (result,) = answer.json()["results"]
    assert answer.status == 2
    assert [finding["rule"] for finding in result["findings"]] == ["unknown-task"] * 2
    assert result["findings"][0]["line"] == 4


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    answer = manage("workflow", "validate", tmp_path / "none.yaml")

    assert answer.status == 2
    assert "none.yaml: the file cannot be read: no such file or directory" in answer.err


def test_a_folder_without_definitions_is_said_so(tmp_path: Path) -> None:
    answer = manage("workflow", "validate", tmp_path)

    assert answer.status == 2
    assert "the folder holds no definition" in answer.err


def test_what_a_definition_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY.replace("log", '"\\e[2Jlog"'))

    answer = manage_apart("workflow", "validate", file)

    assert answer.status == 2
    assert "\x1b" not in answer.err


def test_a_definition_can_come_from_stdin_and_needs_no_services(tmp_path: Path) -> None:
    answer = manage_apart("workflow", "validate", "-", stdin=COPY, LOCAL_DIR=str(tmp_path))

    assert answer.status == 0
    assert answer.out == "<stdin>: copy is well defined.\n"


def test_an_unknown_action_is_status_2(tmp_path: Path) -> None:
    answer = manage_apart("workflow", "valdate", LOCAL_DIR=str(tmp_path))

    assert answer.status == 2
    assert "invalid choice: 'valdate'" in answer.err


def test_the_schema_of_the_language_is_json() -> None:
    answer = manage("workflow", "schema")

    assert answer.json()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
