"""What must hold between a run and others: its undo, its children, people, events, gates, places.

As in `verdict`, a check returns what it found wrong, and what it has looked at.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tests.chaos.dealings import APPROVALS, DECIDERS, ORDERED, PART, PLACES
from tests.chaos.facts import Facts, Row, invariant
from tests.chaos.outside import SOURCE
from workflows.engine.compensating import BELOW
from workflows.engine.states import FINISHED_RUNS, PLACE_HOLDERS, UNDOING

CLOCKS_AGREE = 0.1
PASSED = 3.0
"""Seconds within which whoever was past a guard when a person opened it is on its way."""

NEVER_BEGUN = ("PENDING", "CANCELLING")

Step = tuple[str, str]


# Undoing.


@invariant("what was undone was undone once, the last first, and only while its run was undone")
def _undone_in_order(facts: Facts) -> tuple[list[str], str]:
    wrong, looked, runs = [], 0, 0
    begun = _begun_to_be_undone(facts)
    for run, undone in _undone(facts).items():
        runs += 1
        looked += len(undone)
        if run not in begun or undone[0]["at"] < begun[run] - CLOCKS_AGREE:
            wrong.append(f"run {run}: {undone[0]['path']} before the run was undone")
        straight = [one for one in undone if (run, one["path"]) not in _failed_to_undo(facts)]
        for first, second in pairwise(straight):
            before, after = (_completion(facts, run, one) for one in (first, second))
            if before is None or after is None or before < after:
                wrong.append(f"run {run}: {second['path']} was undone after {first['path']}")
    for (run, path), step in facts.steps.items():
        applied = [one for one in facts.deliveries.get((run, path + BELOW), []) if one["applied"]]
        by_hand = facts.steps.get((run, path + BELOW), {}).get("reason") == "skipped_by_operator"
        if step["state"] == "COMPENSATED" and len(applied) != 1 and not by_hand:
            wrong.append(f"run {run} {path} is COMPENSATED, and was undone {len(applied)} times")
        if applied and step["state"] not in UNDOING:
            wrong.append(f"run {run} {path} is {step['state']}, and was undone")
    return wrong, f"{looked} effects undone in {runs} runs"


def _undone(facts: Facts) -> Mapping[str, list[Row]]:
    """Return the undos that had their effect, by run, in the order of the ledger."""
    found = defaultdict(list)
    for one in facts.ledger.deliveries:
        if one["path"].endswith(BELOW) and one["applied"]:
            found[one["run"]].append(one)
    return found


def _completion(facts: Facts, run: str, undo: Row) -> int | None:
    number: int | None = facts.steps[run, undo["path"].removesuffix(BELOW)]["completion"]
    return number


def _begun_to_be_undone(facts: Facts) -> Mapping[str, float]:
    query = """
        SELECT run_id::text AS run, min(extract(epoch FROM at))::float8 AS at
        FROM workflows_journal WHERE path = '' AND after = 'COMPENSATING' GROUP BY run_id
    """
    return {row["run"]: row["at"] for row in facts.rows(query)}


def _failed_to_undo(facts: Facts) -> set[Step]:
    """Return the undos that failed at first: they are done out of turn, when somebody says so."""
    query = """
        SELECT DISTINCT run_id::text AS run, path FROM workflows_journal
        WHERE after = 'COMPENSATION_FAILED'
    """
    return {(row["run"], row["path"] + BELOW) for row in facts.rows(query)}


@invariant("an undo by hand does what was shown before, in that order")
def _undone_as_shown(facts: Facts) -> tuple[list[str], str]:
    wrong, looked, undone = [], 0, _undone(facts)
    failed = {run for run, _ in _failed_to_undo(facts)}
    for run, shown in facts.load.previews.items():
        if facts.runs[run]["state"] != "COMPENSATED" or run in failed:
            continue
        looked += 1
        did = [one["path"].removesuffix(BELOW) for one in undone.get(run, [])]
        if did != shown:
            wrong.append(f"run {run}: {shown} was shown, and {did} was undone")
    return wrong, f"{looked} of {len(facts.load.previews)} undone without a failure"


# Waits.


@invariant("a wait that is over is an attempt that ended in the same way, once")
def _waits_are_attempts(facts: Facts) -> tuple[list[str], str]:
    query = """
        SELECT w.run_id::text AS run, w.path, w.attempt, w.kind, w."end", a."end" AS was, a.numbers
        FROM workflows_wait w LEFT JOIN (
            SELECT step_id, number, min("end") AS "end", count(*) AS numbers
            FROM workflows_attempt GROUP BY step_id, number
        ) a ON a.step_id = w.step_id AND a.number = w.attempt
        WHERE w.closed_at IS NOT NULL
    """
    found = facts.rows(query)
    wrong = [
        f"run {row['run']} {row['path']}: the wait {row['attempt']} for {row['kind']} ended"
        f" {row['end']}, its {row['numbers'] or 0} attempts {row['was']}"
        for row in found
        if row["end"] != row["was"] or row["numbers"] != 1
    ]
    kinds = Counter(row["kind"] for row in found)
    return wrong, ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


# Child runs.


@invariant("a child run is its step's: started once, ended with it, and its end is the step's")
def _children_agree(facts: Facts) -> tuple[list[str], str]:
    wrong, waits = [], _child_waits(facts)
    by_child = defaultdict(list)
    for one in waits:
        by_child[one["child"]].append(one)
    children = [run for run in facts.runs.values() if run["parent"]]
    for child in children:
        wrong += _of_a_child(facts, child, by_child.get(child["id"], []))
    ends = Counter(child["state"] for child in children)
    return wrong, ", ".join(f"{count} {state}" for state, count in sorted(ends.items()))


def _of_a_child(facts: Facts, child: Row, waits: Sequence[Row]) -> Iterator[str]:
    name = f"the child run {child['id']} of {child['parent']}"
    if len({(one["run"], one["path"]) for one in waits}) != 1:
        yield f"{name} is waited for by {[(one['run'], one['path']) for one in waits]}"
        return
    last = waits[-1]
    step, is_over = facts.steps[last["run"], last["path"]], child["state"] in FINISHED_RUNS
    where = f"{last['path']}, which is {step['state']}"
    if last["end"] == "cancelled" and not is_over:
        yield f"{name} is {child['state']}, and was cancelled with {where}"
    if facts.runs[last["run"]]["state"] == "COMPLETED" and not is_over:
        yield f"{name} is {child['state']}, and that run is COMPLETED"
    if last["end"] == "completed" and child["state"] not in {"COMPLETED", "COMPENSATED"}:
        yield f"{name} is {child['state']}, and completed {where}"
    won = last["end"] == "completed" and step["attempt"] == last["attempt"]
    if won and step["state"] == "COMPLETED" and step["output"] != child["output"]:
        yield f"{name} gave {child['output']}, and {where} has {step['output']}"
    latest = last["attempt"] == step["attempt"]
    if latest and child["state"] == "COMPLETED" and last["open"]:
        yield f"{name} is COMPLETED, and {where} still has its incident"


def _child_waits(facts: Facts) -> list[Row]:
    query = """
        SELECT w.run_id::text AS run, w.path, w.attempt, w."end", w.child_id::text AS child,
            EXISTS (
                SELECT 1 FROM workflows_incident i
                WHERE i.run_id = w.run_id AND i.path = w.path AND i.resolution = ''
            ) AS open
        FROM workflows_wait w WHERE w.child_id IS NOT NULL ORDER BY w.attempt
    """
    return facts.rows(query)


# People.


@invariant("a vote counts once, and a request ends by its votes or by its time")
def _votes_count_once(facts: Facts) -> tuple[list[str], str]:
    wrong = []
    votes = defaultdict(list)
    for row in facts.rows(VOTES):
        votes[row["wait"]].append(row)
    requests = facts.rows(REQUESTS)
    for one in requests:
        wrong += [f"run {one['run']} {one['path']}: {what}" for what in _of_a_request(one, votes)]
    cast = {
        (one["wait"], one["person"]): one["verdict"] for found in votes.values() for one in found
    }
    for vote in facts.outside.votes:
        kept = cast.get((vote.approval, vote.person))
        if any(status < 300 for status in vote.statuses) and kept != vote.verdict:
            wrong.append(f"{vote.person} said {vote.verdict} to {vote.approval}, and it has {kept}")
    asked = Counter((vote.approval, vote.person) for vote in facts.outside.votes)
    wrong += [
        f"{person} has voted on {wait} unasked" for wait, person in cast.keys() - asked.keys()
    ]
    ends = Counter(str(one["outcome"]) for one in requests)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(ends.items()))
    return wrong, f"{len(cast)} votes; {said}"


VOTES = """
    SELECT wait_id::text AS wait, person_name AS person, member_name AS member, verdict, at
    FROM workflows_vote ORDER BY id
