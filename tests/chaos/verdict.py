"""What must hold after the storm, from the database and from the ledger: a line for each invariant.

A check returns what it found wrong, a sentence with ids for each, and what it has looked at: an
invariant that nothing was there to break says so by its figures.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from tests.chaos import (
    dealings,
    relations,  # noqa: F401 - its checks are among those of a verdict
)
from tests.chaos.documents import (
    DOCUMENTS,
    EFFECTS,
    KILLERS,
    LOOPED_ADDS,
    UNRULY,
    UNRULY_TIMEOUT,
)
from tests.chaos.facts import CHECKS, Facts, Line, Row, invariant
from tests.chaos.stage import BEATS, CANARY, LEASE, SECOND, TIMEOUT_GRACE, Outage
from tests.support import invariants
from workflows.engine.states import FINISHED_STEPS
from workflows.language.words import Join, StepKind

ACTED_WITHIN = 15.0
CLOCKS_AGREE = 0.1
"""Seconds by which the harness's clock and the database's may differ: they are the same clock."""

REPORTED_WITHIN = CANARY * 4.5 + 5
"""`workers.vitals.Periods.logged_within` by the harness's short period, and some seconds of load;
by the product's own period it is a minute and a half."""

UNRULY_ENDS = frozenset({"timeout", "worker_lost", "cancelled"})
"""Lost, where another fault took the worker before the time was up."""

ENDED_WITHIN = UNRULY_TIMEOUT + TIMEOUT_GRACE + LEASE + ACTED_WITHIN
"""With a lease and its detection, for where another fault took the worker."""

RUNS_ON = 6.0
"""Seconds after which a worker that takes no message takes no step either."""

NO_CLOCK = "clocks"
"""Nobody asks for canaries then, and that is what the health endpoint tells."""

NEEDED_BY_CANARIES = ("postgres", "disk", "redis", "engine", NO_CLOCK)
WEDGED_WORKER = "worker-c"
WEDGED_QUEUE = f"env.{SECOND}.default"
MOST_LOSSES = 3
WAITS_FOR_ALL = frozenset({Join.NONE_FAILED, Join.ALL_DONE, Join.ALL_SUCCESS})


def verdicts(facts: Facts) -> Iterator[Line]:
    """Give a verdict on every invariant."""
    yield Line(
        "nothing illegal was seen while it lasted",
        tuple(facts.eyes.violations),
        f"{facts.eyes.looks} looks",
    )
    for promise, query in {**invariants.ALWAYS, **invariants.AT_REST}.items():
        found = facts.connection.execute(query, invariants._WORDS).fetchall()
        yield Line(promise, tuple(f"run {run} {path}: {what}" for run, path, what in found))
    for name, check in CHECKS.items():
        violations, looked_at = check(facts)
        yield Line(name, tuple(violations), looked_at)


@invariant("a run is there once for each key, and each start that was answered is there")
def _one_run_for_each_key(facts: Facts) -> tuple[list[str], str]:
    wrong = []
    by_key = Counter((run["workflow"], run["key"]) for run in facts.runs.values())
    wrong += [
        f"key {key} has {count} runs of {name}"
        for (name, key), count in by_key.items()
        if count > 1
    ]
    for start in facts.load.starts:
        answers = {run for _, run in start.answers}
        news = sum(status == 201 for status, _ in start.answers)
        if not answers:
            wrong.append(f"key {start.key} was asked {start.asked} times and never answered")
        elif len(answers) > 1 or news > 1:
            wrong.append(f"key {start.key} was answered {start.answers}")
        elif not answers <= facts.runs.keys():
            wrong.append(f"key {start.key} was answered {start.answers}, and there is no such run")
    asked = sum(start.asked for start in facts.load.starts)
    return wrong, f"{len(facts.load.starts)} keys, asked {asked} times"


@invariant("no committed effect is lost")
def _no_effect_is_lost(facts: Facts) -> tuple[list[str], str]:
    wrong, looked = [], 0
    for (run, path), step in facts.steps.items():
        by_hand = step["reason"] == "skipped_by_operator" or not _won(facts, run, path)
        if step["state"] != "COMPLETED" or step["uses"] not in EFFECTS or by_hand:
            continue
        looked += 1
        applied = [one for one in facts.deliveries.get((run, path), []) if one["applied"]]
        if not applied:
            wrong.append(f"run {run} {path} is COMPLETED, and the ledger has no effect of it")
        elif step["output"]["value"] != applied[0]["value"]:
            wrong.append(f"run {run} {path} gave {step['output']}, the ledger {applied[0]}")
    return wrong, f"{looked} completed steps with effects"


