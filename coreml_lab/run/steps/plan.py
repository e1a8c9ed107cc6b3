"""Graph -> a plan: a list of steps over numbered slots.

A value leaves its slot after its last reader.
"""

from __future__ import annotations

from coreml_lab.program.graph import Graph, Node, Value
from coreml_lab.run.steps import onednn
from coreml_lab.run.steps.builder import Builder, Whole
from coreml_lab.run.steps.fusion import attentions, chosen, rectified, siblings
from coreml_lab.run.steps.space import Space
from coreml_lab.run.steps.step import Plan, released
from coreml_lab.run.steps.ways import Way
from coreml_lab.run.steps.wholes import as_one

PLAIN = Way()


def plan(graph: Graph, space: Space, way: Way = PLAIN, *, rounded: bool = False) -> Plan:
    """Prepare a program for a device.

    Args:
        graph: the program.
        space: where it runs.
        way: how.
        rounded: round every fp16 result to fp16 where fp16 values are held as fp32.

    Raises:
        UnsupportedOp: for an op that has no torch lowering; the message names it.
    """
    whole: dict[Node, Whole] = {**chosen(graph), **({} if rounded else attentions(graph))}
    whole |= siblings(graph) if way.merged else {}
    whole |= rectified(graph) if way.rectify else {}
    whole |= onednn.layers(graph) if way.layers else {}
    space.channels_last = way.channels_last
    builder = Builder(space, way, rounded, whole, as_one)
    for name, node in graph.inputs.items():
        builder.made.inputs[name] = builder.slot(Value(node))
    for name, node in graph.states.items():
        builder.made.states[name] = builder.slot(Value(node))
    steps = [step for node in graph for step in builder.steps(node)]
    builder.made.outputs = {k: builder.read(v) for k, v in graph.outputs.items()}
    builder.made.updates = {k: builder.read(v) for k, v in graph.updates.items()}
    builder.made.fixed = all(map(_fixed, graph))
    kept = {*builder.made.outputs.values(), *builder.made.updates.values()}
    builder.made.steps = released(steps, kept | builder.constants)
    return builder.made


def _fixed(node: Node) -> bool:
    return all(isinstance(size, int) for kind in node.types for size in kind.shape)
