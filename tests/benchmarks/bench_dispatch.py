"""What a call costs beyond the engine's own: one tiny op, a recorded run, a warm start.

Interleaved blocks of calls; each line is a median and the range over the blocks.
Targets: predict <= 10 us above ONNX Runtime's own call, a recorded run <= 50 us above an
unrecorded one, and a warm start that imports neither coremltools nor onnx and takes <= 1.2 of
hashing the package and the entry once and making the session.
"""

from __future__ import annotations

import os
import random
import shutil
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
from coreml_lab.measure.paired import Pairs, ratio

CALLS, BLOCKS = 500, 30
STARTS = 30
MOST_PREDICT, MOST_RECORDED, MOST_WARM = 10.0, 50.0, 1.2


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
model = cl.load(sys.argv[1], engine='portable')
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
    """A new process that loads a cached model, against one that hashes it and makes the session.

    Both run from compiled Python files, as installed packages do.
    """
    with tempfile.TemporaryDirectory() as folder, cl.configure(cache_dir=folder):
        model = cl.zoo.resnet50()
        package = Path(folder) / "resnet50.mlpackage"
        shutil.copytree(model.info.package, package)
        key = cl.load(package, engine="portable").info.key
        onnx = Path(folder) / f"{key}-portable" / "portable.onnx"
        compiled = str(Path(folder) / "bytecode")

        def ours() -> list[str]:
            return _output(compiled, WARM, str(package), folder)

        def theirs() -> list[str]:
            return _output(compiled, SESSION, str(onnx), str(package))

        heavy = " ".join(ours()[1:])
        theirs()
        pairs, order = ([], []), random.Random(0)  # type: ignore[var-annotated]
        for _ in range(STARTS):
            turns = [(ours, pairs[0]), (theirs, pairs[1])]
            order.shuffle(turns)
            for run, kept in turns:
                kept.append(int(float(run()[0]) * 1e9))
    found = ratio(Pairs(tuple(pairs[0]), tuple(pairs[1])))
    middle = statistics.median(pairs[0]) / 1e6
    met = found.high is not None and found.high <= MOST_WARM and not heavy
    print(f"warm start of ResNet-50 in a new process       {middle:7.0f} ms, import included")
    print(
        f"  against onnxruntime import + hash + session     x {found.value:.3f} "
        f"[{found.low:.3f}, {found.high:.3f}]; heavy imports: {heavy or 'none'}  "
        f"target <= {MOST_WARM}: {'met' if met else 'MISSED'}"
    )
    return met


def _output(compiled: str, code: str, *arguments: str) -> list[str]:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**kept, "PYTHONPYCACHEPREFIX": compiled},
    )
    return done.stdout.split()


if __name__ == "__main__":
    sys.exit(0 if all([dispatch(), recorded(), warm_start()]) else 1)
