"""A manifest is believed only as far as every file bears it out."""

import base64
import csv
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.builders import carry_out, error_of, output_of
from workers.connectors.files import Entry, record_entries, sha256sum_entries
from workflows.language.words import ErrorClass

NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30
)
DIGESTS = st.binary(min_size=32, max_size=32)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def record_hash(digest: bytes) -> str:
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def backup_set(folder: Path, **files: bytes) -> Path:
    """Lay out files and the sha256sum manifest of what they should be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    lines = [f"{sha256(content)}  {name}\n" for name, content in files.items()]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def verify(folder: Path, manifest: str = "SHA256SUMS", **more: Any) -> Any:
    return carry_out("files.verify_manifest", folder=str(folder), manifest=manifest, **more)


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "blake2b"])
def test_a_checksum_is_the_standard_librarys(algorithm: str, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    path = tmp_path / "file"
    path.write_bytes(content)

    outcome = carry_out("files.checksum", path=str(path), algorithm=algorithm)

    assert output_of(outcome) == {
        "path": str(path),
        "algorithm": algorithm,
        "digest": hashlib.new(algorithm, content).hexdigest(),
        "bytes": 300_000,
    }


def test_what_is_no_file_has_no_checksum(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    codes = [
        error_of(carry_out("files.checksum", path=str(tmp_path / name))).code
        for name in ("absent", "pipe", "")
    ]

    assert codes == ["files.not_found", "files.unreadable", "files.unreadable"]


def test_a_sound_set_is_counted(tmp_path: Path) -> None:
    folder = backup_set(tmp_path, a=b"one", b=b"three")

    assert output_of(verify(folder)) == {
        "verified": 2,
        "bytes": 8,
        "skipped": 0,
        "missing": [],
        "corrupt": [],
    }


def test_a_corrupt_set_names_its_wrong_files(tmp_path: Path) -> None:
    folder = backup_set(tmp_path, a=b"one", b=b"two", c=b"three")
    (folder / "a").write_bytes(b"eno")
    (folder / "b").unlink()

    error = error_of(verify(folder))

    assert (error.error_class, error.code) == (ErrorClass.BUSINESS, "files.corrupt")
    assert "1 corrupt, 1 missing, 1 verified" in error.message
    assert error.details["missing"] == ["b"]
    assert [item["path"] for item in error.details["corrupt"]] == ["a"]
    assert sha256(b"one") in error.details["corrupt"][0]["reason"]


def test_the_lists_of_wrong_files_are_bounded_and_their_totals_told(tmp_path: Path) -> None:
    folder = backup_set(tmp_path, **{f"f{number}": b"x" for number in range(50)})
    for number in range(50):
        (folder / f"f{number}").unlink()

    details = error_of(verify(folder)).details

    assert (len(details["missing"]), details["missing_total"]) == (20, 50)


def test_a_repaired_set_is_sound_again(tmp_path: Path) -> None:
    folder = backup_set(tmp_path, a=b"one")
    (folder / "a").write_bytes(b"bad")
    before = verify(folder)

    (folder / "a").write_bytes(b"one")

    assert error_of(before).code == "files.corrupt"
    assert output_of(verify(folder))["verified"] == 1


def test_a_package_of_this_interpreter_is_sound() -> None:
    distribution = Path(pytest.__file__).parent.parent
    manifest = next(distribution.glob("pytest-*.dist-info")).name + "/RECORD"

    output = output_of(verify(distribution, manifest, root=str(distribution.parents[2])))

    assert output["verified"] > 20
    assert output["skipped"] >= 1


def test_a_size_that_differs_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    row = f"a,{record_hash(hashlib.sha256(b'one').digest())},4\n"
    (tmp_path / "RECORD").write_text(row)

    error = error_of(verify(tmp_path, "RECORD"))

    assert error.details["corrupt"] == [{"path": "a", "reason": "3 bytes, not 4"}]


@pytest.mark.parametrize("entry", ["../secret", "/etc/hostname", "link", "in/../../secret"])
def test_no_entry_leads_out_of_the_folder(entry: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    folder = backup_set(tmp_path / "set")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "SHA256SUMS").write_text(f"{sha256(b'x')}  {entry}\n")

    error = error_of(verify(folder))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "files.outside")
    assert error.details["outside"] == [entry]


def test_a_wider_root_lets_entries_point_there(tmp_path: Path) -> None:
    (tmp_path / "bin").write_bytes(b"x")
    folder = backup_set(tmp_path / "lib")
    (folder / "SHA256SUMS").write_text(f"{sha256(b'x')}  ../bin\n")

    assert output_of(verify(folder, root=str(tmp_path)))["verified"] == 1


def test_links_in_a_circle_are_corrupt(tmp_path: Path) -> None:
    folder = backup_set(tmp_path, a=b"x")
    (folder / "a").unlink()
    (folder / "a").symlink_to("a")

    assert error_of(verify(folder)).details["corrupt_total"] == 1


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("SHA256SUMS", f"{'0' * 64}  a\nnonsense\n", 2),
        ("SHA256SUMS", f"{'0' * 63}  a\n", 1),
        ("SHA256SUMS", f"{'0' * 64}  a\0b\n", 1),
        ("RECORD", "a,sha256=AAAA,1\nb,sha256=AAAA\n", 2),
        ("RECORD", "a,sha256=*,1\n", 1),
        ("RECORD", "a,rot13=AAAA,1\n", 1),
        ("RECORD", "a,,many\n", 1),
        ("RECORD", '"a,,\n', 1),
    ],
)
def test_a_damaged_manifest_is_refused_with_its_line(
    name: str, text: str, line: int, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)

    error = error_of(verify(tmp_path, name))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "files.manifest")
    assert f"{name}, line {line}," in error.message


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n"])
def test_an_empty_manifest_proves_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(text)

    assert error_of(verify(tmp_path)).code == "files.manifest"


def test_an_absent_manifest_is_told(tmp_path: Path) -> None:
    assert error_of(verify(tmp_path)).code == "files.not_found"


@given(st.lists(st.tuples(NAMES, DIGESTS)))
def test_what_sha256sum_writes_is_read(files: list[tuple[str, bytes]]) -> None:
    lines = [sha256sum_line(name, digest) for name, digest in files]

    assert list(sha256sum_entries(iter(lines))) == [
        Entry(name, digest=digest) for name, digest in files
    ]


@given(st.lists(st.tuples(NAMES, DIGESTS | st.none(), st.integers(0, 2**40) | st.none())))
def test_what_an_installer_records_is_read(
    files: list[tuple[str, bytes | None, int | None]],
) -> None:
    text = io.StringIO(newline="")
    for name, digest, size in files:
        row = (name, record_hash(digest) if digest else "", "" if size is None else size)
        csv.writer(text).writerow(row)

    text.seek(0)

    assert list(record_entries(text)) == [
        Entry(name, digest=digest, size=size) for name, digest, size in files
    ]


def sha256sum_line(name: str, digest: bytes) -> str:
    """Write a line as coreutils do."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest.hex()}  {escaped}\n"
