"""Task types: a name for a Python function, the schema of its parameters, what it may raise.

The schema comes from the function's type hints. It is strict, as JSON is: `"5"` is no integer,
and what the schema does not name is refused. A parameter `class_` is `class` in a step. The
function itself stays as it was written and can be called without any of this. Knows neither
Django nor Celery: who knows the installed apps hands their modules' names to `catalog.discover`.

    @task("billing.charge", codes={"billing.card_refused": ErrorClass.BUSINESS})
    def charge(account: str, cents: int, context: TaskContext) -> dict[str, Any]:
        "Charge an account, once per idempotency key."
"""

import importlib
import importlib.util
import inspect
import json
import pkgutil
import threading
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, NotRequired, Required, TypeVar

import pydantic
from typing_extensions import TypedDict

from workers.context import TaskContext
from workers.errors import (
    DuplicateTaskError,
    ParametersError,
    RegistryError,
    TaskModuleError,
    TaskSignatureError,
    UnknownTaskError,
)
from workers.probing import Answer
from workflows.engine.events import Repeat
from workflows.language.nearest import nearest
from workflows.language.words import ErrorClass

Function = TypeVar("Function", bound=Callable[..., Any])
Probe = Callable[..., Answer]

BUILT_IN = "workers.connectors"
CELERY_TASKS = "workers.tasks"
"""This package's own module of that name holds Celery tasks, no task types."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskType:
    """What a step `uses:`. One that is not `idempotent` is never repeated without a `probe`.

    `probe` takes what it needs of the function's parameters, and tells whether an attempt took
    effect whose end nobody knows: `Happened(output)`, `NotHappened()` or `Unknown(why)`.
    """

    name: str
    function: Callable[..., Any]
    idempotent: bool
    codes: Mapping[str, ErrorClass]
    probe: Probe | None
    description: str
    parameters: pydantic.TypeAdapter[dict[str, Any]] = field(repr=False)
    json_schema: Mapping[str, Any] = field(repr=False)
    injects: tuple[str, ...] = ()
    """The names of the function's parameters that take the context."""

    @property
    def repeat(self) -> Repeat:
        """Whether it may follow itself when nobody knows whether it took effect."""
        if self.idempotent:
            return Repeat.FREELY
        return Repeat.NEVER if self.probe is None else Repeat.AFTER_PROBE

    @property
    def summary(self) -> str:
        """The first line of the description."""
        return self.description.partition("\n")[0]

    def schema(self) -> Mapping[str, Any]:
        """JSON Schema (2020-12) of the parameters. Shared: not to be changed."""
        return self.json_schema

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Give the arguments in the function's own types, or raise `ParametersError`.

        They are read as JSON, which has no dates, paths or decimals: there, and only there,
        a string is read as what the hint says.
        """
        try:
            return self.parameters.validate_json(json.dumps(arguments), strict=True)
        except pydantic.ValidationError as error:
            raise ParametersError(self.name, self._problems(error)) from None

    def call(self, arguments: Mapping[str, Any], context: TaskContext) -> Any:
        """Call the function with validated arguments, and the context where it asks for one."""
        return self.function(**arguments, **dict.fromkeys(self.injects, context))

    def ask_probe(self, arguments: Mapping[str, Any], context: TaskContext) -> Any:
        """Ask the probe; what it returns may be anything, until it was looked at."""
        if self.probe is None:
            message = f"The task type `{self.name}` has no probe."
            raise TypeError(message)
        wanted = inspect.signature(self.probe).parameters.keys() & arguments.keys()
        asked = {name: arguments[name] for name in wanted}
        return self.probe(**asked, **dict.fromkeys(_injects(self.probe), context))

    def _problems(self, error: pydantic.ValidationError) -> list[str]:
        known = list(self.json_schema["properties"])
        return [_sentence(problem, known) for problem in error.errors(include_url=False)]


class Registry:
    """Task types by name. Modules that declare them are imported at the first question."""

    def __init__(self, modules: Iterable[str] = ()) -> None:
        self._types: dict[str, TaskType] = {}
        self._pending: dict[str, None] = dict.fromkeys(modules)
        self._loading = threading.RLock()

    def task(
        self,
        name: str,
        *,
        idempotent: bool = True,
        codes: Mapping[str, ErrorClass] = MappingProxyType({}),
        probe: Probe | None = None,
        description: str | None = None,
    ) -> Callable[[Function], Function]:
        """Declare the decorated function as a task type; the function itself is untouched.

        `codes` are the error codes that it raises and their classes. `probe` tells of a type that
        is not idempotent whether a lost attempt took effect. `description` is the docstring
        unless given. Raise `TaskSignatureError` or `DuplicateTaskError`.
        """

        def declare(function: Function) -> Function:
            if probe is not None:
                _check_probe(name, function, probe, idempotent=idempotent)
            text = description if description is not None else inspect.getdoc(function)
            parameters, schema = _parameters(name, function)
            self.register(
                TaskType(
                    name=name,
                    function=function,
                    idempotent=idempotent,
                    codes=MappingProxyType(dict(codes)),
                    probe=probe,
                    description=text or "",
                    parameters=parameters,
                    json_schema=schema,
                    injects=_injects(function),
                )
            )
            return function

        return declare

    def register(self, task_type: TaskType) -> None:
        """Add a task type; the same function again (a reloaded module) replaces itself."""
        present = self._types.get(task_type.name)
        if present is not None and _place(present.function) != _place(task_type.function):
            raise DuplicateTaskError(
                task_type.name,
                first=_place(present.function),
                second=_place(task_type.function),
            )
        self._types[task_type.name] = task_type

    def discover(self, modules: Iterable[str]) -> None:
        """Remember modules to import at the first question; those that do not exist are none."""
        self._pending |= dict.fromkeys(name for name in modules if name != CELERY_TASKS)

    def get(self, name: str) -> TaskType:
        """Find a task type or raise `UnknownTaskError` with the nearest names."""
        self._load()
        try:
            return self._types[name]
        except KeyError:
            raise UnknownTaskError(name, self.names()) from None

    def names(self) -> tuple[str, ...]:
        """List every name, sorted."""
        self._load()
        return tuple(sorted(self._types))

    def parameters(self, name: str) -> Mapping[str, Any]:
        """Give the JSON Schema of a task type's parameters."""
        return self.get(name).schema()

    def repeat(self, name: str) -> Repeat:
        """Say whether the task may follow itself when nobody knows whether it took effect.

        One that is not known may not.
        """
        try:
            return self.get(name).repeat
        except UnknownTaskError:
            return Repeat.NEVER

    def codes(self, name: str) -> Mapping[str, ErrorClass]:
        """Give the error codes that a task type declares."""
        return self.get(name).codes

    def _load(self) -> None:
        if not self._pending:
            return
        with self._loading:
            while self._pending:
                module = next(iter(self._pending))
                _import(module)
                self._pending.pop(module, None)


