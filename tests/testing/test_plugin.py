"""The plugin for pytest: a fixture that loads definitions, and stories beside failures."""

import os
import subprocess
import sys
from pathlib import Path

from tests.testing.builders import SHOP

ROOT = Path(__file__).parents[2]
TESTS = """
def test_it_completes(workflow):
    workflow("shop.yaml").run(stubs={"reserve": {"stock": 1}}).assert_completed()

def test_it_fails(workflow):
    run = workflow("shop.yaml").run(stubs={"reserve": {"stock": 1}})

    assert run.state == "FAILED"
"""


def pytest_in(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests in a folder with the plugin, as an author who installed the platform."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:django", "-p", "workflows.testing.plugin", "."],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_fixture_loads_what_lies_beside_the_test_and_failures_tell_the_story(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(TESTS)

    said = pytest_in(tmp_path).stdout

    assert "1 failed, 1 passed" in said
    assert "The story of shop" in said
    assert "shop is COMPLETED after 0s" in said