"""

REQUESTS = """
    SELECT id::text, run_id::text AS run, path, name, request, closed_at,
        answer ->> 'outcome' AS outcome
    FROM workflows_wait WHERE kind = 'approval'
"""


def _of_a_request(one: Row, votes: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    mine = votes.get(one["id"], ())
    said = Counter(vote["verdict"] for vote in mine)
    members = Counter(vote["member"] for vote in mine)
    needed = APPROVALS if one["path"] == "sign" else 1
    if max(members.values(), default=0) > 1:
        yield f"a member had more than one vote: {members}"
    if one["outcome"] == "approved" and said != {"approve": needed}:
        yield f"approved by {dict(said)} instead of {needed}"
    if one["outcome"] == "rejected" and said["reject"] != 1:
        yield f"rejected by {dict(said)}"
    if one["outcome"] not in {"approved", "rejected"} and (
        said["reject"] or said["approve"] >= needed
    ):
        yield f"{one['outcome']} in spite of {dict(said)}"
    if one["closed_at"] is not None and any(vote["at"] > one["closed_at"] for vote in mine):
        yield "somebody voted after its end"
    if one["outcome"] == "escalated" and one["name"] != DECIDERS:
        yield "escalated more than once"


# Events.


@invariant("an event is received once, starts a run of a workflow once, and wakes a step once")
def _events_do_once(facts: Facts) -> tuple[list[str], str]:
    wrong: list[str] = []
    received = Counter(row["id"] for row in facts.rows(RECEIVED, SOURCE))
    answered = {one.id for one in facts.outside.sent if any(s < 300 for s in one.statuses)}
    wrong += [f"the event {one} is there {n} times" for one, n in received.items() if n != 1]
    wrong += [f"the event {one} was taken, and is not there" for one in answered - received.keys()]
    wrong += [f"run {row['run']} {row['path']}: {row['what']}" for row in facts.rows(WRONG_WAKING)]
    wrong += _starts(facts)
    woken, runs = facts.rows(WOKEN_BY_PARTS, PART), 0
    for row in woken:
        wanted = {f"part-{row['n']}-{number}" for number in range(len(row["events"]))}
        if facts.runs[row["run"]]["state"] == "COMPLETED":
            runs += 1
            if set(row["events"]) != wanted or len(set(row["events"])) != len(row["events"]):
                wrong.append(f"run {row['run']} was woken by {row['events']}")
    effects = facts.rows("SELECT kind, count(*) AS n FROM workflows_eventeffect GROUP BY kind")
    said = ", ".join(f"{row['kind']} {row['n']}" for row in effects)
    return wrong, f"{len(received)} events; {said}; {runs} runs took theirs one by one"


RECEIVED = "SELECT given_id AS id FROM workflows_receivedevent WHERE source = %s"

WRONG_WAKING = """
    SELECT w.run_id::text AS run, w.path,
        'ended ' || w."end" || ' by ' || COALESCE(w.answer ->> 'event', 'nothing')
            || ', and the effects know ' || count(f.id) AS what
    FROM workflows_wait w LEFT JOIN workflows_eventeffect f
        ON f.wait_id = w.id AND f.kind = 'woke' AND f.event_id::text = w.answer ->> 'event'
    WHERE w.kind = 'event' AND w.closed_at IS NOT NULL
    GROUP BY w.id HAVING count(f.id) <> CASE w."end" WHEN 'completed' THEN 1 ELSE 0 END
    UNION ALL
    SELECT f.run_id::text, min(f.path), 'woken ' || count(*) || ' times by ' || f.event_id
    FROM workflows_eventeffect f WHERE f.kind = 'woke' GROUP BY f.run_id, f.event_id
    HAVING count(*) > 1
    UNION ALL
    SELECT r.id::text, w.path, 'waits, and the event ' || e.given_id || ' was there for it'
    FROM workflows_wait w JOIN workflows_run r ON r.id = w.run_id
        JOIN workflows_receivedevent e ON e.given_id = 'paid-' || (r.input ->> 'n')
    WHERE w.kind = 'event' AND w.path = 'paid' AND w.closed_at IS NULL
