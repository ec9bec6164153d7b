"""What the page about testing shows is a test that passes."""

import re
import subprocess
import sys
from os import environ
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text()


def test_every_example_of_the_page_passes(tmp_path: Path) -> None:
    definitions = re.findall(r"```yaml\n(workflow: (\S+)\n.*?)```", PAGE, re.DOTALL)
    for text, name in definitions:
        (tmp_path / f"{name}.yaml").write_text(text)
    examples = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "test_page.py").write_text("\n\n".join(examples))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:django", "-p", "workflows.testing.plugin", "."],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    tests = len(re.findall(r"^def test_", "\n".join(examples), re.MULTILINE))
    assert tests > 0
    assert f"{tests} passed" in done.stdout, done.stdout
