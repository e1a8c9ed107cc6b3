"""Cases on what can run them: the definition, ONNX Runtime, PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime

from coreml_lab.program.graph import Array, Graph
from coreml_lab.run.engine import Options
from coreml_lab.run.lowering.graph import lower
from coreml_lab.run.reference import ReferenceProgram, compute
from tests.support.op_cases import Case, record


def onnx_runtime(
    graph: Graph, feeds: Mapping[str, Array], *, faithful: bool = False
) -> Mapping[str, Array]:
    """The program lowered to ONNX as it stands, run by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        lower(graph, faithful=faithful).model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    return dict(zip(graph.outputs, session.run(list(graph.outputs), dict(feeds)), strict=True))


def by_definition(case: Case) -> tuple[Array, ...]:
    """What the op's body computes, in the types that MIL gives its results."""
    feeds: dict[str, Array] = {}
    node = record(case, feeds)
    given = {v: feeds[v.node.name] if v.const is None else v.const for v in node.operands()}
    return compute(node, given)


def walked(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What the reference engine computes."""
    return ReferenceProgram(graph, "cpu").run(feeds)


def pytorch(graph: Graph, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    """What the PyTorch engine computes on the CPU."""
    import torch

    from coreml_lab.run.steps.program import PyTorchProgram

    return PyTorchProgram(graph, "cpu", Options(), torch).run(feeds)
