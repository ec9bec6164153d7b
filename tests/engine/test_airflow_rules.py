"""The join rules against a tiny model of our own of what Airflow's documentation says of them.

https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/dags.html#trigger-rules
The model looks at a task once all before it have ended. Where a failure and a
skip would both do, the documentation does not say which wins; both are right.
"""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.builders import Play, broken, done, plan_from, play, task
from workflows.engine.simulate import simulate
from workflows.engine.slice import StepView
from workflows.engine.states import Reason, StepState

RUN, SKIP, FAIL = "run", "skipped", "upstream_failed"
OUTCOMES = ["success", "success", "failed", "skipped"]


def permitted(rule: str, ends: Counter[str]) -> set[str]:
    """Return what may become of a task whose upstream tasks have ended in this way."""
    count = ends.total()
    good, skipped = ends["success"], ends["skipped"]
    bad = ends["failed"] + ends["upstream_failed"]
    table: dict[str, set[str]] = {
        "all_success": ({FAIL} if bad else set()) | ({SKIP} if skipped else set()) or {RUN},
        "all_failed": {SKIP} if good or skipped else {RUN},
        "all_done": {RUN},
        "all_done_min_one_success": {SKIP} if skipped else {RUN} if good else {FAIL},
        "all_skipped": {RUN} if skipped == count else {SKIP},
        "one_success": {RUN} if good else {SKIP} if skipped == count else {FAIL},
        "one_failed": {RUN} if bad else {SKIP},
        "one_done": {RUN} if good or ends["failed"] else {SKIP},
        "none_failed": {FAIL} if bad else {RUN},
        "none_failed_min_one_success": {FAIL} if bad else {SKIP} if skipped == count else {RUN},
        "none_skipped": {SKIP} if skipped else {RUN},
        "always": {RUN},
    }
    return table[rule]


RULES = [
    "all_success", "all_failed", "all_done", "all_done_min_one_success", "all_skipped",
    "one_success", "one_failed", "one_done", "none_failed", "none_failed_min_one_success",
    "none_skipped", "always",
]  # fmt: skip

graphs = st.lists(
    st.tuples(
        st.sampled_from(RULES),
        st.sampled_from(OUTCOMES),
        st.sets(st.integers(1, 6), max_size=4),
    ),
    min_size=1,
    max_size=10,
)
Graph = list[tuple[str, str, set[int]]]


def document(graph: Graph) -> list[dict[str, Any]]:
    """Return the steps: each needs some of the six before it, and ends as it is told."""
    steps = []
    for number, (rule, outcome, back) in enumerate(graph):
        needs = sorted(f"t{number - far}" for far in back if far <= number)
        step = task(f"t{number}", needs=needs, join=rule)
        if outcome == "skipped":
            step["when"] = False
        if outcome == "failed":
            step["uses"] = "fail"
        steps.append(step)
    return steps


def named(view: StepView) -> str:
    """Return what Airflow calls the way in which the step has ended."""
    if view.reason is Reason.UPSTREAM_FAILED:
        return "upstream_failed"
    return {StepState.COMPLETED: "success", StepState.FAILED: "failed"}.get(view.state, "skipped")


@settings(max_examples=150, deadline=None)
@given(graphs)
def test_every_graph_ends_as_airflow_would_end_it(graph: Graph) -> None:
    steps = document(graph)

    run = simulate(plan_from(*steps))

    ends = {path: named(row.view) for path, row in run.rows.items()}
    for step, (rule, outcome, _) in zip(steps, graph, strict=True):
        before = Counter(ends[need] for need in step["needs"])
        allowed = permitted(rule, before) if step["needs"] else {RUN}
        expected = {outcome if what is RUN else what for what in allowed}
        assert ends[step["id"]] in expected, step["id"]


WAIT_FOR_ALL = {"all_success", "all_done", "always"}
"""The rules that no single need can answer; where another does, the rest may still be running."""


@settings(max_examples=150, deadline=None)
@given(graphs, st.integers(0, 2**32))
def test_what_came_first_does_not_depend_on_who_was_faster(graph: Graph, seed: int) -> None:
    patient = [
        (rule, outcome, back if rule in WAIT_FOR_ALL else set(sorted(back)[:1]))
        for rule, outcome, back in graph
    ]
    plan = plan_from(*document(patient))
    ends = []

    for chance in (Random(seed), Random(seed + 1)):
        run = play(plan)
        work_off(run, chance)
        ends.append({path: (row.view.state, row.view.reason) for path, row in run.rows.items()})

    assert ends[0] == ends[1]


def work_off(run: Play, chance: Random) -> None:
    """Have workers finish in any order."""
    while run.queued:
        path = chance.choice(sorted(run.queued))
        fails = run.plan.node(path).uses == "fail"
        run.hear(broken(path) if fails else done(path))