def _import(module: str) -> None:
    try:
        if not _exists(module):
            return
        loaded = importlib.import_module(module)
        if module == BUILT_IN:
            for found in pkgutil.iter_modules(loaded.__path__, f"{module}."):
                importlib.import_module(found.name)
    except RegistryError:
        raise
    except Exception as error:
        raise TaskModuleError(module, error) from error


def _exists(module: str) -> bool:
    """Tell a module that is absent from one that is broken: only the second is an error."""
    parent = module.rpartition(".")[0]
    if parent and (not _exists(parent) or not hasattr(importlib.import_module(parent), "__path__")):
        return False
    return importlib.util.find_spec(module) is not None


def _parameters(
    name: str, function: Callable[..., Any]
) -> tuple[pydantic.TypeAdapter[dict[str, Any]], Mapping[str, Any]]:
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise TaskSignatureError(name, "it must be a plain function, neither async nor generator.")
    hints = _hints(name, function)
    fields: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TaskSignatureError(
                name, f"`{parameter}` cannot be given by name, as a step does."
            )
        if parameter.name not in hints:
            raise TaskSignatureError(
                name, f"the parameter `{parameter.name}` needs a type hint, to be checked against."
            )
        hint = hints[parameter.name]
        if hint is TaskContext:
            continue
        public = parameter.name.rstrip("_")
        if public != parameter.name:
            hint = Annotated[hint, pydantic.Field(alias=public)]
        if parameter.default is parameter.empty:
            fields[parameter.name] = Required[hint]
        else:
            fields[parameter.name] = NotRequired[hint]
            defaults[public] = parameter.default
    # A TypedDict, not a model: a parameter may be called `json` or `schema` without shadowing.
    make: Any = TypedDict
    shape = make("Parameters", fields)
    shape.__pydantic_config__ = pydantic.ConfigDict(extra="forbid")
    try:
        adapter: pydantic.TypeAdapter[dict[str, Any]] = pydantic.TypeAdapter(shape)
        schema = adapter.json_schema() | {"title": name}
    except pydantic.PydanticUserError as error:
        raise TaskSignatureError(name, error.message.partition("\n")[0]) from error
    properties = schema.setdefault("properties", {})
    for parameter_name, default in defaults.items():
        properties[parameter_name].setdefault("default", _as_json(default))
    return adapter, schema


def _check_probe(
    name: str, function: Callable[..., Any], probe: Probe, *, idempotent: bool
) -> None:
    """Refuse a probe that would never be asked, or could not be with what the step is given."""
    if idempotent:
        raise TaskSignatureError(
            name, "it is idempotent, so its probe would never be asked; declare idempotent=False."
        )
    known = inspect.signature(function).parameters
    hints = _hints(name, probe)
    for parameter in inspect.signature(probe).parameters.values():
        if hints.get(parameter.name) is TaskContext:
            continue
        given = known.get(parameter.name)
        if given is None or given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD):
            raise TaskSignatureError(
                name, f"its probe asks for `{parameter.name}`, which is no parameter of the task."
            )
        if parameter.default is parameter.empty and given.default is not given.empty:
            raise TaskSignatureError(
                name, f"its probe needs a default for `{parameter.name}`, as the task has one."
            )


def _hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TaskSignatureError(
            name, f"{error} in its type hints; import it where it is seen at run time."
        ) from error


def _injects(function: Callable[..., Any]) -> tuple[str, ...]:
    hints = typing.get_type_hints(function)
    return tuple(name for name, hint in hints.items() if hint is TaskContext)


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _as_json(value: Any) -> Any:
    return pydantic.TypeAdapter(Any).dump_python(value, mode="json")


def _sentence(problem: Any, known: list[str]) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "parameters"
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        near = nearest(where, known)
        return f"`{where}` is unknown" + (f" (did you mean `{near}`?)" if near else "")
    return f"`{where}`: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


catalog = Registry([BUILT_IN])
task = catalog.task
