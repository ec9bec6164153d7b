"""What a million finished runs cost: chains beside an empty database, and the pages people open.

Two databases of one server, alike but for the history. The platform works on each in turn.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.utils import timezone
from rich.progress import Progress

from benchmarks import history
from benchmarks.contests import chain_ours
from benchmarks.figures import Figure, Target, ratios
from benchmarks.measuring import rounds_of
from benchmarks.stage import CLIENT, USUAL, platform
from workflows.models import Run

LOADED = "with_history"
LOOKS = 7
CHAINS = 9
KEPT = 0.9
LONGEST_QUERIES = 50.0
BACKEND = "django.contrib.auth.backends.ModelBackend"


def measure(runs: int, repeats: int, progress: Progress) -> list[Figure]:
    """Return the speed of chains and of pages beside so many finished runs."""
    _copy_database()
    with _database(LOADED):
        for count in progress.track([runs], description=f"loading {runs:,} finished runs"):
            history.load(count, until=timezone.now())
        _settle()
    sides = {"loaded": lambda: _chains(LOADED), "empty": lambda: _chains(USUAL)}
    rounds = rounds_of(sides, repeats, progress, "chains with history")
    loaded, empty = (tuple(one[who] for one in rounds) for who in ("loaded", "empty"))
    with _database(LOADED):
        pages = _pages(progress)
        size = history.size()
    return [
        Figure("history", f"chains with {runs:,} finished runs", loaded, "steps/s"),
        Figure("history", "chains with an empty database", empty, "steps/s"),
        Figure("history", "relative", ratios(loaded, empty, "higher"), "", Target(KEPT)),
        Figure("history", "tables of the runs, with indexes", (size / 2**30,), "GiB"),
        *pages,
    ]


def _chains(database: str) -> float:
    with _database(database), platform() as ours:
        chain_ours(ours)
        return median(chain_ours(ours) for _ in range(CHAINS))


@contextmanager
def _database(name: str) -> Iterator[None]:
    before = connection.settings_dict["NAME"]
    _go_to(name)
    try:
        yield
    finally:
        _go_to(before)


def _go_to(database: str) -> None:
    connection.close()
    connection.settings_dict["NAME"] = database


def _copy_database() -> None:
    with _database("postgres"), connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE {LOADED} TEMPLATE "{USUAL}"')


def _settle() -> None:
    """Do now what PostgreSQL would do in the background, in the middle of the measuring."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")


def _pages(progress: Progress) -> list[Figure]:
    """Open each page a few times; return what its queries took, and what all of it took."""
    newest = Run.objects.filter(state="FAILED").order_by("-id").values_list("pk", flat=True)[0]
    pages = {
        "run list": "/admin/workflows/run/",
        "run list, failed ones": "/admin/workflows/run/?state__exact=FAILED",
        "run list by the API": "/api/v1/runs/",
        "incident list": "/admin/workflows/incident/",
        "page of a run": f"/admin/workflows/run/{newest}/change/",
        "first page": "/admin/",
    }
    client = Client(SERVER_NAME="localhost")
    client.force_login(get_user_model().objects.get(username=CLIENT), BACKEND)
    found = []
    for name, address in progress.track(pages.items(), description="pages with history"):
        _open(client, address)
        looks = [_open(client, address) for _ in range(LOOKS)]
        queries, whole = (tuple(values) for values in zip(*looks, strict=True))
        limit = Target(LONGEST_QUERIES, "lower")
        found.append(Figure("pages", f"{name}: its queries", queries, "ms", limit))
        found.append(Figure("pages", f"{name}: all of it", whole, "ms"))
    return found


def _open(client: Client, address: str) -> tuple[float, float]:
    """Return the milliseconds that the queries of a page took, and the page."""
    spent = 0.0

    def timed(execute: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal spent
        began = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            spent += time.perf_counter() - began

    began = time.perf_counter()
    with connection.execute_wrapper(timed):
        answer = client.get(address)
    if answer.status_code != 200:  # noqa: PLR2004 - HTTP's own number
        raise RuntimeError(f"{address} answered {answer.status_code}")
    return spent * 1000, (time.perf_counter() - began) * 1000
