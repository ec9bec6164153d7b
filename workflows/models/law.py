"""The law of states as triggers: legal moves only, each with its line in the journal.

A row's trigger refuses: a CHECK and a trigger's condition are read anew for every statement, and
cost more than the UPDATE itself. A statement's trigger writes the journal: one INSERT, however
many rows have moved (docs/performance.md). A refusal bears the name of the rule as a
constraint would. In the SQL of a trigger, `was` is a row before the statement and `now` after it.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import pgtrigger
from django.db.models import Model

from workflows.engine.states import LIVE_RUNS

State = TypeVar("State", bound=StrEnum)

Through = Mapping[tuple[State, State], tuple[State, str]]
"""Two moves that a row may make in one statement: the state between, and the SQL condition by
which the row proves that it has been there."""


SQL = """
    CREATE OR REPLACE FUNCTION {pgid}() RETURNS TRIGGER LANGUAGE plpgsql __SETTINGS__ AS $$
        {declare}
        BEGIN
            {func}
        END;
    $$;

    DROP TRIGGER IF EXISTS {pgid} ON {table};
    CREATE TRIGGER {pgid} {when} {operation} ON {table} {referencing}
        FOR EACH {level} EXECUTE FUNCTION {execute};

    COMMENT ON TRIGGER {pgid} ON {table} IS '{hash}';
"""


SQL_FACTS = frozenset(
    {"pgid", "declare", "func", "table", "when", "operation", "referencing", "level"}
)


class LawSql(pgtrigger.compiler.UpsertTriggerSql):
    """A trigger as it is installed: unlike pgtrigger's own, nobody can have it ignored."""

    def get_template(self) -> str:
        """Return the SQL. Rows before and after are matched by hashing, whatever the caller set.

        And however few there were when the session made its plan: each with each, 4,000 rows
        took four seconds, and not two tenths of one.
        """
        matches = "rows_before" in self.kwargs.get("referencing", "")
        hashing = "SET enable_hashjoin = on SET enable_nestloop = off"
        return SQL.replace("__SETTINGS__", hashing if matches else "")


class Law(pgtrigger.Trigger):
    """A trigger that always holds."""

    def compile(self, model: Model) -> pgtrigger.compiler.Trigger:
        """Return what is installed for a model."""
        known = super().compile(model)
        facts = {name: fact for name, fact in known.sql.kwargs.items() if name in SQL_FACTS}
        return pgtrigger.compiler.Trigger(name=known.name, sql=LawSql(**facts))


