"""Kill a process at a call to its database, and see that nothing is lost and nothing is repeated.

    python -m tests.chaos.kill_points                             every drill, every call
    python -m tests.chaos.kill_points --drill cancel --list       what the calls of a drill are
    python -m tests.chaos.kill_points --call 17 --after           one kill, with its verdict

A drill is prepared, then a process of its own begins the drill's act and is ended by SIGKILL
before or after its call number N. Another process finishes the work: the caller who never heard
an answer asks again, the messages are lost or (`--again`) all delivered once more, the leases of
the dead expire, and the sweeps do the rest. How many calls there are is found out by killing
until an act ends alive.

It works on the database that DATABASE_URL names, or else on one of its own.
"""

# ruff: noqa: E402, T201 - models are imported once Django knows its settings; it prints verdicts

import argparse
import math
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn
from unittest.mock import patch

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.conf import settings
from django.db import connection, connections
from django.utils import timezone

from environments.services import ensure_default
from orchestrator import embedded
from tests.chaos.drills import BY, DEFINITIONS, DRILLS, Drill, Stage, new_stage
from tests.chaos.solo import TARGET, Platform, effects_of, redeliver
from tests.support import invariants
from tests.support.publisher import RECORDER
from tests.support.seam import Seam, seam
from workflows.models import Attempt, Incident, Step
from workflows.services.definitions import apply_definition
from workflows.services.errors import StateRefusedError
from workflows.services.incidents import skip_incident
from workflows.store.clock import Reading, clock

LONGEST = 60
"""Seconds that a process of a drill may take."""

KILLED = -signal.SIGKILL
NEVER = 1_000_000


@dataclass(frozen=True, slots=True)
class Kill:
    """Where a process is killed, and whether the messages survive it."""

    call: int
    after: bool
    again: bool

    def __str__(self) -> str:
        messages = "delivered again" if self.again else "lost"
        return f"{'after' if self.after else 'before'} call {self.call}, messages {messages}"


@dataclass(frozen=True, slots=True)
class Death:
    """How things stood when the process had been killed."""

    completed: dict[tuple[Any, Any], tuple[int, Any]]
    running: frozenset[tuple[Any, str]]


