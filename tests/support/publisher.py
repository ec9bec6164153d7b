"""A publisher that only remembers, so that no worker hears of what a test starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from workflows.dispatch import Dispatch


@dataclass(slots=True)
class Recorder:
    """A publisher that remembers what it was given; `down`, it refuses as a dead broker does."""

    sent: list[Dispatch] = field(default_factory=list)
    down: bool = False

    def publish(self, dispatches: Sequence[Dispatch]) -> None:
        if self.down:
            raise OSError("the broker does not answer")
        self.sent += dispatches

    def forget(self) -> None:
        self.sent.clear()
        self.down = False


RECORDER = Recorder()


def the_recorder() -> Recorder:
    return RECORDER
