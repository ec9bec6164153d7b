"""The load: runs started by REST with keys that are used more than once, and operators at work.

Whoever starts a run keeps asking with the same key until there is an answer, as a client must: the
web server may be killed at any moment. Every answer is remembered; the verdict holds it against
what the database has.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.chaos import dealings
from tests.chaos.documents import DOCUMENTS, MIXED
from tests.chaos.speaking import SERVER_ERROR, Speech

MOST_LIVE = 30
REFUSED = 300
MOSTLY = 0.8
STARTS_EVERY = 0.35
OPERATES_EVERY = 0.6
ASKED_TWICE = 0.3


@dataclass(slots=True)
class Start:
    """A run that was asked for: every answer that its key has had."""

    key: str
    workflow: str
    n: int
    asked: int = 0
    answers: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def run(self) -> str | None:
        """The run that the first answer named."""
        return self.answers[0][1] if self.answers else None


@dataclass(slots=True)
class Load:
    """Starts runs and operates on them, in threads of its own, until told to calm down."""

    web: str
    password: str
    seed: int
    live: Callable[[], int]
    starts: list[Start] = field(default_factory=list)
    actions: list[dict[str, Any]] = field(default_factory=list)
    previews: dict[str, list[str]] = field(default_factory=dict)
    """What was to be undone, of runs that were then undone by hand, the first first."""
    speech: Speech = field(init=False)
    token: str = ""
    _wanted: deque[str] = field(default_factory=deque)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _calm: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.speech = Speech(self.web)

    def prepare(self) -> None:
        """Get a token, and apply the definitions."""
        self.token = self.speech.token("admin", self.password)
        with self.speech.client(self.token) as client:
            for document in (*DOCUMENTS, *dealings.DOCUMENTS):
                client.post("/api/v1/workflows/", json=document).raise_for_status()

    def begin(self) -> None:
        """Begin to start runs and to operate on them."""
        for name, work in {
            "starter": self._start_runs,
            "second-starter": self._start_runs,
            "operator": self._operate,
        }.items():
            thread = threading.Thread(target=work, name=name, args=(name,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def want(self, workflow: str) -> None:
        """Have a run of a workflow started soon, whatever the mix."""
        self._wanted.append(workflow)

    def calm_down(self, *, within: float) -> bool:
        """Start nothing new; wait until each start has its answer, and let paused runs go on."""
        self._calm.set()
        deadline = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Give up whatever is still being asked."""
        self._stopping.set()
        self._calm.set()

    def resume_paused(self) -> int:
        """Let every paused run go on, and return how many there were."""
        count = 0
        with self.speech.client(self.token) as client:
            while found := self.speech.list(client, "runs/", state="PAUSED", limit=100):
                for run in found:
                    self._act(client, "resume", f"runs/{run['id']}/resume/", {})
                    count += 1
        return count

    # Starting.

    def _start_runs(self, name: str) -> None:
        chance = Random(f"{self.seed} {name}")  # noqa: S311 - chance here must repeat
        mixed = {**MIXED, **dealings.DEALT}
        names, weights = list(mixed), list(mixed.values())
        number, first = 0, names[::2] if name == "starter" else names[1::2]
        chance.shuffle(first)
        with self.speech.client(self.token) as client:
            while not (self._calm.is_set() and not self._wanted):
                workflow = self._wanted.popleft() if self._wanted else None
                if workflow is None and self.live() < MOST_LIVE and not self._calm.is_set():
                    workflow = first.pop() if first else chance.choices(names, weights)[0]
                if workflow is not None:
                    number += 1
                    start = Start(f"{name}-{number}", workflow, self._new_number(chance))
                    self.starts.append(start)
                    twice = chance.random() < ASKED_TWICE
                    self._ask(client, start, times=2 if twice else 1)
                self._stopping.wait(STARTS_EVERY * chance.uniform(0.5, 1.5))
                if self._stopping.is_set():
                    return

    def _new_number(self, chance: Random) -> int:
        """Draw a number that no other run has: events find their runs by it."""
        taken = {start.n for start in self.starts}
        while (number := chance.randrange(10**6)) in taken:
            continue
        return number

    def _ask(self, client: httpx.Client, start: Start, *, times: int) -> None:
        """Ask until there is an answer; if twice, then by two callers at the same moment."""
        if times == 1:
            self._ask_until_answered(client, start)
            return
        threads = [
            threading.Thread(target=self._ask_until_answered, args=(client, start), daemon=True)
            for _ in range(times)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask_until_answered(self, client: httpx.Client, start: Start) -> None:
        while not self._stopping.is_set():
            start.asked += 1
            began = time.monotonic()
            answer = self.speech.post(
                client,
                "runs/",
                {"workflow": start.workflow, "input": {"n": start.n}},
                {"Idempotency-Key": start.key},
            )
            start.slowest = max(start.slowest, time.monotonic() - began)
            if answer is not None and answer.is_success:
                start.answers.append((answer.status_code, answer.json()["id"]))
                return
            self._stopping.wait(0.5)

    # Operating.

    def _operate(self, name: str) -> None:
        chance = Random(f"{self.seed} {name}")  # noqa: S311
        works = {
            self._pause_for_a_while: 4,
            self._cancel: 1,
            self._cancel_and_undo: 1,
            self._undo: 2,
            self._fork: 2,
            self._migrate: 2,
            self._resolve: 8,
            self._read: 2,
        }
        with self.speech.client(self.token) as client:
            while not self._calm.is_set():
                work = chance.choices(list(works), list(works.values()))[0]
                work(client, chance)
                self._calm.wait(OPERATES_EVERY * chance.uniform(0.5, 1.5))

    def _pause_for_a_while(self, client: httpx.Client, chance: Random) -> None:
        if run := self._some_run(client, chance):
            self._act(client, "pause", f"runs/{run}/pause/", {})
            self._calm.wait(chance.uniform(0.2, 3))
            self._act(client, "resume", f"runs/{run}/resume/", {})

    def _cancel(self, client: httpx.Client, chance: Random) -> None:
        if run := self._some_run(client, chance):
            self._act(client, "cancel", f"runs/{run}/cancel/", {})

    def _cancel_and_undo(self, client: httpx.Client, chance: Random) -> None:
        if run := self._some_run(client, chance):
            self._act(client, "cancel+", f"runs/{run}/cancel/", {"compensate": True})

    def _undo(self, client: httpx.Client, chance: Random) -> None:
        """Undo a failed run, and remember what was said before that it would do."""
        which = {"workflow": dealings.BY_HAND} if chance.random() < MOSTLY else {}
        if run := self._some_run(client, chance, state="FAILED", **which):
            shown = self.speech.get(client, f"runs/{run}/undo/", {"limit": 200})
            did = self._act(client, "undo", f"runs/{run}/undo/", {})
            if did is not None and did < REFUSED and shown is not None and shown.is_success:
                self.previews[run] = [step["path"] for step in shown.json()["undone"]]

    def _fork(self, client: httpx.Client, chance: Random) -> None:
        """Fork a run at a step; an answer that was not heard is asked for again."""
        name = chance.choice(list(dealings.FORKED_AT))
        run = self._some_run(client, chance, state=["COMPLETED", "FAILED"], workflow=name)
        key, body = {"Idempotency-Key": f"fork-{len(self.actions)}"}, dealings.FORKED_AT[name]
        while run is not None and not self._stopping.is_set():
            answer = self._act(client, "fork", f"runs/{run}/fork/", {"path": body}, key)
            if answer is not None:
                break
            self._stopping.wait(0.5)

    def _migrate(self, client: httpx.Client, chance: Random) -> None:
        """Have runs go over to the other version, newer or older, as many as can."""
        version = chance.choice([1, 2])
        found = self.speech.list(client, "runs/", workflow=dealings.MOVING, limit=50)
        live = [run["id"] for run in found if run["state"] in {"RUNNING", "PAUSED", "FAILED"}]
        if live:
            wanted = {"runs": live, "version": version}
            gone = {} if version == 2 else {"mapping": dealings.NOT_IN_EVERY_VERSION}
            self._act(client, "migrate", "runs/migration/", wanted | gone)

    def _resolve(self, client: httpx.Client, chance: Random) -> None:
        """Do with an incident what a careful person would: nothing uncertain is done again."""
        found = self.speech.list(client, "incidents/", limit=50)
        if not found:
            return
        incident = chance.choice(found)
        place, n = f"incidents/{incident['id']}", self._input_of(incident["run"])
        harmful = incident["path"] == "bad"
        if incident["error"]["class"] == "uncertain":
            if n is not None and chance.random() < 0.5:
                output = {"value": n + 2, "attempt": 0}
                self._act(client, "skip", f"{place}/skip/", {"output": output, "note": "looked"})
        elif harmful or chance.random() < 0.15:
            if chance.random() < 0.4:
                self._act(client, "discard", f"{place}/discard/", {"note": "given up"})
        elif add := dealings.correction(incident["workflow"], incident["path"]):
            arguments = {"value": f"${{{{ input.n + {add} }}}}", "right": True}
            self._act(client, "correct", f"{place}/replay/", {"arguments": arguments})
        else:
            self._act(client, "replay", f"{place}/replay/", {})

    def _read(self, client: httpx.Client, chance: Random) -> None:
        if run := self._some_run(client, chance):
            self.speech.get(client, f"runs/{run}/", {})
            self.speech.get(client, f"runs/{run}/journal/", {"limit": 50})

    def _some_run(
        self, client: httpx.Client, chance: Random, state: str | list[str] = "RUNNING", **more: str
    ) -> str | None:
        found = self.speech.list(client, "runs/", state=state, limit=50, **more)
        return str(chance.choice(found)["id"]) if found else None

    def _input_of(self, run: str) -> int | None:
        return next((start.n for start in self.starts if start.run == run), None)

    def _act(
        self,
        client: httpx.Client,
        action: str,
        place: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> int | None:
        """Ask for something; return the status where it was done, or refused for good."""
        answer = self.speech.post(client, place, body, headers or {})
        status = None if answer is None else answer.status_code
        self.actions.append({"at": time.time(), "action": action, "place": place, "status": status})
        return status if status is not None and status < SERVER_ERROR else None

    @property
    def acted(self) -> Counter[str]:
        """How often operators did what."""
        return Counter(
            one["action"]
            for one in self.actions
            if one["status"] is not None and one["status"] < 300
        )
