"""What the operator's commands have in common: exit statuses, refusals, confirmation.

A command parses, calls one service or selector, and presents. Whatever is refused
below arrives here and leaves as a sentence on stderr and a status. No database is
touched before a command asks for one, so what needs none works without it.
"""

import getpass
import json
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError
from rich.console import Console

from workflows.engine.states import RunState
from workflows.language import durations
from workflows.language.findings import LanguageError
from workflows.management.output import as_json, console_on, plain, say
from workflows.selectors.errors import SelectorError
from workflows.selectors.paging import LONGEST_PAGE, PAGE
from workflows.selectors.runs import find_run
from workflows.services.errors import InputRefusedError, NotFoundError, ServiceError
from workflows.services.report import Report

LONGEST_VALUE = 1024 * 1024
"""Bytes that are read of a value in a file; the platform takes far less, and says so."""

_WHERE_TO_LOOK = {
    "workflow": "`manage.py workflow list` shows those there are, `workflow apply FILE` adds one.",
    "run": "`manage.py run list` shows those there are.",
    "incident": "`manage.py incident list --all` shows those there are.",
    "approval": "`manage.py approval list --all` shows those there are.",
    "environment": "The admin's page of environments shows those there are.",
}


class Exit(IntEnum):
    """The exit statuses. 124 and 130 are what `timeout` and Ctrl-C give in a shell."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    UNAVAILABLE = 3
    TIMED_OUT = 124
    DETACHED = 130
    PIPE_CLOSED = 141


class RefusedError(CommandError):
    """The command line or what it names cannot be accepted; nothing was changed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=Exit.REFUSED)


class Door(BaseCommand):
    """A command with actions: `manage.py run list`."""

    requires_system_checks = ()
    _called_from_command_line: bool
    page: Console
    errors: Console

    def handle(self, *_: Any, act: Callable[..., None], **options: Any) -> None:
        """Carry out the action that was asked for."""
        colours = {name: options[name] for name in ("no_color", "force_color")}
        self.page = console_on(self.stdout, **colours)
        self.errors = console_on(self.stderr, **colours)
        act(**options)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; a refusal is a sentence and a status, not a traceback."""
        try:
            with refusals():
                return super().execute(*args, **options)
        except CommandError as error:
            if not self._called_from_command_line or options["traceback"]:
                raise
            colours = {name: options[name] for name in ("no_color", "force_color")}
            style = "red" if error.returncode == Exit.REFUSED else ""
            say(console_on(self.stderr, **colours), str(error), style)
            sys.exit(error.returncode)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(Exit.PIPE_CLOSED)
        except KeyboardInterrupt:
            sys.exit(Exit.DETACHED)

    def print_json(self, value: Any) -> None:
        """Write one value on one line."""
        self.page.file.write(as_json(value) + "\n")

    def say(self, sentence: str) -> None:
        """Write a sentence to stdout."""
        say(self.page, sentence)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before what cannot be undone; without a terminal only `--yes` will do."""
        if yes:
            return
        if not (sys.stdin and sys.stdin.isatty()):
            raise RefusedError(
                f"{question} There is nobody to ask here, so nothing was changed. "
                "Repeat the command with --yes."
            )
        self.errors.print(f"{plain(question)} [y/N] ", end="")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise RefusedError("Nothing was changed.")

    def present(self, report: Report, *, as_json: bool) -> None:
        """Show what became of each thing; one that was refused makes the status 2."""
        if as_json:
            self.print_json(
                {
                    "action": report.action.lower(),
                    "done": [str(one) for one in report.done],
                    "refused": [{"id": str(no.id), "why": no.why} for no in report.refused],
                }
            )
        elif report.done:
            self.say(f"{report.action}: {len(report.done)} done.")
        if report.refused:
            raise RefusedError("\n".join(refusal.why for refusal in report.refused))


def action(
    actions: Any,
    name: str,
    act: Callable[..., None],
    help: str,  # noqa: A002 - argparse's own word
) -> CommandParser:
    """Add an action to a command: its name, what carries it out, what it does."""
    parser: CommandParser = actions.add_parser(name, help=help, description=help)
    parser.set_defaults(act=act)
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    return parser


def add_paging(parser: CommandParser) -> None:
    """Give a list its page."""
    parser.add_argument(
        "--limit",
        type=_limit,
        default=PAGE,
        metavar="N",
        help=f"lines of a page, 1 to {LONGEST_PAGE}; default {PAGE}",
    )
    parser.add_argument("--after", metavar="CURSOR", help="the page after this: take it from next")


