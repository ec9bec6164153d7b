"""The states of runs and steps are changed in one place, and created in one."""

import re
from pathlib import Path

from django.conf import settings

ROOT = Path(settings.BASE_DIR)
PACKAGES = ("orchestrator", "monitoring", "workers", "workflows")
STATE = re.compile(
    r"""
    UPDATE\s+workflows_(run|step)\b(?:(?!\bWHERE\b).)*?\bstate\s*=   # SQL
    | \.(update|bulk_update|update_or_create|create|bulk_create)\([^)]*\bstate=   # the ORM
    | ^\s*[\w.]+\.state\s*=[^=]                                        # an attribute
    | update_fields=[^)]*["']state["']
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE | re.MULTILINE,
)


def places(pattern: re.Pattern[str]) -> set[str]:
    """Return the files of the program in which the pattern occurs."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*"))
    return {
        str(file.relative_to(ROOT))
        for file in files
        if file.suffix in {".py", ".sql"} and pattern.search(file.read_text(encoding="utf-8"))
    }


def test_one_place_changes_the_state_of_a_run_or_a_step() -> None:
    assert places(STATE) == {"workflows/store/commit.sql"}


def test_one_place_asks_for_such_a_change() -> None:
    assert places(re.compile(r"workflows_commit\(%s")) == {"workflows/store/committing.py"}


def test_one_place_commits_a_decision() -> None:
    assert places(re.compile(r"store\.commit(_all)?\(")) == {"workflows/services/progress.py"}


def test_the_pattern_knows_a_change_of_state_when_it_sees_one() -> None:
    changes = (
        "UPDATE workflows_step SET wake_at = now(), state = 'QUEUED' WHERE id = %s",
        "Run.objects.filter(pk=1).update(error=None, state='FAILED')",
        "run.state = RunState.FAILED",
        "run.save(update_fields=['error', 'state'])",
    )

    assert all(STATE.search(change) for change in changes)
