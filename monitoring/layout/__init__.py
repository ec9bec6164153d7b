"""Where the steps of a plan stand in its picture: layers from top to bottom, scopes as frames.

Pure and without states, so one layout serves every run of a version. A step stands
below what it needs; a straight line of steps runs on to the right like text; what
starts together stands side by side and wraps. States stand in a column.
"""

from collections.abc import Sequence
from itertools import count

from monitoring.layout.column import in_column
from monitoring.layout.drawing import Box, Edge, Layout, flatten
from monitoring.layout.layers import in_layers
from monitoring.layout.units import HEAD, PAD, STEP_WIDTH, Block, Link, Unit
from workflows.engine.plan import NO_NODE, Node, Plan
from workflows.language.words import Join, StepKind

__all__ = ["STEP_WIDTH", "WIDTH", "Box", "Edge", "Layout", "layout_of"]

WIDTH = 1086.0
BUNDLE_FROM = 6
END, END_WIDTH, END_HEIGHT = "end", 64.0, 28.0


def layout_of(plan: Plan, *, width: float = WIDTH) -> Layout:
    """Return the layout of the whole plan, about `width` wide if its steps allow."""
    block = _Drawer(plan).scope(plan.root.children, width)
    boxes: list[Box] = []
    edges: list[Edge] = []
    flatten(block, 2.0, 2.0, boxes, edges)
    return Layout(block.width + 4, block.height + 4, tuple(boxes), tuple(edges))


class _Drawer:
    """Turns the nodes of each scope into units, the innermost scopes first."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.numbers = count()

    def scope(self, members: Sequence[int], width: float) -> Block:
        units = {index: self.unit(self.plan.nodes[index], width) for index in members}
        links = [
            Link(units[need], units[index])
            for index in members
            for need in self.plan.nodes[index].needs
            if need in units
        ]
        every = list(units.values())
        for index in members:
            for handler in self.plan.nodes[index].handlers:
                node = self.plan.nodes[handler.node]
                fallback = self.frame(node, f"on {', '.join(handler.on) or 'any error'}", width)
                every.append(fallback)
                links.append(Link(units[index], fallback, is_fallback=True))
        return in_layers(*self.bundled(every, links, width), width)

    def unit(self, node: Node, width: float) -> Unit:
        if node.kind is StepKind.SWITCH:
            cases = [
                self.group(
                    "else" if case.when is None else f"when {case.when}", case.children, width
                )
                for case in node.cases
            ]
            inner = in_layers(cases, [], width - 2 * PAD)
            return self.framed(node, "first true branch", inner)
        if node.kind is StepKind.STATES:
            return self.framed(node, _DETAILS[node.kind], self.machine(node, width - 2 * PAD))
        if node.children:
            return self.frame(node, _DETAILS.get(node.kind, ""), width)
        return Unit(next(self.numbers), node.path, node.id, _detail(node))

    def machine(self, scope: Node, width: float) -> Block:
        """Stand states in single file, with their fallbacks and an end to which some lead."""
        units, links = dict[int, Unit](), list[Link]()
        column: list[Unit] = []
        end = Unit(next(self.numbers), "", END, width=END_WIDTH, height=END_HEIGHT)
        for index in scope.children:
            node = self.plan.nodes[index]
            units[index] = self.unit(node, width)
            column.append(units[index])
            for handler in node.handlers:
                said = f"on {', '.join(handler.on) or 'any error'}"
                fallback = self.frame(self.plan.nodes[handler.node], said, width)
                column.append(fallback)
                links.append(Link(units[index], fallback, is_fallback=True))
        for index, unit in units.items():
            ways = self._ways(self.plan.nodes[index])
            unit.leads = "; ".join(f"to {self._named(to)}{when}" for to, when in ways)
            links += [
                Link(unit, units.get(to, end), said=f"{unit.title} to {self._named(to)}{when}")
                for to, when in ways
            ]
        return in_column([*column, end], links)

    def _ways(self, state: Node) -> list[tuple[int, str]]:
        """Return where a state leads, each place once, and when."""
        if not state.transitions:
            return [(NO_NODE, "")]
        found: dict[int, list[str]] = {}
        for way in state.transitions:
            when = "otherwise" if way.when is None else f"when {way.when}"
            found.setdefault(way.to, []).append(when)
        return [(to, f", {' or '.join(when)}") for to, when in found.items()]

    def _named(self, state: int) -> str:
        return f"the {END}" if state == NO_NODE else self.plan.nodes[state].id

    def frame(self, node: Node, detail: str, width: float) -> Unit:
        return self.framed(node, detail, self.scope(node.children, width - 2 * PAD))

    def framed(self, node: Node, detail: str, inner: Block) -> Unit:
        return self.around(inner, path=node.path, title=node.id, detail=detail)

    def group(self, title: str, members: Sequence[int], width: float) -> Unit:
        return self.around(self.scope(members, width - 4 * PAD), path="", title=title, detail="")

    def around(self, inner: Block, *, path: str, title: str, detail: str) -> Unit:
        head = HEAD if title else PAD
        return Unit(
            next(self.numbers),
            path,
            title,
            detail,
            width=max(inner.width + 2 * PAD, STEP_WIDTH),
            height=inner.height + head + PAD,
            inner=inner,
        )

    def bundled(
        self, units: list[Unit], links: list[Link], width: float
    ) -> tuple[list[Unit], list[Link]]:
        """Frame together the many that need the same and are needed by the same."""
        needs: dict[Unit, set[Unit]] = {unit: set() for unit in units}
        followers: dict[Unit, set[Unit]] = {unit: set() for unit in units}
        for link in links:
            needs[link.target].add(link.source)
            followers[link.source].add(link.target)
        alike: dict[tuple[frozenset[Unit], frozenset[Unit]], list[Unit]] = {}
        for unit in units:
            if unit.inner is None and (needs[unit] or followers[unit]):
                key = frozenset(needs[unit]), frozenset(followers[unit])
                alike.setdefault(key, []).append(unit)
        stands_for: dict[Unit, Unit] = {}
        for members in alike.values():
            if len(members) >= BUNDLE_FROM:
                inner = in_layers(members, [], width - 2 * PAD)
                bundle = self.around(inner, path="", title="", detail="")
                stands_for.update(dict.fromkeys(members, bundle))
        if not stands_for:
            return units, links
        kept = list(dict.fromkeys(stands_for.get(unit, unit) for unit in units))
        seen = {
            (stands_for.get(link.source, link.source), stands_for.get(link.target, link.target)): (
                link.is_fallback
            )
            for link in links
        }
        return kept, [Link(*ends, is_fallback) for ends, is_fallback in seen.items()]


_DETAILS = {
    StepKind.PARALLEL: "in parallel",
    StepKind.FIRST: "the first wins",
    StepKind.FOREACH: "for each item",
    StepKind.REPEAT: "again and again",
    StepKind.STATES: "from state to state",
    StepKind.STEPS: "in order",
}


def _detail(node: Node) -> str:
    what = node.uses or node.kind.value
    if node.join is Join.NONE_FAILED:
        return what
    rule = f"at least {node.at_least}" if node.join is Join.AT_LEAST else node.join.value
    return f"{what} · {rule}"
