"""A task type is a Python function with a name, a strict schema and nothing else."""

import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from workers.context import TaskContext
from workers.errors import (
    DuplicateTaskError,
    ParametersError,
    TaskModuleError,
    TaskSignatureError,
    UnknownTaskError,
)
from workers.probing import Answer, Happened, NotHappened, Unknown
from workers.registry import CELERY_TASKS, Registry, TaskType, catalog
from workflows.engine.events import Repeat
from workflows.language.words import ErrorClass


class Address(BaseModel):
    city: str
    floor: int = 0


def copy_file(
    source: Path,
    context: TaskContext,
    times: Annotated[int, Field(ge=1, description="How often.")] = 1,
) -> str:
    """Copy a file.

    Many times, if asked to.
    """
    return f"{source} {times} {context.path}"


def type_of(function: Any, **declared: Any) -> TaskType:
    registry = Registry()
    registry.task("under.test", **declared)(function)
    return registry.get("under.test")


def test_a_task_stays_the_function_it_was() -> None:
    registry = Registry()

    declared = registry.task("copy")(copy_file)

    assert declared is copy_file
    assert declared(Path("a"), TaskContext.of("here"), 2) == "a 2 here"


def test_the_schema_comes_from_the_type_hints_without_the_context() -> None:
    schema = type_of(copy_file).schema()

    assert schema == {
        "title": "under.test",
        "type": "object",
        "additionalProperties": False,
        "required": ["source"],
        "properties": {
            "source": {"title": "Source", "type": "string", "format": "path"},
            "times": {
                "title": "Times",
                "type": "integer",
                "minimum": 1,
                "description": "How often.",
                "default": 1,
            },
        },
    }


def test_the_summary_is_the_first_line_of_the_docstring() -> None:
    task_type = type_of(copy_file)

    assert task_type.summary == "Copy a file."
    assert task_type.description.endswith("Many times, if asked to.")


def test_what_is_declared_is_kept() -> None:
    codes = {"copy.full": ErrorClass.TRANSIENT}

    task_type = type_of(copy_file, idempotent=False, codes=codes, description="Other.")

    assert (task_type.idempotent, task_type.summary) == (False, "Other.")
    assert task_type.codes == codes


@pytest.mark.parametrize("value", ["5", 5.5, True, None, [5]])
def test_only_an_integer_is_an_integer(value: Any) -> None:
    def count(number: int) -> int:
        return number

    with pytest.raises(ParametersError, match="`number`: input should be a valid integer"):
        type_of(count).validate({"number": value})


def test_an_inner_model_is_as_strict() -> None:
    def move(to: Address) -> str:
        return to.city

    with pytest.raises(ParametersError, match=r"`to\.floor`: input should be a valid integer"):
        type_of(move).validate({"to": {"city": "Ulm", "floor": "3"}})


def test_text_is_read_as_what_json_has_no_form_for() -> None:
    def plan(at: datetime, to: Address, where: Path, size: tuple[int, int]) -> None:
        del at, to, where, size

    arguments = type_of(plan).validate(
        {"at": "2026-02-03T04:05:06Z", "to": {"city": "Ulm"}, "where": "/x", "size": [1, 2]}
    )

    assert arguments == {
        "at": datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
        "to": Address(city="Ulm"),
        "where": Path("/x"),
        "size": (1, 2),
    }


def test_every_problem_is_told_at_once_with_the_nearest_name() -> None:
    with pytest.raises(ParametersError) as refusal:
        type_of(copy_file).validate({"sorce": "a", "times": 0})

    assert refusal.value.problems == (
        "`source`: field required",
        "`times`: input should be greater than or equal to 1",
        "`sorce` is unknown (did you mean `source`?)",
    )


def test_a_default_is_the_functions_own() -> None:
    task_type = type_of(copy_file)

    arguments = task_type.validate({"source": "a"})

    assert arguments == {"source": Path("a")}
    assert task_type.call(arguments, TaskContext.of("here")) == "a 1 here"


def test_a_parameter_may_be_named_like_a_method_of_a_model() -> None:
    def send(json: dict[str, Any], schema: str = "x", model_dump: int = 1) -> Any:
        return json, schema, model_dump

    task_type = type_of(send)

    assert task_type.call(task_type.validate({"json": {}, "model_dump": 2}), TaskContext.of()) == (
        {},
        "x",
        2,
    )


def test_a_trailing_underscore_is_not_seen_by_a_step() -> None:
    def select(class_: str, from_: int = 3) -> Any:
        return class_, from_

    task_type = type_of(select)
    arguments = task_type.validate({"class": "a"})

    assert set(task_type.schema()["properties"]) == {"class", "from"}
    assert task_type.call(arguments, TaskContext.of()) == ("a", 3)


def charge(account: str, cents: int = 5) -> str:
    return f"charged {account} {cents}"


def test_a_probe_is_asked_with_what_it_wants_of_the_parameters() -> None:
    def charged(account: str, context: TaskContext) -> Answer:
        return Happened(f"{context.idempotency_key} for {account}")

    task_type = type_of(charge, idempotent=False, probe=charged)

    answer = task_type.ask_probe({"account": "a", "cents": 7}, TaskContext.of("pay"))
    assert answer == Happened("run:pay for a")


def no_probe() -> Answer:
    return NotHappened()


