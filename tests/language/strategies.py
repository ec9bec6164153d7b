"""What hypothesis makes up: values, steps, input schemas, pieces of text and of expressions."""

from hypothesis import strategies as st

from workflows.language.spec import StepSpec

KEYS = sorted(
    {info.alias or name for name, info in StepSpec.model_fields.items()} | {*"ab", "on", "else"}
)
WORDS = ["a", "b", "${{ steps.a.output }}", "${{ item", "1s", "noop", "fetch", "$ref", "#"]
PLACES = ["#", "#/properties/a", "#/$defs/a", "#b", "http://x/y", "a", ""]
NAMED = st.sampled_from("ab")

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(WORDS),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
STEPS = st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5), max_size=4)
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "string", "array", "x"]),
            "default": VALUES,
            "$ref": st.sampled_from(PLACES),
            "pattern": st.sampled_from(["(", "a*", "\\", "[a--b]", "(" * 999, "a{9999999999}"]),
            "required": st.lists(NAMED, max_size=2),
            "enum": st.lists(SCALARS, max_size=2),
            "minimum": SCALARS,
            "$anchor": st.just("b"),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(NAMED, st.one_of(inner, SCALARS), max_size=2),
            "$defs": st.dictionaries(NAMED, inner, max_size=2),
            "items": inner,
            "allOf": st.lists(inner, max_size=2),
            "prefixItems": st.lists(inner, max_size=2),
            "additionalProperties": inner,
            "not": inner,
            "if": inner,
            "default": VALUES,
            "$id": st.sampled_from(["http://x/", "a"]),
        },
    ),
    max_leaves=6,
)
PIECES = st.sampled_from(
    [
        *(
            "\n",
            "  ",
            "- ",
            ": ",
            "{",
            "}",
            "[",
            "]",
            "${{ ",
            " }}",
            "'",
            '"',
            "&a ",
            "*a ",
            "!!x ",
        ),
        *("|", ">", "#", "\t", "\x00", "\ud800", "\ufeff", "---", "...", "?", "%"),
    ]
)
EXPRESSIONS = st.lists(
    st.sampled_from(
        [
            *"()[]{}.,?:+-*/%&|!<>='\"\\ ",
            *("a", "input", "1", "2.5", "map", "has(", "in", "steps.a", "get("),
            *("//", "'x'", "}}", "${{"),
        ]
    ),
    max_size=14,
).map("".join)
