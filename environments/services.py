"""Create environments and move them through their lifecycle. Every change has an actor.

The actor is told to the session as `orchestrator.actor`; the triggers of the tables
write it into the journal together with the transition.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection, transaction

from environments.errors import (
    EnvironmentMoveError,
    EnvironmentRefusedError,
    UnknownEnvironmentError,
)
from environments.models import SLUG, SLUG_PATTERN, Environment
from environments.states import ENVIRONMENT_MOVES, EnvironmentState

DEFAULT = "default"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@transaction.atomic
def ensure_default(*, by: str = "engine") -> Environment:
    """Return the environment `default`; create it, ACTIVE, if there is none.

    One that exists is left in whatever state a person has put it.
    """
    found = Environment.objects.filter(name=DEFAULT).first()
    if found is not None:
        return found
    create_environment(name=DEFAULT, description="Where runs go that name no other place.", by=by)
    return move_environment(name=DEFAULT, state=EnvironmentState.ACTIVE, by=by)


@transaction.atomic
def create_environment(  # noqa: PLR0913 - the parts of an environment, by name
    *,
    name: str,
    classes: Sequence[str] = ("default",),
    variables: Mapping[str, Any] | None = None,
    admits: Sequence[str] = (),
    description: str = "",
    by: str,
) -> Environment:
    """Create an environment, PROVISIONING: it takes work once it is moved to ACTIVE.

    `admits` names the environments whose runs may send steps here: none, unless it says so.
    Raises `EnvironmentRefusedError` for a name that is taken or malformed, and for
    classes and variables that no step could ask for.
    """
    check_parts(classes=classes, variables=variables or {}, admits=admits)
    if not SLUG_PATTERN.fullmatch(name):
        raise EnvironmentRefusedError(f"{name!r} is no name: {SLUG.message}")
    if Environment.objects.filter(name=name).exists():
        raise EnvironmentRefusedError(f"There is an environment named {name} already.")
    _act_as(by)
    return Environment.objects.create(
        name=name,
        classes=list(classes),
        variables=dict(variables or {}),
        admits=list(admits),
        description=description,
    )


@transaction.atomic
def move_environment(*, name: str, state: str, by: str) -> Environment:
    """Move the environment to `state`, if the table of moves allows it.

    Raises `UnknownEnvironmentError` and `EnvironmentMoveError`.
    """
    environment = Environment.objects.select_for_update().filter(name=name).first()
    if environment is None:
        raise UnknownEnvironmentError(name)
    allowed = tuple(move.value for move in ENVIRONMENT_MOVES[EnvironmentState(environment.state)])
    if state not in allowed:
        raise EnvironmentMoveError(name, environment.state, str(state), allowed)
    _act_as(by)
    environment.state = EnvironmentState(state).value
    environment.save(update_fields=["state"])
    return environment


def check_parts(*, classes: Any, variables: Any, admits: Any = ()) -> None:
    """Raise `EnvironmentRefusedError` unless these are classes, variables and environments."""
    if not isinstance(classes, list | tuple) or not classes:
        raise EnvironmentRefusedError('The classes are a list of names, such as ["default"].')
    for queue_class in classes:
        if not isinstance(queue_class, str) or not SLUG_PATTERN.fullmatch(queue_class):
            raise EnvironmentRefusedError(f"{queue_class!r} is no queue class: {SLUG.message}")
    if DEFAULT not in classes:
        raise EnvironmentRefusedError("The class default is missing; steps that name none need it.")
    if len(set(classes)) < len(classes):
        raise EnvironmentRefusedError("A class is there twice; name each once.")
    if not isinstance(variables, Mapping):
        raise EnvironmentRefusedError('The variables are an object, such as {"url": "http://..."}.')
    for name in variables:
        if not VARIABLE.fullmatch(name):
            raise EnvironmentRefusedError(
                f"{name!r} cannot be read as env.<name>: use letters, digits and underscores."
            )
    _check_admits(admits)


def _check_admits(admits: Any) -> None:
    if not isinstance(admits, list | tuple):
        raise EnvironmentRefusedError('What is admitted is a list of names, such as ["default"].')
    for name in admits:
        if not isinstance(name, str) or not SLUG_PATTERN.fullmatch(name):
            raise EnvironmentRefusedError(f"{name!r} is no environment: {SLUG.message}")


def _act_as(actor: str) -> None:
    """Say who acts, to the triggers, until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('orchestrator.actor', %s, true)", [actor])
