"""Task types that verify backup sets: list them, and check one of them.

A backup set is a folder with a manifest of checksums: `SHA256SUMS` as `sha256sum` writes it, or
the `RECORD` of an installed Python package. Nothing is ever written, so every task may be repeated.
"""

import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.connectors.files import verify_manifest
from workers.context import TaskContext
from workers.errors import BusinessError, PermanentError, TaskError
from workers.registry import task
from workflows.language.words import ErrorClass

SUMS = "SHA256SUMS"
RECORD = "RECORD"
PACKAGE_FOLDERS = {"site-packages", "dist-packages"}

CODES: Mapping[str, ErrorClass] = {
    "backup.no_root": ErrorClass.PERMANENT,
    "backup.no_sets": ErrorClass.PERMANENT,
    "backup.corrupt": ErrorClass.BUSINESS,
}


@task("backup.list_sets", codes=CODES)
def list_sets(root: Path | None = None) -> dict[str, Any]:
    """Find the backup sets below a folder, the largest manifests first.

    Without `root` it is the folder of the installed packages of the worker's own Python. The
    output is `{root, sets}`; a set is named by the path of its manifest from the root.
    """
    folder = (root or Path(sysconfig.get_path("purelib"))).resolve()
    if not folder.is_dir():
        message = f"There is no folder {folder} on this worker. Give the `root` of the backup sets."
        raise PermanentError(message, code="backup.no_root")
    manifests = [*folder.glob(f"*.dist-info/{RECORD}"), *folder.glob(f"*/{SUMS}")]
    if not manifests:
        message = f"{folder} has no folder with a {SUMS}, nor an installed Python package."
        raise PermanentError(message, code="backup.no_sets")
    manifests.sort(key=lambda path: (-path.stat().st_size, path))
    return {"root": folder, "sets": [path.relative_to(folder) for path in manifests]}


@task("backup.verify_set", codes=CODES)
def verify_set(root: Path, manifest: Path, context: TaskContext) -> dict[str, Any]:
    """Check every file of a backup set, and only then say what is wrong with it.

    A file without a checksum in its manifest (compiled Python, the manifest itself) cannot be
    verified and counts as skipped. A file that differs from its checksum is corrupt, whoever
    changed it. The output is `{files, bytes, skipped}`.
    """
    try:
        found = _verify(root, manifest, context)
    except (BusinessError, PermanentError) as error:
        name = manifest.parent.name
        message = (
            f"{name} is corrupt: {_first_wrong(error)}. Restore the files and replay this step."
        )
        raise BusinessError(message, code="backup.corrupt", details=error.details) from error
    return {"files": found["verified"], "bytes": found["bytes"], "skipped": found["skipped"]}


def _verify(root: Path, manifest: Path, context: TaskContext) -> dict[str, Any]:
    """Check one set. A package's paths are relative to the root, and may lead to its programs."""
    if manifest.name == RECORD:
        return verify_manifest(root, manifest, context, root=_prefix_of(root))
    return verify_manifest(root / manifest.parent, Path(manifest.name), context)


def _prefix_of(root: Path) -> Path:
    """Return where an installation begins: `<prefix>/lib/python3.x/site-packages`."""
    return root.parents[2] if root.name in PACKAGE_FOLDERS and len(root.parts) > 3 else root  # noqa: PLR2004 - the levels of that path


def _first_wrong(error: TaskError) -> str:
    """Name the first file that is wrong with a set, and how many more there are."""
    wrong = [f"{item['path']} ({item['reason']})" for item in error.details.get("corrupt", ())]
    wrong += [f"{path} (missing)" for path in error.details.get("missing", ())]
    if not wrong:
        return error.message
    total = error.details["corrupt_total"] + error.details["missing_total"]
    return wrong[0] + (f" and {total - 1} more files" if total > 1 else "")
