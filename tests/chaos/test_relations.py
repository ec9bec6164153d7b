"""The verdict sees what it is there to see between runs: each test breaks one promise."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.chaos import relations  # noqa: F401 - its checks register themselves
from tests.chaos.facts import CHECKS, Facts
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.outside import Outside, Sent, Vote

UNDONE = "what was undone was undone once, the last first, and only while its run was undone"
CHILDREN = "a child run is its step's: started once, ended with it, and its end is the step's"
VOTES = "a vote counts once, and a request ends by its votes or by its time"
EVENTS = "an event is received once, starts a run of a workflow once, and wakes a step once"
CALLBACKS = "a callback is delivered once, to the wait that it was for"
PLACES = "there are never more runs under way with a key than their workflow allows"
PROFILES = "a profile is with one attempt at a time, and what a clean end leaves in it is kept"
GUARDS = "while a person has a guard open, no step passes it"
RUN = "r1"


class Told(Facts):
    """Facts that a test tells; `answers` are the rows of the queries that hold these words."""

    def __init__(
        self, answers: dict[str, list[dict[str, Any]]] | None = None, **known: Any
    ) -> None:
        nothing: Any = None
        load, ledger = Load("", "", 0, lambda: 0), Ledger()
        outside = Outside(load.speech, ledger, 0, list)
        super().__init__(nothing, ledger, load, outside, nothing, ())
        self.answers = {"count(*) AS n": [{"n": 0, "kind": "", "after": ""}]} | (answers or {})
        self.__dict__.update({"attempts": {}, "steps": {}, "runs": {}, "taken": {}} | known)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        del values
        return next((rows for words, rows in self.answers.items() if words in query), [])


def wrong(name: str, facts: Facts) -> int:
    return len(CHECKS[name](facts)[0])


def undo(facts: Facts, path: str) -> None:
    key = f"{RUN}:{path}"
    order = {"kind": "idempotent", "key": key, "run": RUN, "path": f"{path}.compensate"}
    facts.ledger.effect({**order, "attempt": 1, "value": 7})


def a_step(state: str = "COMPENSATED", **facts: Any) -> dict[str, Any]:
    return {"state": state, "reason": "", "attempt": 1, "output": None, "completion": 1} | facts


@pytest.mark.parametrize(("order", "found"), [(["b", "a"], 0), (["a", "b"], 1), (["b"], 1)])
def test_an_undo_by_hand_that_is_not_as_it_was_shown_is_seen(order: list[str], found: int) -> None:
    facts = Told(runs={RUN: {"state": "COMPENSATED"}})
    facts.load.previews[RUN] = ["b", "a"]

    for path in order:
        undo(facts, path)

    assert wrong("an undo by hand does what was shown before, in that order", facts) == found


@pytest.mark.parametrize(
    ("order", "found"), [(["b", "a"], 0), (["a", "b"], 1), (["b"], 1), (["b", "a", "c"], 2)]
)
def test_an_undo_that_is_out_of_order_or_missing_or_uncalled_for_is_seen(
    order: list[str], found: int
) -> None:
    steps = {
        (RUN, "a"): a_step(),
        (RUN, "b"): a_step(completion=2),
        (RUN, "c"): a_step("COMPLETED", completion=None),
    }
    facts = Told({"after = 'COMPENSATING'": [{"run": RUN, "at": 0.0}]}, steps=steps)

    for path in order:
        undo(facts, path)

    assert wrong(UNDONE, facts) == found


def test_an_undo_before_its_run_is_undone_is_seen() -> None:
    facts = Told(steps={(RUN, "a"): a_step()})

    undo(facts, "a")

    assert wrong(UNDONE, facts) == 1


@pytest.mark.parametrize(
    ("child", "end", "found"),
    [
        ("COMPLETED", "completed", 0),
        ("RUNNING", "cancelled", 1),
        ("FAILED", "completed", 1),
        ("CANCELLED", "cancelled", 0),
    ],
)
def test_a_child_run_that_is_not_where_its_step_is_is_seen(
    child: str, end: str, found: int
) -> None:
    runs = {
        RUN: {"id": RUN, "state": "RUNNING", "parent": None},
        "r2": {"id": "r2", "state": child, "parent": RUN, "output": {"total": 3}},
    }
    wait = {"run": RUN, "path": "call", "attempt": 1, "end": end, "child": "r2", "open": False}
    step = a_step("COMPLETED", output={"total": 3})

    facts = Told({"child_id": [wait]}, runs=runs, steps={(RUN, "call"): step})

    assert wrong(CHILDREN, facts) == found


@pytest.mark.parametrize(
    ("outcome", "verdicts", "found"),
    [
        ("approved", ["approve", "approve"], 0),
        ("approved", ["approve"], 1),
        ("rejected", ["approve"], 1),
        ("withdrawn", ["reject"], 1),
    ],
)
def test_a_request_that_ended_otherwise_than_by_its_votes_is_seen(
    outcome: str, verdicts: list[str], found: int
) -> None:
    request = {"id": "q", "run": RUN, "path": "sign", "name": "g", "outcome": outcome}
    votes = [
        {"wait": "q", "person": f"p{n}", "member": f"p{n}", "verdict": verdict, "at": 0.0}
        for n, verdict in enumerate(verdicts)
    ]
    facts = Told({"kind = 'approval'": [{**request, "closed_at": 1.0}], "workflows_vote": votes})
    facts.outside.votes += [Vote(f"p{n}", "q", one, [200]) for n, one in enumerate(verdicts)]

    assert wrong(VOTES, facts) == found


def test_a_vote_that_was_taken_and_is_lost_is_seen() -> None:
    facts = Told()
    facts.outside.votes.append(Vote("ann", "q", "approve", [200]))

    assert wrong(VOTES, facts) == 1


def test_an_event_that_was_taken_and_is_lost_is_seen() -> None:
    facts = Told()
    facts.outside.sent.append(Sent({"id": "paid-1"}, 0.0, [503, 202]))

    assert wrong(EVENTS, facts) == 1


def test_an_event_that_started_nothing_is_seen() -> None:
    row = {"event": "ordered-3", "n": 3, "workflows": [], "lost": 0, "refusals": ["trouble"]}

    assert wrong(EVENTS, Told({"AS refusals": [row]})) == 2


def test_a_callback_that_was_kept_and_never_delivered_is_seen() -> None:
    row = {"id": "c", "run": RUN, "path": "answer", "attempt": 1, "delivered_at": None}
    facts = Told({"workflows_callback": [{**row, "told": None}]}, runs={RUN: {"state": "RUNNING"}})

    assert wrong(CALLBACKS, facts) == 1


@pytest.mark.parametrize(
    ("moves", "found"),
    [
        ([("r1", "RUNNING"), ("r1", "COMPLETED"), ("r2", "RUNNING")], 0),
        ([("r1", "RUNNING"), ("r2", "RUNNING")], 1),
        ([("r1", "RUNNING"), ("r2", "CANCELLING")], 0),
        ([("r1", "RUNNING"), ("r1", "FAILED"), ("r2", "RUNNING"), ("r1", "RUNNING")], 1),
    ],
)
def test_a_run_that_began_without_a_place_is_seen(moves: list[tuple[str, str]], found: int) -> None:
    run = {"workflow": "chaos-newest", "concurrency_key": "0", "state": "COMPLETED"}
    rows = [{"run": one, "before": "PENDING", "after": after} for one, after in moves]

    facts = Told({"workflows_journal": rows}, runs={"r1": run, "r2": run})

    assert wrong(PLACES, facts) == found


@pytest.mark.parametrize(("end", "visits", "found"), [("completed", 1, 0), ("completed", 0, 1)])
def test_what_a_clean_end_has_left_in_a_profile_and_is_lost_is_seen(
    end: str, visits: int, found: int
) -> None:
    facts = Told(attempts=ended(end))

    for path, visit in (("a", 0), ("b", visits)):
        stay(facts, path, visit, comes=True)
        stay(facts, path, visit, comes=False)

    assert wrong(PROFILES, facts) == found


@pytest.mark.parametrize(("end", "found"), [("completed", 1), ("lost", 0)])
def test_two_with_a_profile_at_once_are_seen_unless_the_first_was_lost(
    end: str, found: int
) -> None:
    facts = Told(attempts=ended(end, at=0.0 if end == "lost" else 9e9))

    stay(facts, "a", 0, comes=True)
    stay(facts, "b", 1, comes=True)

    assert wrong(PROFILES, facts) == found


def ended(end: str, at: float = 9e9) -> dict[tuple[str, str], list[dict[str, Any]]]:
    finished = datetime.fromtimestamp(at, UTC)
    return {(RUN, "a"): [{"number": 1, "end": end, "finished_at": finished}]}


def stay(facts: Facts, path: str, visits: int, *, comes: bool) -> None:
    told = {"run": RUN, "path": path, "attempt": 1, "profile": "bot", "visits": visits}
    facts.ledger.stays.append({**told, "comes": comes, "at": 100.0 + len(facts.ledger.stays)})


@pytest.mark.parametrize(("taken", "found"), [(99.0, 0), (102.0, 0), (104.0, 1), (111.0, 0)])
def test_a_step_that_passes_a_guard_which_a_person_has_opened_is_seen(
    taken: float, found: int
) -> None:
    facts = Told(taken={(RUN, "ask", 1): taken})
    facts.outside.openings.append((100.0, 110.0))

    facts.ledger.depend({"run": RUN, "path": "ask", "attempt": 1})

    assert wrong(GUARDS, facts) == found
