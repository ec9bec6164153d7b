"""Orders: runs that are asked for, held against their version, its input and their environment.

Nothing is begun here, and nothing written: `workflows.services.runs` starts what has been checked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from environments.models import Environment
from environments.services import DEFAULT
from environments.states import ENVIRONMENT_MOVES, EnvironmentState
from workflows import store
from workflows.engine.plan import Plan
from workflows.language import expressions
from workflows.language.findings import InputError
from workflows.language.inputs import prepare
from workflows.models import Version
from workflows.services import concurrency
from workflows.services.errors import (
    EnvironmentClosedError,
    InputRefusedError,
    NotFoundError,
    refuse_unstorable,
)
from workflows.services.patience import patiently
from workflows.services.plans import Pinned, plan_of_version, version_with_workflow
from workflows.services.progress import Beginning

ENVIRONMENT_FIELDS = ("id", "name", "state", "classes", "admits")

LONGEST_KEY = 200
"""Characters of an idempotency key, as many as its column takes."""


@dataclass(frozen=True, slots=True)
class Order:
    """A run to be started; without a version of the newest, without an environment in its own."""

    workflow: str
    input: Mapping[str, Any] | None = None
    environment: str | None = None
    version: int | None = None
    idempotency_key: str | None = None
    parent: UUID | None = None
    parent_path: str | None = None
    forked_from: UUID | None = None
    forked_path: str | None = None
    is_under_way: bool = False
    """Whether it is part of what its environment has to bring to an end, whatever its state."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An order that may be carried out."""

    id: UUID
    order: Order
    version: Version
    plan: Plan
    environment: Environment
    input: Mapping[str, Any]
    concurrency_key: str | None = None

    @property
    def reason(self) -> tuple[UUID, str]:
        """What there is one run for, if there is a key."""
        return self.version.workflow_id, self.order.idempotency_key or ""

    @property
    def beginning(self) -> Beginning:
        """What is to be begun."""
        new = store.NewRun(
            workflow=self.version.workflow_id,
            version=self.version.pk,
            environment=self.environment.pk,
            input=self.input,
            idempotency_key=self.order.idempotency_key,
            parent=self.order.parent,
            parent_path=self.order.parent_path,
            forked_from=self.order.forked_from,
            forked_path=self.order.forked_path,
            concurrency_key=self.concurrency_key,
        )
        pin = Pinned(self.id, self.version.pk, self.plan)
        return Beginning(pin, new, self.environment.name)


@dataclass(slots=True)
class _Desk:
    """What the orders of one call have in common, looked up once."""

    versions: dict[tuple[str, int | None], Version] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)

    def version(self, order: Order) -> Version:
        """Look up the version, and with the same statement the environment where it is likely."""
        key = (order.workflow, order.version)
        if key not in self.versions:
            place = order.environment or DEFAULT
            found = store.version_of(order.workflow, order.version, place)
            if found is None:
                wanted = order.workflow + (f" v{order.version}" if order.version else "")
                raise NotFoundError("workflow", wanted)
            self.versions[key] = version_with_workflow(found[0])
            self._know(place, found[1])
        return self.versions[key]

    def _know(self, name: str, found: store.EnvironmentRow | None) -> None:
        if found is not None:
            self.environments[name] = Environment.from_db(None, ENVIRONMENT_FIELDS, found)

    def environment(self, name: str, plan: Plan, *, is_under_way: bool = False) -> Environment:
        """Return the environment of a run; raise if it, or another that steps go to, refuses."""
        asked = plan.queue_classes
        home = self._open(name, asked[""] | asked.get(name, frozenset()), is_under_way=is_under_way)
        for place in sorted(plan.elsewhere - {name}):
            found = self._open(place, asked[place])
            if name not in found.admits:
                message = (
                    f"The environment {place} does not admit steps of runs in {name}."
                    f" Add {name} to what {place} admits, or start the run elsewhere."
                )
                raise EnvironmentClosedError(message)
        return home

    def _open(
        self, name: str, classes: frozenset[str], *, is_under_way: bool = False
    ) -> Environment:
        if name not in self.environments:
            self._know(name, store.environment_named(name))
        if name not in self.environments:
            raise NotFoundError("environment", name)
        environment = self.environments[name]
        if environment.state != EnvironmentState.ACTIVE and not is_under_way:
            opens = (
                EnvironmentState.ACTIVE in ENVIRONMENT_MOVES[EnvironmentState(environment.state)]
            )
            message = (
                f"The environment {name} is {environment.state} and takes no new runs."
                f" {'Activate it, or start' if opens else 'Start'} the run elsewhere."
            )
            raise EnvironmentClosedError(message)
        missing = sorted(classes - set(environment.classes))
        if missing:
            message = (
                f"The environment {name} has no workers of class {', '.join(missing)};"
                f" it has {', '.join(environment.classes)}. Add what is missing to the environment,"
                " or start the run elsewhere."
            )
            raise EnvironmentClosedError(message)
        return environment


def check_order(order: Order) -> Checked:
    """Return what an order comes to.

    Raises NotFoundError, InputRefusedError and EnvironmentClosedError.
    """
    [checked] = check_orders([order])
    return checked


def check_orders(orders: Iterable[Order]) -> list[Checked]:
    """Return what each order comes to; what they have in common is looked up once.

    Raises NotFoundError, InputRefusedError and EnvironmentClosedError.
    """
    desk = _Desk()
    return [patiently(partial(_check, desk, order)) for order in orders]


def demand_environment(name: str, plan: Plan) -> None:
    """Raise unless a run that is under way in an environment may go on there by a plan.

    Raises NotFoundError and EnvironmentClosedError.
    """
    _Desk().environment(name, plan, is_under_way=True)


def _check(desk: _Desk, order: Order) -> Checked:
    _check_key(order.idempotency_key or "")
    version = desk.version(order)
    plan = plan_of_version(version.pk)
    place = order.environment or plan.environment
    environment = desk.environment(place, plan, is_under_way=order.is_under_way)
    try:
        given = prepare(plan.input_schema, order.input)
    except InputError as error:
        findings = [finding.as_dict() for finding in error.findings]
        message = f"The input does not fit what {order.workflow} v{version.number} asks for."
        raise InputRefusedError(message, findings) from error
    refuse_unstorable("the input", given)
    one = Checked(uuid7(), order, version, plan, environment, given)
    return one if plan.concurrency is None else replace(one, concurrency_key=_key(one))


def _key(one: Checked) -> str | None:
    """Return the key by which the run is one of few."""
    if one.plan.concurrency is None:
        return None
    names: dict[str, Any] = {
        "input": one.input,
        "run": {
            "id": str(one.id),
            "workflow": one.plan.workflow,
            "version": one.version.number,
            "environment": one.environment.name,
            "started_at": None,
        },
    }
    if "env" in expressions.references(one.plan.concurrency.key).roots:
        found = Environment.objects.filter(pk=one.environment.pk)
        names["env"] = found.values_list("variables", flat=True).get()
    return concurrency.key_of(one.plan.concurrency, names)


def _check_key(key: str) -> None:
    refuse_unstorable("the idempotency key", key)
    if len(key) > LONGEST_KEY:
        message = f"The idempotency key has {len(key)} characters; give at most {LONGEST_KEY}."
        raise InputRefusedError(message)
