"""Approvals that are stored: who may decide, what a decision does, and what comes too late."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from tests.support.approvals import YES, a_person, a_request, approval, no, request_of, say
from tests.support.invariants import broken
from tests.workflows.builders import (
    ANN,
    a_run,
    at_once,
    in_future,
    open_incidents,
    sql,
    state,
    states,
    step,
    task,
    work_off,
)
from workflows.models import Approval, Attempt, Delegation, Run, Verdict, Vote
from workflows.selectors.approvals import ApprovalFilter, approvals
from workflows.services.approvals import (
    Said,
    decide,
    decide_many,
    delegate,
    delegate_for_a_time,
    withdraw,
)
from workflows.services.electorate import electorate, standing
from workflows.services.errors import (
    InputRefusedError,
    NotAllowedError,
    ServiceError,
    StateRefusedError,
)
from workflows.services.incidents import replay_incident
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run, pause_run
from workflows.services.timers import tick

pytestmark = pytest.mark.usefixtures("committed")

DAY = 86400
ESCALATES = {"timeout": "1d", "on_timeout": "escalate", "escalate_to": "directors"}
FORM = {
    "type": "object",
    "required": ["limit"],
    "properties": {"limit": {"type": "integer"}, "currency": {"default": "EUR"}},
}


@pytest.fixture
def ben() -> User:
    """A member of finance."""
    return a_person("ben", "finance")


@pytest.fixture
def cleo() -> User:
    """Another."""
    return a_person("cleo", "finance")


def output(run: Run, path: str) -> Any:
    """Return what a step has yielded."""
    return step(run, path).output


def refused(request: Approval, person: User, said: Said = YES) -> str:
    """Return why a person cannot say this; nothing is stored then."""
    before = Vote.objects.count()
    with pytest.raises(ServiceError) as found:
        say(request, person, said)
    assert Vote.objects.count() == before
    return str(found.value)


def test_a_member_approves_and_the_run_goes_on(ben: User) -> None:
    request = a_request(task("after"))

    vote = say(request, ben, Said(Verdict.APPROVE, "Fine."))

    row = request_of(request.run)
    assert states(request.run) == {"sign": "COMPLETED", "after": "QUEUED"}
    assert output(request.run, "sign") == {
        "approved": True,
        "by": ["ben"],
        "form": None,
        "decided_at": vote.at.isoformat().replace("+00:00", "Z"),
        "votes": [{"by": "ben", "note": "Fine.", "form": None}],
    }
    assert (row.end, row.answered_by) == ("completed", "person:ben")
    assert row.answer == {"outcome": "approved", "vote": str(vote.pk)}
    assert request.run.journal.get(path="sign", after="COMPLETED").actor == "person:ben"
    assert broken() == []


def test_a_member_rejects_and_the_step_fails_for_a_person(ben: User) -> None:
    request = a_request(task("after"))

    say(request, ben, no("The sum is wrong."))

    error = step(request.run, "sign").error
    assert state(request.run) == "FAILED"
    assert (error["class"], error["code"]) == ("business", "approval.rejected")
    assert error["details"] == {"by": "ben", "note": "The sum is wrong."}
    assert [one.code for one in open_incidents(request.run)] == ["approval.rejected"]
    assert broken() == []


def test_a_rejection_is_caught_with_who_and_why(ben: User) -> None:
    tell = {"id": "tell", "set": {"why": "${{ error.details.note }}"}}
    run = a_run({**approval(), "catch": [{"on": ["approval.rejected"], "steps": [tell]}]})

    say(request_of(run), ben, no("later"))

    assert state(run) == "COMPLETED"
    assert output(run, "sign") == {"why": "later"}


def test_a_rejection_needs_a_reason(ben: User) -> None:
    assert "says why" in refused(a_request(), ben, no("  "))


def test_as_many_must_approve_as_the_definition_says(ben: User, cleo: User) -> None:
    request = a_request(approvals=2)

    say(request, ben)
    between = state(request.run), step(request.run, "sign").state
    say(request, cleo)

    assert between == ("RUNNING", "WAITING")
    assert output(request.run, "sign")["by"] == ["ben", "cleo"]


def test_one_rejection_ends_it_whatever_others_have_said(ben: User, cleo: User) -> None:
    request = a_request(approvals=2)

    say(request, ben)
    say(request, cleo, no())

    assert state(request.run) == "FAILED"


def test_nobody_decides_twice(ben: User) -> None:
    request = a_request(approvals=2)
    say(request, ben)

    assert "has decided already" in refused(request, ben)


@pytest.mark.parametrize("facts", [{}, {"is_superuser": True, "is_staff": True}])
def test_who_is_no_member_does_not_decide_even_as_a_superuser(facts: dict[str, bool]) -> None:
    assert "no member of the group finance" in refused(a_request(), a_person("root", **facts))


def test_an_account_that_is_not_active_does_not_decide() -> None:
    gone = a_person("gone", "finance", is_active=False)

    assert "not active" in refused(a_request(), gone)


@pytest.mark.parametrize("by", ["person:ben", "token:ben/1a23fae4", "command:ben"])
def test_nobody_approves_what_they_started(by: str, ben: User) -> None:
    request = a_request()
    Run.objects.filter(pk=request.run_id).update(started_by=by)

    assert "has started the run" in refused(request, ben)


def test_who_has_started_the_run_decides_where_the_definition_says_so() -> None:
    request = a_request(allow_self=True)

    say(request, a_person("ann", "finance"))

    assert state(request.run) == "COMPLETED"


def test_a_name_that_only_begins_like_the_starters_is_another_person() -> None:
    request = a_request()

    say(request, a_person("anna", "finance"))

    assert state(request.run) == "COMPLETED"


def test_what_is_filled_in_is_checked_and_handed_on_with_its_defaults(ben: User) -> None:
    request = a_request(form=FORM)

    assert "does not fit the form" in refused(request, ben)
    assert "does not fit the form" in refused(
        request, ben, Said(Verdict.APPROVE, form={"limit": "x"})
    )
    say(request, ben, Said(Verdict.APPROVE, form={"limit": 5}))

    assert output(request.run, "sign")["form"] == {"limit": 5, "currency": "EUR"}


@pytest.mark.parametrize(
    ("said", "form"),
    [
        (Said(Verdict.APPROVE, form={"limit": 5}), None),
        (Said(Verdict.REJECT, "no", {"a": 1}), FORM),
    ],
)
def test_what_was_not_asked_for_is_not_taken(said: Said, form: object, ben: User) -> None:
    keys = {} if form is None else {"form": form}

    assert "Nothing is to be filled in" in refused(a_request(**keys), ben, said)


@pytest.mark.parametrize("value", ["\0", "x" * 300_000])
def test_what_cannot_be_kept_is_not_taken(value: str, ben: User) -> None:
    form = {"type": "object", "properties": {"text": {"type": "string"}}}

    why = refused(a_request(form=form), ben, Said(Verdict.APPROVE, form={"text": value}))

    assert why.startswith("What was filled in")


def test_a_decision_after_a_cancel_is_refused(ben: User) -> None:
    request = a_request()
    cancel_run(run_id=request.run_id, by=ANN)

    assert refused(request, ben).startswith(
        "There is nothing to decide any more. The step waits for it no more"
    )


def test_a_decision_after_the_time_is_refused(ben: User) -> None:
    request = a_request(timeout="1d")
    tick(now=in_future(DAY + 1))

    assert "Its time was up" in refused(request, ben)
    assert step(request.run, "sign").error["code"] == "approval.timeout"


def test_a_decision_after_the_decision_is_refused_and_says_whose_it_was(
    ben: User, cleo: User
) -> None:
    request = a_request()
    say(request, ben)

    assert "It was approved by ben at" in refused(request, cleo)


def test_a_paused_run_takes_a_decision_and_holds_what_follows(ben: User) -> None:
    request = a_request(task("after"))
    pause_run(run_id=request.run_id, by=ANN)

    say(request, ben)

    assert state(request.run) == "PAUSED"
    assert states(request.run) == {"sign": "COMPLETED", "after": "QUEUED"}


def test_out_of_time_another_group_is_asked_and_decides(ben: User) -> None:
    request = a_request(**ESCALATES)
    dora = a_person("dora", "directors")
    tick(now=in_future(DAY + 1))
    second = request_of(request.run)

    assert "directors were asked instead" in refused(request, ben)
    assert "no member of the group directors" in refused(second, ben)
    say(second, dora)

    assert (second.attempt, second.name) == (2, "directors")
    assert output(request.run, "sign")["by"] == ["dora"]
    assert broken() == []


def asked(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return whom the log says that a request waits for, and at which step."""
    said = [one.msg for one in caplog.records if isinstance(one.msg, dict)]
    return [(one["group"], one["path"]) for one in said if one["event"] == "approval.waits"]