def _won(facts: Facts, run: str, path: str) -> bool:
    """Say whether an attempt completed the step: not a fallback path, not a person."""
    return any(one["end"] == "completed" for one in facts.attempts.get((run, path), []))


@invariant("an idempotent effect is applied exactly once, under one key of its own")
def _applied_once(facts: Facts) -> tuple[list[str], str]:
    wrong, looked, again = [], 0, 0
    owners: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for step, deliveries in facts.of_kind("idempotent"):
        looked += 1
        again += len(deliveries) - 1
        keys = {one["key"] for one in deliveries}
        applied = sum(one["applied"] for one in deliveries)
        for key in keys:
            owners[key].add(step)
        if len(keys) > 1 or applied != 1:
            wrong.append(f"run {step[0]} {step[1]}: applied {applied} times under {sorted(keys)}")
    wrong += [f"the key {key} has {steps}" for key, steps in owners.items() if len(steps) > 1]
    return wrong, f"{looked} effects, {again} of them asked for again"


@invariant("an attempt is carried out once, and only after it was taken")
def _carried_out_once(facts: Facts) -> tuple[list[str], str]:
    wrong = []
    for (run, path), deliveries in facts.deliveries.items():
        numbers = Counter(one["attempt"] for one in deliveries)
        wrong += [
            f"run {run} {path}: attempt {number} was carried out {count} times"
            for number, count in numbers.items()
            if count > 1
        ]
        for one in deliveries:
            taken = facts.taken.get((run, path, one["attempt"]))
            if taken is None or one["at"] < taken - CLOCKS_AGREE:
                wrong.append(
                    f"run {run} {path}: attempt {one['attempt']} had its effect at {one['at']},"
                    f" and was taken at {taken}"
                )
    return wrong, f"{len(facts.ledger.deliveries)} deliveries"


@invariant("a step that must not be repeated never is; interrupted in flight it is uncertain")
def _never_repeated(facts: Facts) -> tuple[list[str], str]:
    wrong, lost = [], 0
    for (run, path), deliveries in facts.of_kind("charge"):
        if len(deliveries) > 1:
            wrong.append(f"run {run} {path} was charged {len(deliveries)} times")
    incidents = {
        (row["run"], row["path"], row["attempt"]): row["error_class"]
        for row in facts.rows(
            "SELECT run_id::text AS run, path, attempt, error_class FROM workflows_incident"
        )
    }
    for (run, path), attempts in facts.attempts.items():
        if facts.steps[run, path]["uses"] != "charge":
            continue
        for one in attempts:
            if one["end"] != "lost":
                continue
            lost += 1
            found = incidents.get((run, path, one["number"]))
            if found != "uncertain" or one["number"] != facts.steps[run, path]["attempt"]:
                wrong.append(
                    f"run {run} {path}: attempt {one['number']} was lost; its incident: {found};"
                    f" the step is at attempt {facts.steps[run, path]['attempt']}"
                )
    return wrong, f"{sum(1 for _ in facts.of_kind('charge'))} charges, {lost} lost in flight"


@invariant("a step with a probe is resolved by it, and has its effect at most once")
def _resolved_by_its_probe(facts: Facts) -> tuple[list[str], str]:
    wrong, lost = [], 0
    for (run, path), deliveries in facts.of_kind("probed"):
        applied = sum(one["applied"] for one in deliveries)
        if applied > 1:
            wrong.append(f"run {run} {path} had its effect {applied} times")
    asked: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for one in facts.ledger.probes:
        asked[one["run"], one["path"]].append(one)
    doubted = facts.rows(
        "SELECT run_id::text AS run, path FROM workflows_incident WHERE error_class = 'uncertain'"
    )
    doubts = {(row["run"], row["path"]) for row in doubted}
    for step, row in facts.steps.items():
        if row["uses"] == "charge_probed":
            lost += sum(one["end"] == "lost" for one in facts.attempts.get(step, []))
            found = _of_the_probe(facts, step, asked.get(step, []), in_doubt=step in doubts)
            wrong += [f"run {step[0]} {step[1]}: {what}" for what in found]
    answers = Counter(one["answer"] for one in facts.ledger.probes)
    said = ", ".join(f"{count} {answer}" for answer, count in sorted(answers.items()))
    return wrong, f"{lost} lost in flight; the probe said: {said or 'nothing'}"


