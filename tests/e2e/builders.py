"""What the tests with real workers are made of: definitions, environments, waiting."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import redis
from django.conf import settings

from environments.services import create_environment, move_environment
from orchestrator.celery import app
from tests.support.platform import story_of
from workflows.models import Run, Step
from workflows.services.definitions import apply_definition
from workflows.services.runs import start_run

ANN = "person:ann"
PATIENCE = 60.0
_names = count(1)


def log(name: str, **keys: Any) -> dict[str, Any]:
    return {"id": name, "uses": "log", "with": {"message": name}, **keys}


def sleep(name: str, seconds: float, **keys: Any) -> dict[str, Any]:
    return {"id": name, "uses": "sleep", "with": {"seconds": seconds}, **keys}


def shell(name: str, *command: str, **keys: Any) -> dict[str, Any]:
    return {"id": name, "uses": "shell.run", "with": {"command": list(command)}, **keys}


def applied(*steps: Mapping[str, Any], **document: Any) -> str:
    """Apply a definition, and return its name."""
    name = f"e2e-{next(_names)}"
    text = json.dumps({"workflow": name, "steps": list(steps), **document})
    apply_definition(text=text, source="test.yaml", by=ANN)
    return name


def started(*steps: Mapping[str, Any], **document: Any) -> Run:
    """Start a run of the steps."""
    return start_run(workflow=applied(*steps, **document), by=ANN).run


def an_environment(name: str, *classes: str) -> None:
    """Create an environment that takes work."""
    create_environment(name=name, classes=["default", *classes], by=ANN)
    move_environment(name=name, state="ACTIVE", by=ANN)


def until(condition: Callable[[], bool], run: Run, *, seconds: float = PATIENCE) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in {seconds:g} s only this: {story_of(run.pk)}"
        time.sleep(0.05)


def until_step(run: Run, path: str, state: str) -> None:
    """Wait until a step is in a state."""
    until(lambda: Step.objects.get(run=run, path=path).state == state, run)


def states(run: Run) -> dict[str, str]:
    return dict(Step.objects.filter(run=run).values_list("path", "state"))


def ends(run: Run) -> dict[str, list[str]]:
    """Return how the attempts at each step of a run ended."""
    found: dict[str, list[str]] = {}
    for path, end in run.attempts.order_by("number").values_list("step__path", "end"):
        found.setdefault(path, []).append(end)
    return found


def messages() -> Counter[str]:
    """Return how many messages of each task the workers have taken, all together."""
    found: Counter[str] = Counter()
    for stats in (app.control.inspect(timeout=1).stats() or {}).values():
        found.update(stats["total"])
    return found


def lose_every_message() -> None:
    """Empty the broker."""
    address = (
        str(settings.CELERY_BROKER_URL)
        .replace("redis+socket://", "unix://")
        .replace("virtual_host=", "db=")
    )
    redis.Redis.from_url(address).flushdb()