def test_the_log_has_a_line_for_each_group_that_is_asked_when_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    run = a_run(
        task("first"),
        approval(**ESCALATES),
    )
    before = asked(caplog)

    work_off(run)
    tick(now=in_future(DAY + 1))

    assert before == []
    assert asked(caplog) == [("finance", "sign"), ("directors", "sign")]


def test_votes_of_the_first_group_do_not_count_for_the_second(ben: User) -> None:
    request = a_request(approvals=2, **ESCALATES)
    say(request, ben)
    tick(now=in_future(DAY + 1))

    say(request_of(request.run), a_person("dora", "directors"))

    assert step(request.run, "sign").state == "WAITING"


def test_the_second_group_out_of_time_fails_the_step() -> None:
    request = a_request(**ESCALATES)
    tick(now=in_future(DAY + 1))

    tick(now=in_future(2 * DAY + 2))

    assert state(request.run) == "FAILED"
    assert Attempt.objects.filter(run=request.run, end="failed").count() == 2
    assert broken() == []


@pytest.mark.parametrize(("policy", "ended"), [("approve", "COMPLETED"), ("reject", "FAILED")])
def test_time_may_decide(policy: str, ended: str) -> None:
    request = a_request(timeout="1d", on_timeout=policy)

    tick(now=in_future(DAY + 1))

    assert state(request.run) == ended
    assert request_of(request.run).answered_by == "engine"