def _of_the_probe(
    facts: Facts, step: tuple[str, str], probes: Sequence[Row], *, in_doubt: bool
) -> Iterator[str]:
    """Say what of a step is not as the answers to its probe, or their lack, want it."""
    attempts = facts.attempts.get(step, [])
    lost = [one["number"] for one in attempts if one["end"] == "lost"]
    unasked = [number for number in lost if all(one["attempt"] < number for one in probes)]
    if unasked and not in_doubt:
        yield f"the attempts {unasked} were lost, and neither a probe nor a person was asked"
    for one in probes:
        later = [
            delivery["attempt"]
            for delivery in facts.deliveries.get(step, [])
            if delivery["attempt"] > one["attempt"]
        ]
        if later and one["answer"] != "not happened":
            yield f"{one['answer']} by attempt {one['attempt']}, and repeated by {later}"
    is_unknown = any(one["answer"] == "unknown" for one in probes)
    if is_unknown and not in_doubt:
        yield "the probe could not tell, and no person was asked"
    was_ended = any(one["end"] == "cancelled" for one in attempts)
    was_ended = was_ended or facts.runs[step[0]]["state"] == "CANCELLED"
    cannot_ask = was_ended or _is_spent(attempts)
    if in_doubt and not is_unknown and not cannot_ask:
        yield f"a person was asked, and the probe could have told: {probes}"


def _is_spent(attempts: Sequence[Row]) -> bool:
    """Say whether so many attempts were lost, or probes failed, that none is asked any more."""
    codes = [(one["error"] or {}).get("code") for one in attempts]
    return sum(code in {"worker.lost", "probe.failed"} for code in codes) >= MOST_LOSSES * 2


@invariant("a superseded attempt changes nothing")
def _superseded(facts: Facts) -> tuple[list[str], str]:
    wrong, late = [], 0
    for step, attempts in facts.attempts.items():
        late += sum(one["late"] is not None for one in attempts)
        won = [one["number"] for one in attempts if one["end"] == "completed"]
        output = facts.steps[step]["output"]
        if len(won) > 1:
            wrong.append(f"run {step[0]} {step[1]} was completed by attempts {won}")
        elif won and isinstance(output, dict) and output.get("attempt", won[0]) != won[0]:
            wrong.append(f"run {step[0]} {step[1]}: completed by attempt {won[0]}, gave {output}")
        wrong += [
            f"run {step[0]} {step[1]}: attempt {one['number']} {one['end']}, with a late result"
            for one in attempts
            if one["late"] is not None and one["end"] not in {"lost", "cancelled", "failed"}
        ]
    return wrong, f"{late} late results kept"


@invariant("the output of a completed run is what a recount gives")
def _outputs_are_right(facts: Facts) -> tuple[list[str], str]:
    wrong, looked = [], 0
    for run in facts.runs.values():
        adds = ADDS[run["workflow"]]
        if run["state"] != "COMPLETED" or adds is None:
            continue
        looked += 1
        expected = sum(run["input"]["n"] + add for add in adds)
        if run["output"] != {"total": expected}:
            wrong.append(
                f"run {run['id']} of {run['workflow']} gave {run['output']}, not {expected}"
            )
    return wrong, f"{looked} completed runs with an output"


@invariant("a join waits for all that it needs, and a block for all that is in it")
def _joins_are_right(facts: Facts) -> tuple[list[str], str]:
    wrong, looked = [], 0
    states: dict[tuple[str, str], str] = {}
    for row in _in_transactions(facts, states):
        if row["run"] in facts.moved:
            continue
        plan = facts.plans[facts.runs[row["run"]]["version"]]
        node = plan.node(row["path"])
        waited: list[int] = []
        if row["before"] == "PENDING" and row["after"] == "QUEUED" and node.join in WAITS_FOR_ALL:
            waited = list(node.needs)
        elif row["after"] == "COMPLETED" and node.kind in {StepKind.PARALLEL, StepKind.STEPS}:
            waited = list(node.children)
        looked += len(waited)
        for index in waited:
            needed = plan.path(index, row["path"])
            found = states.get((row["run"], needed), "PENDING")
            if found not in FINISHED_STEPS:
                wrong.append(
                    f"run {row['run']} {row['path']} is {row['after']} while {needed} is {found}"
                )
    return wrong, f"{looked} needs"


