"""The law of states as triggers: legal moves only, each with its line in the journal."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import pgtrigger
from django.db import models
from django.db.models import Q

State = TypeVar("State", bound=StrEnum)


def moves_trigger(name: str, moves: Mapping[State, Sequence[State]]) -> pgtrigger.Trigger:
    """Refuse a change of `state` that the table does not have, whoever asks for it.

    The table is in the trigger's condition, which PostgreSQL asks without calling a
    function: a legal move costs a comparison. (pgtrigger.FSM asks in PL/pgSQL, 30 us.)
    """
    pairs = sorted((a.value, b.value) for a, followers in moves.items() for b in followers)
    legal = ", ".join(f"('{before}', '{after}')" for before, after in pairs)
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        condition=pgtrigger.Condition(
            f"OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN ({legal})"
        ),
        func="""
            RAISE EXCEPTION 'pgtrigger: % % cannot go from % to %',
                TG_TABLE_NAME, OLD.id, OLD.state, NEW.state;
        """,
    )


def birth_trigger(name: str) -> pgtrigger.Protect:
    """Refuse a row that comes into being in any state but PENDING."""
    return pgtrigger.Protect(
        name=name, operation=pgtrigger.Insert, condition=pgtrigger.Q(new__state__df="PENDING")
    )


def journal_trigger(
    name: str, *, run: str, step: str, path: str, attempt: str
) -> pgtrigger.Trigger:
    """Write a line of the journal for every row that an UPDATE moves, in the same transaction.

    By statement, not by row: a thousand steps that move together cost one INSERT. The
    actor is what the session says in `orchestrator.actor`; from a SQL console, its user.
    """
    return pgtrigger.Trigger(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=pgtrigger.Update,
        referencing=pgtrigger.Referencing(old="old_rows", new="new_rows"),  # type: ignore[no-untyped-call] # it publishes no types
        func=f"""
            INSERT INTO workflows_journal
                (run_id, step_id, path, before, after, attempt, reason, actor, at)
            SELECT {run}, {step}, {path}, old_rows.state, new_rows.state, {attempt},
                new_rows.reason,
                COALESCE(
                    NULLIF(current_setting('orchestrator.actor', true), ''),
                    'database:' || session_user
                ),
                clock_timestamp()
            FROM new_rows JOIN old_rows ON old_rows.id = new_rows.id
            WHERE old_rows.state <> new_rows.state;
            RETURN NULL;
        """,  # noqa: S608 - column names of ours, no input
    )


def known_state(name: str, states: type[StrEnum]) -> models.CheckConstraint:
    """Refuse a state that is not in the table at all."""
    return models.CheckConstraint(
        name=name, condition=Q(state__in=[state.value for state in states])
    )


def choices(words: type[StrEnum]) -> list[tuple[str, str]]:
    """Return the words as Django's choices."""
    return [(word.value, word.value.replace("_", " ").capitalize()) for word in words]
