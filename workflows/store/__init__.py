"""Rows and engine values: all SQL of the hot path, the only row locks, the only state writes.

`loading` reads a Slice under locks, `committing` stores a Decision, `rows` finds what is
queued or due, `pruning` removes what is old, `trouble` says what to make of an error. The
statements are psycopg's own, prepared on the server; values are never part of a statement.
"""

from workflows.store.clock import now
from workflows.store.committing import (
    Ahead,
    Change,
    Expected,
    NewRun,
    Seen,
    change,
    commit,
    commit_all,
)
from workflows.store.loading import load, lock_run, read
from workflows.store.rows import (
    Unclaimed,
    all_held_by,
    all_queued,
    cancel_requested,
    connected_since,
    corrected_arguments,
    due_runs,
    due_steps,
    environment_named,
    expired_leases,
    has_ended_by,
    held_by,
    hold_expired,
    is_overdue,
    make_due,
    next_queued,
    postpone_queued,
    queued,
    renew,
    running_of,
    unfinished_runs,
    unjoined_scopes,
    version_of,
    why_queued,
)
from workflows.store.session import act_as, cursor, flight, session
from workflows.store.trouble import ERRORS, Cure, cure_of, outage

__all__ = [
    "ERRORS",
    "Ahead",
    "Change",
    "Cure",
    "Expected",
    "NewRun",
    "Seen",
    "Unclaimed",
    "act_as",
    "all_held_by",
    "all_queued",
    "cancel_requested",
    "change",
    "commit",
    "commit_all",
    "connected_since",
    "corrected_arguments",
    "cure_of",
    "cursor",
    "due_runs",
    "due_steps",
    "environment_named",
    "expired_leases",
    "flight",
    "has_ended_by",
    "held_by",
    "hold_expired",
    "is_overdue",
    "load",
    "lock_run",
    "make_due",
    "next_queued",
    "now",
    "outage",
    "postpone_queued",
    "queued",
    "read",
    "renew",
    "running_of",
    "session",
    "unfinished_runs",
    "unjoined_scopes",
    "version_of",
    "why_queued",
]
