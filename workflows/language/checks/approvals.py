"""Can an approval be decided, and does what it does without a decision make sense?"""

from workflows.language import inputs, json_schemas
from workflows.language.document import Node
from workflows.language.fields import is_template
from workflows.language.limits import LONGEST_GROUP
from workflows.language.outline import Outline, Step
from workflows.language.words import OnTimeout, StepKind


def check(outline: Outline) -> None:
    """Report approvals that nobody could decide, or that contradict themselves."""
    for step in outline.steps:
        asked = step.node.get("approval")
        if step.kind is StepKind.APPROVAL and asked is not None and asked.fields is not None:
            _check_groups(outline, step, asked)
            _check_timeout(outline, step, asked)
            _check_form(outline, step, asked)


def _check_groups(outline: Outline, step: Step, asked: Node) -> None:
    for key in ("group", "escalate_to"):
        node = asked.get(key)
        name = node.value if node is not None else None
        if node is None or not isinstance(name, str) or is_template(name):
            continue
        if not name.strip() or len(name) > LONGEST_GROUP:
            outline.report.add(
                "no-group",
                node,
                f"{step.path}.approval.{key}",
                f"{name[:40]!r} cannot be the name of a group",
                f"name a group of people, in 1 to {LONGEST_GROUP} characters",
            )


def _check_timeout(outline: Outline, step: Step, asked: Node) -> None:
    policy, path = _given(asked, "on_timeout"), f"{step.path}.approval"
    escalates = policy is not None and policy.value == OnTimeout.ESCALATE
    if policy is not None and _given(asked, "timeout") is None:
        outline.report.add(
            "on-timeout-without-timeout",
            asked.key_place("on_timeout"),
            f"{path}.on_timeout",
            "on_timeout has no meaning without a timeout",
            "add timeout with a duration such as 2d, or remove on_timeout",
        )
    if escalates and _given(asked, "escalate_to") is None:
        outline.report.add(
            "escalates-to-nobody",
            policy or asked,
            f"{path}.on_timeout",
            f"{step.id} escalates, and escalate_to does not say to whom",
            "add escalate_to with the name of a group",
        )
    if _given(asked, "escalate_to") is not None and not escalates:
        outline.report.add(
            "never-escalates",
            asked.key_place("escalate_to"),
            f"{path}.escalate_to",
            f"{step.id} never escalates, so escalate_to has no meaning",
            "add on_timeout: escalate, or remove escalate_to",
        )


def _check_form(outline: Outline, step: Step, asked: Node) -> None:
    form = asked.get("form")
    if form is None or not isinstance(form.value, dict):
        return
    for problem in inputs.problems(form.value):
        way = json_schemas.path_of(problem.way)
        outline.report.add(
            problem.rule.replace("input", "form", 1),
            form.inside(problem.way),
            f"{step.path}.approval.form.{way}".removesuffix("."),
            problem.message.replace("the input of a workflow", "what is filled in"),
            problem.hint,
        )


def _given(asked: Node, key: str) -> Node | None:
    """Return what the key says; null says nothing."""
    node = asked.get(key)
    return None if node is None or node.value is None else node