def test_time_that_nobody_told_of_is_found_by_recovery() -> None:
    request = a_request(**ESCALATES)
    sql("UPDATE workflows_step SET wake_at = now() WHERE run_id = %s", request.run_id)

    recover(now=timezone.now())

    assert request_of(request.run).name == "directors"


def test_a_replayed_request_is_decided_anew_by_the_same_people(ben: User) -> None:
    request = a_request()
    say(request, ben, no())
    replay_incident(incident_id=open_incidents(request.run)[0].pk, by=ANN)

    say(request_of(request.run), ben)

    assert state(request.run) == "COMPLETED"
    assert Vote.objects.filter(run=request.run).count() == 2
    assert broken() == []


def test_many_are_decided_each_by_itself(ben: User) -> None:
    mine, other, form = a_request(), a_request(group="board"), a_request(form=FORM)

    report = decide_many(
        approval_ids=[mine.pk, other.pk, form.pk], person=ben, said=YES, by="person:ben"
    )

    assert report.done == (mine.pk,)
    assert [one.id for one in report.refused] == [other.pk, form.pk]


def test_two_last_votes_at_the_same_moment_end_the_step_once(ben: User) -> None:
    people = [ben, *(a_person(f"member-{n}", "finance") for n in range(5))]
    request = a_request(task("after"), approvals=2)

    def vote(person: User) -> str:
        try:
            return say(request, person).verdict
        except StateRefusedError:
            return "late"

    said = at_once(*(lambda one=one: vote(one) for one in people))

    assert sorted(said) == ["approve", "approve", "late", "late", "late", "late"]
    assert Attempt.objects.filter(run=request.run, end="completed").count() == 1
    assert len(output(request.run, "sign")["by"]) == 2
    assert broken() == []


def test_a_yes_and_a_no_at_the_same_moment_have_one_outcome(ben: User, cleo: User) -> None:
    request = a_request()

    def vote(person: User, said: Said) -> bool:
        try:
            return bool(say(request, person, said))
        except StateRefusedError:
            return False

    heard = at_once(lambda: vote(ben, YES), lambda: vote(cleo, no()))

    ended = "COMPLETED" if heard[0] else "FAILED"
    assert sorted(heard) == [False, True]
    assert state(request.run) == ended
    assert Vote.objects.count() == 1


def test_a_person_who_presses_many_times_at_once_has_one_vote(ben: User) -> None:
    request = a_request(approvals=2)

    def vote() -> bool:
        try:
            return bool(say(request, ben))
        except NotAllowedError:
            return False

    assert sorted(at_once(*[vote] * 4)) == [False, False, False, True]


