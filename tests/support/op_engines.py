"""Cases on what can run them: the definition, ONNX Runtime, PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from coreml_lab.program.graph import Array, Graph
from coreml_lab.run.onnx_graph import lower
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


def by_torch(torch: Any, case: Case, *, widened: bool = False) -> list[Array]:
    """What the op's lowering to PyTorch computes; ``widened`` holds fp16 in single precision."""

    def tensors(value: Any) -> Any:
        """Arrays as tensors, also inside lists; shapes and axes stay Python lists."""
        if isinstance(value, list | tuple) and any(isinstance(v, np.ndarray) for v in value):
            return [tensors(v) for v in value]
        if widened and isinstance(value, np.ndarray) and value.dtype == np.float16:
            value = value.astype(np.float32)
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    assert case.op.torch is not None
    with torch.no_grad():
        attrs = {k: tensors(v) for k, v in case.attrs.items()}
        operands = {k: tensors(v) for k, v in case.operands.items()}
        result = case.op.call(case.op.torch, torch, operands, attrs)
    return [r.numpy() for r in (result if isinstance(result, tuple | list) else (result,))]
