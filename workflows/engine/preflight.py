"""Can a live run go over to another version of its workflow, and what would become of its steps?

`examine` says SAFE, NEEDS_MAPPING or BLOCKED, with a finding for each thing that stands in the
way, and how the rows of the run go over. What a node stands for is told by its path, unless the
mapping says that the path is another now, or that the run does without it.
Pure; `workflows.engine.migrating` carries out what is said here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workflows.engine.events import Birth
from workflows.engine.examined import (
    Examined,
    Finding,
    Mapped,
    Standing,
    Verdict,
    blocked,
    told,
    unmapped,
)
from workflows.engine.newcomers import Newcomers, is_passed
from workflows.engine.plan import NO_NODE, ROOT, SCOPES, Node, Plan, is_inside, located
from workflows.engine.slice import RunView, StepView
from workflows.engine.states import (
    ASKING,
    PARKED,
    Reason,
    RunState,
    StepState,
)
from workflows.language.words import StepKind

MOVABLE = frozenset({RunState.PENDING, RunState.RUNNING, RunState.PAUSED, RunState.FAILED})


def examine(  # noqa: PLR0913 - the facts of a migration, named
    old: Plan,
    new: Plan,
    *,
    run: RunView,
    standings: Sequence[Standing],
    rows: Mapping[str, StepView],
    mapping: Mapped,
) -> Examined:
    """Say whether a run can go over, and how.

    `standings` count all its rows. `rows` are those that something may still become of: all
    outside of loops, and inside what lives, has failed or may be reopened.
    """
    refusal = _of_the_run(run)
    if refusal is not None:
        return Examined((refusal,))
    way = _Way(old, new, run, standings, rows, mapping)
    way.check_mapping()
    way.check_rows()
    if not any(finding.verdict is Verdict.BLOCKED for finding in way.findings):
        way.place()
        way.bring_forth()
        way.check_order()
    return way.examined()


def _of_the_run(run: RunView) -> Finding | None:
    if run.state in {RunState.COMPENSATING, RunState.COMPENSATED} or run.is_undone:
        return blocked(ROOT, "what the run has done is being undone, or has been")
    if run.state is RunState.CANCELLING:
        return blocked(ROOT, "the run is being cancelled")
    if run.state not in MOVABLE:
        return blocked(ROOT, f"the run has ended, it is {run.state.value}", "Fork it instead.")
    if run.state is not RunState.FAILED and run.ending is not None:
        return blocked(ROOT, "the run is heading for its end", "Let it end.")
    return None


@dataclass(slots=True)
class _Way:
    """The way of one run from a version to another, as far as it is found out."""

    old: Plan
    new: Plan
    run: RunView
    standings: Sequence[Standing]
    rows: Mapping[str, StepView]
    mapping: Mapped
    findings: list[Finding] = field(default_factory=list)
    nodes: dict[int, int] = field(default_factory=lambda: {0: 0})
    retired: set[int] = field(default_factory=set)
    births: list[Birth] = field(default_factory=list)
    placed: dict[str, StepView] = field(default_factory=dict)
    taken: set[int] = field(default_factory=lambda: {0})
    """The nodes of the new version that those of the old one become."""
    known: frozenset[int] = field(init=False)
    """The nodes of the old version that have rows."""

    def __post_init__(self) -> None:
        self.known = frozenset(standing.node for standing in self.standings)

    def examined(self) -> Examined:
        """Return what was found."""
        ended = [view.path for view in self.rows.values() if self._must_be_ended(view)]
        in_order = sorted(ended, key=lambda path: (-self.rows[path].node, path))
        return Examined(
            tuple(dict.fromkeys(self.findings)),
            self.nodes,
            frozenset(self.retired),
            tuple(in_order),
            tuple(self.births),
            self.placed,
            self._names(),
        )

    def _names(self) -> dict[str, str]:
        names = {one.path: "" for one in self.births if one.reason in {None, Reason.HELD_BACK}}
        for view in self.rows.values():
            becomes = self._placed(view).path if view.node in self.nodes else view.path
            if becomes != view.path and view.state is not StepState.COMPLETED:
                names[becomes] = view.path
        return names

    def _must_be_ended(self, view: StepView) -> bool:
        return view.node in self.retired and (view.alive or view.state is StepState.FAILED)

    def check_mapping(self) -> None:
        """Hold the mapping against both versions."""
        for before, after in self.mapping.items():
            if before not in self.old.by_path and (after is not None or not self._is_new(before)):
                self._map(before, "the mapping names it, and neither version has it so", "")
            elif after is not None and after not in self.new.by_path:
                self._map(before, f"the mapping has it be {after}, which is no step", "")

    def _is_new(self, path: str) -> bool:
        return path in self.new.by_path and path not in self.old.by_path

    def _map(self, path: str, what: str, do: str) -> None:
        self.findings.append(unmapped(path, what, do))

    def _block(self, path: str, what: str, do: str = "") -> None:
        self.findings.append(blocked(path, what, do))

    def target(self, node: Node) -> tuple[bool, Node | None]:
        """Return whether the mapping names the node, and what it is in the new version."""
        known = [top for top in self.mapping if is_inside(node.path, top)]
        mapped = [top for top in known if top in self.old.by_path]
        if not mapped:
            return False, self.new.by_path.get(node.path)
        top = max(mapped, key=len)
        into = self.mapping[top]
        return True, None if into is None else self.new.by_path.get(into + node.path[len(top) :])

    def check_rows(self) -> None:
        """Find out what becomes of each node that has rows, and whether it can."""
        by_node: dict[int, list[Standing]] = {}
        for standing in self.standings:
            by_node.setdefault(standing.node, []).append(standing)
        unmapped: list[str] = []
        for index in sorted(by_node):
            node = self.old.nodes[index]
            is_named, target = self.target(node)
            if target is not None:
                self._go_over(node, target, by_node[index])
            elif is_named:
                self._give_up(node, by_node[index])
            elif not any(is_inside(node.path, top) for top in unmapped):
                unmapped += self._miss(node, by_node[index])
            else:
                self.retired.add(index)

    def _miss(self, node: Node, standings: Sequence[Standing]) -> list[str]:
        """Do without a node of which nothing was done; ask about any other."""
        self.retired.add(node.index)
        self._keep_rounds(node)
        done = [standing for standing in standings if not standing.is_untouched]
        for standing in done:
            self._map(
                node.path,
                f"{standing.named} is {standing.state.value}, and the new version has no such step",
                "Map it to the step that it has become, or give it up.",
            )
        if not done:
            self._tell(node.path, "the new version has it no more, and nothing was done for it")
        return [node.path] if done else []

    def _tell(self, path: str, what: str) -> None:
        self.findings.append(told(path, what))

    def _give_up(self, node: Node, standings: Sequence[Standing]) -> None:
        """Do without a node, as the mapping says."""
        self.retired.add(node.index)
        self._keep_rounds(node)
        for standing in standings:
            if standing.state is StepState.RUNNING:
                self._block(
                    standing.path,
                    f"{standing.named} is RUNNING, and cannot be given up meanwhile",
                    "Migrate the run once it has ended.",
                )
            elif standing.is_in_flight and standing.reason in ASKING:
                self._block(
                    standing.path,
                    f"nobody knows yet whether {standing.named} took effect",
                    "Migrate the run once its probe has answered.",
                )
            elif standing.state is StepState.COMPLETED and node.undo != NO_NODE:
                self._tell(node.path, "it is given up: what it has done will not be undone")

    def _keep_rounds(self, node: Node) -> None:
        """A loop counts its rounds, so they stay as long as it does."""
        if node.is_item and node.scope in self.nodes:
            loop = self.old.nodes[node.scope].path
            what = f"{node.path} is what {loop} does in each round, and there have been some"
            self._block(node.path, what, "Keep it in the new version, or do without the loop.")

    def _go_over(self, node: Node, target: Node, standings: Sequence[Standing]) -> None:
        if target.index in self.taken:
            self._block(node.path, f"two steps would become {target.path}")
            return
        if self._trades_names(node, target):
            self._block(
                node.path,
                f"it would become {target.path}, which is another step that would have a new name",
                "Give the step of the new version a name that no other had.",
            )
            return
        self.nodes[node.index] = target.index
        self.taken.add(target.index)
        if self._changes_its_place(node, target):
            self._block(
                node.path,
                f"{target.path} of the new version is inside another block than {node.path} was",
                "Map steps only to steps of the same block.",
            )
        for standing in standings:
            self._check_standing(node, target, standing)

    def _trades_names(self, node: Node, target: Node) -> bool:
        """Say whether the path is that of another step, which keeps its rows under a new one."""
        other = self.old.by_path.get(target.path)
        if other is None or other.index == node.index or other.index not in self.known:
            return False
        becomes = self.target(other)[1]
        return becomes is not None and becomes is not target

    def _changes_its_place(self, node: Node, target: Node) -> bool:
        if node.index == 0 or target.index == 0:
            return node.index != target.index
        same = self.nodes.get(node.scope) == target.scope
        return not same or node.is_item is not target.is_item

    def _check_standing(self, node: Node, target: Node, standing: Standing) -> None:
        where = standing.named
        if node.kind is not target.kind and not _may_be_another(node, target, standing):
            self._block(
                standing.path,
                f"{where} is {standing.state.value} and would be no {node.kind.value} any more,"
                f" but {target.kind.value}",
                "Give the step of the new version another name.",
            )
        elif standing.is_in_flight and (what := self._other_work(node, target, standing)):
            self._block(
                standing.path,
                f"{where} is {standing.state.value}, and the new version has another {what} there",
                "Migrate the run once the step has ended.",
            )
        elif node.path != target.path and self._is_known_by_name(standing):
            self._block(
                standing.path,
                f"{where} is {standing.state.value}, and would have another name meanwhile",
                "Migrate the run once the step has ended. While a run is paused, none begins.",
            )
        elif node.path != target.path and _is_tried_again(node, target, standing):
            self._block(
                standing.path,
                f"{where} may have taken effect, and would be tried again under another name, which"
                " its idempotency key is made of",
                "Give the step of the new version the name that it had.",
            )

    @staticmethod
    def _is_known_by_name(standing: Standing) -> bool:
        """Say whether others know the step by its path: a worker, its gate, a URL, a child run."""
        known = PARKED | {Reason.CALLBACK, Reason.CHILD}
        is_known = standing.is_in_flight and standing.reason in known
        return standing.state is StepState.RUNNING or is_known

    def _other_work(self, node: Node, target: Node, standing: Standing) -> str:
        """Return what of the work under way the new version has otherwise, if anything."""
        if standing.reason is Reason.CATCH:
            return ""
        before, after = _work_of(node), _work_of(target)
        differ = [name for name, value in before.items() if after.get(name, value) != value]
        if node.kind is StepKind.FOREACH and node.source:
            source = self.nodes.get(node.source, NO_NODE)
            if target.source != source:
                differ.append("source of items")
        return " and ".join(differ)

    def place(self) -> None:
        """Put the rows into the new version."""
        for view in self.rows.values():
            if view.node in self.nodes:
                placed = self._placed(view)
                self.placed[placed.path] = placed

    def _placed(self, view: StepView) -> StepView:
        target = self.new.nodes[self.nodes[view.node]]
        path = located(target.path, view.path)
        scope = located(self.new.nodes[target.scope].path, path)
        return view._replace(node=target.index, path=path, scope=scope)

    def bring_forth(self) -> None:
        """Find the steps that only the new version has, of the scopes that have begun."""
        newcomers = Newcomers(self.old, self.new, self.run, self.placed, self.mapping)
        newcomers.find()
        self.findings += newcomers.findings
        self.births = newcomers.births

    def check_order(self) -> None:
        """See that nothing that has begun would have to wait for what has not."""
        before = {after: index for index, after in self.nodes.items()}
        for view in self.placed.values():
            if not is_passed(view) or not self._is_open(view):
                continue
            was = self.old.nodes[before[view.node]]
            known = {self.nodes.get(index) for index in was.needs}
            for need in self.new.nodes[view.node].needs:
                path = self.new.path(need, view.path)
                other = self.placed.get(path)
                if other is not None and need not in known and not other.final:
                    self._block(
                        view.path,
                        f"{view.path} has begun and would follow {path}, which has not ended",
                        "Migrate the run once that has ended.",
                    )

    def _is_open(self, view: StepView) -> bool:
        around = self.placed.get(view.scope)
        return view.scope == ROOT or (around is not None and around.alive)


def _may_be_another(node: Node, target: Node, standing: Standing) -> bool:
    """Say whether a step may be of another kind now: nothing was done, or it is to be replayed."""
    is_alone = not {node.kind, target.kind} & SCOPES
    return standing.is_untouched or (standing.state is StepState.FAILED and is_alone)


def _is_tried_again(node: Node, target: Node, standing: Standing) -> bool:
    """Say whether a task has been tried, and is the same one that will be tried again, or may."""
    if not standing.is_begun or node.uses != target.uses or node.kind is not StepKind.TASK:
        return False
    match standing.state:
        case StepState.FAILED:
            return standing.reason is not Reason.OPTIONAL
        case StepState.CANCELLED:
            return standing.reason in {Reason.FAIL_FAST, Reason.TIMEOUT}
        case _:
            return standing.is_in_flight


def _work_of(node: Node) -> dict[str, Any]:
    """Return what is under way while a step is in flight, in words and values."""
    asked = node.approval and replace(node.approval, title="", description="", message="")
    where = {"environment": node.environment}
    works: Mapping[StepKind, dict[str, Any]] = {
        StepKind.TASK: {
            "task type": node.uses,
            **where,
            "profile": node.pool,
            "guard": node.guard,
        },
        StepKind.WAIT: {"wait": node.pause},
        StepKind.EVENT: {"event": node.listening},
        StepKind.WORKFLOW: {"child workflow": node.child, **where},
        StepKind.APPROVAL: {"approval": asked},
        StepKind.FOREACH: {"list of items": node.over},
    }
    return works.get(node.kind, {})
