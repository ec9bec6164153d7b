"""Which came first: the failure or the skip, for a step that needed both to succeed.

`all_success` follows whichever its scheduler saw first, in Airflow. With many
workers that would be a race, and the same run could end in two ways. So the
order is that of one worker which takes steps first come, first served, in
document order, with one look at all rules after each step that ends.
"""

from collections import deque
from collections.abc import Mapping

from workflows.engine.joins import Ruling, Tally, ruling
from workflows.engine.plan import Node, Plan
from workflows.engine.slice import StepView
from workflows.language.words import Join


def failure_came_first(plan: Plan, contested: StepView, views: Mapping[str, StepView]) -> bool:
    """Say whether a step would have heard of a failure before it heard of a skip.

    `views` holds the steps of its scope as they have ended; one that has not ended yet tells
    nobody.
    """
    target = plan.nodes[contested.node]
    members = _leading_to(plan, target)
    tallies = {index: Tally() for index in members}
    endings = {index: views[plan.path(index, contested.path)] for index in members}
    line = deque(index for index in members if _starts_at_once(plan.nodes[index]))
    decided = set(line)
    news: list[StepView] = []
    while line or news:
        if line:
            news.append(endings[line.popleft()])
        told = _tell(plan, news, tallies)
        news = []
        for index in sorted(told - decided):
            answer = _eager(plan.nodes[index], tallies[index])
            if index == target.index and answer is not Ruling.WAIT:
                return answer is Ruling.UPSTREAM_FAILED
            if answer is Ruling.WAIT:
                continue
            decided.add(index)
            if answer is Ruling.START:
                line.append(index)
            else:
                news.append(endings[index])
    return True


def _leading_to(plan: Plan, target: Node) -> list[int]:
    """Return the step and all that it waits for: nothing else has a say."""
    found: set[int] = set()
    todo = [target.index]
    while todo:
        index = todo.pop()
        if index not in found:
            found.add(index)
            if plan.nodes[index].join is not Join.ALWAYS:
                todo.extend(plan.nodes[index].needs)
    return sorted(found)


def _starts_at_once(node: Node) -> bool:
    return not node.needs or node.join is Join.ALWAYS


def _tell(plan: Plan, news: list[StepView], tallies: dict[int, Tally]) -> set[int]:
    told: set[int] = set()
    for view in news:
        for dependent in plan.nodes[view.node].needed_by:
            if dependent in tallies:
                tallies[dependent] = view.counted(tallies[dependent])
                told.add(dependent)
    return told


def _eager(node: Node, tally: Tally) -> Ruling:
    if node.join is Join.ALL_SUCCESS and (tally.bad or tally.skipped):
        return Ruling.UPSTREAM_FAILED if tally.bad else Ruling.UPSTREAM_SKIPPED
    return ruling(node.join, tally, needs=len(node.needs), at_least=node.at_least)
