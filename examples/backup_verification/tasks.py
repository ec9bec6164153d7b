"""Task types that verify backup sets: list them, check a slice of them, sum up.

A backup set is a folder with a manifest of checksums: `SHA256SUMS` as `sha256sum` writes it, or
the `RECORD` of an installed Python package. Nothing is ever written, so every task may be repeated.
"""

import heapq
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from workers.connectors.files import verify_manifest
from workers.context import TaskContext
from workers.errors import BusinessError, PermanentError, TaskError
from workers.registry import task
from workflows.language.words import ErrorClass

SUMS = "SHA256SUMS"
RECORD = "RECORD"
PACKAGE_FOLDERS = {"site-packages", "dist-packages"}
MAX_NAMED = 5

CODES: Mapping[str, ErrorClass] = {
    "backup.no_root": ErrorClass.PERMANENT,
    "backup.no_sets": ErrorClass.PERMANENT,
    "backup.corrupt": ErrorClass.BUSINESS,
}

Count = Annotated[int, Field(ge=0)]


class Verified(BaseModel):
    """What was found in order, in a slice or in all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sets: Count = 0
    files: Count = 0
    bytes: Count = 0
    skipped: Count = 0
    corrupt: Count = 0

    def __add__(self, other: "Verified") -> "Verified":
        mine, theirs = self.model_dump(), other.model_dump()
        return Verified(**{key: mine[key] + theirs[key] for key in mine})


@task("backup.list_sets", codes=CODES)
def list_sets(
    root: Path | None = None, slices: Annotated[int, Field(ge=1, le=100)] = 8
) -> dict[str, Any]:
    """Find the backup sets below a folder, and deal them into slices of about the same work.

    Without `root` it is the folder of the installed packages of the worker's own Python. The
    output is `{root, sets, slices}`; a set is named by the path of its manifest from the root.
    """
    folder = (root or Path(sysconfig.get_path("purelib"))).resolve()
    if not folder.is_dir():
        message = f"There is no folder {folder} on this worker. Give the `root` of the backup sets."
        raise PermanentError(message, code="backup.no_root")
    manifests = sorted([*folder.glob(f"*.dist-info/{RECORD}"), *folder.glob(f"*/{SUMS}")])
    if not manifests:
        message = f"{folder} has no folder with a {SUMS}, nor an installed Python package."
        raise PermanentError(message, code="backup.no_sets")
    dealt = _deal(((path, path.stat().st_size) for path in manifests), slices)
    return {
        "root": folder,
        "sets": len(manifests),
        "slices": [[path.relative_to(folder) for path in part] for part in dealt],
    }


@task("backup.verify_slice", codes=CODES)
def verify_slice(root: Path, sets: list[Path], context: TaskContext) -> dict[str, Any]:
    """Check every file of some backup sets, and only then say what is wrong with any of them.

    A file without a checksum in its manifest (compiled Python, the manifest itself) cannot be
    verified and counts as skipped. A file that differs from its checksum is corrupt, whoever
    changed it.
    """
    total = Verified()
    corrupt: dict[str, TaskError] = {}
    for manifest in sets:
        try:
            found = _verify(root, manifest, context)
        except (BusinessError, PermanentError) as error:
            corrupt[manifest.parent.name] = error
        else:
            total += Verified(
                sets=1, files=found["verified"], bytes=found["bytes"], skipped=found["skipped"]
            )
    if corrupt:
        raise BusinessError(
            _sentence(corrupt, len(sets)),
            code="backup.corrupt",
            details={
                "corrupt": {
                    name: {"message": error.message, **error.details}
                    for name, error in list(corrupt.items())[:MAX_NAMED]
                },
                "corrupt_total": len(corrupt),
                "verified": total.model_dump(),
            },
        )
    return total.model_dump()


@task("backup.report")
def report(listed: Count, slices: dict[str, Verified | None]) -> dict[str, Any]:
    """Sum up the slices. `unverified` are listed sets that no slice vouches for."""
    total = sum((found for found in slices.values() if found), start=Verified())
    return total.model_dump() | {"unverified": listed - total.sets - total.corrupt}


def _deal(weighted: Iterable[tuple[Path, int]], count: int) -> list[list[Path]]:
    """Give each set, the heaviest first, to the slice that has the least so far."""
    slices: list[list[Path]] = [[] for _ in range(count)]
    loads = [(0, index) for index in range(count)]
    for path, weight in sorted(weighted, key=lambda one: (-one[1], one[0])):
        load, index = heapq.heappop(loads)
        slices[index].append(path)
        heapq.heappush(loads, (load + weight, index))
    return slices


def _verify(root: Path, manifest: Path, context: TaskContext) -> dict[str, Any]:
    """Check one set. A package's paths are relative to the root, and may lead to its programs."""
    if manifest.name == RECORD:
        return verify_manifest(root, manifest, context, root=_prefix_of(root))
    return verify_manifest(root / manifest.parent, Path(manifest.name), context)


def _prefix_of(root: Path) -> Path:
    """Return where an installation begins: `<prefix>/lib/python3.x/site-packages`."""
    return root.parents[2] if root.name in PACKAGE_FOLDERS and len(root.parts) > 3 else root  # noqa: PLR2004 - the levels of that path


def _sentence(corrupt: Mapping[str, TaskError], checked: int) -> str:
    named = "; ".join(
        f"{name}: {_first_wrong(error)}" for name, error in list(corrupt.items())[:MAX_NAMED]
    )
    more = f"; and {len(corrupt) - MAX_NAMED} more" if len(corrupt) > MAX_NAMED else ""
    return (
        f"{len(corrupt)} of {checked} backup sets are corrupt: {named}{more}. "
        "Restore the files and replay this step."
    )


def _first_wrong(error: TaskError) -> str:
    """Name the first file that is wrong with a set, and how many more there are."""
    wrong = [f"{item['path']} ({item['reason']})" for item in error.details.get("corrupt", ())]
    wrong += [f"{path} (missing)" for path in error.details.get("missing", ())]
    if not wrong:
        return error.message
    total = error.details["corrupt_total"] + error.details["missing_total"]
    return wrong[0] + (f" and {total - 1} more files" if total > 1 else "")
