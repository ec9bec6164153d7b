"""The tokens of an expression, and what one pass over them tells.

The names it reads (`Chain`), the functions it calls, and what is wrong with it
(`Problem`), each with its offset in the text around it. The grammar is left to
the CEL parser.
"""

import ast
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from workflows.language.functions import KNOWN, MACROS, NAMESPACES, TYPE_NAMES
from workflows.language.nearest import did_you_mean

DEEPEST_MACROS = 3
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
OPENING = {"(": ")", "[": "]", "{": "}"}
CLOSING = frozenset(OPENING.values())

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


def tokens_until_close(text: str, start: int) -> tuple[list[Token], int | None]:
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


def all_tokens(source: str) -> list[Token]:
    """Return the tokens of a bare expression."""
    return [
        Token(match.lastgroup or "", match[0], match.start())
        for match in _TOKEN.finditer(source)
        if match.lastgroup != "space"
    ]


@dataclass(slots=True)
class Reading:
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
        elif token.kind == "mark" and token.text in OPENING:
            self.scopes.append(None)
        elif token.kind == "mark" and token.text in CLOSING and self.scopes:
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
        if before not in {"name", "string"} and self._text(position - 1) not in CLOSING:
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
