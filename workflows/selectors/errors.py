"""What a reader asked for and cannot have.

SelectorError
├── MissingError     there is no such thing
├── AmbiguousError   there are several
└── CursorError      the mark of a page is not one of ours
"""


class SelectorError(LookupError):
    """A read was refused; the sentence says why."""


class MissingError(SelectorError):
    """There is no such thing. `kind` and `name` say what was asked for."""

    def __init__(self, kind: str, name: object) -> None:
        self.kind = kind
        self.name = str(name)
        super().__init__(f"There is no {kind} {self.name}.")


class AmbiguousError(SelectorError):
    """The beginning of an id fits several things."""

    def __init__(self, kind: str, prefix: str) -> None:
        self.kind = kind
        self.prefix = prefix
        super().__init__(f"Several {kind}s begin with {prefix}: give more characters of the id.")


class CursorError(SelectorError):
    """The cursor was not given out for this list."""

    def __init__(self) -> None:
        super().__init__("The cursor is not one of this list: take it from `next` as it is.")
