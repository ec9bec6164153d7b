"""Many runs at once travel in bundles; a long step holds up nothing that is behind it in one."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import pytest
from pytest_django.fixtures import Settings

from tests.support.publisher import Recorder
from tests.workflows.builders import QUEUE, a_run, a_version, claimed, states, task
from workers.leases import Keeper
from workers.publisher import BUNDLE, Bundle, bundled, canvas_of
from workers.segment import Rest
from workflows.dispatch import FanOut, Segment
from workflows.services.orders import Order
from workflows.services.runs import start_runs

pytestmark = pytest.mark.usefixtures("committed")


def segments(count: int, queue: str = QUEUE) -> list[Segment]:
    return [Segment(uuid4(), uuid4(), "only", 1, queue) for _ in range(count)]


def sizes(dispatches: Sequence[Segment]) -> list[int]:
    return [len(one.segments) if isinstance(one, Bundle) else 1 for one in bundled(dispatches)]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [1]), (15, [1] * 15), (16, [2] * 8), (100, [12] * 8 + [4]), (250, [20] * 12 + [10])],
)
def test_many_segments_travel_together_and_few_alone(count: int, expected: list[int]) -> None:
    assert sizes(segments(count)) == expected


def test_quick_segments_travel_in_few_bundles() -> None:
    quick = [replace(one, is_quick=True) for one in segments(15)]

    assert sizes([*quick, *segments(2)]) == [7, 7, 1, 1, 1]


def test_segments_of_two_queues_never_travel_together() -> None:
    mixed = [*segments(20), *segments(20, "env.other.default")]

    bundles = list(bundled(mixed))

    assert all(len({one.queue for one in bundle.segments}) == 1 for bundle in bundles)
    assert [one for bundle in bundles for one in bundle.segments] == mixed


def test_a_fan_out_is_no_part_of_a_bundle() -> None:
    fan = FanOut(uuid4(), uuid4(), QUEUE, 8, "all")

    assert next(bundled([*segments(16), fan])) == fan


def test_a_bundle_is_a_message_of_fences_to_its_queue() -> None:
    one, other = segments(2)

    message = canvas_of(Bundle((one, other)))

    fences = [[str(each.run), str(each.version), "only", 1] for each in (one, other)]
    assert (message.task, message.options["queue"]) == (BUNDLE, QUEUE)
    assert message.kwargs == {"fences": fences}


def test_every_run_of_a_bulk_start_is_sent_once(sent: Recorder) -> None:
    name = a_version(task("only")).workflow.name

    started = start_runs(orders=[Order(name)] * 130, by="person:ann")

    assert sorted(one.run for one in sent.sent) == sorted(one.run.pk for one in started)


def test_what_nobody_has_begun_is_given_back_once(sent: Recorder) -> None:
    first, *others = segments(4)
    rest = Rest([first, *others])

    taken = rest.next()
    rest.give_back()
    rest.give_back()

    assert taken == first
    assert sent.sent == others
    assert rest.next() is None


def test_a_bundle_that_is_broken_off_gives_back_what_is_left(sent: Recorder) -> None:
    waiting = segments(3)

    with pytest.raises(RuntimeError), Keeper().minding(Rest(waiting)):
        raise RuntimeError("the database is gone")

    assert sent.sent == waiting


def test_a_step_that_takes_long_holds_up_nothing_behind_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.leases.look", lambda *_, **__: None)
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"LEASE_SECONDS": 0.3}
    run, given_back = a_run(task("long")), threading.Event()

    class Others:
        def give_back(self) -> None:
            given_back.set()

    keeper = Keeper()
    with keeper.minding(Others()), keeper.hold(claimed(run, "long")):
        came = given_back.wait(timeout=10)

    assert came
    assert states(run) == {"long": "RUNNING"}
