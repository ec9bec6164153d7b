"""What a worker knows of itself, on a clock of the test's own."""

from workers.pulse import Stopwatch

QUEUE = "env.lab.default"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_watch() -> tuple[Stopwatch, Clock]:
    clock = Clock()
    return Stopwatch([QUEUE], 2, clock), clock


def test_a_worker_that_takes_nothing_of_what_waits_is_stuck() -> None:
    watch, clock = a_watch()
    watch.took(QUEUE)
    clock.now += 50
    watch.saw({QUEUE: 1})
    clock.now += 100

    watch.saw({QUEUE: 1})

    assert watch.stuck_for() == 100


def test_a_worker_that_takes_is_not_stuck_however_much_waits() -> None:
    watch, clock = a_watch()
    watch.saw({QUEUE: 5000})
    clock.now += 600

    watch.took(QUEUE)

    assert watch.stuck_for() == 0


def test_an_empty_queue_keeps_nobody_waiting() -> None:
    watch, clock = a_watch()
    watch.saw({QUEUE: 1})
    clock.now += 60
    watch.saw({QUEUE: 0})
    clock.now += 60

    watch.saw({QUEUE: 1})

    assert watch.stuck_for() == 0


def test_while_the_broker_is_away_nobody_is_stuck() -> None:
    watch, clock = a_watch()
    watch.saw({QUEUE: 1})
    clock.now += 600

    watch.saw(None)

    assert watch.stuck_for() == 0
    assert watch.row("env-lab@a")[4] is None


def test_a_worker_tells_ages_and_no_times() -> None:
    watch, clock = a_watch()
    watch.saw({QUEUE: 0})
    watch.took(QUEUE)

    clock.now += 7

    assert watch.row("env-lab@a") == [
        "env-lab@a",
        f'["{QUEUE}"]',
        2,
        7.0,
        7.0,
        f'{{"{QUEUE}": 7.0}}',
        f'{{"{QUEUE}": 0}}',
    ]