def _in_transactions(facts: Facts, states: dict[tuple[str, str], str]) -> Iterator[Row]:
    """Go through the moves of steps, with the states that were there when each was committed.

    The lines of one transaction are in no order of cause and effect.
    """
    query = """
        SELECT run_id::text AS run, xmin::text AS made, path, before, after FROM workflows_journal
        WHERE path <> '' ORDER BY run_id, id
    """
    for _, lines in groupby(facts.rows(query), key=lambda row: (row["run"], row["made"])):
        found = list(lines)
        states.update({(row["run"], row["path"]): row["after"] for row in found})
        yield from found


@invariant("a step that kills its worker is bounded by its loss budget")
def _losses_are_bounded(facts: Facts) -> tuple[list[str], str]:
    wrong, looked = [], 0
    for run in facts.runs.values():
        step = facts.steps.get((run["id"], "bad"))
        if run["workflow"] not in KILLERS or step is None:
            continue
        looked += 1
        deliveries = len(facts.deliveries.get((run["id"], "bad"), []))
        ended = [one["error"] or {} for one in facts.attempts.get((run["id"], "bad"), [])]
        handed_back = sum(error.get("code") == "worker.stopped" for error in ended)
        most = MOST_LOSSES + handed_back
        if deliveries > most or step["attempt"] > most or run["state"] == "COMPLETED":
            wrong.append(
                f"run {run['id']} of {run['workflow']} is {run['state']} at attempt"
                f" {step['attempt']}, carried out {deliveries} times, handed back {handed_back}"
            )
    return wrong, f"{looked} runs"


@invariant("a step that ignores its timeout ends as timeout, and soon")
def _timeouts_hold(facts: Facts) -> tuple[list[str], str]:
    wrong, ends, longest = [], Counter[str](), 0.0
    for run in facts.runs.values():
        if run["workflow"] not in UNRULY:
            continue
        for one in facts.attempts.get((run["id"], "bad"), []):
            began, ended = one["started_at"].timestamp(), one["finished_at"].timestamp()
            lasted = ended - began - _away(facts.outages, began, ended, "postgres", "disk")
            end = (one["error"] or {}).get("class", one["end"])
            ends[end] += 1
            longest = max(longest, lasted)
            if end not in UNRULY_ENDS or lasted > ENDED_WITHIN:
                wrong.append(
                    f"run {run['id']} of {run['workflow']}: attempt {one['number']} {one['end']}"
                    f" after {lasted:.1f} s, {one['error']}"
                )
    return wrong, f"{dict(ends)}, the longest {longest:.1f} s"


@invariant("an expired lease is acted on within 15 s")
def _leases_are_noticed(facts: Facts) -> tuple[list[str], str]:
    wrong, found, latest, excused = [], 0, 0.0, 0
    query = """
        SELECT run::text, path, attempt, worker, after, reason,
            extract(epoch FROM expired)::float8 AS expired,
            extract(epoch FROM acted)::float8 AS acted
        FROM chaos_lease
    """
    for row in facts.rows(query):
        found += 1
        raw = row["acted"] - row["expired"]
        away = _away(facts.outages, row["expired"], row["acted"], "postgres", "disk")
        latest = max(latest, raw - away)
        excused += raw > ACTED_WITHIN >= raw - away
        if raw - away > ACTED_WITHIN:
            wrong.append(
                f"run {row['run']} {row['path']} attempt {row['attempt']} of {row['worker']}: "
                f"{raw:.1f} s until {row['after']}, of which the database was away {away:.1f} s"
            )
    return wrong, f"{found} leases, at most {latest:.1f} s; {excused} while the database was away"


def _away(outages: Sequence[Outage], began: float, ended: float, *whats: str) -> float:
    """Return for how many of the seconds one of these was not there."""
    times = sorted(
        (max(began, one.began), min(ended, one.ended or ended))
        for one in outages
        if one.what in whats
    )
    away, until = 0.0, began
    for start, stop in times:
        away += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return away


