"""The files at the top of the checkout agree with the code."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from orchestrator.__main__ import _parser
from orchestrator.env import ROOT

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
PROGRAMS = {name: service for name, service in SERVICES.items() if "build" in service}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_composed_process_is_a_program_of_the_platform(name: str) -> None:
    python, module, package, *arguments = PROGRAMS[name]["command"]

    assert (python, module, package) == ("python", "-m", "orchestrator")
    assert _parser().parse_args(arguments).program == arguments[0]


def test_the_composition_has_the_production_shape() -> None:
    assert set(SERVICES) == {
        *("postgres", "redis", "setup", "web", "beat", "engine", "worker-default", "flower")
    }
    assert SERVICES["beat"]["deploy"] == {"replicas": 2}
    assert all("healthcheck" in SERVICES[name] for name in set(SERVICES) - {"setup", "beat"})
    assert "noeviction" in SERVICES["redis"]["command"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_every_package_and_names_no_host(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()

    assert lines
    assert [line for line in lines if not re.match(r"^[\w.\[\]-]+==[\w.+!]+( ; .*)?$", line)] == []


def test_the_development_lock_contains_the_other() -> None:
    run, develop = (
        set((ROOT / name).read_text().splitlines())
        for name in ("requirements.lock", "requirements-dev.lock")
    )

    assert run <= develop


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)) - {"contracts"}

    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert set(re.findall(r"^make ([a-z-]+)", shown.stdout, re.MULTILINE)) == targets


def test_importing_the_pure_heart_loads_no_framework() -> None:
    modules = "workflows.engine.advance, workflows.engine.simulate, workflows.language.document"
    frameworks = "('celery', 'django', 'kombu')"
    asking = f"import sys, {modules}; print([n for n in {frameworks} if n in sys.modules])"

    answer = subprocess.run(
        [sys.executable, "-c", asking], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "[]"
