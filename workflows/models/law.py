"""The law of states as triggers: legal moves only, each with its line in the journal.

One trigger for an UPDATE and one for a birth, each a compiled function that refuses and
writes the journal in one go: a CHECK, a trigger's condition and a trigger of its own for
the journal are read or queued anew for every statement, and cost more than the UPDATE itself
(docs/performance.md). A refusal bears the name of the rule as a constraint would.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import pgtrigger

from workflows.engine.states import LIVE_RUNS

State = TypeVar("State", bound=StrEnum)


def law_trigger(
    name: str,
    *,
    moves: Mapping[State, Sequence[State]],
    line: str,
    sentences: Mapping[str, str],
    through: Mapping[tuple[State, State], tuple[State, str]] | None = None,
) -> pgtrigger.Trigger:
    """Refuse what the tables do not have, whoever asks for it; write down every move.

    `line` gives the journal's run, step, path and attempt as SQL. `sentences` are what always
    holds of a row, by name. `through` are two moves that a row may make in one statement: the
    state between, and the SQL condition by which the row proves that it has been there.
    """
    pairs = sorted(f"{a.value}:{b.value}" for a, followers in moves.items() for b in followers)
    passages = "".join(
        f"""
            IF OLD.state = '{before.value}' AND NEW.state = '{after.value}' AND {proof} THEN
                {_journal(line, "OLD.state", f"'{between.value}'", "''")}
                was := '{between.value}';
            END IF;
        """
        for (before, after), (between, proof) in (through or {}).items()
    )
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        declare=[("was", "text")],
        func=f"""
            was := OLD.state;
            IF was <> NEW.state THEN
                {passages}
                IF (was || ':' || NEW.state) <> ALL ('{{{",".join(pairs)}}}'::text[]) THEN
                    RAISE EXCEPTION 'pgtrigger: % % cannot go from % to %',
                        TG_TABLE_NAME, OLD.id, OLD.state, NEW.state;
                END IF;
                {_journal(line, "was", "NEW.state", "NEW.reason")}
            END IF;
            {_hold(sentences)}
            RETURN NEW;
        """,
    )


def birth_trigger(
    name: str, *, line: str, first: str, also: Mapping[State, str]
) -> pgtrigger.Trigger:
    """Refuse a row that comes into being in any state but the `first`, or one move behind it.

    `also` are the states behind the first, with the SQL condition by which the row proves that
    it has made the move; that is its first line in the journal. After the row, because a row
    that meets its twin is not inserted at all.
    """
    proofs = " OR ".join(f"NEW.state = '{state.value}' AND {also[state]}" for state in also)
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.After,
        operation=pgtrigger.Insert,
        condition=pgtrigger.Q(new__state__df=first),
        func=f"""
            IF NOT ({proofs}) THEN
                RAISE EXCEPTION 'pgtrigger: Cannot insert % % as %: it is born {first}',
                    TG_TABLE_NAME, NEW.id, NEW.state;
            END IF;
            {_journal(line, f"'{first}'", "NEW.state", "NEW.reason")}
            RETURN NULL;
        """,
    )


def removal_trigger(name: str) -> pgtrigger.Trigger:
    """Refuse to remove a row unless retention does, with a run that is finished.

    Retention says so in `orchestrator.pruning`, for its own transaction alone.
    """
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Delete,
        func=f"""
            IF current_setting('orchestrator.pruning', true) IS DISTINCT FROM 'on' OR EXISTS (
                SELECT 1 FROM workflows_run WHERE id = OLD.run_id AND state IN ({one_of(LIVE_RUNS)})
            ) THEN
                RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;
            END IF;
            RETURN OLD;
        """,  # noqa: S608 - states of ours, no input
    )


def _journal(line: str, before: str, after: str, reason: str) -> str:
    """Return the INSERT of a line, in the same transaction.

    The actor is what the session says in `orchestrator.actor`; from a SQL console, its user.
    """
    return f"""
        INSERT INTO workflows_journal
            (run_id, step_id, path, attempt, before, after, reason, actor, at)
        VALUES (
            {line}, {before}, {after}, {reason},
            COALESCE(
                NULLIF(current_setting('orchestrator.actor', true), ''),
                'database:' || session_user
            ),
            clock_timestamp()
        );
    """  # noqa: S608 - column names of ours, no input


def _hold(sentences: Mapping[str, str]) -> str:
    return "".join(
        f"""
            IF NOT ({condition}) THEN
                RAISE EXCEPTION '% % breaks the rule {rule}', TG_TABLE_NAME, NEW.id
                    USING ERRCODE = 'check_violation', CONSTRAINT = '{rule}';
            END IF;
        """
        for rule, condition in sentences.items()
    )


def one_of(states: frozenset[State]) -> str:
    """Return the states as a list of SQL literals."""
    return ", ".join(f"'{state.value}'" for state in sorted(states))


def choices(words: type[StrEnum]) -> list[tuple[str, str]]:
    """Return the words as Django's choices."""
    return [(word.value, word.value.replace("_", " ").capitalize()) for word in words]
