"""Programs that serve no pages do not load them; their processes share what they load."""

import signal
import subprocess
import sys

PREPARED = """
import gc, sys
from orchestrator import programs
programs._set_up()
"""
WORKER = f"""
{PREPARED}
from celery.bin.worker import worker
from celery.signals import worker_init
from orchestrator.celery import app
app.loader.import_default_modules()
worker_init.send(sender=None)
print(gc.get_freeze_count(), *sys.modules)
"""
ADDRESS = f"""
{PREPARED}
from django.urls import reverse
print(reverse("admin:workflows_run_changelist"), reverse("api:runs"))
"""
CHILD = """
import ctypes, sys
from celery import platforms
from orchestrator import programs
programs._spare_children_a_parser()
platforms.set_pdeathsig("SIGKILL")
number = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG
print(number.value, *sys.modules)
"""
PAGES = {
    "django.test",
    "drf_spectacular.views",
    "environments.admin",
    "orchestrator.urls",
    "rest_framework.views",
    "unfold.admin",
    "workflows.admin",
    "workflows.api",
}
COMMAND_LINE = {"click_repl", "flower", "prompt_toolkit", "tornado"}
LAUNCHER = {"orchestrator.launcher"}
NEEDED = {"examples.backup_verification.tasks", "workers.connectors.http", "workers.tasks"}


def words_of(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_worker_loads_neither_pages_nor_a_command_line_but_all_task_types() -> None:
    frozen, *modules = words_of(WORKER)

    assert (PAGES | COMMAND_LINE | LAUNCHER).isdisjoint(modules)
    assert set(modules) >= NEEDED
    assert int(frozen) > 100_000


def test_a_program_without_pages_finds_the_address_of_one_all_the_same() -> None:
    found = words_of(ADDRESS)

    assert found == ["/admin/workflows/run/", "/api/v1/runs/"]


def test_a_child_ends_with_its_worker_and_parses_no_c_for_that() -> None:
    signal_at_its_end, *modules = words_of(CHILD)

    assert int(signal_at_its_end) == signal.SIGKILL
    assert {"cffi.cparser", "pycparser"}.isdisjoint(modules)
