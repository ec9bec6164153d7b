"""The law of states as triggers: legal moves only, each with its line in the journal."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import pgtrigger
from django.db import models
from django.db.models import Q

from workflows.engine.states import LIVE_RUNS

State = TypeVar("State", bound=StrEnum)


def moves_trigger(name: str, moves: Mapping[State, Sequence[State]]) -> pgtrigger.Trigger:
    """Refuse a change of `state` that the table does not have, whoever asks for it.

    Not pgtrigger.FSM, which builds the table anew for every row; nor the trigger's own
    condition, which PostgreSQL reads anew for every statement: both were measured slower.
    """
    pairs = sorted(f"{a.value}:{b.value}" for a, followers in moves.items() for b in followers)
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        func=f"""
            IF OLD.state <> NEW.state
                AND (OLD.state || ':' || NEW.state) <> ALL ('{{{",".join(pairs)}}}'::text[])
            THEN
                RAISE EXCEPTION 'pgtrigger: % % cannot go from % to %',
                    TG_TABLE_NAME, OLD.id, OLD.state, NEW.state;
            END IF;
            RETURN NEW;
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

    The actor is what the session says in `orchestrator.actor`; from a SQL console, its user.
    """
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.After,
        operation=pgtrigger.Update,
        condition=pgtrigger.Condition("OLD.state <> NEW.state"),
        func=f"""
            INSERT INTO workflows_journal
                (run_id, step_id, path, before, after, attempt, reason, actor, at)
            VALUES (
                {run}, {step}, {path}, OLD.state, NEW.state, {attempt}, NEW.reason,
                COALESCE(
                    NULLIF(current_setting('orchestrator.actor', true), ''),
                    'database:' || session_user
                ),
                clock_timestamp()
            );
            RETURN NULL;
        """,  # noqa: S608 - column names of ours, no input
    )


def removal_trigger(name: str) -> pgtrigger.Trigger:
    """Refuse to remove a row unless retention does, with a run that is finished.

    Retention says so in `orchestrator.pruning`, for its own transaction alone.
    """
    live = ", ".join(f"'{state.value}'" for state in sorted(LIVE_RUNS))
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Delete,
        func=f"""
            IF current_setting('orchestrator.pruning', true) IS DISTINCT FROM 'on' OR EXISTS (
                SELECT 1 FROM workflows_run WHERE id = OLD.run_id AND state IN ({live})
            ) THEN
                RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;
            END IF;
            RETURN OLD;
        """,  # noqa: S608 - states of ours, no input
    )


def known_state(name: str, states: type[StrEnum]) -> models.CheckConstraint:
    """Refuse a state that is not in the table at all."""
    return models.CheckConstraint(
        name=name, condition=Q(state__in=[state.value for state in states])
    )


def choices(words: type[StrEnum]) -> list[tuple[str, str]]:
    """Return the words as Django's choices."""
    return [(word.value, word.value.replace("_", " ").capitalize()) for word in words]
