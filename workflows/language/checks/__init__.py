"""What can be wrong with a document, one module for each kind of question.

Every check takes the outline and writes to its report; none depends on another
having found nothing. `graph` and `names` come before `references`, which
reads the order and the texts that they find.
"""

from collections.abc import Callable

from workflows.language.checks import (
    approvals,
    availability,
    graph,
    inputs,
    names,
    policies,
    references,
    shape,
    states,
    structure,
    tasks,
)
from workflows.language.outline import Outline

CHECKS: tuple[Callable[[Outline], None], ...] = (
    structure.check,
    availability.check,
    graph.check,
    states.check,
    names.check,
    references.check,
    tasks.check,
    policies.check,
    inputs.check,
    approvals.check,
)

__all__ = ["CHECKS", "shape"]
