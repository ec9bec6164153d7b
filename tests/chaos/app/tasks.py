"""Task types of the load. Their effects are asked of the ledger, which remembers every delivery.

What they are worth is counted afterwards: an output names the attempt that made it and the value
that the ledger answered, so that neither can come from anywhere else.
"""

import ctypes
import json
import os
import signal
import time
import urllib.error
import urllib.request
from typing import Annotated, Any

from pydantic import Field

from workers.context import TaskContext
from workers.errors import PermanentError, TaskError, TransientError
from workers.probing import Answer, Happened, NotHappened, Unknown
from workers.registry import task
from workflows.language.words import ErrorClass

ANSWER_WITHIN = 15.0
LEAK = 8 * 1024 * 1024

Value = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, le=600)]


def deliver(context: TaskContext, kind: str, value: int, **facts: Any) -> dict[str, Any]:
    """Ask the ledger for the effect, once."""
    order = {
        "kind": kind,
        "key": context.idempotency_key,
        "run": context.run_id,
        "path": context.path,
        "attempt": context.attempt,
        "value": value,
        "pid": os.getpid(),
        **facts,
    }
    answer = _post("/effect", order)
    return {"value": answer["value"], "attempt": context.attempt}


def _post(place: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - the address is the harness's own
        os.environ["CHAOS_LEDGER"] + place,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        message = f"The ledger refuses {body['path']}: {error.read().decode()}"
        raise PermanentError(message, code="chaos.refused") from error
    return found


@task("chaos.quick")
def quick(value: Value, context: TaskContext) -> dict[str, Any]:
    """Give the value back, without an effect."""
    return {"value": value, "attempt": context.attempt}


@task("chaos.apply")
def apply(
    value: Value, context: TaskContext, before: Seconds = 0, after: Seconds = 0
) -> dict[str, Any]:
    """Have an effect that the ledger has once for each idempotency key."""
    (context.workdir / "part").write_text(str(value))
    time.sleep(before)
    made = deliver(context, "idempotent", value)
    time.sleep(after)
    return made


@task("chaos.charge", idempotent=False)
def charge(
    value: Value, context: TaskContext, before: Seconds = 0, after: Seconds = 0
) -> dict[str, Any]:
    """Have an effect each time, which nobody can take back or ask about."""
    time.sleep(before)
    try:
        made = deliver(context, "charge", value)
    except OSError as error:
        message = f"The ledger did not answer, so nobody knows: {error}"
        raise TaskError(message, code="chaos.silent", error_class=ErrorClass.UNCERTAIN) from error
    time.sleep(after)
    return made


def probe_charge(
    value: Value,
    context: TaskContext,
    before: Seconds = 0,
    after: Seconds = 0,
) -> Answer:
    """Ask the ledger what it has, and have it refuse what a lost attempt may still send."""
    asked = {
        "key": context.idempotency_key,
        "path": context.path,
        "run": context.run_id,
        "attempt": context.attempt - 1,
    }
    found = _post("/probe", asked)
    match found["answer"]:
        case "happened":
            return Happened({"value": found["value"], "attempt": context.attempt})
        case "not happened":
            return NotHappened()
    return Unknown("the ledger has lost the page")


@task("chaos.charge_probed", idempotent=False, probe=probe_charge)
def charge_probed(
    value: Value, context: TaskContext, before: Seconds = 0, after: Seconds = 0
) -> dict[str, Any]:
    """Have an effect each time, which can be asked about."""
    time.sleep(before)
    made = deliver(context, "probed", value)
    time.sleep(after)
    return made


@task("chaos.flaky")
def flaky(value: Value, context: TaskContext, times: int = 1) -> dict[str, Any]:
    """Fail in the first attempts, then have an effect."""
    if context.attempt <= times:
        raise TransientError(f"attempt {context.attempt} fails on purpose", code="chaos.flaky")
    return deliver(context, "idempotent", value)


@task("chaos.picky")
def picky(value: Value, context: TaskContext, *, right: bool = False) -> dict[str, Any]:
    """Fail for good unless the arguments have been put right."""
    if not right:
        raise PermanentError("the arguments are wrong on purpose", code="chaos.wrong")
    return deliver(context, "idempotent", value)


@task("chaos.ask")
def ask(value: Value, url: str, context: TaskContext) -> dict[str, Any]:
    """Have an effect, and leave at the ledger where the answer is to be sent."""
    return deliver(context, "idempotent", value, url=url)


@task("chaos.depend")
def depend(value: Value, context: TaskContext) -> dict[str, Any]:
    """Have an effect, unless what it depends on is away at the moment."""
    if not _post("/depend", _where(context))["is_up"]:
        raise TransientError("what it depends on is away on purpose", code="chaos.away")
    return deliver(context, "idempotent", value)


@task("chaos.stay")
def stay(value: Value, context: TaskContext, seconds: Seconds = 0) -> dict[str, Any]:
    """Be somewhere with a profile for a while; who comes and who goes is told to the ledger."""
    profile = context.profile
    if profile is None:
        raise PermanentError("there is no profile", code="chaos.no_profile")
    visits = profile.context["visits"]
    told = {**_where(context), "profile": profile.name, "visits": visits}
    _post("/stay", {**told, "comes": True})
    time.sleep(seconds)
    profile.context["visits"] = visits + 1
    _post("/stay", {**told, "comes": False})
    return {"value": value, "attempt": context.attempt}


def _where(context: TaskContext) -> dict[str, Any]:
    return {"run": context.run_id, "path": context.path, "attempt": context.attempt}


@task("chaos.suicide")
def suicide(value: Value, context: TaskContext) -> dict[str, Any]:
    """Kill the process that carries it out, at each attempt."""
    deliver(context, "suicide", value)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@task("chaos.hog")
def hog(value: Value, context: TaskContext, mebibytes: int = 100) -> dict[str, Any]:
    """Leak memory until killed: by a bound on memory, or as the kernel would at so many MiB."""
    deliver(context, "hog", value)
    leaked = []
    for _ in range(mebibytes * 1024 * 1024 // LEAK):
        leaked.append(bytearray(os.urandom(4096) * (LEAK // 4096)))
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)
    return {"leaked": len(leaked)}


@task("chaos.stubborn")
def stubborn(value: Value, context: TaskContext, seconds: Seconds = 30) -> dict[str, Any]:
    """Swallow whatever interrupts it."""
    deliver(context, "stubborn", value)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            time.sleep(left)
        except BaseException:  # noqa: BLE001, S112 - being deaf is what it is for
            continue
    return {"value": value}


@task("chaos.frozen")
def frozen(value: Value, context: TaskContext) -> dict[str, Any]:
    """Hold the interpreter's lock for ever, in a call into C that no signal interrupts."""
    deliver(context, "frozen", value)
    libc = ctypes.PyDLL(None)
    mutex = (ctypes.c_byte * 128)()
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
    return {"value": value}