"""

WOKEN_BY_PARTS = """
    SELECT f.run_id::text AS run, r.input ->> 'n' AS n,
        array_agg(e.given_id ORDER BY f.id) AS events
    FROM workflows_eventeffect f JOIN workflows_receivedevent e ON e.id = f.event_id
        JOIN workflows_run r ON r.id = f.run_id
    WHERE f.kind = 'woke' AND e.type = %s GROUP BY f.run_id, r.input
"""

STARTS = """
    SELECT e.given_id AS event, (e.envelope -> 'data' ->> 'n')::int AS n,
        array_remove(array_agg(w.name ORDER BY w.name), NULL) AS workflows,
        count(*) FILTER (WHERE r.id IS NULL AND f.id IS NOT NULL) AS lost,
        array_remove(array_agg(NULLIF(f.reason, '')), NULL) AS refusals
    FROM workflows_receivedevent e
        LEFT JOIN workflows_eventeffect f ON f.event_id = e.id AND f.kind <> 'woke'
        LEFT JOIN workflows_workflow w ON w.id = f.workflow_id
        LEFT JOIN workflows_run r ON r.id = f.run_id
            AND (r.input ->> 'n')::int = (e.envelope -> 'data' ->> 'n')::int
    WHERE e.type = %s GROUP BY e.id
