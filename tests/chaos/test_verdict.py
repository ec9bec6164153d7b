"""The verdict sees what it is there to see: each test is a platform that has broken one promise."""

from typing import Any

import pytest

from tests.chaos import verdict
from tests.chaos.facts import Facts
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load, Start
from tests.chaos.outside import Outside
from tests.chaos.stage import Outage
from tests.chaos.watching import Eyes

RUN = "r1"
STEP = (RUN, "two")


class Told(Facts):
    """Facts that a test tells, in place of a database's."""

    def __init__(self, **known: Any) -> None:
        nothing: Any = None
        load = Load("", "", 0, lambda: 0)
        ledger = Ledger()
        outside = Outside(load.speech, ledger, 0, list)
        super().__init__(nothing, ledger, load, outside, nothing, known.pop("outages", ()))
        self.found: list[dict[str, Any]] = known.pop("found", [])
        self.__dict__.update({"attempts": {}, "steps": {}, "runs": {}, "taken": {}} | known)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        del query, values
        return self.found


def delivered(facts: Facts, kind: str, attempt: int = 1, key: str = "r1:two") -> None:
    run, path = STEP
    order = {"kind": kind, "key": key, "run": run, "path": path, "attempt": attempt, "value": 7}
    facts.ledger.effect(order)


def a_step(state: str = "COMPLETED", uses: str = "apply", **facts: Any) -> dict[str, Any]:
    output = {"value": 7, "attempt": 1}
    return {"state": state, "reason": "", "attempt": 1, "uses": uses, "output": output} | facts


def an_attempt(end: str = "completed", **facts: Any) -> dict[str, Any]:
    return {"number": 1, "end": end, "late": None} | facts


def violations(name: str, facts: Facts) -> list[str]:
    return verdict.CHECKS[name](facts)[0]


def test_a_completed_step_without_its_effect_is_seen() -> None:
    facts = Told(steps={STEP: a_step()}, attempts={STEP: [an_attempt()]})

    assert len(violations("no committed effect is lost", facts)) == 1
    delivered(facts, "idempotent")
    del facts.__dict__["deliveries"]
    assert violations("no committed effect is lost", facts) == []


def test_an_effect_under_another_key_is_seen() -> None:
    facts = Told()

    delivered(facts, "idempotent")
    delivered(facts, "idempotent", attempt=2, key="another")

    name = "an idempotent effect is applied exactly once, under one key of its own"
    assert len(violations(name, facts)) == 1


@pytest.mark.parametrize("taken", [{}, {(*STEP, 1): 9e12}])
def test_an_attempt_that_was_carried_out_before_it_was_taken_is_seen(taken: Any) -> None:
    facts = Told(taken=taken)

    delivered(facts, "idempotent")

    name = "an attempt is carried out once, and only after it was taken"
    assert len(violations(name, facts)) == 1


def test_a_charge_that_is_repeated_is_seen() -> None:
    facts = Told()

    delivered(facts, "charge")
    delivered(facts, "charge", attempt=2)

    name = "a step that must not be repeated never is; interrupted in flight it is uncertain"
    assert len(violations(name, facts)) == 1


def test_a_charge_that_was_lost_without_an_incident_is_seen() -> None:
    lost = {STEP: [an_attempt("lost")]}
    facts = Told(steps={STEP: a_step("FAILED", "charge")}, attempts=lost)

    name = "a step that must not be repeated never is; interrupted in flight it is uncertain"
    assert len(violations(name, facts)) == 1


PROBE = "a step with a probe is resolved by it, and has its effect at most once"


def probed(*ends: str, in_doubt: bool = False, state: str = "COMPLETED") -> Facts:
    """Tell of a step with a probe whose attempts ended so."""
    attempts = [an_attempt(end, number=n, error=None) for n, end in enumerate(ends, 1)]
    return Told(
        steps={STEP: a_step(uses="charge_probed")},
        attempts={STEP: attempts},
        runs={RUN: {"state": state}},
        found=[{"run": RUN, "path": "two"}] if in_doubt else [],
    )


