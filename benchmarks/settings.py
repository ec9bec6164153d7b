"""The platform's settings, with services and a no-op task type of the benchmarks' own."""

import os

os.environ.setdefault("LOCAL_DIR", ".local/benchmarks")
os.environ.setdefault("LOG_LEVEL", "WARNING")
# A history is a year long; the platform would begin to remove it while its cost is measured.
os.environ["RETENTION_DAYS"] = os.environ["RETENTION_FAILED_DAYS"] = "0"

from orchestrator.settings import *  # noqa: F403
from orchestrator.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks"]
