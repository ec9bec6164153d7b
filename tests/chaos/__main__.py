"""Put the platform through a storm: `python -m tests.chaos --seed 7 --minutes 10`.

Prints the seed, each fault as it is injected, and a verdict for each invariant. The status is 1 if
one is violated; then the evidence is kept, its folder printed, and the last troubles that each
process has logged. The same seed and minutes are the same schedule.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from orchestrator.env import ROOT
from tests.chaos.facts import Line
from tests.chaos.faults import BY_NAME, FAULTS
from tests.chaos.ledger import Ledger, served
from tests.chaos.play import Play
from tests.chaos.schedule import schedule_of
from tests.chaos.stage import staged
from tests.chaos.telling import told
from tests.chaos.verdict import as_document

EVIDENCE = ROOT / ".local" / "chaos"


def main() -> int:
    """Parse the command line and do what it says."""
    wanted = _parser().parse_args()
    if wanted.list:
        for fault in FAULTS:
            print(f"{fault.name:<20} {fault.__doc__ or ''}")
        return 0
    faults = [BY_NAME[name] for name in wanted.only] if wanted.only else FAULTS
    seconds = wanted.minutes * 60
    schedule = schedule_of(seed=wanted.seed, seconds=seconds, faults=faults)
    if wanted.schedule:
        print(json.dumps([one.as_document() for one in schedule], indent=1))
        return 0
    began = time.monotonic()
    _say(f"seed {wanted.seed}, {wanted.minutes:g} minutes, {len(schedule)} faults")
    ledger = Ledger()
    with served(ledger) as address, staged(address) as stage:
        play = Play(stage, ledger, wanted.seed, seconds, schedule, _say)
        lines: list[Line] = []
        try:
            play.prepare()
            play.storm()
            play.come_to_rest()
            play.stop()
            for line in play.verdict():
                lines.append(line)
                _say(str(line))
            violated = sum(bool(line.violations) for line in lines)
        except BaseException:
            _keep(play, lines, wanted.seed)
            _say("\n".join(told(stage.home / "logs")))
            raise
        if violated or wanted.keep:
            _keep(play, lines, wanted.seed)
        if violated:
            _say("\n".join(told(stage.home / "logs")))
    took = time.monotonic() - began
    _say(
        f"seed {wanted.seed}: {violated} of {len(lines)} invariants violated, in {took:.0f} s"
        if violated
        else f"seed {wanted.seed}: all {len(lines)} invariants hold, in {took:.0f} s"
    )
    if wanted.json:
        document = {
            "seed": wanted.seed,
            "minutes": wanted.minutes,
            "injected": play.injected,
            "verdict": [as_document(line) for line in lines],
        }
        print(json.dumps(document))
    return 1 if violated else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=7, help="what the schedule is made of")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long the storm lasts")
    parser.add_argument("--only", type=_names, help="inject these faults only, commas between")
    parser.add_argument("--list", action="store_true", help="show the faults")
    parser.add_argument("--schedule", action="store_true", help="show what would come when")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON at the end")
    parser.add_argument("--keep", action="store_true", help="keep the evidence in any case")
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in BY_NAME:
            raise argparse.ArgumentTypeError(f"there is no fault {name!r}; --list shows them")
    return names


def _keep(play: Play, lines: list[Line], seed: int) -> Path:
    folder = EVIDENCE / f"seed-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    play.keep_evidence(folder, lines)
    _say(f"the evidence is in {folder}")
    return folder


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
