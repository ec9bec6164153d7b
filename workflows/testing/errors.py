"""What is wrong with a test of a workflow itself.

KitError
├── UnknownNameError    a stub, an act or a question names a step that there is none of
├── StubError           a stub gives what no task could give
└── EndlessRunError     the run does not come to an end, nor to a rest
"""

from collections.abc import Collection

from workflows.language.nearest import did_you_mean


class KitError(Exception):
    """The family of this package: the test is wrong, not the workflow."""


class UnknownNameError(KitError):
    """Nothing bears the name."""

    def __init__(self, what: str, name: str, known: Collection[str], kinds: str) -> None:
        super().__init__(f"{what}: nothing is called {name!r}; {did_you_mean(name, known, kinds)}")
        self.name = name
        self.known = tuple(known)


class StubError(KitError):
    """A stub gives what no task could give."""


class EndlessRunError(KitError):
    """More happened than any test can mean."""
