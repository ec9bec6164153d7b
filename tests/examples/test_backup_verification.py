"""The main job on real input: the installed packages, whole, and a copy that is damaged."""

import csv
import shutil
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.support.platform import Platform
from workflows.models import Incident, Run, Step
from workflows.services.incidents import replay_incident
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("examples")]

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
COPIED = (
    "celery",
    "kombu",
    "vine",
    "amqp",
    "billiard",
    "click",
    "PyYAML",
    "tzdata",
    "idna",
    "rich",
)


def test_every_installed_package_is_verified(platform: Platform) -> None:
    run = start_run(workflow="backup-verification", by="person:tester").run

    done = platform.finished(run)

    assert done.state == "COMPLETED"
    assert done.output == recount(SITE_PACKAGES)
    assert done.output["files"] > 0


def test_a_damaged_set_is_an_incident_then_repaired_and_only_that_set_checked_again(
    platform: Platform, tmp_path: Path
) -> None:
    root = copy_of_packages(tmp_path)
    damaged = root / "kombu" / "entity.py"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + b"#")

    failed = platform.finished(start(root))

    incident = Incident.objects.get(run=failed, resolution="")
    assert failed.state == "FAILED"
    assert "kombu/entity.py" in incident.message
    assert incident.code == "backup.corrupt"

    damaged.write_bytes(whole)
    replay_incident(incident_id=incident.pk, by="person:tester")
    done = platform.reached(failed, "COMPLETED")

    assert done.output == recount(root)
    assert attempts(done) == {path: 2 if path == incident.path else 1 for path in attempts(done)}
    assert len(attempts(done)) == 1 + len(COPIED)


def test_a_missing_file_is_named_with_its_set(platform: Platform, tmp_path: Path) -> None:
    root = copy_of_packages(tmp_path)
    (root / "vine" / "synchronization.py").unlink()

    failed = platform.finished(start(root))

    incident = Incident.objects.get(run=failed)
    assert failed.state == "FAILED"
    assert "vine/synchronization.py (missing)" in incident.message


def test_a_folder_without_backup_sets_fails_before_anything_is_verified(
    platform: Platform, tmp_path: Path
) -> None:
    failed = platform.finished(start(tmp_path))

    assert failed.state == "FAILED"
    assert failed.error["code"] == "backup.no_sets"
    assert Step.objects.get(run=failed, path="verify").state == "SKIPPED"


def start(root: Path) -> Run:
    """Start a verification of another folder than the usual one."""
    given = {"root": str(root)}
    return start_run(workflow="backup-verification", input=given, by="person:tester").run


def attempts(run: Run) -> dict[str, int]:
    """Say how often each task of the run was tried."""
    tasks = Step.objects.filter(run=run).exclude(path="verify")
    return dict(tasks.values_list("path", "attempt"))


def copy_of_packages(folder: Path) -> Path:
    """Copy some packages, programs included, as they lie in the environment."""
    prefix = SITE_PACKAGES.parents[2]
    for name in COPIED:
        for file in metadata.distribution(name).files or ():
            source = Path(str(file.locate())).resolve()
            target = folder / source.relative_to(prefix.resolve())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return folder / SITE_PACKAGES.relative_to(prefix)


def recount(root: Path) -> dict[str, Any]:
    """Count by other means than the tasks: sets, files with a hash, their bytes, files without."""
    records = list(root.glob("*.dist-info/RECORD"))
    rows = [row for record in records for row in csv.reader(record.read_text().splitlines())]
    hashed = [root / path for path, checksum, _ in rows if checksum]
    return {
        "sets": len(records),
        "files": len(hashed),
        "bytes": sum(path.stat().st_size for path in hashed),
        "skipped": len(rows) - len(hashed),
    }