@invariant("a wedged queue is reported by its canary, and a quiet one never is")
def _wedges_are_reported(facts: Facts) -> tuple[list[str], str]:
    wrong, over, told = list(facts.alarms), 0, []
    taken = """
        SELECT min(extract(epoch FROM j.at))::float8 AS at FROM workflows_journal j
        JOIN workflows_step s ON s.id = j.step_id
        WHERE s.queue = %s AND j.before = 'QUEUED' AND j.after = 'RUNNING'
            AND extract(epoch FROM j.at) > %s
    """
    outages = [*facts.outages, *_no_clock(facts.outages)]
    for began in facts.wedged:
        said = [
            at
            for at, queue, how in facts.eyes.health
            if queue == WEDGED_QUEUE and how == "wedged" and at > began
        ]
        again = facts.rows(taken, WEDGED_QUEUE, began + RUNS_ON)[0]["at"] or math.inf
        ends = [one.began for one in outages if one.what == WEDGED_WORKER]
        again = min([again, *(at for at in ends if at > began)])
        until = min([*said, again, began + 600])
        since = _broker_back(outages, began, until)
        away = _away(outages, since, until, *NEEDED_BY_CANARIES)
        if said and said[0] - since - away <= REPORTED_WITHIN:
            told.append(said[0] - began)
        elif again - since - away <= REPORTED_WITHIN:
            over += 1
        else:
            wrong.append(f"wedged at {began:.1f}, reported at {said[:1]}, over at {again}")
    latest = f"{max(told):.1f}" if told else "no"
    return wrong, f"{len(told)} reported, the latest after {latest} s; {over} were over before"


def _no_clock(outages: Sequence[Outage]) -> Iterator[Outage]:
    """Yield the times in which all clocks were out at once."""
    first, second = ([one for one in outages if one.what == clock] for clock in BEATS)
    for one in first:
        for other in second:
            began = max(one.began, other.began)
            ended = min(one.ended or math.inf, other.ended or math.inf)
            if began < ended:
                yield Outage(NO_CLOCK, began, ended)


def _broker_back(outages: Sequence[Outage], began: float, until: float) -> float:
    """Return since when the broker has been there: queues are judged anew when it is back."""
    ends = [one.ended for one in outages if one.what == "redis" and one.ended is not None]
    return max([began, *(at for at in ends if began < at < until)])


@invariant("every REST call is answered, and none with an error of the program's own")
def _rest_answers(facts: Facts) -> tuple[list[str], str]:
    wrong = [f"{one['at']:.1f} {one['place']}: {one['what']}" for one in facts.load.speech.faults]
    slowest = max((start.slowest for start in facts.load.starts), default=0.0)
    return wrong, (
        f"{sum(facts.load.acted.values())} commands;"
        f" {facts.load.speech.unanswered} calls met nobody;"
        f" the slowest start took {slowest:.1f} s"
    )


@invariant("queues, slots, tables, folders and processes hold nothing left over")
def _nothing_is_left(facts: Facts) -> tuple[list[str], str]:
    return list(facts.left), ""


def _adds_of(document: Mapping[str, Any]) -> list[int] | None:
    """Return what the steps in a document's output add to the input, from the document itself."""
    if "output" not in document:
        return None
    known: dict[str, int] = {}

    def walk(steps: Sequence[Mapping[str, Any]]) -> None:
        for one in steps:
            if "uses" in one:
                known[one["id"]] = int(one["with"]["value"].split("+")[1].strip(" }"))
            walk(one.get("parallel", []))
            walk(one.get("steps", []))
            for case in one.get("switch", []):
                walk(case["steps"])

    walk(document["steps"])
    names = [part.split(".")[1] for part in document["output"]["total"].split(" + ")]
    return [known[name] for name in names]


ADDS: Mapping[str, Sequence[int] | None] = {
    **{
        document["workflow"]: _adds_of(document)
        for document in (*DOCUMENTS, *dealings.DOCUMENTS)
        if document["workflow"] not in {"chaos-looped", *dealings.ADDS}
    },
    "chaos-looped": LOOPED_ADDS,
    **dealings.ADDS,
}


def as_document(line: Line) -> dict[str, Any]:
    """Return a line as JSON."""
    return {
        "invariant": line.invariant,
        "ok": not line.violations,
        "looked_at": line.looked_at,
        "violations": list(line.violations),
    }
