"""The examples run for real: workers, the clock of the engine, the definitions as they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from environments.services import ensure_default
from tests.support.platform import Platform, clock
from workflows.services.definitions import apply_definition


@pytest.fixture
def platform(
    transactional_db: None, celery_workers: None, process_env: dict[str, str]
) -> Iterator[Platform]:
    ensure_default()
    with clock():
        yield Platform(process_env)


@pytest.fixture
def examples(platform: Platform) -> Any:
    """Apply every example, as the first start does."""
    for path in sorted((Path(settings.BASE_DIR) / "examples").glob("*/workflow.yaml")):
        apply_definition(text=path.read_text(), source=str(path), by="person:tester")