def in_a_process(work: Callable[[], object]) -> int:
    """Do the work in a process of its own, and return how that ended; negative: by which signal."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _live_and_die(work)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _live_and_die(work: Callable[[], object]) -> NoReturn:
    signal.alarm(LONGEST)
    # The connection is the other process's: kept, for what lets go of it ends it.
    _INHERITED.append(connection.connection)
    connection.connection = None
    try:
        work()
    except BaseException:  # noqa: BLE001 - this process ends here, whatever it was
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


_INHERITED: list[object] = []


class _Strict:
    """Takes the place of the log of sweeps, which forgive what they meet in one run."""

    def exception(self, event: str, **facts: Any) -> NoReturn:
        raise AssertionError(f"{event}: {facts}")


def _act(drill: Drill, stage: Stage, kill: Kill, *, told: bool = False) -> None:
    """Act until the call at which this process is killed."""
    with seam() as cut:
        cut.end = lambda: os.kill(os.getpid(), signal.SIGKILL)
        cut.cut(kill.call, after=kill.after)
        drill.act(stage)
        if told:
            _tell(cut)


def _tell(cut: Seam) -> None:
    for number, said in enumerate(cut.log, start=1):
        print(f"{number:4}  {said}")


def _finish(drill: Drill, stage: Stage, kill: Kill) -> None:
    """Do, as another process, what is left to do."""
    RECORDER.forget()
    if kill.again:
        redeliver(stage.runs)
    with suppress(StateRefusedError):
        drill.act(stage)
    drill.then(stage)
    Platform().serve()
    for incident in Incident.objects.filter(
        run__in=stage.runs, resolution="", error_class="uncertain"
    ):
        skip_incident(incident_id=incident.pk, output={"charged": True}, by=BY)
    Platform().serve()


def _looked_at(stage: Stage) -> Death:
    steps = Step.objects.filter(run__in=stage.runs)
    completed = steps.filter(state="COMPLETED").values_list("run", "id", "attempt", "finished_at")
    running = steps.filter(state="RUNNING").values_list("run", "path")
    return Death(
        completed={(run, step): (attempt, at) for run, step, attempt, at in completed},
        running=frozenset(running),
    )


Picture = list[tuple[Any, ...]]


def _picture(stage: Stage) -> Picture:
    """Return where all has come to, without what may differ."""
    return [
        (
            run.state,
            run.output,
            run.error,
            run.vars,
            {step.path: _place_of(step) for step in Step.objects.filter(run=run)},
        )
        for run in stage.runs
    ]


def _place_of(step: Step) -> tuple[Any, ...]:
    """Return where a step has come to; an uncertain one that a person skipped was done as well."""
    if step.reason == "skipped_by_operator" and step.output == {"charged": True}:
        return "COMPLETED", step.output
    return step.state, step.output


def _verdict(stage: Stage, death: Death, wanted: Picture) -> list[str]:
    """Return what does not hold after a kill and all that followed."""
    ids = [run.pk for run in stage.runs]
    wrong = invariants.left_over(runs=ids)
    if (found := _picture(stage)) != wanted:
        wrong.append(f"the end is not that of an undisturbed run: {found} instead of {wanted}")
    after = _looked_at(stage).completed
    wrong += [
        f"{step} was completed as {was} and is {after.get((run, step))} now"
        for (run, step), was in death.completed.items()
        if after.get((run, step)) != was
    ]
    return wrong + _wrong_effects(stage, death)


def _wrong_effects(stage: Stage, death: Death) -> list[str]:
    wrong = []
    accused = set(
        Incident.objects.filter(run__in=stage.runs, error_class="uncertain").values_list(
            "run", "path"
        )
    )
    charges = {one for one in death.running if one[1] in {"charge", "uncertain"}}
    if not charges <= accused:
        wrong.append(f"{charges - accused} died in flight without becoming uncertain")
    for run in stage.runs:
        effects = effects_of(run.pk)
        tries = [(one.path, one.attempt) for one in effects]
        known = set(Attempt.objects.filter(run=run).values_list("step__path", "number"))
        wrong += [f"{one} was carried out twice" for one in set(tries) if tries.count(one) > 1]
        wrong += [f"{one} had an effect and is not known" for one in set(tries) - known]
        if (charged := [path for path, _ in tries].count("charge")) > 1:
            wrong.append(f"charge was carried out {charged} times")
    return wrong


def undisturbed(drill: Drill, *, told: bool = False) -> Picture:
    """Return where a drill comes to when nobody is killed."""
    stage = new_stage()
    never = Kill(NEVER, after=False, again=False)
    drill.prepare(stage)
    assert in_a_process(lambda: _act(drill, stage, never, told=told)) == 0
    _finish(drill, stage, never)
    return _picture(stage)


def killed(drill: Drill, kill: Kill, wanted: Picture) -> list[str] | None:
    """Kill once, and return what does not hold then; None if there is no such call."""
    signal.alarm(LONGEST)
    stage = new_stage()
    RECORDER.forget()
    drill.prepare(stage)
    ended = in_a_process(lambda: _act(drill, stage, kill))
    if ended not in {0, KILLED}:
        return [f"the act ended with {ended} instead of being killed"]
    death = _looked_at(stage)
    try:
        _finish(drill, stage, kill)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a promise that was not kept
        traceback.print_exc()
        return [f"the work could not be finished: {error!r}"]
    wrong = _verdict(stage, death, wanted)
    return wrong if wrong or ended == KILLED else None


def killed_everywhere(name: str) -> tuple[int, list[str]]:
    """Kill at each call, before and after it; return how many there are, and what did not hold."""
    drill, wrong, call = DRILLS[name], [], 0
    wanted = undisturbed(drill)
    while not wrong:
        call += 1
        for after in (False, True):
            kill = Kill(call, after=after, again=bool((call + after) % 2))
            found = killed(drill, kill, wanted)
            if found is None:
                return call - 1, wrong
            wrong += [f"{name}, {kill}: {sentence}" for sentence in found]
    return call, wrong


@contextmanager
def database() -> Iterator[None]:
    """Have a database to work on, and a target for effects."""
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {
        "PUBLISHER": "tests.support.publisher.the_recorder"
    }
    # Nobody asks for the time on the way, so that the calls are the same each time.
    clock.reading, clock.due = Reading(timezone.now(), time.monotonic()), math.inf
    home = settings.EMBEDDED_HOME if "DATABASE_URL" not in os.environ else None
    if home is not None:
        embedded.start(home, redis=False)
        connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        # The fixed workflow is to be small, and yet to have a fan-out.
        narrow = patch("workflows.services.sending.FAN_OUT_FROM", 4)
        strict = patch("workflows.services.sweep.log", _Strict())
        with narrow, strict, tempfile.NamedTemporaryFile() as target:
            os.environ[TARGET] = target.name
            ensure_default()
            for text in DEFINITIONS:
                apply_definition(text=text, source="drill.yaml", by=BY)
            yield
    finally:
        connections.close_all()
        if home is not None:
            embedded.remove(home)


def asked(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.kill_points",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument(
        "--drill", choices=DRILLS, nargs="+", help="what is being done; else each in turn"
    )
    parser.add_argument("--call", type=int, help="kill at this call only; else at each in turn")
    parser.add_argument("--after", action="store_true", help="after the call instead of before it")
    parser.add_argument("--again", action="store_true", help="deliver all messages again")
    parser.add_argument("--list", action="store_true", help="only show the calls of the drill")
    return parser.parse_args(arguments)


def main() -> int:
    """Kill as asked, print verdicts, and return 0 if every promise held."""
    wish = asked()
    names = wish.drill or (["work"] if wish.call or wish.list else list(DRILLS))
    with database():
        return max(_told(name, wish) for name in names)


def _told(name: str, wish: argparse.Namespace) -> int:
    if wish.list:
        undisturbed(DRILLS[name], told=True)
        return 0
    if wish.call:
        kill = Kill(wish.call, after=wish.after, again=wish.again)
        wrong = killed(DRILLS[name], kill, undisturbed(DRILLS[name]))
        print(f"{name}: killed {kill}" if wrong is not None else f"{name}: no call {kill.call}")
    else:
        calls, wrong = killed_everywhere(name)
        print(
            f"{name}: killed until call {calls}"
            if wrong
            else f"{name}: killed before and after each of {calls} calls"
        )
    for sentence in wrong or []:
        print(f"  VIOLATED: {sentence}")
    print("  every promise held" if not wrong else f"  {len(wrong)} violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
