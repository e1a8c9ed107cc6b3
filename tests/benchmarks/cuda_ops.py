"""Every sample of every op on a device, against its NumPy body; without coremltools."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.program.ops import OPS, Op
from coreml_lab.run.engine import Options
from coreml_lab.run.steps.program import PyTorchProgram

SECONDS = 240.0
TOLERANCE = {"fp32": (1e-4, 1e-4), "fp16": (1e-2, 1e-2)}
Rows = list[dict[str, Any]]


def halved(value: Any) -> Any:
    """Floating-point arrays in half precision."""
    if isinstance(value, tuple | list):
        return type(value)(halved(v) for v in value)
    real = isinstance(value, np.ndarray) and value.dtype == np.float32
    return value.astype(np.float16) if real else value


def single(value: Any) -> Any:
    """And back."""
    if isinstance(value, tuple | list):
        return type(value)(single(v) for v in value)
    half = isinstance(value, np.ndarray) and value.dtype == np.float16
    return value.astype(np.float32) if half else value


def as_program(op: Op, sample: Mapping[str, Any], precision: str) -> tuple[Graph, Any, list[Any]]:
    """A sample as a program, what to feed it, and what the body makes of it."""
    given = {k: v for k, v in sample.items() if v is not None}
    given = {k: halved(v) if precision == "fp16" else v for k, v in given.items()}
    with np.errstate(all="ignore"):
        result = op.reference(**{k: single(v) for k, v in given.items()})
    wanted = [np.asarray(r) for r in (result if isinstance(result, tuple | list) else (result,))]
    feeds: dict[str, Any] = {}

    def operand(name: str, value: Any) -> Any:
        if isinstance(value, tuple | list) and any(isinstance(v, np.ndarray) for v in value):
            return tuple(operand(f"{name}_{i}", v) for i, v in enumerate(value))
        array = np.asarray(value)
        array = array.astype(
            {"int64": "int32", "float64": "float32"}.get(array.dtype.name, array.dtype)
        )
        kind = (TensorType(array.shape, array.dtype),)
        if name in op.baked or not isinstance(value, np.ndarray):
            return Value(Node("const", kind, attrs={"val": array}))
        feeds[name] = array
        return Value(Node("input", kind, name=name))

    half = precision == "fp16"
    types = tuple(
        TensorType(w.shape, np.dtype(np.float16 if half and w.dtype == np.float32 else w.dtype))
        for w in wanted
    )
    inputs = {k: operand(k, v) for k, v in given.items() if k in op.operands}
    attrs = {k: v for k, v in given.items() if k not in op.operands}
    node = Node(op.name, types, inputs, attrs, name=op.name)
    outputs = {f"y{i}": Value(node, i) for i in range(len(types))}
    return Graph(outputs), feeds, wanted


def difference(got: Any, wanted: Any, precision: str) -> float:
    """The largest difference in units of the tolerance: above 1 is a failure."""
    if got.shape != wanted.shape:
        return float("inf")
    if wanted.dtype.kind != "f":
        return 0.0 if np.array_equal(got, wanted) else float("inf")
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    if precision == "fp16":
        with np.errstate(over="ignore"):
            b = b.astype(np.float16).astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    relative, absolute = TOLERANCE[precision]
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0, np.abs(a - b) / (absolute + relative * np.abs(b)))
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0))


def one_sample(op: Op, index: int, precision: str, device: str) -> dict[str, Any]:
    """A sample on the device."""
    row: dict[str, Any] = {"part": "ops", "name": f"{op.name}-{index}", "precision": precision}
    limited = [
        m.why for m in op.limits if m.engine in {"pytorch", precision} and m.sample in {-1, index}
    ]
    if limited or (op.law is not None and int(op.samples[index].get("seed", -1)) == -1):
        return {**row, "skipped": limited[0] if limited else "random"}
    try:
        graph, feeds, wanted = as_program(op, op.samples[index], precision)
        program = PyTorchProgram(graph, device, Options(faithful=precision == "fp16"), torch)
        worst = 0.0
        for _ in range(3):
            got = list(program.run(feeds).values())
            worst = max(
                worst, *(difference(g, w, precision) for g, w in zip(got, wanted, strict=True))
            )
        graphs = [g for g in program._graphs.values() if g is not None]
        return {
            **row,
            "apart": worst,
            "captured": bool(graphs),
            "eager": "" if graphs else program.eager_because,
            "ok": worst <= 1,
        }
    except Exception as error:  # noqa: BLE001 - a row, and on
        return {**row, "ok": False, "error": f"{type(error).__name__}: {error}"[:400]}


def ops(device: str) -> Rows:
    """Every sample of every op."""
    rows: Rows = []
    # What compression makes is computed by NumPy when a program is loaded.
    told_apart = [o for o in OPS.values() if not o.name.startswith("constexpr")]
    cases = [(o, i, p) for p in ("fp32", "fp16") for o in told_apart for i in range(len(o.samples))]
    end = time.monotonic() + SECONDS
    for op, index, precision in cases:
        rows.append(one_sample(op, index, precision, device))
        if "CUDA error" in rows[-1].get("error", "") or time.monotonic() > end:
            # The device is gone for this process, or the time is over.
            print(f"ops: {len(cases) - len(rows)} of {len(cases)} samples were not run")
            break
    for precision in ("fp32", "fp16"):
        told = [r for r in rows if r["precision"] == precision and "ok" in r]
        bad = [r for r in told if not r["ok"]]
        graphs = sum(r.get("captured", False) for r in told)
        print(
            f"ops {precision}: {len(told) - len(bad)} of {len(told)} agree, {graphs} as CUDA graphs"
        )
        for r in bad:
            print(f"  {r['name']}: {r.get('error') or r['apart']}")
        whys = {r["eager"] for r in told if r.get("eager")}
        print(*(f"  eager: {why}" for why in sorted(whys)), sep="\n")
    return rows
