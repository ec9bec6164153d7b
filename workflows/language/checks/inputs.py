"""Is the input schema a schema, and do its defaults fit it?"""

from workflows.language import inputs, json_schemas
from workflows.language.outline import Outline


def check(outline: Outline) -> None:
    """Report what is wrong with the schema of the input."""
    node = outline.root.get("input")
    if node is None or not isinstance(node.value, dict):
        return
    for problem in inputs.problems(node.value):
        path = f"input.{json_schemas.path_of(problem.way)}".removesuffix(".")
        outline.report.add(
            problem.rule, node.inside(problem.way), path, problem.message, problem.hint
        )
