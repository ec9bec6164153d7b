"""Compile a Spec into a Plan: order and nesting become indices, reads become sets.

Trusts the Spec: what can be wrong with a document was said by `language.checks`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workflows.engine.plan import (
    NO_NODE,
    NOTHING,
    ROOT,
    SCOPES,
    Approval,
    Case,
    Child,
    Concurrency,
    Exit,
    Handler,
    Listening,
    Node,
    Pause,
    Plan,
    Reads,
    Transition,
)
from workflows.language import expressions
from workflows.language.building import undisturbed
from workflows.language.spec import Spec, StepSpec, retry_policy
from workflows.language.words import Hold, Losers, OnItemFailure, StepKind

WHOLE_OUTPUT = re.compile(r"\s*\$\{\{\s*steps\.(\w+)\.output\s*\}\}\s*")
"""An expression that is the output of a step and nothing else."""


@undisturbed()
def compile_spec(spec: Spec) -> Plan:
    """Return the plan of a checked definition."""
    nodes = _Compiler(spec).run()
    return Plan(
        workflow=spec.workflow,
        environment=spec.environment,
        nodes=tuple(nodes),
        timeout=spec.timeout,
        sla=spec.sla,
        on_failure=spec.on_failure,
        concurrency=None if spec.concurrency is None else Concurrency(**dict(spec.concurrency)),
        input_schema=spec.input,
    )


class _Compiler:
    """Gives every step its index, outermost first, then links the steps of each scope."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.nodes: list[Node] = []
        self.retry = retry_policy(spec.retry)
        self.items: Mapping[str, int] = {}

    def run(self) -> list[Node]:
        self._add(
            id="",
            path=ROOT,
            kind=StepKind.STEPS,
            scope=NO_NODE,
            fail_fast=self.spec.fail_fast,
            output=self.spec.output,
            yields=self._reads(self.spec.output, NO_NODE),
        )
        self._fill(0, children=self._sequence(self.spec.steps, owner=0, caught=NO_NODE))
        self._link_loops()
        return self.nodes

    def _link_loops(self) -> None:
        """Have loops that go through the output of another go through its rows."""
        loops = {node.id: node.index for node in self.nodes if node.kind is StepKind.FOREACH}
        for index in loops.values():
            over = self.nodes[index].over
            found = WHOLE_OUTPUT.fullmatch(over) if isinstance(over, str) else None
            if found is not None and found[1] in loops:
                self._fill(index, source=loops[found[1]])

    def _add(self, **values: Any) -> int:
        index = len(self.nodes)
        self.nodes.append(Node(index=index, items=self.items, **values))
        return index

    def _fill(self, index: int, **values: Any) -> None:
        vars(self.nodes[index]).update(values)  # still being built: nobody else has seen it

    def _sequence(
        self, steps: Sequence[StepSpec], *, owner: int, caught: int, ordered: bool = True
    ) -> tuple[int, ...]:
        indices = tuple(self._step(step, owner=owner, caught=caught) for step in steps)
        by_id = dict(zip((step.id for step in steps), indices, strict=True))
        needed_by: dict[int, list[int]] = {index: [] for index in indices}
        for position, step in enumerate(steps):
            if step.needs is not None:
                needs = tuple(dict.fromkeys(by_id[name] for name in step.needs))
            else:
                needs = indices[position - 1 : position] if ordered and position else ()
            self._fill(indices[position], needs=needs)
            for need in needs:
                needed_by[need].append(indices[position])
        for index, dependents in needed_by.items():
            self._fill(index, needed_by=tuple(dependents))
        for step in steps:
            if step.losers is Losers.CANCEL:
                self._fill(by_id[step.id], losers=self._losers(by_id[step.id]))
        return indices

    def _losers(self, join: int) -> tuple[int, ...]:
        """Return the steps that work for `join` alone, by following its needs backwards."""
        found: set[int] = set()
        todo = list(self.nodes[join].needs)
        while todo:
            index = todo.pop()
            node = self.nodes[index]
            if index not in found and set(node.needed_by) <= found | {join}:
                found.add(index)
                todo.extend(node.needs)
        return tuple(sorted(found))

    def _step(self, step: StepSpec, *, owner: int, caught: int, outer: str | None = None) -> int:
        outer = self.nodes[owner].path if outer is None else outer
        index = self._add(
            id=step.id,
            path=f"{outer}.{step.id}" if outer else step.id,
            kind=step.kind,
            scope=owner,
            join=step.join.rule,
            at_least=step.join.at_least or 0,
            when=step.when,
            uses=step.uses or "",
            arguments=step.arguments,
            queue_class=step.queue_class or "default",
            environment=step.environment or "",
            timeout=step.timeout,
            retry=self.retry if step.retry is None else self.spec.retry_of(step),
            optional=step.optional,
            idempotent=step.idempotent,
            irreversible=step.irreversible,
            guard=step.guard or "",
            pool=step.profile.pool if step.profile else "",
            keeps_profile=step.profile is not None and step.profile.hold is Hold.RUN,
            fail_fast=step.fail_fast or self._hears_of_failures(step, owner),
            assigns=step.set,
            exit=None if step.exit is None else Exit(**dict(step.exit)),
            pause=None if step.wait is None else Pause(step.wait.duration, step.wait.until),
            listening=_listening(step),
            child=None if step.workflow is None else Child(step.workflow, step.version),
            approval=_approval(step),
            patience=_patience(step),
            output=step.output,
            call=self._reads(step.arguments, caught),
            caught=caught,
        )
        self._inside(step, index=index, caught=caught)
        self._fill(
            index,
            handlers=tuple(self._handlers(step, index=index)),
            undo=self._undo(step, index=index),
            inline=self._inline(step, caught),
            yields=self._reads(step.output, caught) | self._collected(index),
        )
        return index

    def _hears_of_failures(self, step: StepSpec, owner: int) -> bool:
        """Say whether a failure in the step is one of the scope around it, which fails fast."""
        is_answered = step.optional or step.catch or step.kind is StepKind.FIRST
        hurries = self.nodes[owner].fail_fast and step.kind in SCOPES
        return bool(hurries and not is_answered and not _goes_on(step))

    def _inside(self, step: StepSpec, *, index: int, caught: int) -> None:
        """Compile the steps that a scope owns; other steps own none."""
        match step.kind:
            case StepKind.STEPS:
                children = self._sequence(step.steps or (), owner=index, caught=caught)
                self._fill(index, children=children)
            case StepKind.PARALLEL | StepKind.FIRST:
                branches = step.parallel or step.first or ()
                children = self._sequence(branches, owner=index, caught=caught, ordered=False)
                self._fill(index, children=children)
            case StepKind.STATES:
                self._states(step, index=index, caught=caught)
            case StepKind.SWITCH:
                self._switch(step, index=index, caught=caught)
            case StepKind.FOREACH | StepKind.REPEAT:
                self._loop(step, index=index, caught=caught)
            case _:
                pass

    def _loop(self, step: StepSpec, *, index: int, caught: int) -> None:
        """Compile the body of a loop: a single step is done many times itself, several as one.

        So is a `foreach`: the row of an instance has its item, and that of a loop its list.
        """
        body, outer = step.steps or (), self.items
        item, path = len(self.nodes), f"{self.nodes[index].path}[]"
        if step.kind is StepKind.FOREACH:
            self.items = {**outer, step.item_name: item}
        if len(body) == 1 and body[0].kind is not StepKind.FOREACH:
            self._step(body[0], owner=index, caught=caught, outer=path)
        else:
            name = f"{step.id}[]"
            self._add(
                id=name,
                path=path,
                kind=StepKind.STEPS,
                scope=index,
                caught=caught,
                fail_fast=self.nodes[index].fail_fast and not _goes_on(step),
            )
            self._fill(item, children=self._sequence(body, owner=item, caught=caught))
            self._fill(item, yields=self._collected(item))
        until = step.repeat.until if step.repeat else step.until
        self._fill(item, is_item=True)
        self._fill(
            index,
            children=(item,),
            over=step.foreach,
            max_parallel=step.max_parallel,
            on_item_failure=step.on_item_failure,
            stragglers=step.stragglers,
            until=until,
            until_reads=self._reads(until, caught),
            every=step.repeat.every if step.repeat else None,
            max_times=step.repeat.max_times if step.repeat else None,
        )
        self.items = outer

    def _states(self, step: StepSpec, *, index: int, caught: int) -> None:
        """Compile states: the first is where it begins; each visit is an instance of one."""
        states, path = step.states or (), f"{self.nodes[index].path}[]"
        by_id = {
            state.id: self._step(state, owner=index, caught=caught, outer=path) for state in states
        }
        for state in states:
            ways = state.next or ()
            self._fill(
                by_id[state.id],
                is_item=True,
                transitions=tuple(
                    Transition(way.when, NO_NODE if way.to is None else by_id[way.to])
                    for way in ways
                ),
                transition_reads=self._reads([way.when for way in ways], caught),
            )
        start = by_id[step.start] if step.start else next(iter(by_id.values()))
        others = (node for node in by_id.values() if node != start)
        self._fill(index, children=(start, *others), max_times=step.max_visits)

    def _switch(self, step: StepSpec, *, index: int, caught: int) -> None:
        cases = tuple(
            Case(
                None if case.otherwise else case.when,
                self._sequence(case.steps, owner=index, caught=caught),
            )
            for case in step.switch or ()
        )
        self._fill(
            index, cases=cases, children=tuple(child for case in cases for child in case.children)
        )

    def _handlers(self, step: StepSpec, *, index: int) -> Iterable[Handler]:
        for number, clause in enumerate(step.catch):
            name = f"catch[{number}]"
            handler = self._add(
                id=f"{step.id}.{name}",
                path=f"{self.nodes[index].path}.{name}",
                kind=StepKind.STEPS,
                scope=index,
                handles=index,
                caught=index,
            )
            children = self._sequence(clause.steps, owner=handler, caught=index)
            self._fill(handler, children=children)
            self._fill(handler, yields=self._collected(handler))
            yield Handler(clause.on, handler)

    def _undo(self, step: StepSpec, *, index: int) -> int:
        """Add what undoes the step: a task where the step was, unless it says otherwise."""
        undo = step.compensate
        if undo is None:
            return NO_NODE
        return self._add(
            id=f"{step.id}.compensate",
            path=f"{self.nodes[index].path}.compensate",
            kind=StepKind.TASK,
            scope=index,
            undoes=index,
            uses=undo.uses,
            arguments=undo.arguments,
            environment=step.environment or "",
            queue_class=undo.queue_class or step.queue_class or "default",
            timeout=undo.timeout,
            retry=self.retry if undo.retry is None else retry_policy(self.spec.retry, undo.retry),
            call=self._reads(undo.arguments, NO_NODE),
        )

    def _inline(self, step: StepSpec, caught: int) -> Reads:
        conditions = [step.when, *(case.when for case in step.switch or ())]
        leaving = (step.exit.when, step.exit.output) if step.exit else ()
        pausing = (step.wait.duration, step.wait.until, step.output) if step.wait else ()
        given = step.arguments if step.workflow is not None else None
        asking = step.approval
        asked = (asking.group, asking.escalate_to, asking.message) if asking else ()
        read = [*conditions, step.set, step.foreach, *leaving, *pausing, given, *asked]
        known = self._reads(read, caught)
        return known if step.event is None else known | self._asked(step.event.match, caught)

    def _asked(self, match: str | bool | None, caught: int) -> Reads:
        """Return what a match reads of the run; the event itself has yet to come."""
        reads = self._reads(match, caught)
        return Reads(reads.roots - {"event"}, reads.steps)

    def _collected(self, index: int) -> Reads:
        """Return the steps whose outputs make up that of a scope, unless it says another."""
        node = self.nodes[index]
        match node.kind:
            case StepKind.PARALLEL | StepKind.FIRST:
                members = node.children
            case StepKind.STEPS:
                members = node.children[-1:]
            case StepKind.SWITCH:
                members = tuple(case.children[-1] for case in node.cases if case.children)
            case _:
                return NOTHING
        reads_itself = node.id in expressions.references(node.output).steps
        if node.output is not None and not reads_itself and node.kind is not StepKind.FIRST:
            return NOTHING
        return Reads(steps=frozenset(self.nodes[member].id for member in members))

    def _reads(self, value: Any, caught: int) -> Reads:
        found = expressions.references(value)
        if not found.roots:
            return NOTHING
        steps = frozenset(found.steps)
        if "error" in found.roots and caught != NO_NODE:
            steps |= {self.nodes[caught].id}
        return Reads(frozenset(found.roots), steps)


def _goes_on(step: StepSpec) -> bool:
    """Say whether a loop goes on with its other items when one has failed."""
    return step.on_item_failure is OnItemFailure.CONTINUE


def _listening(step: StepSpec) -> Listening | None:
    event = step.event
    return None if event is None else Listening(event.type, event.match, event.since)


def _approval(step: StepSpec) -> Approval | None:
    asked = step.approval
    if asked is None:
        return None
    return Approval(
        group=asked.group,
        title=step.name or "",
        description=step.description or "",
        message=asked.message or "",
        approvals=asked.approvals,
        on_timeout=asked.on_timeout,
        escalate_to=asked.escalate_to,
        form=asked.form,
        allow_self=asked.allow_self,
    )


def _patience(step: StepSpec) -> float | None:
    """Return how long the step waits for what comes from outside."""
    waits = (one for one in (step.approval, step.callback, step.event) if one is not None)
    return next((one.timeout for one in waits), None)
