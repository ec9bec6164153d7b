"""A workflow in a test: loaded from its definition, given stubs, and played as often as wanted."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from workflows.engine.clock import FOREVER, Clock
from workflows.engine.compile import compile_spec
from workflows.engine.events import Repeat
from workflows.engine.plan import Plan, Reads
from workflows.engine.simulate import EPOCH
from workflows.engine.simulation import Simulation
from workflows.language import loader
from workflows.language.catalog import TaskCatalog
from workflows.language.inputs import prepare
from workflows.testing.acts import Act
from workflows.testing.recording import LISTENERS
from workflows.testing.run import Run
from workflows.testing.stage import Stage
from workflows.testing.stubs import Duration, Stubs
from workflows.testing.world import World


@dataclass(frozen=True)
class Workflow:
    """A definition, and what its runs are given unless they say otherwise. Never changes."""

    plan: Plan
    text: str = field(repr=False)
    source: str
    catalog: TaskCatalog | None = field(default=None, repr=False)
    stubs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    durations: Mapping[str, Duration] = field(default_factory=dict, repr=False)
    env: Mapping[str, Any] = field(default_factory=dict, repr=False)
    repeat: Mapping[str, str] = field(default_factory=dict, repr=False)
    children: Mapping[str, Any] = field(default_factory=dict, repr=False)

    __test__ = False

    @classmethod
    def load(cls, file: str | Path, *, catalog: TaskCatalog | None = None) -> "Workflow":
        """Load a definition from a file, named from here or from beside the file of the caller.

        With a catalog, task types and parameters are checked too. Raises `DefinitionError` with
        every finding, each with its line and column.
        """
        path = _found(Path(file), Path(sys._getframe(1).f_code.co_filename).parent)  # noqa: SLF001 - whoever calls is where a test's files lie
        return cls.parse(path.read_text(encoding="utf-8"), source=str(file), catalog=catalog)

    @classmethod
    def parse(
        cls, text: str, *, source: str = "workflow", catalog: TaskCatalog | None = None
    ) -> "Workflow":
        """Load a definition from its text; `source` is what findings call it."""
        spec = loader.load(text, source=source, catalog=catalog)
        return cls(compile_spec(spec), text, source, catalog)

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.plan.workflow

    def given(
        self,
        *,
        stubs: Mapping[str, Any] | None = None,
        durations: Mapping[str, Duration] | None = None,
        env: Mapping[str, Any] | None = None,
        repeat: Mapping[str, str] | None = None,
        children: Mapping[str, Any] | None = None,
    ) -> "Workflow":
        """Return this workflow with more that all its runs are given; what is named anew wins."""
        return replace(
            self,
            stubs={**self.stubs, **(stubs or {})},
            durations={**self.durations, **(durations or {})},
            env={**self.env, **(env or {})},
            repeat={**self.repeat, **(repeat or {})},
            children={**self.children, **(children or {})},
        )

    def bare(self, *steps: str) -> "Workflow":
        """Return this workflow without what these tasks make of their outputs.

        For stubs that give what a task has handed on, not what it returned: `output` of the
        definition has been at work in that already.
        """
        nodes = tuple(
            replace(node, output=None, yields=Reads()) if node.id in steps else node
            for node in self.plan.nodes
        )
        return replace(self, plan=replace(self.plan, nodes=nodes))

    def run(  # noqa: PLR0913 - what a run can be given, each by its name
        self,
        *script: Act,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the language's own word
        stubs: Mapping[str, Any] | None = None,
        durations: Mapping[str, Duration] | None = None,
        env: Mapping[str, Any] | None = None,
        repeat: Mapping[str, str] | None = None,
        children: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        started_by: str = "",
        start: datetime = EPOCH,
        seed: int = 0,
        until: Duration | None = None,
        assume: bool = False,
    ) -> Run:
        """Play a run to its end, or until nothing can happen any more, or for a while.

        `script` is what happens from outside. `repeat` says of task types whether they may follow
        themselves in doubt: `freely`, `after_probe` or `never`. `children` maps the names of
        workflows that steps run to a workflow or a stub. `facts` are what expressions read as
        `run.*`, such as `id`. `started_by` may approve nothing. `seed` fixes the jitter of
        retries. With `assume`, whatever is waited for comes at once where nobody says anything
        of it. Raises `InputError` if the input does not fit.
        """
        mine = self.given(
            stubs=stubs, durations=durations, env=env, repeat=repeat, children=children
        )
        world = World(
            players=mine.players(),
            env=mine.env,
            repeats={uses: Repeat(word) for uses, word in mine.repeat.items()},
            catalog=self.catalog,
            assumes=assume,
            started_by=started_by,
        )
        clock = Clock(world, Random(seed))  # noqa: S311 - chance that must repeat
        simulation = mine.play(world, input, start, facts=facts)
        clock.begin(simulation)
        return Run(world.parts[id(simulation)], world, clock).go_on(*script, until=until)

    def play(
        self,
        world: World,
        given: Mapping[str, Any] | None,
        start: datetime,
        *,
        facts: Mapping[str, Any] | None = None,
    ) -> Simulation:
        """Bring a run into a world, which has yet to begin it. Raises `InputError`."""
        simulation = Simulation(
            self.plan,
            prepare(self.plan.input_schema, None if given is None else dict(given)),
            start,
            environment={**world.env, **self.env},
            facts=dict(facts or {}),
        )
        stubs = {name: one for name, one in self.children.items() if not isinstance(one, Workflow)}
        own = Stubs(
            self.plan, {**stubs, **self.stubs}, durations=self.durations, catalog=self.catalog
        )
        part = world.add(simulation, Stage(own))
        for listener in LISTENERS:
            listener(self, part)
        return simulation

    def players(self) -> dict[str, "Workflow"]:
        """Return the workflows that child runs are made of; this one is among them."""
        found = {self.name: self}
        todo = [self]
        while todo:
            for name, child in todo.pop().children.items():
                if isinstance(child, Workflow) and name not in found:
                    found[name] = child
                    todo.append(child)
        return found


def _found(path: Path, beside: Path) -> Path:
    return path if path.exists() or not (beside / path).exists() else beside / path


__all__ = ["FOREVER", "Workflow"]
