"""What is printed of the logs when a storm has violated something: enough, and not too much."""

from pathlib import Path

from tests.chaos.telling import LINES, told, troubles

AT = "2026-11-21T12:00:00Z"


def test_troubles_starts_and_ends_are_told_and_nothing_else() -> None:
    lines = [
        "---- 1.0 start 1",
        f"{AT} [info     ] beat: Starting... [celery.beat]",
        f"{AT} [error    ] queue.health health=wedged",
        "Traceback (most recent call last):",
        f"{AT} [warning  ] request_finished [x] code=409 ip=127.0.0.1",
        f"{AT} [warning  ] Conflict: /api/ [django.request] status_code=409",
        "---- 2.0 ended with -9",
    ]

    assert list(troubles(lines)) == [lines[0], lines[2], lines[-1]]


def test_many_of_one_kind_in_a_row_are_one_line() -> None:
    lines = [f"{AT} [warning  ] lookout.swept did={n}" for n in range(17)]

    assert list(troubles(lines)) == [f"{lines[-1]} (and 16 of lookout.swept before)"]


def test_of_each_process_the_last_is_told(tmp_path: Path) -> None:
    lines = [f"{AT} [error    ] event.{n} x" for n in range(100)]
    (tmp_path / "beat-1.log").write_text("\n".join(lines))
    (tmp_path / "engine.log").write_text(f"{AT} [info     ] engine@vm ready.")
    (tmp_path / "engine.stacks").write_text("Thread 0x1 (idle)")

    assert list(told(tmp_path)) == [
        "---- beat-1.log, the last of it:",
        *lines[-LINES:],
        "---- engine.stacks, the last of it:",
        "Thread 0x1 (idle)",
    ]
