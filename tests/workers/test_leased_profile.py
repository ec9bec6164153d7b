"""A task sees the profile that its step has leased, and nothing of it leaks."""

from typing import Any

import structlog

from workers.context import LeasedProfile, TaskContext
from workers.executor import Assignment, execute
from workers.registry import Registry
from workflows.engine.events import Failed, Succeeded

registry = Registry()


@registry.task("browse")
def browse(context: TaskContext, word: str = "") -> dict[str, Any]:
    assert context.profile is not None
    cookie = context.profile.context["cookie"]
    context.log.info("browsing", cookie=cookie)
    context.profile.context["cookie"] = "fresh-cookie"
    if word == "fail":
        raise RuntimeError(f"{cookie} and fresh-cookie were refused")
    return {"said": f"I am {cookie}, soon fresh-cookie", "who": context.profile.name}


def assignment(profile: LeasedProfile, **arguments: Any) -> Assignment:
    facts: dict[str, Any] = {"workflow": "w", "environment": "default", "names": {}}
    step = {"run_id": "r", "path": "only", "attempt": 1, "uses": "browse"}
    return Assignment(**step, **facts, arguments=arguments, profile=profile)


def ann() -> LeasedProfile:
    return LeasedProfile("ann", "bots", {"cookie": "stale-cookie", "short": "ab", "pages": [1]})


def test_a_task_reads_and_changes_the_context_of_its_profile() -> None:
    profile = ann()

    execute(assignment(profile), registry=registry)

    assert profile.context["cookie"] == "fresh-cookie"


def test_neither_old_nor_new_texts_of_a_profile_are_in_the_output() -> None:
    outcome = execute(assignment(ann()), registry=registry)

    assert isinstance(outcome, Succeeded)
    assert "cookie" not in outcome.output["said"]
    assert outcome.output["who"] == "ann"


def test_the_texts_of_a_profile_are_not_in_an_error() -> None:
    outcome = execute(assignment(ann(), word="fail"), registry=registry)

    assert isinstance(outcome, Failed)
    said = f"{outcome.error.message} {outcome.error.details}"
    assert "stale-cookie" not in said
    assert "were refused" in outcome.error.message


def test_the_texts_of_a_profile_are_not_in_the_log() -> None:
    seen: list[Any] = []
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[lambda _, __, event: seen.append(dict(event)) or str(event)])
    try:
        execute(assignment(ann()), registry=registry)
    finally:
        structlog.configure(processors=before)

    assert seen
    assert "stale-cookie" not in str(seen)


def test_a_profile_shows_its_name_and_not_its_context() -> None:
    assert "stale" not in repr(ann())
    assert "stale" not in repr(assignment(ann()))
