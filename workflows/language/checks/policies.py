"""Do the retries and the fallback paths make sense?"""

import math
from collections.abc import Iterator

from pydantic import ValidationError

from workflows.language.document import Node
from workflows.language.nearest import did_you_mean, nearest
from workflows.language.outline import Outline, Step
from workflows.language.spec import RetryPolicy, RetrySpec, retry_policy
from workflows.language.words import ErrorClass

OF_THE_ENGINE = frozenset(
    {
        "approval.rejected",
        "approval.timeout",
        "callback.timeout",
        "child.cancelled",
        "child.environment",
        "child.failed",
        "child.gone",
        "child.input",
        "child.too_deep",
        "child.unknown",
        "concurrency.skipped",
        "environment.not_admitted",
        "event.timeout",
        "expression.error",
        "first.none",
        "foreach.items",
        "foreach.partial",
        "probe.failed",
        "probe.not_happened",
        "probe.unknown",
        "profile.folder_in_use",
        "profile.no_folder",
        "profile.no_pool",
        "profile.unreadable",
        "repeat.exhausted",
        "run.cancelled",
        "run.exit",
        "run.timeout",
        "scope.failed",
        "scope.timeout",
        "states.exhausted",
        "states.stuck",
        "step.cancelled",
        "task.cancelled",
        "task.exit",
        "task.memory",
        "task.parameters",
        "task.timeout",
        "task.unknown",
        "value.not_json",
        "value.too_large",
        "wait.timeout",
        "worker.lost",
        "worker.stopped",
        "workflow.timeout",
    }
)
"""The codes that no task type declares; others of their families may be named as well."""

_NEVER_RETRIED = (ErrorClass.CANCELLED, ErrorClass.UNCERTAIN)


def check(outline: Outline) -> None:
    """Report retries and catches that cannot work."""
    base_node = outline.root.get("retry")
    base = _read(base_node)
    declared = _declared_codes(outline)
    for node, path, layer in _retries(outline, base_node, base):
        _check_delays(outline, node, path, layer)
        _check_lists(outline, node, path, declared)
    for step in outline.steps:
        if step.node.get("catch") is not None:
            _check_catches(outline, step, declared)


def _read(node: Node | None) -> RetrySpec | None:
    try:
        return RetrySpec.model_validate(node.value) if node is not None else None
    except ValidationError:
        return None


def _retries(
    outline: Outline, base_node: Node | None, base: RetrySpec | None
) -> Iterator[tuple[Node, str, RetryPolicy | None]]:
    """Yield every `retry`, and what it comes to over the workflow's."""
    if base_node is not None:
        yield base_node, "retry", retry_policy(base) if base else None
    for step in outline.steps:
        for holder, path in ((step.node, step.path), (step.node.get("compensate"), "compensate")):
            node = holder.get("retry") if holder is not None else None
            if node is not None:
                layer = _read(node)
                where = path if path == step.path else f"{step.path}.{path}"
                yield node, f"{where}.retry", retry_policy(base, layer) if layer else None


def _check_delays(outline: Outline, node: Node, path: str, policy: RetryPolicy | None) -> None:
    if policy is not None and policy.max_delay < policy.initial_delay:
        key = "max_delay" if node.get("max_delay") is not None else "initial_delay"
        outline.report.add(
            "retry-delays",
            node.inside([key]),
            f"{path}.{key}",
            f"the longest delay ({policy.max_delay:g} s) is shorter than the first "
            f"({policy.initial_delay:g} s)",
            "raise max_delay or lower initial_delay",
        )
    if policy is not None and (policy.max_duration or math.inf) < policy.initial_delay:
        key = "max_duration" if node.get("max_duration") is not None else "initial_delay"
        outline.report.add(
            "retry-delays",
            node.inside([key]),
            f"{path}.{key}",
            f"all attempts together have {policy.max_duration:g} s, less than the first delay "
            f"({policy.initial_delay:g} s), so there would be no second",
            "raise max_duration, lower initial_delay, or write max_attempts: 1",
        )
    if policy is not None and policy.max_attempts == 1 and policy.retry_on:
        outline.report.add(
            "retry-contradiction",
            node.inside(["retry_on"]),
            f"{path}.retry_on",
            "retry_on has no meaning with one attempt",
            "raise max_attempts or remove retry_on",
        )


def _check_lists(outline: Outline, node: Node, path: str, declared: frozenset[str]) -> None:
    for key in ("retry_on", "give_up_on"):
        words = node.get(key)
        if words is not None:
            _check_words(outline, words, f"{path}.{key}", declared)
    retried, given_up = node.get("retry_on"), node.get("give_up_on")
    both = set(_words(retried)) & set(_words(given_up))
    for index, item in enumerate((retried.items if retried else None) or ()):
        place = f"{path}.retry_on[{index}]"
        if isinstance(item.value, str) and item.value in both:
            outline.report.add(
                "retry-contradiction",
                item,
                place,
                f"{item.value} is both in retry_on and in give_up_on",
                "keep it in one of them",
            )
        if item.value in _NEVER_RETRIED:
            outline.report.add(
                "never-retried",
                item,
                place,
                f"{item.value} is never retried",
                "remove it; a person decides about such a step",
            )


def _words(node: Node | None) -> list[str]:
    items = node.value if node is not None and node.items is not None else []
    return [word for word in items if isinstance(word, str)]


def _check_words(outline: Outline, node: Node, path: str, declared: frozenset[str]) -> None:
    """Report words that are no error class, and codes that look like a misspelt one."""
    for index, item in enumerate(node.items or ()):
        word, place = item.value, f"{path}[{index}]"
        if not isinstance(word, str) or word in set(ErrorClass) or word in declared:
            continue
        if "." not in word:
            outline.report.add(
                "unknown-error-class",
                item,
                place,
                f"{word[:60]} is no error class",
                "a code has a dot in it, as http.503; "
                + did_you_mean(word, set(ErrorClass), "classes"),
            )
            continue
        family, _, rest = word.partition(".")
        families = {code.partition(".")[0] for code in declared}
        alike = {of for of in families if f"{of}.{rest}" in declared}
        close = None if family in families else nearest(family, alike)
        if close is not None:
            outline.report.add(
                "unknown-error-code",
                item,
                place,
                f"no task type has the error code {word[:60]}",
                f"did you mean {close}.{rest[:60]}?",
            )


def _declared_codes(outline: Outline) -> frozenset[str]:
    catalog = outline.catalog
    if catalog is None:
        return frozenset()
    return OF_THE_ENGINE.union(code for name in catalog.names() for code in catalog.codes(name))


def _check_catches(outline: Outline, step: Step, declared: frozenset[str]) -> None:
    catches = step.node.inside(["catch"])
    caught: set[str] = set()
    for index, node in enumerate(catches.items or ()):
        words, path = node.get("on"), f"{step.path}.catch[{index}]"
        if words is not None:
            _check_words(outline, words, f"{path}.on", declared)
        wanted = set(_words(words)) or set(ErrorClass)
        if caught and wanted <= caught:
            outline.report.add(
                "catch-never-taken",
                node,
                path,
                "an earlier catch takes every error that this one names",
                "move it up, or remove it",
            )
        caught |= wanted
