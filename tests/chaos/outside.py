"""The others: who votes, calls back and sends events, and who looks after guards and profiles.

Each is a thread that goes on until all has come to rest. They are part of the storm: the web server
dies under them, and now and then they do not hear an answer. Then they ask again, as whoever has
promised something must: the same vote, the same body to the same URL, the event with the same id.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.chaos.dealings import (
    CALLED_ADDS,
    GUARD,
    ORDERED,
    PAID,
    PAID_ADDS,
    PART,
    PARTS,
    PEOPLE,
    TAKES_VOTES,
)
from tests.chaos.ledger import Ledger
from tests.chaos.speaking import Speech
from tests.chaos.stage import PASSWORD

SOURCE = "/chaos"
NOT_HEARD = 0.15
"""The share of answers that whoever asked does not hear."""

SENT_TWICE = 0.3
REJECTED = 0.12
HANDED_ON = 0.15
BY_HAND_EVERY = 4
"""Of so many times that what steps depend on is away, a person opens the guard once."""

EVENT_HEADERS = {"Content-Type": "application/cloudevents+json"}


@dataclass(slots=True)
class Vote:
    """A decision that somebody has asked for, and the answers."""

    person: str
    approval: str
    verdict: str
    statuses: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Sent:
    """An event that was sent, and the answers."""

    event: Mapping[str, Any]
    due: float
    statuses: list[int] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.event["id"])


@dataclass(slots=True)
class Called:
    """A callback that was sent, and the answers."""

    run: str
    url: str
    body: Mapping[str, Any]
    due: float
    statuses: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Outside:
    """Whoever is not a step, in threads of their own."""

    speech: Speech
    ledger: Ledger
    seed: int
    started: Callable[[], Sequence[tuple[str, int]]]
    """The workflow and the number of each run that was asked for."""
    votes: list[Vote] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    called: list[Called] = field(default_factory=list)
    openings: list[tuple[float, float]] = field(default_factory=list)
    """From when until when a person had opened the guard."""
    cleared: int = 0
    _calm: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _tokens: dict[str, str] = field(default_factory=dict)

    def prepare(self, token: str) -> None:
        """Have everybody known to the platform."""
        self._tokens = {name: self.speech.token(name, PASSWORD) for name in PEOPLE}
        self._tokens[""] = token

    def begin(self) -> None:
        """Begin to answer."""
        works = (self._vote, self._call_back, self._send_events, self._be_away, self._look_after)
        for work in works:
            name = work.__name__.strip("_")
            thread = threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def calm_down(self) -> None:
        """Answer what there is, at once, and begin nothing new."""
        self._calm.set()

    def stop(self) -> None:
        """Answer no more."""
        self._calm.set()
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, name: str, work: Callable[[httpx.Client, Random], float]) -> None:
        chance = Random(f"{self.seed} {name}")  # noqa: S311 - chance here must repeat
        with self.speech.client(self._tokens[""]) as client:
            while not self._stopping.is_set():
                self._stopping.wait(work(client, chance))

    def _again(self, ask: Callable[[], httpx.Response | None], chance: Random) -> list[int]:
        """Ask until there is an answer that is heard; return the status of each."""
        statuses = []
        while not self._stopping.is_set():
            answer = ask()
            if answer is not None:
                statuses.append(answer.status_code)
            if answer is None or answer.status_code >= 500 or answer.status_code == 429:
                self._stopping.wait(0.5)
            elif chance.random() >= NOT_HEARD:
                break
        return statuses

    # Votes.

    def _vote(self, _: httpx.Client, chance: Random) -> float:
        for name in PEOPLE:
            with self.speech.client(self._tokens[name]) as client:
                for one in self.speech.list(client, "approvals/", mine="true", limit=20):
                    if self._calm.is_set() or chance.random() < 0.5:
                        self._decide(client, name, one["id"], chance)
            self._stopping.wait(0.2)
        return 0.1

    def _decide(self, client: httpx.Client, name: str, approval: str, chance: Random) -> None:
        if PEOPLE[name] and chance.random() < HANDED_ON:
            self.speech.post(client, f"approvals/{approval}/hand/", {"to": TAKES_VOTES})
            return
        shown = self.speech.get(client, f"approvals/{approval}/", {})
        if shown is None or not shown.is_success:
            return
        vote = Vote(name, approval, "reject" if chance.random() < REJECTED else "approve")
        self.votes.append(vote)
        body: dict[str, Any] = {"verdict": vote.verdict, "note": f"says {name}"}
        if vote.verdict == "approve" and shown.json()["form"]:
            body["form"] = {"note": name}
        place = f"approvals/{approval}/decide/"
        vote.statuses += self._again(lambda: self.speech.post(client, place, body), chance)

    # Callbacks.

    def _call_back(self, client: httpx.Client, chance: Random) -> float:
        known = {one.url for one in self.called}
        for one in self.ledger.to_be_called():
            if one["url"] not in known:
                known.add(one["url"])
                add = CALLED_ADDS - 1 if one["path"] == "ask" else 0
                body = {"value": one["value"] + add}
                later = time.monotonic() + chance.uniform(0, 4)
                self.called.append(Called(one["run"], one["url"], body, later))
        for called in self.called:
            is_due = self._calm.is_set() or called.due <= time.monotonic()
            if not called.statuses and is_due:
                self._call(client, called, chance)
        return 0.2

    def _call(self, client: httpx.Client, called: Called, chance: Random) -> None:
        def ask() -> httpx.Response | None:
            return self.speech.call(client, called.url, called.body)

        if chance.random() < SENT_TWICE:
            other = threading.Thread(target=ask)
            other.start()
            called.statuses += self._again(ask, chance)
            other.join()
        else:
            called.statuses += self._again(ask, chance)

    # Events.

    def _send_events(self, client: httpx.Client, chance: Random) -> float:
        self._plan_events(chance)
        for one in self.sent:
            if not one.statuses and (self._calm.is_set() or one.due <= time.monotonic()):
                self._publish(client, one, chance)
        return 0.2

    def _plan_events(self, chance: Random) -> None:
        known, now = {one.id for one in self.sent}, time.monotonic()
        for workflow, n in self.started():
            if workflow == "chaos-listening" and f"paid-{n}" not in known:
                data = {"order": str(n), "value": n + PAID_ADDS}
                self._plan(PAID, f"paid-{n}", data, now + chance.uniform(0, 5))
                for number in range(PARTS):
                    told = {"n": n, "part": number}
                    self._plan(PART, f"part-{n}-{number}", told, now + chance.uniform(0, 9))
        if not self._calm.is_set() and chance.random() < 0.05:
            n = chance.randrange(10**6)
            self._plan(ORDERED, f"ordered-{n}", {"n": n}, now)

    def _plan(self, kind: str, name: str, data: Mapping[str, Any], due: float) -> None:
        envelope = {"specversion": "1.0", "id": name, "source": SOURCE, "type": kind, "data": data}
        self.sent.append(Sent(envelope, due))

    def _publish(self, client: httpx.Client, one: Sent, chance: Random) -> None:
        def ask() -> httpx.Response | None:
            return self.speech.post(client, "events/", one.event, EVENT_HEADERS)

        if chance.random() < SENT_TWICE:
            other = threading.Thread(target=ask)
            other.start()
            one.statuses += self._again(ask, chance)
            other.join()
        else:
            one.statuses += self._again(ask, chance)

    # What steps depend on, and its guard.

    def _be_away(self, client: httpx.Client, chance: Random) -> float:
        self.ledger.is_up = True
        if self._calm.is_set():
            self._close(client, chance)
            return 1.0
        self._stopping.wait(chance.uniform(4, 9))
        if chance.randrange(BY_HAND_EVERY) == 0:
            self._open_and_close(client, chance)
        else:
            self.ledger.is_up = False
            self._calm.wait(chance.uniform(2, 4))
        return 0.0

    def _open_and_close(self, client: httpx.Client, chance: Random) -> None:
        place, why = f"guards/default/{GUARD}/open/", {"why": "It is being moved."}
        answer = self.speech.post(client, place, why)
        began = time.time()
        self._calm.wait(chance.uniform(4, 6))
        if answer is not None and answer.is_success:
            self.openings.append((began, time.time()))
        self._close(client, chance)

    def _close(self, client: httpx.Client, chance: Random) -> None:
        place, why = f"guards/default/{GUARD}/close/", {"why": "It has been moved."}
        self._again(lambda: self.speech.post(client, place, why), chance)

    # Profiles.

    def _look_after(self, client: httpx.Client, chance: Random) -> float:
        for one in self.speech.list(client, "profiles/", state="TAINTED"):
            self._clear(client, f"profiles/{one['id']}/clear/", chance)
        return 1.0

    def _clear(self, client: httpx.Client, place: str, chance: Random) -> None:
        why = {"why": "It has been looked at."}
        statuses = self._again(lambda: self.speech.post(client, place, why), chance)
        self.cleared += any(status < 300 for status in statuses)