def test_a_decision_and_the_end_of_the_time_at_once_have_one_outcome(ben: User) -> None:
    request = a_request(timeout="1d")

    def vote() -> bool:
        try:
            return bool(say(request, ben))
        except StateRefusedError:
            return False

    heard, _ = at_once(vote, lambda: tick(now=in_future(DAY + 1)))

    assert state(request.run) == ("COMPLETED" if heard else "FAILED")
    assert Vote.objects.count() == int(heard)
    assert broken() == []


def test_a_decision_that_dies_before_its_commit_leaves_nothing(ben: User) -> None:
    request = a_request()

    with transaction.atomic():
        say(request, ben)
        transaction.set_rollback(True)

    assert step(request.run, "sign").state == "WAITING"
    assert not Vote.objects.exists()
    say(request, ben)
    assert state(request.run) == "COMPLETED"


def test_a_vote_handed_over_is_given_by_the_other(ben: User) -> None:
    request, dora = a_request(), a_person("dora")

    delegate(approval_id=request.pk, person=ben, to="dora", by="person:ben")
    vote = say(request, dora)

    assert (vote.person_name, vote.member_name) == ("dora", "ben")
    assert output(request.run, "sign")["votes"] == [
        {"by": "dora", "note": "", "form": None, "for": "ben"}
    ]


def test_a_vote_handed_over_is_still_one_vote(ben: User) -> None:
    request, dora = a_request(approvals=2), a_person("dora")
    delegate(approval_id=request.pk, person=ben, to="dora", by="person:ben")
    say(request, dora)

    assert "dora has decided in the place of ben" in refused(request, ben)
    assert "has decided already" in refused(request, dora)


def test_a_vote_handed_over_for_a_time_counts_in_that_time_alone(ben: User) -> None:
    first, second, dora = a_request(), a_request(), a_person("dora")
    now = timezone.now()
    delegate_for_a_time(person=ben, to="dora", ends_at=now + timedelta(days=1), by="person:ben")
    say(first, dora)

    late = standing(second, dora, now=now + timedelta(days=2))

    assert state(first.run) == "COMPLETED"
    assert late.member is None


def test_a_vote_that_is_taken_back_counts_no_more(ben: User) -> None:
    request, dora = a_request(), a_person("dora")
    given = delegate(approval_id=request.pk, person=ben, to="dora", by="person:ben")

    withdraw(delegation_id=given.pk, person=ben, by="person:ben")

    assert "no member has handed" in refused(request, dora)
    with pytest.raises(StateRefusedError, match="already"):
        withdraw(delegation_id=given.pk, person=ben, by="person:ben")


def test_nobody_takes_back_what_another_has_handed_over(ben: User, cleo: User) -> None:
    a_person("dora")
    given = delegate(approval_id=a_request().pk, person=ben, to="dora", by="person:ben")

    with pytest.raises(NotAllowedError, match="Only ben"):
        withdraw(delegation_id=given.pk, person=cleo, by="person:cleo")


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("ann", "nobody approves what they started"),
        ("ben", "Name somebody else"),
        ("cleo", "is a member of finance"),
        ("nobody", "no active account"),
        ("gone", "no active account"),
    ],
)
def test_a_vote_is_handed_only_to_who_could_use_it(
    to: str, why: str, ben: User, cleo: User
) -> None:
    a_person("ann")
    a_person("gone", is_active=False)

    with pytest.raises(InputRefusedError, match=why):
        delegate(approval_id=a_request().pk, person=ben, to=to, by="person:ben")


def test_a_vote_handed_over_for_a_time_is_of_no_use_to_who_has_started_the_run(ben: User) -> None:
    ann = a_person("ann")
    soon = timezone.now() + timedelta(days=1)
    delegate_for_a_time(person=ben, to="ann", ends_at=soon, by="person:ben")

    assert "has started the run" in refused(a_request(), ann)


def test_who_has_started_the_run_does_not_have_another_approve_it_for_them() -> None:
    ann, dora = a_person("ann", "finance"), a_person("dora")
    soon = timezone.now() + timedelta(days=1)
    delegate_for_a_time(person=ann, to="dora", ends_at=soon, by=ANN)

    assert "no member has handed" in refused(a_request(), dora)


def test_a_vote_that_was_handed_over_is_not_handed_on(ben: User) -> None:
    request, dora = a_request(), a_person("dora")
    a_person("emil")
    delegate(approval_id=request.pk, person=ben, to="dora", by="person:ben")

    with pytest.raises(NotAllowedError, match="cannot hand it on"):
        delegate(approval_id=request.pk, person=dora, to="emil", by="person:dora")


