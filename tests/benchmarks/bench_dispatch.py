"""What a call costs beyond the engine's own: one tiny op, a recorded run, a warm start.

Interleaved blocks of calls; each line is a median and the range over the blocks.
Targets: predict <= 10 us above ONNX Runtime's own call, a recorded run <= 50 us above an
unrecorded one, and a warm start that imports neither coremltools nor onnx.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import coreml_lab as cl

CALLS, BLOCKS = 500, 30
MOST_PREDICT, MOST_RECORDED = 10.0, 50.0


def per_call(work: Callable[[], Any]) -> float:
    """Microseconds of one call, over a block of them."""
    start = time.perf_counter_ns()
    for _ in range(CALLS):
        work()
    return (time.perf_counter_ns() - start) / CALLS / 1e3


def excess(arm: Callable[[], Any], baseline: Callable[[], Any]) -> list[float]:
    """Microseconds that ``arm`` takes above ``baseline``, block by block, in turns."""
    per_call(arm), per_call(baseline)
    return [per_call(arm) - per_call(baseline) for _ in range(BLOCKS)]


def show(label: str, values: list[float], most: float) -> bool:
    """One line; whether the median is within its target."""
    middle = statistics.median(values)
    met = middle <= most
    spread = f"[{min(values):.2f} … {max(values):.2f}]"
    verdict = f"target <= {most:g} us: {'met' if met else 'MISSED'}"
    print(f"{label:<44} {middle:7.2f} us {spread:<22} {verdict}")
    return met


def dispatch() -> bool:
    """predict() of a one-op program against session.run of the same session."""
    model = cl.compile(lambda x, y: {"z": cl.ops.add(x, y)}, x=cl.spec(4), y=cl.spec(4))
    session = model._executor._loaded.session
    feeds = {name: np.ones(4, np.float32) for name in ("x", "y")}
    return show(
        "predict above ONNX Runtime's run, one add",
        excess(lambda: model.predict(feeds), lambda: session.run(["z"], feeds)),
        MOST_PREDICT,
    )


def recorded() -> bool:
    """The same call inside cl.profile (spans off) against outside."""
    model = cl.compile(lambda x, y: {"z": cl.ops.add(x, y)}, x=cl.spec(4), y=cl.spec(4))
    feeds = {name: np.ones(4, np.float32) for name in ("x", "y")}

    def plain() -> float:
        return per_call(lambda: model.predict(feeds))

    def inside() -> float:
        with cl.profile():
            return per_call(lambda: model.predict(feeds))

    inside(), plain()
    values = [inside() - plain() for _ in range(BLOCKS)]
    return show("a run recorded above a run not recorded", values, MOST_RECORDED)


WARM = """
import sys, time
start = time.perf_counter()
import coreml_lab as cl
cl.configure(cache_dir=sys.argv[2])
model = cl.load(sys.argv[1])
took = time.perf_counter() - start
heavy = sorted({"coremltools", "onnx", "torch"} & set(sys.modules))
print(took, *heavy)
"""
SESSION = """
import sys, time
start = time.perf_counter()
import hashlib, onnxruntime
from pathlib import Path
for folder in (Path(sys.argv[2]), Path(sys.argv[1]).parent):
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            hashlib.file_digest(file.open("rb"), "sha256")
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(time.perf_counter() - start)
"""


def warm_start() -> bool:
    """A new process that loads a cached model, against one that hashes it and makes the session."""
    with tempfile.TemporaryDirectory() as folder, cl.configure(cache_dir=folder):
        model = cl.zoo.resnet50()
        package = Path(folder) / "resnet50.mlpackage"
        Path(model.info.package).rename(package)
        loaded = cl.load(package)
        onnx = Path(folder) / f"{loaded.info.key}-portable" / "portable.onnx"
        pairs, heavy = [], ""
        for _ in range(7):
            ours = _output(WARM, str(package), folder)
            heavy = " ".join(ours[1:])
            pairs.append((float(ours[0]), float(_output(SESSION, str(onnx), str(package))[0])))
    ratios = [a / b for a, b in pairs]
    first = statistics.median(a for a, _ in pairs)
    print(f"warm start of ResNet-50 in a new process       {1e3 * first:7.0f} ms, import included")
    print(
        f"  against onnxruntime import + hash + session     x {statistics.median(ratios):.2f} "
        f"[{min(ratios):.2f} … {max(ratios):.2f}]; heavy imports: {heavy or 'none'}"
    )
    return not heavy


def _output(code: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.split()


if __name__ == "__main__":
    sys.exit(0 if all([dispatch(), recorded(), warm_start()]) else 1)
