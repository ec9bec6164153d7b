"""The language and the engine are pure: they load no framework, clock or chance of their own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "workflows" / "engine").rglob("*.py"))
FORBIDDEN = (
    "django",
    "celery",
    "kombu",
    "redis",
    "psycopg",
    "structlog",
    "logging.handlers",
    "prompt_toolkit",
)
SCRIPT = """
import importlib, pkgutil, sys
for name in ("workflows.language", "workflows.engine"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""


def test_importing_the_language_and_the_engine_loads_no_framework() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert "workflows.engine.advance" in loaded
    assert "workflows.language.spec" in loaded
    assert [name for name in loaded if name.startswith(FORBIDDEN)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_of_the_engine_reads_a_clock_draws_by_chance_or_logs(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    called = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }

    assert not imported & {"time", "logging", "secrets", "uuid", "os", "random"}
    assert {name for name in imported if name.startswith("random.")} <= {"random.Random"}
    assert not called & {"now", "utcnow", "today", "monotonic"}
