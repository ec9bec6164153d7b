"""A good document becomes a Spec; a bad one is told everything at once."""

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import BaseModel

from tests.language.builders import Catalog, document, findings, place_of_mark, rules
from workflows.language.checks.availability import NOT_YET
from workflows.language.findings import DefinitionError
from workflows.language.loader import check, load
from workflows.language.spec import Spec
from workflows.language.words import Join, StepKind

EVERYTHING = (Path(__file__).parent / "everything.yaml").read_text()


def test_everything_the_language_has_is_read_and_only_what_is_to_come_is_found() -> None:
    spec, found = check(EVERYTHING, source="everything.yaml")

    assert spec is not None
    assert {step.kind for _, step in spec.walk()} == set(StepKind)
    assert {one.rule for one in found} == {"not-available-yet"}


def test_the_steps_of_a_round_read_each_other_and_the_condition_of_the_loop_reads_them() -> None:
    body = "[{id: a, uses: noop}, {id: b, uses: noop, with: {x: '${{ steps.a.output }}'}}]"
    until = "until: '${{ steps.b.output }}'"

    assert rules(document(f"[{{id: l, foreach: [1], {until}, steps: {body}}}]")) == []
    assert rules(document(f"[{{id: l, repeat: {{{until}}}, steps: {body}}}]")) == []


def test_the_condition_of_a_repeat_knows_the_number_of_the_round() -> None:
    repeat = "repeat: {until: '${{ index == 2 }}'}"

    assert rules(document(f"[{{id: l, {repeat}, steps: [{{id: a, uses: noop}}]}}]")) == []


@pytest.mark.parametrize("number", ["0", "3", "1000000"])
def test_the_items_may_be_how_many_there_are(number: str) -> None:
    steps = f"[{{id: l, foreach: {number}, steps: [{{id: a, uses: noop}}]}}]"

    assert rules(document(steps)) == []


def test_no_key_of_the_language_is_left_out_of_everything() -> None:
    spec = check(EVERYTHING, source="everything.yaml")[0]
    assert spec is not None

    given: dict[type[BaseModel], set[str]] = {}
    for model in _models_in(spec):
        given.setdefault(type(model), set()).update(model.model_fields_set)

    missing = {kind.__name__: kind.model_fields.keys() - keys for kind, keys in given.items()}
    assert not {name: keys for name, keys in missing.items() if keys}


def _models_in(value: object) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
        yield from _models_in([item for _, item in value])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _models_in(item)


def test_what_is_to_come_is_found_line_for_line_in_the_table() -> None:
    found = check(EVERYTHING, source="everything.yaml")[1]

    entries = {entry.partition(".")[2] for entry in NOT_YET}
    assert {one.message.removesuffix(" is not available yet") for one in found} == entries


def test_a_spec_survives_being_written_and_read() -> None:
    spec = check(EVERYTHING, source="everything.yaml")[0]
    assert spec is not None

    written = json.dumps(spec.model_dump(mode="json", by_alias=True))

    assert Spec.model_validate(json.loads(written)) == spec


def test_json_is_read_as_yaml_is() -> None:
    text = json.dumps(
        {"workflow": "w", "steps": [{"id": "a", "uses": "noop", "with": {"x": "\U0001f600/"}}]}
    )

    spec = load(text, source="w.json", catalog=Catalog())

    assert spec.steps[0].arguments == {"x": "\U0001f600/"}
    assert load("\ufeff" + text.replace('"steps"', '\n\t"steps"'), source="w.json") == spec


def test_words_of_old_yaml_are_text() -> None:
    spec = load(
        document("[{id: a, uses: noop, with: {on: no, day: 2024-01-01, at: 12:30, n: 1_000}}]"),
        source="w",
    )

    assert spec.steps[0].arguments == {"on": "no", "day": "2024-01-01", "at": "12:30", "n": "1_000"}


