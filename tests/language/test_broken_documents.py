"""Every rule has a document that breaks it: the rule is named, and the place is right.

The mark in a document shows where the finding must point.
"""

import pytest

from tests.language.builders import document, findings, place_of_mark

A = "{id: a, uses: noop}"


def triggered(event: str) -> str:
    """Write a document that an event starts."""
    return document(f"[{A}]", head=f"triggers: [{{event: {event}}}]")


BROKEN = [
    ("yaml-syntax", "workflow: w\nsteps: [{id: a, uses: noop\n§"),
    ("yaml-syntax", "workflow: w\nsteps:\n§\t- id: a"),
    ("not-a-mapping", "§"),
    ("not-a-mapping", "§[1, 2]"),
    ("duplicate-key", document("[{id: a, uses: noop, §uses: noop}]")),
    ("key-not-text", document("[{id: a, uses: noop, with: {§200: ok}}]")),
    ("key-not-text", document("[{id: a, uses: noop, with: {§[x]: ok}}]")),
    ("key-not-text", document("[{id: a, uses: noop, with: {x: {§{ y }}}}]")),
    ("tag", document("[{id: a, uses: §!!python/name:os.system noop}]")),
    ("alias", document("[{id: a, uses: §*nothing}]")),
    ("alias", document("[{id: a, uses: noop, with: &loop {x: §*loop}}]")),
    ("many-documents", document(f"[{A}]") + "§---\nworkflow: v\n"),
    ("number-out-of-range", document("[{id: a, uses: noop, with: {x: §9223372036854775808}}]")),
    ("number-out-of-range", document("[{id: a, uses: noop, with: {x: §.inf}}]")),
    ("number-out-of-range", document("[{id: a, uses: noop, with: {x: §1e999}}]")),
    (
        "document-too-deep",
        document("[{id: a, uses: noop, with: {x: " + "[" * 96 + "§[" + "]" * 97 + "}}]"),
    ),
    ("text-not-storable", document('[{id: a, uses: noop, with: {x: §"a\\0b"}}]')),
    ("unknown-key", document("[{id: a, uses: noop, §tiemout: 3s}]")),
    ("unknown-key", document(f"[{A}]", head="§paralel: 3")),
    ("unknown-key", document("[{id: a, uses: noop, retry: {§attempts: 3}}]")),
    ("missing-key", "§steps: [{id: a, uses: noop}]"),
    ("missing-key", document("[§{uses: noop}]")),
    ("missing-key", document("[{id: a, uses: noop, catch: [§{on: [timeout]}]}]")),
    ("wrong-type", document("[{id: a, uses: noop, needs: §b}]")),
    ("wrong-type", document("[{id: a, uses: noop, optional: §yes}]")),
    ("wrong-type", document("[{id: a, uses: noop, retry: {max_attempts: §'3'}}]")),
    ("wrong-type", document("[{id: a, uses: noop, with: §[x]}]")),
    ("wrong-type", document("[{id: a, uses: noop}, §b]")),
    (
        "irreversible-undone",
        document("[{id: a, uses: noop, §irreversible: true, compensate: {uses: noop}}]"),
    ),
    (
        "reserved-id",
        document("[{id: a, steps: [{id: §compensate, uses: noop}], compensate: {uses: noop}}]"),
    ),
    ("unknown-word", document(f"[{A}]", head="on_failure: §compensat")),
    ("unknown-word", document("[{id: a, uses: noop, losers: §kill}]")),
    ("out-of-range", document("[{id: a, uses: noop, retry: {max_attempts: §0}}]")),
    ("out-of-range", document("[{id: a, uses: noop, retry: {multiplier: §0.5}}]")),
    ("duration", document("[{id: a, uses: noop, timeout: §5 minutes}]")),
    ("duration", document("[{id: a, uses: noop, retry: {initial_delay: §-1}}]")),
    ("timeout-not-positive", document("[{id: a, uses: noop, timeout: §0s}]")),
    ("jitter", document("[{id: a, uses: noop, retry: {jitter: §1.5}}]")),
    ("join", document(f"[{A}, {{id: b, uses: noop, join: §all_sucess}}]")),
    ("condition", document("[{id: a, uses: noop, when: §sometimes}]")),
    (
        "condition",
        document("[{id: a, uses: noop, when: §'${{ input.x }} == 3'}]"),
    ),
    ("items", document("[{id: a, foreach: §-3, steps: [{id: b, uses: noop}]}]")),
    ("items", document("[{id: a, foreach: §1000001, steps: [{id: b, uses: noop}]}]")),
    ("items", document("[{id: a, foreach: §true, steps: [{id: b, uses: noop}]}]")),
    ("bad-slug", "workflow: §Order Fulfilment\nsteps: [{id: a, uses: noop}]"),
    ("bad-id", document("[{id: §send-invoice, uses: noop}]")),
    ("bad-name", document("[{id: a, uses: §no op}]")),
    ("no-kind", document("[§{id: a}]")),
    ("empty-kind", document("[{id: a, §parallel: }]")),
    ("two-kinds", document("[{id: a, uses: noop, §exit: {}}]")),
    ("no-body", document("[§{id: a, foreach: [1]}]")),
    ("duplicate-id", document(f"[{A}, {{id: §a, uses: noop}}]")),
    ("duplicate-id", document(f"[{A}, {{id: b, steps: [{{id: §a, uses: noop}}]}}]")),
    ("empty-block", document("§[]")),
    ("empty-block", document("[{id: a, parallel: §[]}]")),
    ("empty-block", document("[{id: a, uses: noop, catch: [{on: [timeout], steps: §[]}]}]")),
    ("empty-block", document("[{id: a, switch: §[]}]")),
    ("key-not-for-kind", document("[{id: a, §with: {x: 1}, steps: [{id: b, uses: noop}]}]")),
    ("key-not-for-kind", document("[{id: a, uses: noop, §fail_fast: true}]")),
    ("key-not-for-kind", document("[{id: a, §retry: {}, set: {x: 1}}]")),
    (
        "reserved-name",
        document("[{id: a, foreach: [1], as: §input, steps: [{id: b, uses: noop}]}]"),
    ),
    ("reserved-name", document("[{id: a, foreach: [1], as: §in, steps: [{id: b, uses: noop}]}]")),
    (
        "two-elses",
        document(
            "[{id: a, switch: [{else: , steps: [{id: b, uses: noop}]}, "
            "§{else: , steps: [{id: c, uses: noop}]}]}]"
        ),
    ),
    (
        "case-after-else",
        document(
            "[{id: a, switch: [{else: , steps: [{id: b, uses: noop}]}, "
            "§{when: true, steps: [{id: c, uses: noop}]}]}]"
        ),
    ),
    ("case-without-condition", document("[{id: a, switch: [§{steps: [{id: b, uses: noop}]}]}]")),
    (
        "case-without-condition",
        document("[{id: a, switch: [§{when: true, else: , steps: [{id: b, uses: noop}]}]}]"),
    ),
    ("wait-without-end", document("[{id: a, wait: §{}}]")),
    ("value-too-large", document("[{id: a, uses: noop, with: §{x: " + "y" * 262_144 + "}}]")),
    ("needs-unknown", document(f"[{A}, {{id: b, uses: noop, needs: [§c]}}]")),
    ("needs-itself", document("[{id: a, uses: noop, needs: [§a]}]")),
    ("needs-twice", document(f"[{A}, {{id: b, uses: noop, needs: [a, §a]}}]")),
    (
        "needs-other-scope",
        document(f"[{A}, {{id: b, steps: [{{id: c, uses: noop, needs: [§a]}}]}}]"),
    ),
    (
        "cycle",
        document("[{id: a, uses: noop, §needs: [c]}, {id: b, uses: noop}, {id: c, uses: noop}]"),
    ),
    ("join-not-met", document(f"[{A}, {{id: b, uses: noop, join: §{{at_least: 2}}}}]")),
    ("join-not-met", document("[{id: a, uses: noop, join: §one_failed}]")),
    ("losers-without-race", document(f"[{A}, {{id: b, uses: noop, losers: §cancel}}]")),
    ("unreachable", document(f"[{{id: end, exit: {{}}}}, §{A}]")),
    ("unreachable", document(f"[{{id: x, steps: [{{id: end, exit: {{}}}}]}}, §{A}]")),
    ("expression-not-closed", document("[{id: a, uses: noop, with: {x: 'and §${{ input.x'}}]")),
    (
        "expression-syntax",
        document("[{id: a, uses: noop, with: {x: '${{ 1 + §}}'}}]"),
    ),
    ("expression-syntax", document("[{id: a, uses: noop, with: {x: '${{ (1 §2) }}'}}]")),
    ("expression-syntax", document("[{id: a, uses: noop, with: {x: '${{§ }}'}}]")),
    (
        "expression-too-long",
        document("[{id: a, uses: noop, with: {x: '${{§ " + "1+" * 3000 + "1 }}'}}]"),
    ),
    (
        "expression-too-deep",
        document(
            "[{id: a, uses: noop, with: {x: '${{ " + "(" * 32 + "§(" + "1" + ")" * 33 + " }}'}}]"
        ),
    ),
    ("optional-syntax", document("[{id: a, uses: noop, with: {x: '${{ input§.?y }}'}}]")),
    ("unknown-function", document("[{id: a, uses: noop, with: {x: '${{ §siez(input.y) }}'}}]")),
    ("unknown-name", document("[{id: a, uses: noop, with: {x: '${{ §inputs.y }}'}}]")),
    (
        "unknown-name",
        document("[{id: a, uses: noop, with: {x: 'text ${{ 1 }} and ${{ §y + 1 }}'}}]"),
    ),
    (
        "unknown-field",
        document(f"[{A}, {{id: b, uses: noop, with: {{x: '${{{{ §steps.a.outptu }}}}'}}}}]"),
    ),
    ("unknown-field", document("[{id: a, uses: noop, with: {x: '${{ §run.name }}'}}]")),
    (
        "unknown-field",
        document(f"[{A}, {{id: b, uses: noop, with: {{x: '${{{{ §steps.a.callback_url }}}}'}}}}]"),
    ),
    (
        "step-inside-loop",
        document(
            "[{id: a, uses: noop, with: {x: '${{ §steps.v.callback_url }}'}}, "
            "{id: l, foreach: [1], steps: [{id: v, callback: {}}]}]"
        ),
    ),
    ("unknown-variable", document("[{id: a, uses: noop, with: {x: '${{ §vars.total }}'}}]")),
    (
        "unknown-input",
        document(
            "[{id: a, uses: noop, with: {x: '${{ §input.totl }}'}}]",
            head="input: {additionalProperties: false, properties: {total: {}}}",
        ),
    ),
    (
        "steps-key-not-literal",
        document(f"[{A}, {{id: b, uses: noop, with: {{x: '${{{{ §steps[input.y] }}}}'}}}}]"),
    ),
    (
        "steps-key-not-literal",
        document(f"[{A}, {{id: b, uses: noop, with: {{x: '${{{{ size(§steps) }}}}'}}}}]"),
    ),
    ("secrets-outside-with", document("[{id: a, uses: noop, when: '${{ §secrets.key == 1 }}'}]")),
    ("secrets-outside-with", document("[{id: a, set: {x: '${{ §secrets.key }}'}}]")),
    ("item-out-of-place", document("[{id: a, uses: noop, with: {x: '${{ §item.sku }}'}}]")),
    ("index-out-of-place", document("[{id: a, uses: noop, with: {x: '${{ §index }}'}}]")),
    ("done-out-of-place", document("[{id: a, uses: noop, with: {x: '${{ §done }}'}}]")),
    ("error-out-of-place", document("[{id: a, uses: noop, with: {x: '${{ §error.code }}'}}]")),
    ("event-out-of-place", document("[{id: a, uses: noop, with: {x: '${{ §event.data }}'}}]")),
    ("next-out-of-place", document("[{id: a, uses: noop, §next: a}]")),
    ("unknown-state", document("[{id: s, states: [{id: a, uses: noop, next: §b}]}]")),
    ("unknown-state", document("[{id: s, states: [{id: a, uses: noop, next: [{to: §b}]}]}]")),
    ("unknown-state", document("[{id: s, start: §b, states: [{id: a, uses: noop}]}]")),
    ("unreachable-state", document("[{id: s, states: [{id: a, uses: noop}, §{id: b, set: {}}]}]")),
    (
        "state-order",
        document(
            "[{id: s, states: [{id: a, uses: noop, next: b}, {id: b, uses: noop, §needs: [a]}]}]"
        ),
    ),
    (
        "transition-never-taken",
        document(
            "[{id: s, states: [{id: a, uses: noop, next: [{to: a}, §{when: true, to: b}]},"
            " {id: b, uses: noop}]}]"
        ),
    ),
    ("key-not-for-kind", document("[{id: s, uses: noop, §start: a}]")),
    (
        "stragglers-without-until",
        document("[{id: a, foreach: 3, §stragglers: cancel, steps: [{id: b, uses: noop}]}]"),
    ),
    ("condition", document("[{id: s, states: [{id: a, uses: noop, next: [{when: §x, to: a}]}]}]")),
    ("event-type", document("[{id: a, event: {type: §'${{ input.x }}'}}]")),
    ("unknown-name", triggered("{type: x, match: '${{ §inptu.x }}'}")),
    ("input", triggered("{type: x, input: §7}")),
    ("missing-key", triggered("§{match: true}")),
    ("unknown-key", triggered("{type: x, §inptu: {}}")),
    ("condition", triggered("{type: x, match: §maybe}")),
    (
        "unknown-step",
        document(f"[{A}, {{id: b, uses: noop, with: {{x: '${{{{ §steps.aa.output }}}}'}}}}]"),
    ),
    (
        "step-not-finished",
        document("[{id: a, uses: noop, with: {x: '${{ §steps.b.output }}'}}, {id: b, uses: noop}]"),
    ),
    ("step-not-finished", document("[{id: a, uses: noop, with: {x: '${{ §steps.a.output }}'}}]")),
    (
        "step-not-finished",
        document(
            f"[{A}, {{id: b, uses: noop, needs: [], when: '${{{{ §steps.a.output == 1 }}}}'}}]"
        ),
    ),
    (
        "step-not-finished",
        document(
            "[{id: p, parallel: [{id: a, uses: noop}, "
            "{id: b, uses: noop, with: {x: '${{ §steps.a.output }}'}}]}]"
        ),
    ),
    (
        "step-not-finished",
        document("[{id: s, steps: [{id: a, uses: noop, with: {x: '${{ §steps.s.output }}'}}]}]"),
    ),
    (
        "step-inside-loop",
        document(
            "[{id: l, foreach: [1], steps: [{id: a, uses: noop}]}, "
            "{id: b, uses: noop, with: {x: '${{ §steps.a.output }}'}}]"
        ),
    ),
    (
        "step-inside-loop",
        document(
            "[{id: l, foreach: [1], steps: [{id: a, uses: noop}]}]",
            head="output: '${{ §steps.a.output }}'",
        ),
    ),
    (
        "step-inside-loop",
        document(
            "[{id: l, foreach: [1], steps: [{id: a, uses: noop}], "
            "output: '${{ §steps.a.output }}'}]"
        ),
    ),
    ("secrets-outside-with", document("[{id: a, workflow: v, with: {x: '${{ §secrets.y }}'}}]")),
    ("unknown-task", document("[{id: a, uses: §nop}]")),
    ("unknown-parameter", document("[{id: a, uses: fetch, with: {url: 'http://x', §methd: GET}}]")),
    ("missing-parameter", document("[{id: a, §uses: fetch}]")),
    ("missing-parameter", document("[{id: a, uses: fetch, §with: {method: GET}}]")),
    ("parameter", document("[{id: a, uses: fetch, with: {url: §3}}]")),
    ("parameter", document("[{id: a, uses: fetch, with: {url: 'http://x', method: §PUT}}]")),
    (
        "parameter",
        document("[{id: a, uses: fetch, with: {url: 'http://x', retries: §'n ${{ input.n }}'}}]"),
    ),
    ("retry-delays", document("[{id: a, uses: noop, retry: {initial_delay: §2m}}]")),
    ("retry-delays", document(f"[{A}]", head="retry: {initial_delay: 10s, max_delay: §5s}")),
    ("retry-delays", document(f"[{A}]", head="retry: {initial_delay: 10s, max_duration: §5s}")),
    (
        "retry-contradiction",
        document("[{id: a, uses: noop, retry: {retry_on: [§timeout], give_up_on: [timeout]}}]"),
    ),
    (
        "retry-contradiction",
        document("[{id: a, uses: noop, retry: {max_attempts: 1, retry_on: §[timeout]}}]"),
    ),
    ("never-retried", document("[{id: a, uses: noop, retry: {retry_on: [§cancelled]}}]")),
    ("unknown-error-class", document("[{id: a, uses: noop, retry: {give_up_on: [§permanant]}}]")),
    (
        "unknown-error-class",
        document("[{id: a, uses: noop, catch: [{on: [§time_out], steps: [{id: b, uses: noop}]}]}]"),
    ),
    ("unknown-error-code", document("[{id: a, uses: noop, retry: {retry_on: [§htp.503]}}]")),
    (
        "catch-never-taken",
        document(
            "[{id: a, uses: noop, catch: [{steps: [{id: b, uses: noop}]}, "
            "§{on: [timeout], steps: [{id: c, uses: noop}]}]}]"
        ),
    ),
    ("wrong-type", document(f"[{A}]", head="input: §[x]")),
    ("input-schema", document(f"[{A}]", head="input: {properties: {x: {type: §strin}}}")),
    ("input-schema", document(f"[{A}]", head="input: {properties: {x: {pattern: §'('}}}")),
    ("input-not-an-object", document(f"[{A}]", head="input: {type: §array}")),
    (
        "input-schema-reference",
        document(f"[{A}]", head="input: {properties: {x: {$ref: §'http://x/y'}}}"),
    ),
    ("input-schema-endless", document(f"[{A}]", head="input: §{$ref: '#'}")),
    (
        "input-default",
        document(f"[{A}]", head="input: {properties: {x: {type: string, default: §3}}}"),
    ),
    ("not-available-yet", document("[{id: a, uses: noop, with: {x: '${{ §secrets.key }}'}}]")),
    ("moment", document("[{id: a, wait: {until: §tomorrow}}]")),
    ("moment", document("[{id: a, wait: {until: §2026-12-24T18:00:00}}]")),
]


@pytest.mark.parametrize(
    ("rule", "text"), BROKEN, ids=[f"{n}-{b[0]}" for n, b in enumerate(BROKEN)]
)
def test_a_broken_document_is_told_its_rule_and_its_place(rule: str, text: str) -> None:
    found = findings(text)

    assert (rule, *place_of_mark(text)) in [(one.rule, one.line, one.column) for one in found]
    assert all(one.hint and one.message and one.source == "w.yaml" for one in found)
    others = {one.rule for one in found} - {rule, "not-available-yet"}
    assert not others