def law_trigger(
    name: str,
    *,
    moves: Mapping[State, Sequence[State]],
    sentences: Mapping[str, str],
    through: Through[State] | None = None,
) -> pgtrigger.Trigger:
    """Refuse what the tables do not have, whoever asks for it.

    `sentences` are what always holds of a row, by name.
    """
    pairs = sorted(f"{a.value}:{b.value}" for a, followers in moves.items() for b in followers)
    passages = "".join(
        f"""
            IF OLD.state = '{before.value}' AND NEW.state = '{after.value}' AND {proof} THEN
                was := '{between.value}';
            END IF;
        """
        for (before, after), (between, proof) in (through or {}).items()
    )
    return Law(
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
            END IF;
            {_hold(sentences)}
            RETURN NEW;
        """,
    )


def journal_trigger(
    name: str, *, line: str, through: Through[State] | None = None
) -> pgtrigger.Trigger:
    """Write down every move that an UPDATE made, in the order of its rows."""

    def lines(one: str, two: str) -> str:
        """Return a value of the line of a row, or those of the two of one that has moved twice."""
        passages = "".join(
            f" WHEN was.state = '{before.value}' AND now.state = '{after.value}'"
            f" THEN ARRAY[{two.format(between.value)}]"
            for (before, after), (between, _) in (through or {}).items()
        )
        return f"unnest(CASE{passages} ELSE ARRAY[{one}] END)" if passages else one

    return Law(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=pgtrigger.Update,
        referencing=_tables(old="rows_before", new="rows_after"),
        func=_journal(
            line,
            lines("was.state", "was.state, '{}'"),
            lines("now.state", "'{}', now.state"),
            lines("now.reason", "'', now.reason"),
            "rows_before was JOIN rows_after now ON now.id = was.id WHERE was.state <> now.state",
        ),
    )


def birth_trigger(
    name: str,
    *,
    line: str,
    first: State,
    also: Mapping[State, str],
    reason: str = "now.reason",
) -> pgtrigger.Trigger:
    """Refuse rows that come into being in any state but the `first`, or one move behind it.

    `also` are the states behind the first, with the SQL condition by which a row proves that
    it has made the move; that is its first line in the journal, with the `reason`.
    """
    moved = f"rows_born now WHERE now.state <> '{first.value}'"
    proofs = " OR ".join(f"now.state = '{state.value}' AND {also[state]}" for state in also)
    return Law(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=pgtrigger.Insert,
        referencing=_tables(new="rows_born"),
        declare=[("wrong", "record")],
        func=f"""
            SELECT now.id, now.state INTO wrong FROM {moved} AND NOT ({proofs}) LIMIT 1;
            IF FOUND THEN
                RAISE EXCEPTION 'pgtrigger: Cannot insert % % as %: it is born {first.value}',
                    TG_TABLE_NAME, wrong.id, wrong.state;
            END IF;
            {_journal(line, f"'{first.value}'", "now.state", reason, moved)}
        """,  # noqa: S608 - states and columns of ours, no input
    )


def arrival_trigger(name: str, *, line: str, reason: str) -> pgtrigger.Trigger:
    """Write down, as a line about its run, that a row has come into being; no state changes."""
    rows = "rows_born born JOIN workflows_run now ON now.id = born.run_id"
    return Law(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=pgtrigger.Insert,
        referencing=_tables(new="rows_born"),
        func=_journal(line, "now.state", "now.state", f"'{reason}'", rows),
    )


def column_trigger(name: str, *, column: str, condition: str, refusal: str) -> pgtrigger.Trigger:
    """Refuse to change a column but where the condition holds. Other changes are not looked at."""
    return Law(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.UpdateOf(column),  # type: ignore[no-untyped-call] # the library's
        func=f"""
            IF NEW.{column} <> OLD.{column} AND NOT ({condition}) THEN
                RAISE EXCEPTION 'pgtrigger: {refusal}' USING ERRCODE = 'check_violation',
                    CONSTRAINT = '{name}';
            END IF;
            RETURN NEW;
        """,
    )


def removal_trigger(name: str) -> pgtrigger.Trigger:
    """Refuse to remove a row unless retention does, with a run that is finished.

    Retention says so in `orchestrator.pruning`, for its own transaction alone.
    """
    return Law(
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


def witness_trigger(name: str) -> pgtrigger.Trigger:
    """Refuse a row that no trigger has written: what a person inserts bears witness to nothing.

    Asked once for each INSERT of whatever number of lines, for 2 µs. A CHECK would refuse what a
    backup restores; triggers come into being behind the rows.
    """
    return Law(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.Before,
        operation=pgtrigger.Insert,
        func="""
            IF pg_trigger_depth() = 1 THEN
                RAISE EXCEPTION 'pgtrigger: Cannot insert into % table: triggers alone write it',
                    TG_TABLE_NAME;
            END IF;
            RETURN NULL;
        """,
    )


def unchanging_trigger(name: str) -> pgtrigger.Trigger:
    """Refuse to change a row."""
    return Law(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        func="""
            RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;
        """,
    )


def once_trigger(name: str, *, columns: Sequence[str]) -> pgtrigger.Trigger:
    """Refuse to change a row but for filling in its `columns`, the first of them once."""
    listed = ", ".join(columns)
    return Law(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        func=f"""
            IF OLD.{columns[0]} IS NOT NULL
                OR to_jsonb(NEW) - '{{{listed}}}'::text[] <> to_jsonb(OLD) - '{{{listed}}}'::text[]
            THEN
                RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;
            END IF;
            RETURN NEW;
        """,
    )


def emptying_trigger(name: str) -> pgtrigger.Trigger:
    """Refuse to empty a table: TRUNCATE asks no rule that is asked of rows.

    Tests empty their database after each other, and say so in `orchestrator.emptying`.
    """
    return Law(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.Before,
        operation=pgtrigger.Truncate,
        func="""
            IF current_setting('orchestrator.emptying', true) IS DISTINCT FROM 'on' THEN
                RAISE EXCEPTION 'pgtrigger: Cannot truncate % table: runs leave by retention, see'
                    ' manage.py prune', TG_TABLE_NAME;
            END IF;
            RETURN NULL;
        """,
    )


def _tables(**names: str) -> pgtrigger.Referencing:
    return pgtrigger.Referencing(**names)  # type: ignore[no-untyped-call] # the library's


def _journal(line: str, before: str, after: str, reason: str, rows: str) -> str:
    """Return the INSERT of lines, in the same transaction, and the end of the trigger.

    The actor is what the session says in `orchestrator.actor`; from a SQL console, its user.
    """
    return f"""
        INSERT INTO workflows_journal
            (run_id, step_id, path, attempt, before, after, reason, actor, at)
        SELECT
            {line}, {before}, {after}, {reason},
            COALESCE(
                NULLIF(current_setting('orchestrator.actor', true), ''),
                'database:' || session_user
            ),
            clock_timestamp()
        FROM {rows};
        RETURN NULL;
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
