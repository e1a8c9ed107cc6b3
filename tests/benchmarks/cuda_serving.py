"""Many callers for one model on a device of PyTorch's, and its results beside other engines'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.errors import LabError
from coreml_lab.program.graph import Dim
from coreml_lab.run.engine import Options
from coreml_lab.run.portable import PortableEngine
from coreml_lab.run.pytorch import PyTorchEngine
from coreml_lab.run.reference import ReferenceEngine
from tests.benchmarks import bench_scheduler
from tests.benchmarks.cuda_networks import Clock, Row, model_of

# Throughput of 32 callers through the scheduler / of one caller after another.
LEAST, EACH = 1.5, 8
SIZES = (1, 2, 4, 8, 16, 32)
APART = 1e-4


def scheduler(device: str, clock: Clock) -> Iterator[Row]:
    """MobileNetV2 with a flexible batch, in fp32 and fp16."""
    x = cl.zoo.inputs("mobilenet_v2")["x"]
    for precision in ("fp32", "faithful"):
        model = bench_scheduler.network(
            Dim("n", 1, max(SIZES)), engine="pytorch", device=device, precision=precision
        )
        for size in SIZES if device != "cpu" else ():  # graphs are captured the second time
            for _ in range(3):
                model.predict({"x": np.repeat(x, size, axis=0)})
        shown = "fp16" if precision == "faithful" else precision
        seconds = max(2.0, min(20.0, clock.left() / 10))
        row = bench_scheduler.measure(f"scheduler {shown}", model, LEAST, EACH, seconds=seconds)
        yield {"part": "scheduler", "name": "mobilenet_v2", "precision": shown, **row}


def accuracy(device: str, clock: Clock) -> Iterator[Row]:
    """Each network of the zoo in fp32, against the portable engine, or NumPy without it."""
    other: Any = PortableEngine()
    if not other.available().available:
        other = ReferenceEngine()
    for name in cl.zoo.NETWORKS:
        row: Row = {"part": "accuracy", "name": name, "against": other.name}
        if clock.left() < 30:
            yield {**row, "skipped": "the time is over"}
            continue
        try:
            model, x = model_of(name, 1, "fp32")
            wanted = other.load(model.program, "cpu", Options()).run({"x": x})
            program = PyTorchEngine().load(model.program, device, Options())
            got = [program.run({"x": x}) for _ in range(3)][-1]
        except LabError as error:
            yield {**row, "ok": False, "error": error.message}
            continue
        apart = max(
            float(np.abs(got[k].astype(np.float64) - v).max() / np.abs(v).max())
            for k, v in wanted.items()
        )
        verdict = "ok" if apart <= APART else "TOO FAR"
        print(f"accuracy {name:<14} {apart:.1e} relative to {other.name}: {verdict}", flush=True)
        yield {**row, "apart": apart, "ok": apart <= APART}