def test_all_findings_come_at_once_and_in_order() -> None:
    text = document(
        "[{id: a, uses: nop, timeout: x}, {id: a, uses: noop, needs: [b]}]", head="descripton: x"
    )

    with pytest.raises(DefinitionError) as refused:
        load(text, source="w.yaml", catalog=Catalog())

    named = [one.rule for one in refused.value.findings]
    assert named == ["unknown-key", "unknown-task", "duration", "duplicate-id", "needs-unknown"]


def test_a_finding_reads_like_a_compiler_s() -> None:
    found = findings("workflow: w\nsteps:\n  - id: a\n    use: noop\n")

    assert str(found[1]) == (
        "w.yaml:4:5: the key use is not known here [unknown-key]\n  hint: did you mean uses?"
    )
    assert found[1].as_dict()["path"] == "steps[0].use"


def test_a_finding_in_a_block_of_text_points_into_it() -> None:
    text = dedent("""\
        workflow: w
        steps:
          - id: a
            uses: noop
            with:
              body: |
                first ${{ run.id }}
                then ${{ §nope }}
        """)

    found = findings(text)

    assert [(one.rule, one.line, one.column) for one in found] == [
        ("unknown-name", *place_of_mark(text))
    ]


def test_a_key_without_a_value_is_as_good_as_left_out() -> None:
    assert rules(document("[{id: a, uses: noop, guard: , needs: , with: , timeout: }]")) == []


def test_a_catalog_is_not_needed() -> None:
    spec = load(document("[{id: a, uses: anything.at.all, with: {x: 1}}]"), source="w")

    assert spec.steps[0].uses == "anything.at.all"


def test_a_join_is_one_value_however_it_is_written() -> None:
    steps = (
        "[{id: a, uses: x}, {id: b, uses: x, join: {at_least: 1}}, {id: c, uses: x, join: always}]"
    )

    spec = load(document(steps), source="w")

    assert [(step.join.rule, step.join.at_least) for step in spec.steps] == [
        (Join.NONE_FAILED, None),
        (Join.AT_LEAST, 1),
        (Join.ALWAYS, None),
    ]


def test_a_step_s_retry_goes_over_the_workflow_s_key_by_key() -> None:
    steps = "[{id: a, uses: noop, retry: {max_attempts: 9}}, {id: b, uses: noop}]"
    spec = load(document(steps, head="retry: {initial_delay: 3s, max_attempts: 2}"), source="w")

    first, second = (spec.retry_of(step) for step in spec.steps)

    assert (first.max_attempts, first.initial_delay) == (9, 3.0)
    assert (second.max_attempts, second.initial_delay, second.max_delay) == (2, 3.0, 60.0)


@pytest.mark.parametrize(
    "steps",
    [
        "[{id: a, uses: noop}, {id: b, set: {x: READ}}]",
        "[{id: a, uses: noop}, {id: m, uses: noop}, {id: b, set: {x: READ}}]",
        "[{id: s, steps: [{id: a, uses: noop}]}, {id: b, set: {x: READ}}]",
        "[{id: a, uses: noop}, {id: s, parallel: [{id: b, set: {x: READ}}]}]",
        "[{id: s, steps: [{id: a, uses: noop}], output: READ}]",
        "[{id: a, uses: noop, output: READ}]",
        "[{id: p, parallel: [{id: a, uses: noop}, {id: b, needs: [a], set: {x: READ}}]}]",
        "[{id: s, steps: [{id: a, uses: noop}], catch: [{steps: [{id: b, set: {x: READ}}]}]}]",
        "[{id: a, uses: noop, catch: [{steps: [{id: b, set: {x: READ}}]}]}]",
        "[{id: b, needs: [a], set: {x: READ}}, {id: a, uses: noop, needs: []}]",
    ],
)
def test_a_step_may_read_what_has_finished(steps: str) -> None:
    assert rules(document(steps.replace("READ", "'${{ steps.a.output }}'"))) == []


