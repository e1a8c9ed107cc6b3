"""Whole networks: the portable engine against torch.onnx -> ONNX Runtime and torch, in turns.

Same weights, same threads, pairs of blocks in random order; ratio = ours / theirs, the median with
its 95 % interval. A block is two runs that are not timed, while the other session's threads stop
spinning, and 40 ms or more of runs that are; its time is the median of theirs, which a run that the
system held up does not move. Target: upper bound <= 1.05, for ResNet-50 under 50 ms, too. Parity:
SNR >= 90 dB. ``bench_engine vit``: that network only. Where threads share a core with strangers,
``COREML_LAB_THREADS=1`` gives small networks, on both sides, narrower intervals.
"""

from __future__ import annotations

import io
import random
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import torch

import coreml_lab as cl
from coreml_lab import config
from coreml_lab.measure.paired import Pairs, Ratio, ratio
from tests.support.torch_zoo import Twin

PAIRS, BLOCK_NS, MOST_RATIO, MOST_MS, LEAST_DB = 150, 40_000_000, 1.05, 50.0, 90.0
NETWORKS = ("resnet50", "mobilenet_v2", "vit", "bert")


def exported(twin: Any, example: Any) -> Any:
    """The twin as ONNX, exported by torch, in a session with the engine's own settings."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(twin, (example,), file, dynamo=False, opset_version=20, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.current().threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )


def snr(wanted: Any, got: Any) -> float:
    """Signal to noise in decibels."""
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


def timed(work: Callable[[], Any]) -> int:
    """Nanoseconds of a run: the median of a block."""
    start = time.perf_counter_ns()
    work(), work()
    runs = max(3, BLOCK_NS // ((time.perf_counter_ns() - start) // 2))
    stamps = [time.perf_counter_ns()]
    for _ in range(runs):
        work()
        stamps.append(time.perf_counter_ns())
    return int(np.median(np.diff(stamps)))


def in_turns(arm: Callable[[], Any], baseline: Callable[[], Any], pairs: int) -> Pairs:
    """Blocks of both, in random order within each pair."""
    order, times = random.Random(0), ([], [])  # type: ignore[var-annotated]
    for _ in range(pairs):
        turns = [(arm, times[0]), (baseline, times[1])]
        order.shuffle(turns)
        for work, kept in turns:
            kept.append(timed(work))
    return Pairs(tuple(times[0]), tuple(times[1]))


def shown(found: Ratio) -> str:
    """A ratio with its interval."""
    return f"x {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def compare(name: str) -> bool:
    """One network; whether its targets are met."""
    inputs, twin = cl.zoo.inputs(name), Twin(name).eval()
    with cl.configure(engine="portable"):
        model = getattr(cl.zoo, name)()
    example = torch.from_numpy(inputs["x"])
    session = exported(twin, example)
    feed = {session.get_inputs()[0].name: inputs["x"]}
    with torch.inference_mode():
        parity = snr(twin(example).numpy(), model.predict(inputs)["output"])
        onnx = in_turns(lambda: model.predict(inputs), lambda: session.run(None, feed), PAIRS)
        eager = in_turns(lambda: model.predict(inputs), lambda: twin(example), PAIRS // 8)
    against, best = ratio(onnx), min(onnx.arm) / 1e6
    middle = float(np.median(onnx.arm)) / 1e6
    high = against.high if against.high is not None else np.inf
    met = high <= MOST_RATIO and parity >= LEAST_DB and (name != "resnet50" or middle < MOST_MS)
    print(
        f"{name:<13} {middle:7.2f} ms (best {best:.2f})  to torch.onnx->ORT {shown(against)}  "
        f"to torch eager {shown(ratio(eager))}  parity {parity:.1f} dB  "
        f"{'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


if __name__ == "__main__":
    results = [compare(name) for name in sys.argv[1:] or NETWORKS]
    sys.exit(0 if all(results) else 1)