"""


def _starts(facts: Facts) -> Iterator[str]:
    """Say which events of those that start runs have not started just theirs."""
    started = Counter(
        (run["workflow"], run["input"]["n"])
        for run in facts.runs.values()
        if run["workflow"].startswith("chaos-ordered")
    )
    known = Counter[tuple[str, int]]()
    for row in facts.rows(STARTS, ORDERED):
        wanted = ["chaos-ordered", *(["chaos-ordered-even"] if row["n"] % 2 == 0 else [])]
        known.update((name, row["n"]) for name in wanted)
        if row["workflows"] != wanted or row["lost"]:
            yield f"the event {row['event']} started {row['workflows']}: {row['refusals']}"
    if started != known:
        yield f"started, and not by one event each: {(started - known) + (known - started)}"


# Callbacks.


@invariant("a callback is delivered once, to the wait that it was for")
def _callbacks_are_delivered(facts: Facts) -> tuple[list[str], str]:
    wrong = []
    rows = {(row["run"], row["path"], row["attempt"]): row for row in facts.rows(CALLBACKS)}
    for (run, path, attempt), row in rows.items():
        if row["delivered_at"] is None and facts.runs[run]["state"] not in FINISHED_RUNS:
            wrong.append(f"run {run} {path}: the callback of attempt {attempt} was not delivered")
        if row["delivered_at"] is not None and row["told"] != row["id"]:
            wrong.append(f"run {run} {path}: {row['id']} was delivered, and told was {row['told']}")
    wrong += [
        f"run {row['run']} {row['path']} went on without a callback"
        for row in facts.rows(CALLED)
        if (row["run"], row["path"], row["attempt"]) not in rows
    ]
    statuses = Counter(one.statuses[-1] for one in facts.outside.called if one.statuses)
    runs = Counter(run for run, _, _ in rows)
    for one in facts.outside.called:
        if one.statuses and min(one.statuses) < 300 and one.run not in runs:
            wrong.append(f"run {one.run}: a callback was taken, and is not there")
        if set(one.statuses) & {400, 403, 404, 409, 413}:
            wrong.append(f"run {one.run}: a callback was refused: {one.statuses}")
    said = ", ".join(f"{count} answered {status}" for status, count in sorted(statuses.items()))
    return wrong, f"{len(rows)} callbacks, {said}"


CALLED = """
    SELECT run_id::text AS run, path, attempt FROM workflows_wait
    WHERE kind = 'callback' AND "end" = 'completed'
