"""What an environment refuses, as sentences.

EnvironmentsError
|- UnknownEnvironmentError
|- EnvironmentRefusedError     a name, a class or a variable that cannot be
|- EnvironmentMoveError        a state that may not follow the present one
`- UnreadableError             something sealed under a key that this process does not have
"""


class EnvironmentsError(Exception):
    """The environment cannot be had or changed like this; the text says why."""

    code = "environment"


class UnknownEnvironmentError(EnvironmentsError):
    """There is no environment of this name."""

    code = "unknown-environment"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"There is no environment named {name}. Create it first.")


class EnvironmentRefusedError(EnvironmentsError):
    """What was asked for cannot be an environment."""

    code = "environment-refused"


class EnvironmentMoveError(EnvironmentsError):
    """The environment may not go from its state to the one asked for."""

    code = "environment-move"

    def __init__(self, name: str, before: str, after: str, allowed: tuple[str, ...]) -> None:
        self.name, self.before, self.after, self.allowed = name, before, after, allowed
        ways = f"it may become {' or '.join(allowed)}" if allowed else "it stays so for good"
        super().__init__(f"Environment {name} is {before} and cannot become {after}: {ways}.")


class UnreadableError(EnvironmentsError):
    """Something was sealed under a key that this process does not have."""

    code = "environment-unreadable"

    def __init__(self, environment: str) -> None:
        self.environment = environment
        super().__init__(
            f"What is sealed for the environment {environment} cannot be read here: this process"
            " has another key. Compare VAULT_KEY, ENVIRONMENT_KEYS and SECRET_KEY with web's."
        )
