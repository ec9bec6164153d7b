"""Who hears of every run that is played: the plugin of pytest, and the measure of coverage."""

from collections.abc import Callable
from typing import Any

LISTENERS: list[Callable[[Any, Any], None]] = []
"""Each is handed the workflow and its part in the world when a run of it begins."""
