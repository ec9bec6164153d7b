"""The storm in the form of the test command: a fixed seed, every fault once, all invariants.

Every fault was there, and so was every answer that a probe can give.
"""

import json
import re
import subprocess
import sys

import pytest

from orchestrator.env import ROOT
from tests.chaos.faults import FAULTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SEED = 7
MINUTES = 1.0
PROBE = "a step with a probe is resolved by it, and has its effect at most once"


def test_a_storm_of_every_fault_breaks_no_invariant() -> None:
    command = [sys.executable, "-m", "tests.chaos", f"--seed={SEED}", f"--minutes={MINUTES}"]

    done = subprocess.run(
        [*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [line for line in found["verdict"] if not line["ok"]] == []
    assert {one["fault"] for one in found["injected"]} == {fault.name for fault in FAULTS}
    [told] = [line["looked_at"] for line in found["verdict"] if line["invariant"] == PROBE]
    assert re.search(r"\d happened, \d not happened, \d unknown", told), told