"""

CALLBACKS = """
    SELECT c.id::text, c.run_id::text AS run, c.path, c.attempt, c.delivered_at,
        w.answer ->> 'callback' AS told
    FROM workflows_callback c LEFT JOIN workflows_wait w
        ON w.run_id = c.run_id AND w.path = c.path AND w.attempt = c.attempt
"""


# Places.


@invariant("there are never more runs under way with a key than their workflow allows")
def _places_suffice(facts: Facts) -> tuple[list[str], str]:
    wrong, most = [], Counter[str]()
    held: dict[tuple[str, str], set[str]] = defaultdict(set)
    query = """
        SELECT j.run_id::text AS run, j.before, j.after FROM workflows_journal j
        JOIN workflows_run r ON r.id = j.run_id
        WHERE j.path = '' AND r.concurrency_key IS NOT NULL ORDER BY j.id
    """
    for row in facts.rows(query):
        run = facts.runs[row["run"]]
        name, here = run["workflow"], held[run["workflow"], run["concurrency_key"]]
        here.discard(row["run"])
        # Who is cancelled before it begins has no place on its way to CANCELLED.
        if row["after"] in PLACE_HOLDERS and (row["before"], row["after"]) != NEVER_BEGUN:
            here.add(row["run"])
        most[name] = max(most[name], len(here))
        if len(here) > PLACES[name]:
            wrong.append(f"{name} {run['concurrency_key']}: {sorted(here)} at once")
    waited = facts.rows("SELECT count(*) AS n FROM workflows_run WHERE reason = 'replaced'")
    ends = Counter(run["state"] for run in facts.runs.values() if run["workflow"] in PLACES)
    return wrong, f"at most {dict(most)}; {dict(ends)}; {waited[0]['n']} replaced"


# Profiles.


@invariant("a profile is with one attempt at a time, and what a clean end leaves in it is kept")
def _profiles_are_exclusive(facts: Facts) -> tuple[list[str], str]:
    wrong, stays = [], _stays(facts)
    for profile, found in stays.items():
        for first, second in pairwise(found):
            told = f"{profile}: {_named(second)} came at {second['at']:.2f}, {_named(first)}"
            if second["at"] < first["until"] - CLOCKS_AGREE:
                wrong.append(f"{told} was there until {first['until']:.2f}")
            kept = second["visits"] - first["visits"]
            if kept not in ({1} if first["completed"] else {0, 1}):
                wrong.append(f"{told} had found {first['visits']}, and {second['visits']} is there")
    total = sum(len(found) for found in stays.values())
    cut = sum(not one["completed"] for found in stays.values() for one in found)
    return wrong, f"{total} stays, {cut} cut short; {facts.outside.cleared} profiles cleared"


def _named(one: Row) -> str:
    return f"run {one['run']} {one['path']} attempt {one['attempt']}"


def _stays(facts: Facts) -> Mapping[str, list[Row]]:
    """Return who was there with each profile, from when until when at the latest.

    Whoever was lost is there no more from the end of the attempt on: a zombie has nothing to say.
    """
    left = {_place(one): one["at"] for one in facts.ledger.stays if not one["comes"]}
    found = defaultdict(list)
    for one in facts.ledger.stays:
        if one["comes"]:
            ended = _ended(facts, one)
            at = ended["finished_at"].timestamp() if ended else float("inf")
            until = min(at, left.get(_place(one), float("inf")))
            completed = ended is not None and ended["end"] == "completed"
            found[one["profile"]].append({**one, "until": until, "completed": completed})
    return found


def _place(one: Row) -> tuple[str, str, int]:
    return one["run"], one["path"], one["attempt"]


def _ended(facts: Facts, one: Row) -> Row | None:
    attempts = facts.attempts.get((one["run"], one["path"]), [])
    return next((found for found in attempts if found["number"] == one["attempt"]), None)


# Guards.


@invariant("while a person has a guard open, no step passes it")
def _guards_hold(facts: Facts) -> tuple[list[str], str]:
    wrong = []
    for call in facts.ledger.calls:
        taken = facts.taken.get(_place(call), 0.0)
        for opened, closed in facts.outside.openings:
            if opened + PASSED < taken < closed:
                wrong.append(f"{_named(call)} was taken {taken - opened:.1f} s after the opening")
    moves = facts.rows("SELECT after, count(*) AS n FROM workflows_breakerjournal GROUP BY after")
    parked = facts.rows("SELECT count(*) AS n FROM workflows_parking WHERE gate = 'guard'")
    said = ", ".join(f"{row['after']} {row['n']}" for row in moves)
    opened = len(facts.outside.openings)
    return wrong, f"{said or 'no moves'}; {opened} by hand; {parked[0]['n']} steps parked"


# What is left.


@invariant("nobody is parked, waits for a place, holds a profile or is to be told, at rest")
def _nothing_is_held(facts: Facts) -> tuple[list[str], str]:
    return [f"{row['what']}" for row in facts.rows(HELD)], ""


HELD = """
    SELECT 'run ' || p.run_id || ' ' || p.path || ' is parked before ' || p.name AS what
    FROM workflows_parking p WHERE p.until IS NULL
    UNION ALL
    SELECT 'run ' || id || ' waits for a place: ' || reason FROM workflows_run
    WHERE state = 'PENDING'
    UNION ALL
    SELECT 'the profile ' || name || ' is ' || f.state || ' for ' || COALESCE(f.run_id::text, '')
    FROM environments_profile f LEFT JOIN workflows_run r ON r.id = f.run_id
    WHERE f.state <> 'FREE' AND (r.id IS NULL OR f.path <> '' OR r.finished_at IS NOT NULL)
    UNION ALL
    SELECT 'the guard ' || name || ' is ' || state FROM workflows_breaker
    WHERE held OR ramp IS NOT NULL
    UNION ALL
    SELECT 'the event ' || given_id || ' is to be handed out' FROM workflows_receivedevent
    WHERE wake_at IS NOT NULL
    UNION ALL
    SELECT 'run ' || run_id || ' ' || path || ' was not offered the events before it'
    FROM workflows_wait WHERE kind = 'event' AND closed_at IS NULL AND sought_at IS NULL
    UNION ALL
    SELECT 'run ' || run_id || ' ' || path || ': due about its child run: ' || due
    FROM workflows_wait WHERE due IS NOT NULL
"""
