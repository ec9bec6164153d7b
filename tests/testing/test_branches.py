"""The branches of a definition, and which of them runs have taken."""

import pytest

from workflows.testing import Workflow, attempts, calls, event, fails, never, takes
from workflows.testing.branches import branches_of, digest, taken_by

DEFINITION = """\
workflow: branched
input:
  type: object
  properties: {lines: {type: array, default: []}, n: {type: integer, default: 0}}
steps:
  - {id: ask, uses: x.ask, optional: true}
  - id: safe
    uses: x.safe
    catch:
      - {on: [business], steps: [{id: told, uses: x.tell}]}
      - {steps: [{id: other, uses: x.other}]}
  - id: route
    switch:
      - when: ${{ input.n == 1 }}
        steps: [{id: one, uses: x.one}]
      - when: ${{ input.n == 2 }}
        steps: [{id: two, uses: x.two}]
  - id: pack
    foreach: ${{ input.lines }}
    steps: [{id: scan, uses: x.scan}]
  - id: poll
    repeat: {until: "${{ steps.status.output == 'done' }}", max_times: 5}
    steps: [{id: status, uses: x.status}]
  - id: race
    first:
      - {id: paid, event: {type: paid, timeout: 1h}}
      - {id: late, wait: {for: 2h}}
  - id: both
    parallel: [{id: left, uses: x.left}, {id: right, uses: x.right, optional: true}]
  - {id: leave, exit: {when: "${{ input.n == 1 }}", output: 1}}
  - {id: last, uses: x.last, when: "${{ input.n > 1 }}"}
"""
BRANCHED = Workflow.parse(DEFINITION).given(stubs={"status": "done"})
ROUNDS = Workflow.parse("""\
workflow: rounds
steps:
  - id: paper
    states:
      - {id: draft, uses: x.draft, next: review}
      - id: review
        uses: x.review
        next:
          - {when: "${{ steps.review.output == 'bad' }}", to: draft}
          - {}
""")


def taken(workflow: Workflow, *script: object, **given: object) -> set[tuple[str, str]]:
    run = workflow.run(*script, **given)  # type: ignore[arg-type]
    return taken_by(run.simulation, run.lines)


def test_every_branch_has_a_line_and_each_is_taken_by_some_run() -> None:
    branches = branches_of(BRANCHED.plan, DEFINITION, "branched.yaml")
    paid = event("paid")

    ways = taken(BRANCHED, paid, input={"n": 1})
    ways |= taken(BRANCHED, input={"n": 2, "lines": [1]}, stubs={"ask": fails("permanent")})
    ways |= taken(
        BRANCHED, paid, input={"n": 3, "lines": [1, 2]}, stubs={"safe": fails("business")}
    )
    ways |= taken(BRANCHED, paid, stubs={"safe": fails("permanent"), "right": fails("permanent")})
    ways |= taken(BRANCHED, paid, stubs={"status": calls("no", "done")})

    assert [one for one in branches if one.key not in ways] == []
    assert {one.line for one in branches} <= set(range(6, 37))


@pytest.mark.parametrize(
    ("given", "way"),
    [
        ({"input": {"n": 1}}, ("route", "case input.n == 1")),
        ({}, ("route", "no case")),
        ({"input": {"n": 1}}, ("leave", "leaves")),
        ({}, ("leave", "does not leave")),
        ({"input": {"n": 2}}, ("last", "when is true")),
        ({}, ("last", "when is false")),
        ({}, ("safe", "needs no catch")),
        ({"stubs": {"safe": fails("business")}}, ("safe", "catch[0] for business")),
        ({"stubs": {"safe": fails("permanent")}}, ("safe", "catch[1] for any error")),
        ({"stubs": {"ask": fails("permanent")}}, ("ask", "fails, and counts as done")),
        ({}, ("pack", "no item")),
        ({"input": {"lines": [1]}}, ("pack", "one item")),
        ({"input": {"lines": [1, 2]}}, ("pack", "many items")),
        ({}, ("poll", "one round")),
        ({"stubs": {"status": calls("no", "done")}}, ("poll", "many rounds")),
        ({"stubs": {"paid": 1}}, ("race.paid", "is answered")),
        ({"stubs": {"paid": 1}}, ("race.paid", "wins")),
        ({"stubs": {"paid": never()}}, ("race.paid", "is not answered")),
        ({"stubs": {"paid": never()}}, ("race.late", "wins")),
    ],
)
def test_a_branch_is_taken_by_a_run_that_goes_that_way(
    given: dict[str, dict[str, object]], way: tuple[str, str]
) -> None:
    nothing_else = {"stubs": {"paid": takes("1s")}}

    assert way in taken(BRANCHED, **{**nothing_else, **given})


def test_a_join_is_met_or_it_is_not() -> None:
    picky = Workflow.parse("""\
workflow: picky
steps:
  - {id: a, uses: x.a, needs: [], optional: true}
  - {id: b, uses: x.b, needs: []}
  - {id: c, uses: x.c, needs: [a, b], join: all_success}
""")

    met = taken(picky)
    not_met = taken(picky, stubs={"b": fails("permanent")})

    assert met - not_met >= {("c", "join is met"), ("c", "runs")}
    assert ("c", "join is not met") in not_met - met


def test_states_go_to_each_other_and_to_the_end() -> None:
    branches = {one.key for one in branches_of(ROUNDS.plan, ROUNDS.text, "rounds.yaml")}

    straight = taken(ROUNDS)
    again = taken(ROUNDS, stubs={"review": calls("bad", "good")})

    assert ("paper[].review", "goes to draft") in again - straight
    assert ("paper[].review", "goes to the end") in straight & again
    assert branches <= again


def test_a_definition_is_the_same_whatever_its_comments_and_layout() -> None:
    text = "workflow: w\nsteps: [{id: a, uses: log}]"

    assert digest(text) == digest("# said\nworkflow: w\nsteps:\n  - id: a\n    uses: log\n")
    assert digest(text) != digest(text.replace("log", "sleep"))


def test_a_retried_step_has_no_branch_of_its_own() -> None:
    once = taken(BRANCHED, stubs={"paid": 1})
    retried = taken(BRANCHED, stubs={"paid": 1, "ask": attempts(fails("timeout"), 1)})

    assert once == retried
