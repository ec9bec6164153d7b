"""The test kit needs no services: importing it loads neither Django nor Celery."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("django", "celery", "kombu", "redis", "psycopg", "structlog", "orchestrator")
SCRIPT = """
import sys
from workflows.testing import Workflow
Workflow.parse("workflow: w\\nsteps: [{id: a, uses: log}]").run().assert_completed()
print("\\n".join(sys.modules))
"""


def test_importing_the_kit_and_playing_a_run_loads_no_framework() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert "workflows.testing.stage" in loaded
    assert [name for name in loaded if name.startswith(FORBIDDEN)] == []
