"""What can be told from the text of a template without evaluating it.

A template is text with `${{ ... }}` in it; it is taken apart once. A literal
`${{` is written `${{ '${{' }}`.

The bounds are there because the parser recurses on the machine's stack, which
a few ten thousand operators or brackets overflow.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cel

from workflows.language.functions import NAMESPACES, TYPE_NAMES
from workflows.language.tokens import (
    CLOSING,
    OPENING,
    RESERVED,
    Chain,
    Problem,
    Reading,
    Token,
    all_tokens,
    tokens_until_close,
)

LONGEST = 4096
DEEPEST = 32
OPEN = "${{"

_PATH = re.compile(
    r"\$\{\{\s*((?!(?:%s)\b)[A-Za-z_]\w*(?:\.(?!(?:%s)\b)[A-Za-z_]\w*)*)\s*\}\}"
    % (("|".join(RESERVED | TYPE_NAMES | NAMESPACES),) * 2),
    re.ASCII,
)
_PARSER_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")


@dataclass(frozen=True, slots=True)
class Expression:
    """One `${{ ... }}`: its source, and what its tokens tell.

    `is_chain`: the whole expression is its only chain.
    """

    source: str
    offset: int
    chains: tuple[Chain, ...]
    functions: frozenset[str]
    problems: tuple[Problem, ...]
    is_chain: bool


@dataclass(frozen=True, slots=True)
class Template:
    """A text taken apart: literal text and expressions, in order."""

    parts: tuple[str | Expression, ...]
    problems: tuple[Problem, ...]

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The expressions in the text."""
        return tuple(part for part in self.parts if isinstance(part, Expression))

    @property
    def single(self) -> Expression | None:
        """The expression, if the text is exactly one, line ends after it aside."""
        match self.parts:
            case (Expression() as only,):
                return only
            case (Expression() as only, str(rest)) if not rest.strip("\r\n"):
                return only
            case _:
                return None


@lru_cache(maxsize=16384)
def template(text: str) -> Template:
    """Take `text` apart."""
    parts: list[str | Expression] = []
    problems: list[Problem] = []
    position = 0
    while (start := text.find(OPEN, position)) >= 0:
        if start > position:
            parts.append(text[position:start])
        if path := _PATH.match(text, start, start + LONGEST):
            parts.append(_path(path))
            position = path.end()
            continue
        tokens, end = tokens_until_close(text, start + len(OPEN))
        if end is None:
            problems.append(
                Problem(
                    start,
                    "expression-not-closed",
                    "an expression is opened with ${{ and never closed",
                    "end it with }}",
                )
            )
            return Template(tuple(parts), tuple(problems))
        inner = text[start + len(OPEN) : end]
        parts.append(_expression(inner, start + len(OPEN), tokens))
        position = end + 2
    if position < len(text):
        parts.append(text[position:])
    for part in parts:
        if isinstance(part, Expression):
            problems.extend(part.problems)
    return Template(tuple(parts), tuple(problems))


@lru_cache(maxsize=4096)
def bare(text: str) -> str:
    """Return a single expression without what encloses it."""
    return text.strip().removeprefix(OPEN).removesuffix("}}").strip()


def expression(source: str) -> Expression:
    """Take apart a bare expression, one without `${{ }}` around it."""
    return _expression(source, 0, all_tokens(source))


def _path(match: re.Match[str]) -> Expression:
    """Read the commonest expression, a plain path, which is most of what a large document has."""
    root, *keys = match[1].split(".")
    offset = match.start() + len(OPEN)
    chain = Chain(root, tuple(keys), match.start(1))
    return Expression(match[1], offset, (chain,), frozenset(), (), is_chain=True)


def _expression(source: str, offset: int, tokens: list[Token]) -> Expression:
    reading = Reading(tokens)
    problems = tuple(_bounds(source, offset, tokens)) or tuple(reading.problems)
    if not problems and not (reading.is_chain and _is_plain(reading.chains[0])):
        problems = tuple(_parser_problems(source, offset))
    return Expression(
        source=source.strip(),
        offset=offset,
        chains=tuple(reading.chains),
        functions=frozenset(reading.functions),
        problems=problems,
        is_chain=reading.is_chain,
    )


def _is_plain(chain: Chain) -> bool:
    """Tell whether the grammar has nothing to say about a path."""
    return RESERVED.isdisjoint(chain.keys)


def _bounds(source: str, offset: int, tokens: list[Token]) -> Iterator[Problem]:
    if len(source) > LONGEST:
        yield Problem(
            offset,
            "expression-too-long",
            f"the expression has {len(source)} characters, {LONGEST} are allowed",
            "compute parts of it in `set` steps",
        )
    depth = 0
    for token in tokens:
        if token.kind == "mark":
            depth += (token.text in OPENING) - (token.text in CLOSING)
        if depth > DEEPEST:
            yield Problem(
                token.offset,
                "expression-too-deep",
                f"brackets are nested more than {DEEPEST} deep",
                "compute parts of it in `set` steps",
            )
            return


def _parser_problems(source: str, offset: int) -> Iterator[Problem]:
    if not source.strip():
        yield Problem(
            offset,
            "expression-syntax",
            "the expression is empty",
            "write what to evaluate between ${{ and }}",
        )
        return
    try:
        cel.compile(source)
    except ValueError as error:
        line, column, reason = 1, 1, str(error)
        if found := _PARSER_ERROR.search(reason):
            line, column, reason = int(found[1]), int(found[2]), found[3]
        lines = source.split("\n")
        before = sum(len(text) + 1 for text in lines[: line - 1]) + column - 1
        reason = reason.removeprefix("Syntax error: ").split(" expecting {")[0]
        yield Problem(
            offset + min(before, len(source)),
            "expression-syntax",
            f"the expression does not parse: {reason.replace('<EOF>', 'the end')}",
            "expressions are CEL: see its operators and functions in the language reference",
        )
