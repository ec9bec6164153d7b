import pytest
from django.db import ProgrammingError, connection

from environments.errors import (
    EnvironmentMoveError,
    EnvironmentRefusedError,
    UnknownEnvironmentError,
)
from environments.models import Environment, EnvironmentJournal
from environments.services import create_environment, ensure_default, move_environment

pytestmark = pytest.mark.django_db


def journal_of(environment: Environment) -> list[tuple[str, str, str]]:
    lines = EnvironmentJournal.objects.filter(environment=environment).order_by("id")
    return list(lines.values_list("before", "after", "actor"))


def test_the_default_environment_is_made_once_and_takes_work() -> None:
    first = ensure_default()

    again = ensure_default()

    assert (first.name, first.state) == ("default", "ACTIVE")
    assert again.pk == first.pk


def test_a_default_environment_that_a_person_suspended_stays_suspended() -> None:
    ensure_default()
    move_environment(name="default", state="DRAINING", by="person:ann")

    found = ensure_default()

    assert found.state == "DRAINING"


def test_every_transition_has_its_line_and_its_actor() -> None:
    made = create_environment(name="lab", by="person:ann")
    move_environment(name="lab", state="ACTIVE", by="person:bob")

    lines = journal_of(made)

    assert lines == [
        ("", "PROVISIONING", "person:ann"),
        ("PROVISIONING", "ACTIVE", "person:bob"),
    ]


def test_a_transition_from_a_console_is_written_with_the_database_user() -> None:
    made = create_environment(name="lab", by="person:ann")
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('orchestrator.actor', '', true)")
        cursor.execute("UPDATE environments_environment SET state = 'ACTIVE'")

    actor = journal_of(made)[-1][2]

    assert actor.startswith("database:")


def test_an_illegal_move_names_the_legal_ones() -> None:
    create_environment(name="lab", by="person:ann")

    with pytest.raises(EnvironmentMoveError, match="it may become ACTIVE or RETIRED"):
        move_environment(name="lab", state="SUSPENDED", by="person:ann")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE environments_environment SET state = 'SUSPENDED'",
        """
        INSERT INTO environments_environment (id, name, description, state, classes, variables)
        VALUES (gen_random_uuid(), 'born-active', '', 'ACTIVE', '[]', '{}')
        """,
        "UPDATE environments_environmentjournal SET actor = 'nobody'",
        "DELETE FROM environments_environmentjournal",
    ],
)
def test_the_database_refuses_what_the_law_forbids(statement: str) -> None:
    create_environment(name="lab", by="person:ann")

    with pytest.raises(ProgrammingError, match="pgtrigger"), connection.cursor() as cursor:
        cursor.execute(statement)


def test_an_unknown_environment_cannot_be_moved() -> None:
    with pytest.raises(UnknownEnvironmentError, match="no environment named nowhere"):
        move_environment(name="nowhere", state="ACTIVE", by="person:ann")


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"name": "Not A Name"}, "is no name"),
        ({"name": "line\n"}, "is no name"),
        ({"name": "lab", "classes": []}, "list of names"),
        ({"name": "lab", "classes": ["heavy"]}, "default is missing"),
        ({"name": "lab", "classes": ["default", "No"]}, "no queue class"),
        ({"name": "lab", "classes": ["default", "default"]}, "twice"),
        ({"name": "lab", "variables": {"not-a-name": 1}}, "env.<name>"),
        ({"name": "lab", "admits": "default"}, "list of names"),
        ({"name": "lab", "admits": ["No Name"]}, "no environment"),
    ],
)
def test_an_environment_that_could_not_work_is_refused(
    wish: dict[str, object], sentence: str
) -> None:
    with pytest.raises(EnvironmentRefusedError, match=sentence):
        create_environment(**wish, by="person:ann")  # type: ignore[arg-type]


def test_a_name_is_given_once() -> None:
    create_environment(name="lab", by="person:ann")

    with pytest.raises(EnvironmentRefusedError, match="already"):
        create_environment(name="lab", by="person:ann")
