"""The examples run for real: workers, the clock of the engine, the definitions as they are."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.support.platform import Platform
from workflows.services.definitions import apply_definition


@pytest.fixture
def examples(platform: Platform) -> Any:
    """Apply every example, as the first start does."""
    for path in sorted((Path(settings.BASE_DIR) / "examples").glob("*/workflow.yaml")):
        apply_definition(text=path.read_text(), source=str(path), by="person:tester")