def add_timeout(parser: CommandParser) -> None:
    """Let a watcher leave by itself."""
    parser.add_argument(
        "--timeout",
        type=duration_of,
        metavar="DURATION",
        help="watch no longer than this (30s, 5m, or plain seconds); the run goes on",
    )


def actor() -> str:
    """Name who acts: the account that the command runs under."""
    try:
        return f"command:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"command:{os.getuid()}"


def run_named(text: str) -> UUID:
    """Return the id of the run that is named by its id or the beginning of it."""
    return UUID(str(find_run(text).pk))


def runs_named(texts: list[str]) -> list[UUID]:
    """Return the ids of the runs, each once."""
    return list(dict.fromkeys(map(run_named, texts)))


def uuid_of(text: str) -> UUID:
    """Read an id of the command line."""
    try:
        return UUID(text)
    except ValueError:
        message = f"{text!r} is no id; an id looks like 0198c5a0-1b2c-7d3e-8f40-123456789abc"
        raise ArgumentTypeError(message) from None


def duration_of(text: str) -> float:
    """Read a duration of the command line, in seconds."""
    try:
        return durations.parse(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except durations.DurationError as error:
        message = f"{error}; {durations.HINT}"
        raise ArgumentTypeError(message) from None


def value_of(option: str, text: str | None) -> Any:
    """Return the JSON that an option gives: inline, `@file`, or `-` for what stdin says."""
    if text is None:
        return None
    if text == "-":
        return _value(sys.stdin.read(LONGEST_VALUE), f"{option} from stdin")
    if text.startswith("@"):
        return _value(_content(option, Path(text[1:])), text[1:])
    return _value(text, option)


def object_of(option: str, text: str | None) -> dict[str, Any] | None:
    """Return the JSON object that an option gives."""
    value = value_of(option, text)
    if value is not None and not isinstance(value, dict):
        raise RefusedError(f'{option} must be a JSON object, such as {{"name": "value"}}.')
    return value


def write_text(file: str, text: str) -> None:
    """Write a file that the command line names."""
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"The file {file} cannot be written: {error.strerror}.") from error


def next_page(cursor: str | None) -> str:
    """Say how the list goes on."""
    return f"There are more: repeat the command with --after {cursor}" if cursor else ""


def status_of(state: str) -> Exit:
    """Return the exit status for a run that ended so."""
    return Exit.DONE if state == RunState.COMPLETED else Exit.FAILED


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what services, selectors and the language refuse into sentences with a status."""
    try:
        yield
    except LanguageError as error:
        raise RefusedError(str(error)) from error
    except InputRefusedError as error:
        raise RefusedError("\n".join([str(error), *map(_finding, error.findings)])) from error
    except NotFoundError as error:
        raise RefusedError(_with_advice(error, error.kind)) from error
    except SelectorError as error:
        raise RefusedError(_with_advice(error, getattr(error, "kind", ""))) from error
    except ServiceError as error:
        raise RefusedError(str(error)) from error
    except ProgrammingError as error:
        if getattr(error.__cause__, "sqlstate", "") != "42P01":
            raise
        message = "The database has no tables yet. Run `manage.py migrate`, or start the platform."
        raise CommandError(message, returncode=Exit.UNAVAILABLE) from error


def _with_advice(error: Exception, kind: str) -> str:
    return f"{error} {_WHERE_TO_LOOK.get(kind, '')}".rstrip()


def _finding(finding: Mapping[str, Any]) -> str:
    """Return a finding about an input as a line and its hint."""
    where = ": ".join(filter(None, ("input", finding.get("path"))))
    hint = finding.get("hint")
    return f"{where}: {finding['message']}" + (f"\n  hint: {hint}" if hint else "")


def _content(option: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_VALUE).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RefusedError(f"{option}: the file {path} cannot be read: {reason}.") from error


def _value(text: str, source: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = f"{source}:{error.lineno}:{error.colno}"
        raise RefusedError(
            f"{place}: this is not JSON: {error.msg}\n"
            '  hint: write JSON, such as \'{"name": "value"}\', or @FILE to read it from a file'
        ) from error
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise RefusedError(f"{source}: this is not JSON: {reason}") from error


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is no number that JSON has"
    raise ValueError(message)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LONGEST_PAGE):
        message = f"{text!r} is not a number from 1 to {LONGEST_PAGE}"
        raise ArgumentTypeError(message)
    return int(text)
