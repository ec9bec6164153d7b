"""Profiles: one step at a time, whoever waits longest is next, and nobody uses a tainted one."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet
from django.db import DatabaseError
from django.utils import timezone
from pytest_django.fixtures import Settings

from environments.errors import UnreadableError
from environments.models import Environment, Profile, ProfileJournal, ProfilePool
from environments.vault import seal, unseal
from tests.workflows.builders import (
    ANN,
    TAKER,
    a_run,
    at_once,
    claim,
    claimed,
    ends,
    fail,
    finish,
    open_incidents,
    sql,
    state,
    states,
    step,
    task,
)
from workflows.engine.events import Failed, Loss, StepError
from workflows.language.words import ErrorClass
from workflows.models import Parking, Run
from workflows.services.errors import StateRefusedError
from workflows.services.guards import open_guard
from workflows.services.profiles import empty_folder, replace_context, reseal_all
from workflows.services.recording import record_outcome
from workflows.services.recovery import recover, release_worker
from workflows.services.runs import cancel_run, pause_run
from workflows.services.timers import tick
from workflows.services.work import Work

pytestmark = pytest.mark.usefixtures("committed")

COOKIES = {"cookie": "s3cret-session"}


def a_pool(*names: str, context: Mapping[str, Any] = COOKIES) -> ProfilePool:
    environment = Environment.objects.get(name="default")
    pool = ProfilePool.objects.create(environment=environment, name="crm-bots")
    for name in names:
        Profile.objects.create(pool=pool, name=name, context=seal("default", context))
    return pool


def bot(name: str = "only", hold: str = "step", **keys: Any) -> dict[str, Any]:
    retry = {"max_attempts": 5, "initial_delay": 0}
    return task(name, profile={"pool": "crm-bots", "hold": hold}, retry=retry, **keys)


def profile(name: str = "ann") -> Profile:
    return Profile.objects.get(name=name)


def context_of(name: str = "ann") -> Any:
    return unseal("default", profile(name).context)


def later(seconds: float) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)


def leased(work: Work) -> Any:
    assert work.profile is not None
    return work.profile


def end_badly(work: Work, code: str, error_class: str = "timeout") -> None:
    error = StepError(ErrorClass(error_class), code, "It broke.")
    outcome = Failed(work.path, work.attempt, error)
    record_outcome(work=work, outcome=outcome, taker=TAKER, run_on=False, now=timezone.now())


def test_a_step_has_a_profile_with_its_context_and_gives_it_back_with_what_it_left() -> None:
    a_pool("ann")
    work = claimed(a_run(bot()), "only")

    assert (leased(work).name, leased(work).context) == ("ann", COOKIES)
    assert (profile().state, profile().path) == ("LEASED", "only")
    leased(work).context["cookie"] = "fresh-session"
    finish(work)

    assert profile().state == "FREE"
    assert context_of() == {"cookie": "fresh-session"}


def test_a_step_for_which_no_profile_is_free_waits_and_holds_nothing() -> None:
    a_pool("ann")
    claimed(a_run(bot()), "only")
    run = a_run(bot())

    assert claim(run, "only") is None

    assert (step(run, "only").state, step(run, "only").reason) == ("RETRYING", "profile")
    assert step(run, "only").attempt == 0


def test_who_waits_longest_is_next_and_nobody_overtakes() -> None:
    a_pool("ann")
    work = claimed(a_run(bot()), "only")
    first, second = a_run(bot()), a_run(bot())
    for run in (first, second):
        claim(run, "only")

    finish(work)
    newcomer = a_run(bot())

    assert claim(newcomer, "only") is None
    tick(now=later(1))
    assert (states(first)["only"], states(second)["only"]) == ("QUEUED", "RETRYING")
    assert leased(claimed(first, "only")).name == "ann"


def test_of_many_workers_at_once_as_many_get_one_as_there_are_profiles() -> None:
    a_pool("ann", "bob")
    runs = [a_run(bot()) for _ in range(8)]

    works = at_once(*[lambda run=run: claim(run, "only") for run in runs])

    names = sorted(leased(work).name for work in works if work is not None)
    assert names == ["ann", "bob"]
    assert Parking.objects.filter(gate="profile", until=None).count() == 6


def test_many_steps_get_through_a_small_pool_each_with_a_profile_to_itself() -> None:
    a_pool("ann", "bob")
    runs = [a_run(bot()) for _ in range(6)]
    for seconds in range(10):
        works = [claim(run, "only") for run in runs if states(run)["only"] == "QUEUED"]
        there = [work for work in works if work is not None]
        assert len({leased(work).name for work in there}) == len(there)
        for work in there:
            finish(work)
        tick(now=later(seconds))

    assert {state(run) for run in runs} == {"COMPLETED"}
    assert {one.state for one in Profile.objects.all()} == {"FREE"}


def test_a_failure_that_the_task_has_reported_is_a_clean_end_and_a_retry_holds_none() -> None:
    a_pool("ann")
    run = a_run(bot())

    fail(claimed(run, "only"), "transient")

    assert profile().state == "FREE"
    assert leased(claimed(run, "only", 2)).name == "ann"


@pytest.mark.parametrize("code", ["task.timeout", "task.memory", "task.exit"])
def test_an_end_in_the_middle_taints_the_profile_and_keeps_its_old_context(code: str) -> None:
    a_pool("ann")
    run = a_run(bot())
    work = claimed(run, "only")
    leased(work).context["cookie"] = "half-done"

    end_badly(work, code)

    assert (profile().state, context_of()) == ("TAINTED", COOKIES)
    assert code in profile().why
    assert claim(run, "only", 2) is None


@pytest.mark.parametrize("loss", [Loss.DIED, Loss.OVERRAN, Loss.STOPPED])
def test_a_worker_that_is_gone_leaves_its_profile_tainted(loss: Loss) -> None:
    a_pool("ann", "bob")
    run = a_run(bot())
    claimed(run, "only")

    release_worker(worker=TAKER.worker, loss=loss, now=timezone.now())

    assert profile("ann").state == "TAINTED"
    assert leased(claimed(run, "only", 2)).name == "bob"


def test_a_worker_that_fell_silent_taints_its_profile_and_its_late_word_changes_nothing() -> None:
    a_pool("ann")
    work = claimed(a_run(bot()), "only")
    recover(now=later(31))
    leased(work).context["cookie"] = "late"

    finish(work)

    assert (profile().state, context_of()) == ("TAINTED", COOKIES)


def test_a_profile_that_was_never_given_back_is_found_and_tainted() -> None:
    a_pool("ann")
    run = a_run(bot())
    finish(replace(claimed(run, "only"), profile=None))

    recover(now=later(30))

    assert (state(run), profile().state) == ("COMPLETED", "TAINTED")


def test_what_is_kept_for_a_step_that_was_cancelled_goes_to_the_next() -> None:
    a_pool("ann")
    work = claimed(a_run(bot()), "only")
    first, second = a_run(bot()), a_run(bot())
    for run in (first, second):
        claim(run, "only")
    finish(work)

    cancel_run(run_id=first.pk, by=ANN)
    recover(now=later(1))
    recover(now=later(2))

    assert leased(claimed(second, "only")).name == "ann"


def test_nothing_is_kept_for_a_step_of_a_paused_run() -> None:
    a_pool("ann")
    work = claimed(a_run(bot()), "only")
    first, second = a_run(bot()), a_run(bot())
    for run in (first, second):
        claim(run, "only")
    pause_run(run_id=first.pk, by=ANN)

    finish(work)
    tick(now=later(1))

    assert leased(claimed(second, "only")).name == "ann"


def test_a_run_that_holds_its_profile_has_the_same_one_for_each_step_until_it_ends() -> None:
    a_pool("ann", "bob")
    run = a_run(bot("first", hold="run"), task("between"), bot("second", hold="run"))

    one = claimed(run, "first")
    leased(one).context["page"] = 7
    finish(one)
    finish(claimed(run, "between"))
    assert profile("ann").state == "LEASED"
    two = claimed(run, "second")
    assert (leased(two).name, leased(two).context["page"]) == ("ann", 7)
    finish(two)

    assert state(run) == "COMPLETED"
    assert profile("ann").state == "FREE"


def test_a_run_that_was_cancelled_keeps_no_profile() -> None:
    a_pool("ann")
    run = a_run(bot("first", hold="run"), task("second"))
    finish(claimed(run, "first"))

    cancel_run(run_id=run.pk, by=ANN)
    recover(now=later(1))

    assert profile().state == "FREE"


def test_two_steps_of_a_run_do_not_use_its_profile_at_the_same_time() -> None:
    a_pool("ann")
    run = a_run(bot("left", hold="run", needs=[]), bot("right", hold="run", needs=[]))
    left = claimed(run, "left")

    assert claim(run, "right") is None
    finish(left)
    tick(now=later(1))

    assert leased(claimed(run, "right")).name == "ann"


def test_a_step_without_a_pool_to_lease_from_says_what_to_make() -> None:
    run = a_run(bot())
    work = claimed(run, "only")

    assert work.refusal is not None
    record_outcome(
        work=work,
        outcome=Failed(work.path, 1, work.refusal),
        taker=TAKER,
        run_on=False,
        now=timezone.now(),
    )

    [incident] = open_incidents(run)
    assert incident.code == "profile.no_pool"
    assert "crm-bots" in incident.message


def test_a_profile_sealed_under_another_key_is_not_overwritten_and_says_so(
    settings: Settings,
) -> None:
    a_pool("ann")
    sealed = profile().context
    with_keys(settings, "another" * 8)

    work = claimed(a_run(bot()), "only")
    assert work.refusal is not None
    assert work.refusal.code == "profile.unreadable"
    end_badly(work, "profile.unreadable", "permanent")

    assert (profile().state, profile().context) == ("FREE", sealed)


def test_an_environment_cannot_read_what_is_sealed_for_another(settings: Settings) -> None:
    keys = {name: (Fernet.generate_key().decode(),) for name in ("default", "other")}
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"ENVIRONMENT_KEYS": keys}
    sealed = seal("default", COOKIES)

    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"ENVIRONMENT_KEYS": {"other": keys["other"]}}

    with pytest.raises(UnreadableError, match="default"):
        unseal("default", sealed)


def test_what_was_sealed_under_an_older_key_is_still_read(settings: Settings) -> None:
    sealed = seal("default", COOKIES)
    keys = {"default": (Fernet.generate_key().decode(),)}

    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"ENVIRONMENT_KEYS": keys}

    assert unseal("default", sealed) == COOKIES


def with_keys(settings: Settings, *masters: str) -> None:
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"VAULT_KEYS": masters}


def test_what_was_sealed_under_the_secret_key_is_read_once_there_is_a_vault_key(
    settings: Settings,
) -> None:
    with_keys(settings)
    sealed = seal("default", COOKIES)

    with_keys(settings, "n" * 32)

    assert unseal("default", sealed) == COOKIES
    settings.SECRET_KEY = "another" * 8
    with pytest.raises(UnreadableError):
        unseal("default", sealed)


def test_once_all_is_sealed_anew_the_older_keys_may_go(settings: Settings) -> None:
    with_keys(settings, "o" * 32)
    a_pool("ann", "ben")
    with_keys(settings, "n" * 32, "o" * 32)

    done, again = reseal_all(), reseal_all()

    assert (done.sealed_anew, again.sealed_anew, again.sealed_already) == (2, 0, 2)
    with_keys(settings, "n" * 32)
    assert context_of("ann") == context_of("ben") == COOKIES


def test_what_cannot_be_read_is_counted_and_left_as_it_is(settings: Settings) -> None:
    with_keys(settings, "o" * 32)
    a_pool("ann")
    sealed = profile().context
    with_keys(settings, "n" * 32)

    done = reseal_all()

    assert done.unreadable == {"default": 1}
    assert profile().context == sealed


def test_a_step_gives_its_profile_back_while_all_is_sealed_anew(settings: Settings) -> None:
    with_keys(settings, "o" * 32)
    a_pool("ann")
    work = claimed(a_run(bot()), "only")
    with_keys(settings, "n" * 32, "o" * 32)

    reseal_all()
    leased(work).context["cookie"] = "fresh"
    finish(work)

    assert context_of() == {"cookie": "fresh"}
    assert not ProfileJournal.objects.exists()


def test_a_key_that_is_made_of_the_secret_key_is_warned_of_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with_keys(settings)
    settings.SECRET_KEY = "never seen before " * 3

    seal("default", 1)
    seal("default", 2)

    assert sum("vault.key_of_secret_key" in message for message in caplog.messages) == 1


def test_a_context_that_cannot_be_kept_taints_the_profile() -> None:
    a_pool("ann")
    work = claimed(a_run(bot()), "only")
    leased(work).context["blob"] = "x" * 300_000

    finish(work)

    assert profile().state == "TAINTED"
    assert "bytes" in profile().why
    assert "xxx" not in profile().why


def folder_after(policy: str, *, hold: str = "step", steps: int = 2) -> list[tuple[int, bool]]:
    """Return the turn of the folder that each step found, and whether it was to be kept."""
    a_pool("ann")
    ProfilePool.objects.update(folders=policy)
    run = a_run(*(bot(f"step{n}", hold=hold) for n in range(steps)))
    found = []
    for number in range(steps):
        work = claimed(run, f"step{number}")
        found.append((leased(work).turn, leased(work).keeps_folder))
        finish(work)
    return found


def test_a_kept_folder_is_the_same_for_every_lease() -> None:
    assert folder_after("keep") == [(1, True), (1, True)]


def test_where_folders_are_emptied_each_lease_has_one_of_its_own() -> None:
    assert folder_after("empty") == [(2, False), (3, False)]


def test_a_run_that_keeps_its_profile_keeps_the_folder_between_its_steps() -> None:
    assert folder_after("empty", hold="run") == [(2, True), (2, True)]


def test_a_step_that_waited_for_a_profile_has_one_empty_folder_and_not_two() -> None:
    a_pool("ann")
    ProfilePool.objects.update(folders="empty")
    first, run = claimed(a_run(bot()), "only"), a_run(bot())
    claim(run, "only")

    finish(first)
    tick(now=later(1))

    assert leased(claimed(run, "only", attempt=1)).turn == leased(first).turn + 1


def test_a_profile_whose_folder_holds_too_much_is_tainted_with_the_reason() -> None:
    a_pool("ann")
    work = claimed(a_run(bot()), "only")
    leased(work).soiled = "its folder holds more than 5 MiB"

    finish(work)

    assert (profile().state, profile().why) == ("TAINTED", "its folder holds more than 5 MiB")


def test_a_folder_is_emptied_by_hand_with_a_line_in_the_journal_and_not_while_in_use() -> None:
    a_pool("ann")
    empty_folder(profile=profile().pk, by=ANN)
    work = claimed(a_run(bot()), "only")

    with pytest.raises(StateRefusedError, match="is leased"):
        empty_folder(profile=profile().pk, by=ANN)

    assert leased(work).turn == 2
    [line] = ProfileJournal.objects.all()
    assert (line.before, line.after, line.actor) == ("FREE", "FREE", ANN)
    assert line.why == "its working folder begins empty"


def test_a_context_given_by_hand_has_its_line_in_the_journal() -> None:
    a_pool("ann")

    replace_context(profile=profile().pk, context={"cookie": "fresh"}, by=ANN)

    [line] = ProfileJournal.objects.all()
    assert (line.why, line.actor) == ("it was given another context", ANN)


def test_no_secret_is_in_any_row_in_clear() -> None:
    a_pool("ann")
    run = a_run(bot())
    finish(claimed(run, "only"))

    for table in ("environments_profile", "workflows_step", "workflows_attempt", "workflows_run"):
        assert sql(f"SELECT 1 FROM {table} t WHERE t::text LIKE '%%s3cret%%'") == 0  # noqa: S608


def test_that_a_profile_is_tainted_is_written_down_with_who_had_it_and_no_lease_is() -> None:
    a_pool("ann")
    finish(claimed(a_run(bot()), "only"))
    run = a_run(bot())
    end_badly(claimed(run, "only"), "task.timeout")

    lines = ProfileJournal.objects.values_list("before", "after", "run_id", "path", "attempt")

    assert list(lines) == [("LEASED", "TAINTED", run.pk, "only", 1)]


def test_a_profile_is_not_leased_twice_even_from_a_sql_console() -> None:
    a_pool("ann")
    Profile.objects.update(state="DISABLED")

    with pytest.raises((DatabaseError, psycopg.Error), match="LEASED"):
        sql("UPDATE environments_profile SET state = 'LEASED', run_id = gen_random_uuid()")


def test_a_step_holds_no_profile_while_its_guard_is_open() -> None:
    a_pool("ann")
    open_guard(environment="default", guard="crm", why="down", by=ANN)
    run = a_run(bot(guard="crm"))

    assert claim(run, "only") is None

    assert step(run, "only").reason == "guard"
    assert profile().state == "FREE"


def test_a_worker_that_did_not_hear_of_its_claim_finds_its_profile_again() -> None:
    a_pool("ann")
    run: Run = a_run(bot())
    claimed(run, "only")
    from workflows.services.claiming import claim_step
    from workflows.services.plans import pinned

    work = claim_step(
        pin=pinned(run.pk), path="only", attempt=1, taker=TAKER, now=timezone.now(), again=True
    )

    assert work is not None
    assert leased(work).context == COOKIES
    assert ends(run, "only") == []
