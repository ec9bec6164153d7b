"""Definitions in files: which files, what they say, and all that is wrong with them."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflows.engine.compile import compile_spec
from workflows.engine.plan import Plan
from workflows.language.findings import DefinitionError, Finding
from workflows.language.reader import LONGEST
from workflows.language.spec import Spec
from workflows.services.definitions import check_definition

ENDINGS = frozenset({".yaml", ".yml", ".json"})
"""What a definition's file is called, for those that a folder stands for."""

STDIN = "-"
_MOST_BYTES = 4 * LONGEST + 1


@dataclass(frozen=True, slots=True)
class Checked:
    """A file, its text, and what was found out about it."""

    file: str
    text: str = ""
    spec: Spec | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Compiled:
    """A file and the plan of the workflow in it."""

    file: str
    text: str
    plan: Plan


def check_files(names: Sequence[str]) -> list[Checked]:
    """Check every file; a folder stands for the definitions that lie in it, by name."""
    return [_check(file) for name in names for file in _files(name)]


def load_files(names: Sequence[str]) -> list[Checked]:
    """Return the definitions of all files, or raise DefinitionError with all findings of all."""
    checked = check_files(names)
    findings = [finding for one in checked for finding in one.findings]
    if findings:
        raise DefinitionError(findings)
    return checked


def compile_files(names: Sequence[str]) -> list[Compiled]:
    """Return the plans of all files, or raise DefinitionError with all findings of all."""
    return [
        Compiled(one.file, one.text, compile_spec(one.spec))
        for one in load_files(names)
        if one.spec
    ]


def one_workflow_each(checked: Iterable[Checked]) -> None:
    """Raise DefinitionError if two files define the same workflow: which is the newer one?"""
    first: dict[str, str] = {}
    findings = []
    for one in checked:
        name = one.spec.workflow if one.spec else ""
        if first.setdefault(name, one.file) != one.file:
            findings.append(
                Finding(
                    one.file,
                    1,
                    1,
                    "workflow-twice",
                    "workflow",
                    f"{first[name]} defines the workflow {name} too",
                    "apply one of the files, or give the other workflow a name of its own",
                )
            )
    if findings:
        raise DefinitionError(findings)


def _files(name: str) -> Iterator[str]:
    path = Path(name)
    if name == STDIN or not path.is_dir():
        yield name
        return
    found = sorted(one for one in path.iterdir() if one.suffix in ENDINGS and one.is_file())
    yield from map(str, found or [path])


def _check(file: str) -> Checked:
    source = "<stdin>" if file == STDIN else file
    try:
        text = _text(file)
    except UnicodeDecodeError as error:
        return Checked(source, findings=(_not_text(source, error),))
    except OSError as error:
        return Checked(source, findings=(_unreadable(source, error),))
    spec, findings = check_definition(text=text, source=source)
    return Checked(source, text, spec, findings)


def _text(file: str) -> str:
    if file == STDIN:
        return sys.stdin.buffer.read(_MOST_BYTES).decode()
    with Path(file).open("rb") as opened:
        return opened.read(_MOST_BYTES).decode()


def _not_text(source: str, error: UnicodeDecodeError) -> Finding:
    before = error.object[: error.start]
    line = before.count(b"\n") + 1
    column = len(before.rpartition(b"\n")[2].decode(errors="replace")) + 1
    return Finding(
        source,
        line,
        column,
        "not-utf-8",
        "",
        f"the byte {error.object[error.start]:#04x} is not UTF-8",
        "save the file as UTF-8",
    )


def _unreadable(source: str, error: OSError) -> Finding:
    if isinstance(error, IsADirectoryError):
        return Finding(
            source,
            0,
            0,
            "no-definitions",
            "",
            "the folder holds no definition",
            f"put files that end in {', '.join(sorted(ENDINGS))} into it",
        )
    reason = error.strerror or "it cannot be read"
    return Finding(
        source,
        0,
        0,
        "file-unreadable",
        "",
        f"the file cannot be read: {reason[:1].lower()}{reason[1:]}",
        "check the name and the permissions of the file",
    )