@pytest.mark.parametrize(
    ("declared", "repeat"),
    [
        ({}, Repeat.FREELY),
        ({"idempotent": False}, Repeat.NEVER),
        ({"idempotent": False, "probe": no_probe}, Repeat.AFTER_PROBE),
    ],
)
def test_a_type_says_whether_it_may_follow_itself(declared: dict[str, Any], repeat: Repeat) -> None:
    registry = Registry()
    registry.task("bill", **declared)(charge)

    assert (registry.repeat("bill"), registry.repeat("unknown")) == (repeat, Repeat.NEVER)


def probe_of_another(konto: str) -> Answer:
    return Unknown(konto)


def probe_without_default(cents: int) -> Answer:
    return Unknown(str(cents))


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({"probe": no_probe}, "never be asked"),
        ({"idempotent": False, "probe": probe_of_another}, "asks for `konto`"),
        ({"idempotent": False, "probe": probe_without_default}, "needs a default for `cents`"),
    ],
)
def test_a_probe_that_cannot_be_asked_is_refused(declared: dict[str, Any], problem: str) -> None:
    with pytest.raises(TaskSignatureError, match=problem):
        type_of(charge, **declared)


def unhinted(value) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    del value


def positional(value: int, /) -> None:
    del value


def variadic(*values: int) -> None:
    del values


def keyworded(**values: int) -> None:
    del values


async def promised(value: int) -> None:
    del value


def unschematic(value: type[Registry] | set[Registry]) -> None:
    del value


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (unhinted, "the parameter `value` needs a type hint"),
        (positional, "cannot be given by name"),
        (variadic, "cannot be given by name"),
        (keyworded, "cannot be given by name"),
        (promised, "it must be a plain function"),
        (unschematic, "Unable to generate pydantic-core schema"),
    ],
)
def test_a_signature_without_a_schema_is_refused_where_it_is_declared(
    function: Any, problem: str
) -> None:
    with pytest.raises(TaskSignatureError, match=problem):
        Registry().task("under.test")(function)


def test_one_name_has_one_function() -> None:
    registry = Registry()
    registry.task("copy")(copy_file)

    with pytest.raises(DuplicateTaskError, match=r"`copy` is declared twice.*Rename one"):
        registry.task("copy")(positional_free)


def positional_free() -> None:
    """Do nothing."""


def test_a_reloaded_module_declares_its_tasks_again() -> None:
    registry = Registry()

    registry.task("copy")(copy_file)
    registry.task("copy", description="Newer.")(copy_file)

    assert registry.get("copy").summary == "Newer."


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownTaskError, match=r"no task type `htp\.request`.*http\.request"):
        catalog.get("htp.request")


def test_the_built_in_task_types_are_there() -> None:
    assert {
        "fail",
        "files.checksum",
        "files.verify_manifest",
        "http.request",
        "log",
        "shell.run",
        "sleep",
    } <= set(catalog.names())


def test_only_the_command_counts_as_not_idempotent() -> None:
    built_in = {"fail", "files.checksum", "http.request", "log", "shell.run", "sleep"}

    assert {name for name in built_in if not catalog.get(name).idempotent} == {"shell.run"}


def test_the_modules_of_others_are_imported_at_the_first_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    module_with(tmp_path, monkeypatch, "warehouse_one", "")

    registry.discover(["warehouse_one.tasks"])
    before = "warehouse_one.tasks" in sys.modules
    registry.names()

    assert (before, "warehouse_one.tasks" in sys.modules) == (False, True)


def test_what_a_discovered_module_declares_is_in_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        from workers.registry import task

        @task("warehouse_two.scan")
        def scan(sku: str) -> str:
            return sku
    """
    module_with(tmp_path, monkeypatch, "warehouse_two", source)
    monkeypatch.setattr(catalog, "_types", dict(catalog._types))

    catalog.discover(["warehouse_two.tasks"])

    assert list(catalog.parameters("warehouse_two.scan")["properties"]) == ["sku"]


@pytest.mark.parametrize("absent", ["nowhere", "nowhere.tasks", "json.tasks", "string.tasks"])
def test_an_app_without_tasks_is_no_trouble(absent: str) -> None:
    registry = Registry()

    registry.discover([absent])

    assert registry.names() == ()


@pytest.mark.parametrize("source", ["import nowhere_at_all", "1 / 0", "def"])
def test_a_broken_module_is_named_and_stays_broken(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    module_with(tmp_path, monkeypatch, "broken_app", source)
    registry.discover(["broken_app.tasks"])

    for _ in range(2):
        with pytest.raises(TaskModuleError, match=r"`broken_app\.tasks` cannot be imported"):
            registry.names()


def test_the_celery_tasks_are_not_taken_for_task_types() -> None:
    registry = Registry()

    registry.discover([CELERY_TASKS])

    assert not registry._pending


def test_carrying_out_a_step_needs_neither_django_nor_celery() -> None:
    program = """
        import sys
        from workers.executor import execute
        from workers.registry import catalog
        assert catalog.names()
        print([name for name in ("django", "celery") if name in sys.modules])
    """

    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert printed.stdout == "[]\n"


def module_with(folder: Path, monkeypatch: pytest.MonkeyPatch, app: str, source: str) -> None:
    package = folder / app
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(folder)
    for loaded in [name for name in sys.modules if name.partition(".")[0] == app]:
        monkeypatch.delitem(sys.modules, loaded)