@pytest.mark.parametrize("code", ["child.cancelled", "approval.rejected", "job.failed"])
def test_codes_of_the_engine_and_those_of_families_of_their_own_can_be_caught(code: str) -> None:
    catch = f"catch: [{{on: [{code}], steps: [{{id: b, uses: noop}}]}}]"

    assert rules(document(f"[{{id: a, uses: noop, {catch}}}]")) == []


def test_a_cycle_is_shown_whole() -> None:
    steps = "[{id: a, uses: noop, needs: [c]}, {id: b, uses: noop}, {id: c, uses: noop}]"

    found = findings(document(steps))

    assert found[0].message == "the steps wait for each other: a -> b -> c -> a"


def test_two_cycles_are_both_found() -> None:
    step = "{{id: {0}, uses: noop, needs: [{1}]}}"
    steps = ", ".join(step.format(one, other) for one, other in ("ab", "ba", "cd", "dc"))

    assert rules(document(f"[{steps}]")) == ["cycle", "cycle"]


@pytest.mark.parametrize(
    "steps",
    [
        "[{id: end, exit: {when: '${{ input.x }}'}}, {id: a, uses: noop}]",
        "[{id: end, when: '${{ input.x }}', exit: {}}, {id: a, uses: noop}]",
        "[{id: end, exit: {}}, {id: a, uses: noop, needs: []}]",
        "[{id: f, uses: noop}, {id: end, exit: {}}, {id: a, uses: noop, join: all_done}]",
        "[{id: f, uses: noop}, {id: end, join: one_failed, exit: {}}, {id: a, uses: noop}]",
        "[{id: s, optional: true, steps: [{id: f, set: {}}, {id: e, exit: {}}]}, {id: a, set: {}}]",
        "[{id: s, switch: [{when: true, steps: [{id: end, exit: {}}]}]}, {id: a, uses: noop}]",
    ],
)
def test_what_an_exit_may_leave_to_be_done_is_reachable(steps: str) -> None:
    assert rules(document(steps)) == []


def test_a_parameter_that_an_expression_gives_is_not_judged_before_the_run() -> None:
    given = "url: '${{ env.erp }}/x', method: '${{ input.m }}', retries: '${{ input.n }}'"

    assert rules(document(f"[{{id: a, uses: fetch, with: {{{given}}}}}]")) == []


def test_ten_thousand_steps_are_the_most() -> None:
    steps = [{"id": f"s{number}", "uses": "noop"} for number in range(10_001)]

    assert rules(json.dumps({"workflow": "w", "steps": steps})) == ["too-many-steps"]
    assert rules(json.dumps({"workflow": "w", "steps": steps[1:]})) == []


def test_an_alias_bomb_is_refused_before_it_unfolds() -> None:
    layers = "".join(f"  - &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 12))

    found = findings(f"workflow: w\nbomb:\n  - &x0 [1, 2]\n{layers}")

    assert [one.rule for one in found] == ["too-many-values"]


def test_an_anchor_may_be_shared() -> None:
    steps = "[{id: a, uses: noop, retry: &r {max_attempts: 5}}, {id: b, uses: noop, retry: *r}]"

    spec = load(document(steps), source="w")

    assert spec.retry_of(spec.steps[1]).max_attempts == 5


@pytest.mark.parametrize(
    "steps",
    [
        "[{id: a, uses: noop, with: {x: '${{ steps.v.callback_url }}'}}, {id: v, callback: {}}]",
        "[{id: v, callback: {}}, {id: a, set: {x: '${{ steps.v.callback_url }}'}}]",
        (
            "[{id: l, foreach: [1], steps: [{id: v, callback: {}, needs: [a]},"
            " {id: a, needs: [], set: {x: '${{ steps.v.callback_url }}'}}]}]"
        ),
    ],
)
def test_a_callback_url_can_be_read_before_and_after_its_step(steps: str) -> None:
    assert check(f"workflow: w\nsteps: {steps}", source="test")[1] == ()
