"""`shell.run`: a command of the worker's machine, fenced in on every side.

It sees none of the worker's environment but PATH and LANG, works in a folder that is removed
after it, and leaves no process behind: not at its timeout, not at its end, not if the worker dies.
"""

import errno
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from workers.context import TaskContext
from workers.errors import PermanentError, StepTimeout, TaskError
from workers.processes import Capture, Command, Ended, run
from workers.registry import task
from workflows.language.fields import Timeout
from workflows.language.words import ErrorClass

KIBIBYTE = 1024
SHELL = ("/bin/sh", "-c")
LAST_LINE = 300

ExitCode = Annotated[int, Field(ge=0, le=255)]

CODES: Mapping[str, ErrorClass] = {
    "shell.not_found": ErrorClass.PERMANENT,
    "shell.not_started": ErrorClass.PERMANENT,
    "shell.timeout": ErrorClass.UNCERTAIN,
    "shell.lost": ErrorClass.UNCERTAIN,
    "shell.cancelled": ErrorClass.CANCELLED,
    **{f"shell.exit_{code}": ErrorClass.PERMANENT for code in range(256)},
    **{f"shell.signal_{known.name}": ErrorClass.UNCERTAIN for known in signal.Signals},
}


@task("shell.run", idempotent=False, codes=CODES)
def run_command(  # noqa: PLR0913, PLR0917 - a step's parameters, given by name
    context: TaskContext,
    command: Annotated[list[str], Field(min_length=1)] | None = None,
    script: str | None = None,
    shell: bool = False,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
    timeout: Timeout | None = None,
    ok_exit_codes: list[ExitCode] = [0],  # noqa: B006 - shown as the default, never changed
    retry_exit_codes: list[ExitCode] = [],  # noqa: B006
    max_output: Annotated[int, Field(ge=0, le=96 * KIBIBYTE)] = 64 * KIBIBYTE,
) -> dict[str, Any]:
    """Run a command: `command` is a list of arguments, and no shell reads them.

    `script` with `shell: true` is read by /bin/sh. Its environment is PATH and LANG of the worker,
    HOME and TMPDIR (the step's temporary folder, where it runs unless `cwd` says otherwise),
    IDEMPOTENCY_KEY, PROFILE_FOLDER where the step has a profile, and `env`. All its processes are
    ended at the timeout, and those that it left running are ended at its end. The output is
    `{exit_code, stdout, stderr, left_behind}`; of more than `max_output` bytes per stream both
    ends are kept. An exit code that is not in `ok_exit_codes` is the permanent error
    `shell.exit_<n>`, in `retry_exit_codes` a transient one.

    A command may have any effect, so it does not count as idempotent: if it is killed or its
    worker is lost while it runs, a person decides. A step whose command may be repeated says
    `idempotent: true`.
    """
    arguments = _arguments(command, script, shell=shell)
    home = context.workdir
    stdout, stderr = Capture(max_output), Capture(max_output)

    def streams() -> dict[str, str]:
        return {"stdout": stdout.text(context.mask), "stderr": stderr.text(context.mask)}

    try:
        ended = run(
            Command(
                arguments,
                _environment(home, context, env or {}),
                home / (cwd or ""),
                stdin.encode(),
            ),
            stdout=stdout,
            stderr=stderr,
            seconds=timeout,
            watch=context.stop_if_cancelled,
        )
    except StepTimeout as limit:
        limit.details |= streams()
        raise
    except TaskError as cancelled:
        message = f"{cancelled.message} `{arguments[0]}` was ended with all its processes."
        raise TaskError(message, code="shell.cancelled", details=streams()) from None
    if ended.status is None or ended.status not in ok_exit_codes:
        raise _failure(context, arguments[0], ended, timeout, retry_exit_codes, streams())
    return {"exit_code": ended.status, **streams(), "left_behind": ended.left_behind}


def _arguments(command: list[str] | None, script: str | None, *, shell: bool) -> tuple[str, ...]:
    match command, script:
        case list(), None if not shell:
            return tuple(command)
        case None, str() if shell:
            return (*SHELL, script)
    message = (
        "Give either `command`, a list of arguments that no shell reads, or `script` together "
        "with `shell: true`."
    )
    raise PermanentError(message, code="task.parameters")


def _environment(home: Path, context: TaskContext, own: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "HOME": str(home),
        "TMPDIR": str(home),
        "IDEMPOTENCY_KEY": context.idempotency_key,
        **({"PROFILE_FOLDER": str(context.profile.folder)} if context.profile else {}),
        **own,
    }


def _failure(  # noqa: PLR0913, PLR0917 - the facts of one end
    context: TaskContext,
    program: str,
    ended: Ended,
    timeout: float | None,
    retry_exit_codes: list[int],
    streams: dict[str, str],
) -> TaskError:
    if ended.timed_out:
        said = f"`{program}` did not end within {timeout:g} s and was ended with all its processes."
        return _killed(context, said, "shell.timeout", ErrorClass.TIMEOUT, streams)
    if ended.error is not None:
        return _not_started(program, ended)
    if ended.status is None:
        said = f"`{program}` was lost: the process that watched over it was killed."
        return _killed(context, said, "shell.lost", ErrorClass.TRANSIENT, streams)
    if ended.status < 0:
        name = _signal_name(-ended.status)
        said = f"`{program}` was killed by {name}."
        return _killed(context, said, f"shell.signal_{name}", ErrorClass.TRANSIENT, streams)
    retried = ended.status in retry_exit_codes
    return TaskError(
        f"`{program}` ended with exit code {ended.status}{_last_line(streams['stderr'])}",
        code=f"shell.exit_{ended.status}",
        error_class=ErrorClass.TRANSIENT if retried else ErrorClass.PERMANENT,
        details={"exit_code": ended.status, **streams},
    )


def _killed(
    context: TaskContext,
    said: str,
    code: str,
    harmless: ErrorClass,
    streams: dict[str, str],
) -> TaskError:
    """Return the error of a command that did not come to its end: it may have had its effect."""
    known = harmless if context.idempotent else ErrorClass.UNCERTAIN
    return TaskError(said, code=code, error_class=known, details=streams)


def _not_started(program: str, ended: Ended) -> TaskError:
    reason = os.strerror(ended.error or 0)
    if ended.what != program:
        message = f"`{program}` cannot run in the folder {ended.what}: {reason}."
        return PermanentError(message, code="shell.not_started")
    if ended.error == errno.ENOENT:
        message = (
            f"There is no program `{program}` on this worker's PATH. Install it there, or give "
            "its full path."
        )
        return PermanentError(message, code="shell.not_found")
    return PermanentError(f"`{program}` cannot be started: {reason}.", code="shell.not_started")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _last_line(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    return f": {lines[-1][:LAST_LINE]}" if lines else "."