def test_a_vote_is_handed_to_one_at_a_time(ben: User) -> None:
    request = a_request()
    a_person("dora")
    a_person("emil")
    delegate(approval_id=request.pk, person=ben, to="dora", by="person:ben")

    with pytest.raises(StateRefusedError, match="to dora already"):
        delegate(approval_id=request.pk, person=ben, to="emil", by="person:ben")


@pytest.mark.parametrize("days", [-1, 0, 400])
def test_a_span_of_time_is_one_that_can_be(days: int, ben: User) -> None:
    a_person("dora")
    until = timezone.now() + timedelta(days=days)

    with pytest.raises(InputRefusedError):
        delegate_for_a_time(person=ben, to="dora", ends_at=until, by="person:ben")


@pytest.mark.parametrize(
    ("members", "needed", "advice"),
    [
        (None, 1, "There is no group finance"),
        ([], 1, "has no active member"),
        (["ann"], 1, "no member but ann, who has started the run"),
        (["ann", "ben"], 2, "only 1 can: ben"),
        (["ben", "cleo"], 2, ""),
    ],
)
def test_a_request_that_nobody_can_decide_says_what_to_do(
    members: list[str] | None, needed: int, advice: str
) -> None:
    a_person("nobody", *([] if members is None else ["finance"]), is_active=False)
    for name in members or ():
        a_person(name, "finance")

    found = electorate(a_request(approvals=needed))

    assert advice in found.advice
    assert bool(found.advice) == bool(advice)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE workflows_vote SET verdict = 'reject', note = 'x'", "DELETE FROM workflows_vote"],
)
def test_a_vote_is_never_changed_or_removed_by_hand(statement: str, ben: User) -> None:
    say(a_request(), ben)

    with pytest.raises(DatabaseError, match="Cannot"), transaction.atomic():
        sql(statement)


def test_a_second_vote_of_a_person_is_refused_by_the_database_too(ben: User) -> None:
    vote = say(a_request(approvals=2), ben)
    vote.pk = None

    with pytest.raises(IntegrityError, match="a_person_votes_once"), transaction.atomic():
        vote.save(force_insert=True)


def test_what_was_handed_over_is_only_taken_back(ben: User) -> None:
    a_person("dora")
    delegate(approval_id=a_request().pk, person=ben, to="dora", by="person:ben")

    with pytest.raises(DatabaseError, match="Cannot update"), transaction.atomic():
        Delegation.objects.update(taker_name="emil")


def test_the_inbox_has_what_a_person_may_decide_and_nothing_else(ben: User, cleo: User) -> None:
    dora, emil = a_person("dora", "directors"), a_person("emil")
    requests = [
        a_request(),
        a_request(approvals=2),
        a_request(group="directors"),
        a_request(group="directors", allow_self=True),
        a_request(group="board"),
    ]
    ann = a_person("ann", "finance", "directors")
    say(requests[1], ben)
    say(a_request(), cleo)
    delegate(approval_id=requests[0].pk, person=cleo, to="emil", by="person:cleo")
    soon = timezone.now() + timedelta(days=1)
    delegate_for_a_time(person=dora, to="ben", ends_at=soon, by="person:dora")
    delegate_for_a_time(person=ann, to="emil", ends_at=soon, by=ANN)

    now = timezone.now()
    for person in (ann, ben, cleo, dora, emil, a_person("root", is_superuser=True)):
        found = set(approvals(ApprovalFilter(decided_by=person), now=now))
        may = {one for one in requests if standing(one, person, now=now).member is not None}
        assert found == may, person.username


def test_a_request_behind_a_step_that_a_worker_did_is_asked_at_its_turn(ben: User) -> None:
    run = a_run(task("before"), approval(), task("after"))

    work_off(run)
    say(request_of(run), ben)
    work_off(run)

    assert state(run) == "COMPLETED"


def test_what_nobody_has_asked_cannot_be_decided(ben: User) -> None:
    run = a_run({"id": "rest", "wait": {"for": "10m"}})
    wait = run.waits.get()

    with pytest.raises(ServiceError, match="There is no approval"):
        decide(approval_id=wait.pk, person=ben, said=YES, by="person:ben")
