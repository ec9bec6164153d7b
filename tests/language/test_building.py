"""A long document is read in one go."""

import gc

import pytest

from tests.language.builders import Catalog, document
from workflows.engine.compile import compile_spec
from workflows.language.building import undisturbed
from workflows.language.loader import check


def long_document(steps: int) -> str:
    return document(str([{"id": f"s{number}", "uses": "noop"} for number in range(steps)]))


def compiled(text: str) -> None:
    spec, _ = check(text, source="w.yaml", catalog=Catalog())
    assert spec is not None
    compile_spec(spec)


def test_nobody_looks_for_garbage_while_a_document_becomes_a_plan() -> None:
    text = long_document(1_000)
    stops: list[str] = []
    gc.callbacks.append(lambda phase, _: stops.append(phase))

    compiled(text)

    gc.callbacks.pop()
    most = 2  # once the reading is over, and once the compiling is
    assert stops.count("start") <= most


def test_the_collector_works_again_after_a_failure() -> None:
    with pytest.raises(LookupError), undisturbed():
        raise LookupError

    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()

    with undisturbed():
        pass

    is_on = gc.isenabled()
    gc.enable()
    assert not is_on
