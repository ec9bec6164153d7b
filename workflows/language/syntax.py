"""What can be told from the text of a template without evaluating it.

A template is text with `${{ ... }}` in it. Each expression is split into tokens
once; from them come the names it reads (`Chain`), the functions it calls and
what is wrong with it (`Problem`), each with its offset in the template. The
grammar itself is left to the CEL parser. A literal `${{` is written
`${{ '${{' }}`.

The bounds are there because the parser recurses on the machine's stack, which
a few ten thousand operators or brackets overflow.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import cel

from workflows.language.functions import KNOWN, MACROS, NAMESPACES, TYPE_NAMES
from workflows.language.nearest import did_you_mean

LONGEST = 4096
DEEPEST = 32
DEEPEST_MACROS = 3
OPEN = "${{"
OPTIONAL_HINT = (
    "write get(container, 'key', default), or has(a.b) ? a.b : default; "
    "get takes a list of keys to reach further in"
)
RESERVED = frozenset(
    {
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
        "in",
        "true",
        "false",
        "null",
    }
)

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*?(?=\}\}|\n|$))
      |(?P<string>(?:[rR][bB]?|[bB][rR])(?:\"{3}(?s:.*?)\"{3}|'{3}(?s:.*?)'{3}|"[^"\n]*"|'[^'\n]*')
         |[bB]?(?:\"{3}(?s:(?:[^\\]|\\.)*?)\"{3}|'{3}(?s:(?:[^\\]|\\.)*?)'{3}
         |"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
      |(?P<number>0x[0-9a-fA-F]+u?|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?u?)
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<close>\}\})
      |(?P<mark>\.\?|\[\?|&&|\|\||[<>=!]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_PATH = re.compile(
    r"\$\{\{\s*((?!(?:%s)\b)[A-Za-z_]\w*(?:\.(?!(?:%s)\b)[A-Za-z_]\w*)*)\s*\}\}"
    % (("|".join(RESERVED | TYPE_NAMES | NAMESPACES),) * 2),
    re.ASCII,
)
_PARSER_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_OPENING = {"(": ")", "[": "]", "{": "}"}
_CLOSING = frozenset(_OPENING.values())


class Token(NamedTuple):
    """A word of an expression; `offset` counts from the start of the template."""

    kind: str
    text: str
    offset: int


class Chain(NamedTuple):
    """A name and the literal keys read from it: `steps.a.output[0]`.

    `dynamic` says that it goes on with a key that only evaluation can tell.
    """

    root: str
    keys: tuple[str | int, ...]
    offset: int
    dynamic: bool = False

    def __str__(self) -> str:
        return self.root + "".join(
            f".{key}" if isinstance(key, str) else f"[{key}]" for key in self.keys
        )


class Problem(NamedTuple):
    """What is wrong at `offset` of a template, and what to do about it."""

    offset: int
    rule: str
    message: str
    hint: str


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
        tokens, end = _tokens(text, start + len(OPEN))
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
def expression(source: str) -> Expression:
    """Take apart a bare expression, one without `${{ }}` around it."""
    tokens = [
        Token(match.lastgroup or "", match[0], match.start())
        for match in _TOKEN.finditer(source)
        if match.lastgroup != "space"
    ]
    return _expression(source, 0, tokens)


def _tokens(text: str, start: int) -> tuple[list[Token], int | None]:
    """Return the tokens from `start` to the `}}` that closes the expression, and its offset."""
    tokens: list[Token] = []
    braces = 0
    position = start
    while match := _TOKEN.match(text, position):
        kind, word = match.lastgroup or "", match[0]
        if kind == "close" and braces == 0:
            return tokens, position
        if kind == "close":
            kind, word = "mark", "}"
        if kind == "mark":
            braces += (word == "{") - (word == "}")
        if kind != "space":
            tokens.append(Token(kind, word, position))
        position += len(word)
    return tokens, None


def _path(match: re.Match[str]) -> Expression:
    """Read the commonest expression, a plain path, which is most of what a large document has."""
    root, *keys = match[1].split(".")
    offset = match.start() + len(OPEN)
    chain = Chain(root, tuple(keys), match.start(1))
    return Expression(match[1], offset, (chain,), frozenset(), (), is_chain=True)


def _expression(source: str, offset: int, tokens: list[Token]) -> Expression:
    reading = _Reading(tokens)
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
            depth += (token.text in _OPENING) - (token.text in _CLOSING)
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


@dataclass(slots=True)
class _Reading:
    """One pass over the tokens of an expression.

    `scopes` has an entry for each open bracket: the name a macro binds in it, or
    none; a bound name is the macro's own and no name of the workflow.
    """

    tokens: list[Token]
    chains: list[Chain] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    scopes: list[str | None] = field(default_factory=list)
    is_chain: bool = False

    def __post_init__(self) -> None:
        position = 0
        while position < len(self.tokens):
            position = self._read(position)

    def _text(self, position: int) -> str:
        inside = 0 <= position < len(self.tokens)
        return self.tokens[position].text if inside else ""

    def _kind(self, position: int) -> str:
        inside = 0 <= position < len(self.tokens)
        return self.tokens[position].kind if inside else ""

    def _read(self, position: int) -> int:
        token = self.tokens[position]
        if token.kind == "name":
            return self._read_name(position)
        if token.text in {".?", "[?"} and token.kind == "mark":
            self._problem(
                token,
                "optional-syntax",
                f"the optional syntax {token.text} is not known",
                OPTIONAL_HINT,
            )
        elif token.text == "." and self._kind(position + 1) == "name":
            return self._read_member(position)
        elif token.kind == "mark" and token.text in _OPENING:
            self.scopes.append(None)
        elif token.kind == "mark" and token.text in _CLOSING and self.scopes:
            self.scopes.pop()
        return position + 1

    def _read_name(self, position: int) -> int:
        token, following = self.tokens[position], self._text(position + 1)
        if token.text in RESERVED:
            return position + 1
        if following == "(":
            self._function(token.text, token)
            return position + 1
        if following == "{":
            self._problem(
                token,
                "expression-syntax",
                f"{token.text}{{...}} builds a message type, and there are none",
                "write a map: {'key': value}",
            )
            return position + 1
        if token.text in self.scopes:
            return position + 1
        return self._read_chain(position)

    def _read_chain(self, start: int) -> int:
        token, position = self.tokens[start], start + 1
        keys: list[str | int] = []
        while (step := self._key_at(position)) is not None:
            key, position = step
            keys.append(key)
        following = self._text(position)
        if following == "." and token.text in NAMESPACES and not keys:
            name = self._text(position + 1)
            self._function(f"{token.text}.{name}", token)
            return position + 2
        if token.text in TYPE_NAMES and not keys:
            return position
        self.chains.append(Chain(token.text, tuple(keys), token.offset, following == "["))
        self.is_chain = start == 0 and position == len(self.tokens)
        return position

    def _key_at(self, position: int) -> tuple[str | int, int] | None:
        """Return the literal key read at `position` and where it ends, if there is one."""
        if self._text(position) == "." and self._kind(position + 1) == "name":
            is_call = self._text(position + 2) == "("
            return None if is_call else (self._text(position + 1), position + 2)
        if self._text(position) == "[" and self._text(position + 2) == "]":
            kind, text = self._kind(position + 1), self._text(position + 1)
            if kind == "string" and text[0] in "\"'" and "\\" not in text:
                return ast.literal_eval(text), position + 3
            if kind == "number" and text.isdecimal():
                return int(text), position + 3
        return None

    def _read_member(self, position: int) -> int:
        """Read `.name` after something else than a name: a field, a method or a macro."""
        token = self.tokens[position + 1]
        before = self._kind(position - 1) if position else ""
        if before not in {"name", "string"} and self._text(position - 1) not in _CLOSING:
            self._problem(
                self.tokens[position],
                "expression-syntax",
                "nothing stands before the dot",
                "name what the field is read from",
            )
        if self._text(position + 2) != "(":
            return position + 2
        self._function(token.text, token)
        if token.text not in MACROS or self._text(position + 4) != ",":
            return position + 2
        self.scopes.append(self._text(position + 3))
        if sum(name is not None for name in self.scopes) > DEEPEST_MACROS:
            self._problem(
                token,
                "expression-too-deep",
                f"more than {DEEPEST_MACROS} of map, filter, all and exists are nested",
                "compute parts of it in `set` steps",
            )
        return position + 5

    def _function(self, name: str, token: Token) -> None:
        self.functions.add(name)
        if name not in KNOWN:
            self._problem(
                token,
                "unknown-function",
                f"there is no function {name}",
                did_you_mean(name, KNOWN, "functions"),
            )

    def _problem(self, token: Token, rule: str, message: str, hint: str) -> None:
        self.problems.append(Problem(token.offset, rule, message, hint))
