"""A publisher that only remembers, so that no worker hears of what a test starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from workflows.dispatch import Dispatch


@dataclass(slots=True)
class Recorder:
    """A publisher that remembers what it was given; `down`, it refuses as a dead broker does."""

    sent: list[Dispatch] = field(default_factory=list)
    down: bool = False
    crowds: dict[str, int] = field(default_factory=dict)

    def publish(self, dispatches: Sequence[Dispatch]) -> None:
        if self.down:
            raise OSError("the broker does not answer")
        self.sent += dispatches

    def waiting(self, queue: str) -> int:
        return self.crowds.get(queue, 0)

    def forget(self) -> None:
        self.sent.clear()
        self.down = False
        self.crowds.clear()


RECORDER = Recorder()


def the_recorder() -> Recorder:
    return RECORDER
