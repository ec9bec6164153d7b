"""The workflow language: document in; a Spec, or every finding with its line, out.

Pure: neither Django, Celery, a clock, chance nor a log.
"""

import sys
from types import ModuleType

# The package `cel` brings a command line of its own and loads it, with a library for terminals,
# into whoever only evaluates: 7 MiB in every process of the platform.
sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