def asked(facts: Facts, *, attempt: int = 1, nth: int = 1) -> str:
    """Ask the probe about an attempt, as the nth that is asked about."""
    for n in range(1, nth):
        facts.ledger.probe({"key": f"other {n}", "run": "r0", "path": "one", "attempt": 1})
    about = {"key": "r1:two", "run": RUN, "path": "two", "attempt": attempt}
    return str(facts.ledger.probe(about)["answer"])


def test_a_lost_attempt_that_nobody_is_asked_about_is_seen() -> None:
    assert len(violations(PROBE, probed("lost", "completed"))) == 1
    assert violations(PROBE, probed("lost", in_doubt=True, state="CANCELLED")) == []


@pytest.mark.parametrize(
    ("applied", "nth", "answer", "wrong"),
    [(False, 1, "not happened", 0), (True, 1, "happened", 2), (False, 3, "unknown", 2)],
)
def test_what_is_repeated_although_the_probe_did_not_allow_it_is_seen(
    applied: bool, nth: int, answer: str, wrong: int
) -> None:
    facts = probed("lost", "completed")
    if applied:
        delivered(facts, "probed")

    said = asked(facts, nth=nth)
    delivered(facts, "probed", attempt=2)

    assert said == answer
    assert len(violations(PROBE, facts)) == wrong


def test_a_person_who_is_asked_although_the_probe_could_tell_is_seen() -> None:
    facts = probed("lost", in_doubt=True)
    asked(facts)

    assert len(violations(PROBE, facts)) == 1


def test_an_output_of_another_attempt_than_the_winner_is_seen() -> None:
    attempts = {STEP: [an_attempt("lost"), an_attempt(number=2)]}
    facts = Told(steps={STEP: a_step(attempt=2)}, attempts=attempts)

    assert len(violations("a superseded attempt changes nothing", facts)) == 1


def test_a_key_that_was_answered_with_two_runs_is_seen() -> None:
    run = {"key": "k", "workflow": "chaos-chain"}
    facts = Told(runs={RUN: run, "r2": run})
    facts.load.starts.append(Start("k", "chaos-chain", 1, 2, [(201, RUN), (201, "r2")]))

    name = "a run is there once for each key, and each start that was answered is there"
    assert len(violations(name, facts)) == 2


@pytest.mark.parametrize(
    ("acted", "away", "wrong"), [(14.0, 0.0, 0), (16.0, 0.0, 1), (30.0, 16.0, 0), (33.0, 16.0, 1)]
)
def test_a_lease_that_was_noticed_late_is_seen_unless_the_database_was_away(
    acted: float, away: float, wrong: int
) -> None:
    row = {"run": RUN, "path": "two", "attempt": 1, "worker": "w", "after": "RETRYING"}
    facts = Told(
        found=[row | {"expired": 100.0, "acted": 100.0 + acted}],
        outages=[Outage("postgres", 100.0, 100.0 + away), Outage("redis", 100.0, 140.0)],
    )

    assert len(violations("an expired lease is acted on within 15 s", facts)) == wrong


@pytest.mark.parametrize(
    ("reported", "clocks", "wrong"),
    [
        (30, (), 0),
        (60, (), 1),
        (60, ("beat-1",), 1),
        (60, ("beat-1", "beat-2"), 0),
        (None, (), 1),
    ],
)
def test_a_wedged_queue_of_which_nobody_speaks_in_time_is_seen(
    reported: int | None, clocks: tuple[str, ...], wrong: int
) -> None:
    outages = [Outage(clock, 101.0, 141.0) for clock in clocks]
    facts = Told(found=[{"at": None}], outages=outages)
    facts.wedged, facts.eyes = [100.0], Eyes(facts.eyes)
    if reported is not None:
        facts.eyes.health.append((100.0 + reported, verdict.WEDGED_QUEUE, "wedged"))

    name = "a wedged queue is reported by its canary, and a quiet one never is"
    assert len(violations(name, facts)) == wrong


def test_a_wrong_output_is_seen() -> None:
    run = {"id": RUN, "workflow": "chaos-charge", "state": "COMPLETED", "input": {"n": 10}}

    name = "the output of a completed run is what a recount gives"
    assert violations(name, Told(runs={RUN: run | {"output": {"total": 36}}})) == []
    assert len(violations(name, Told(runs={RUN: run | {"output": {"total": 35}}}))) == 1
