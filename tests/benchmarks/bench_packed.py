"""One linear layer of 4096x4096 with packed weights against itself expanded to fp32, in turns.

ratio = packed / expanded, the median with its 95 % interval. Target at one row: int4 in blocks of
32 <= 0.2, in the mode that is the default (high). One layer runs over and over: what fits into the
processor's caches stays there, all 64 MB on some servers. So four different layers in a row are
timed as well, which is what a network does. Signal to noise is
that of the expanded form computed in double precision. Memory is what a process holds that has
loaded the lowered model and run it. Where a mode expands (int8 in blocks of many rows), the ratio
shows the noise of the machine. ``bench_packed 1``: one row only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.measure.paired import ratio
from coreml_lab.program.mil.tools import ct, mb, quiet
from tests.benchmarks.bench_engine import in_turns, shown, snr

SIZE, PAIRS, TARGET, DEEP = 4096, 30, 0.2, 4
MODES = ("high", "exact", "fast")
RANDOM = np.random.default_rng(0)
# Bits, numbers that share a scale.
WEIGHTS = {"int4 by 32": (4, 32), "int4 by 128": (4, 128), "int8 by row": (8, SIZE)}
WEIGHTS |= {"int8 by 32": (8, 32)}
HELD = (
    "import sys, psutil, numpy as np, coreml_lab as cl; "
    "cl.configure(packed=sys.argv[2], cache_dir=sys.argv[3], rivals=False); "
    "model = cl.load(sys.argv[1]); model.predict({'x': np.ones((1, 4096), np.float32)}); "
    "print(psutil.Process().memory_info().rss >> 20)"
)


def stored(bits: int, block: int) -> tuple[Any, Any]:
    """Random numbers and scales."""
    top = 1 << (bits - 1)
    numbers = RANDOM.integers(-top, top, (SIZE, SIZE)).astype(np.int8)
    scale = RANDOM.uniform(0.5, 1.5, (SIZE, SIZE // block)).astype(np.float32) / (64 * top)
    return numbers, scale


def package(folder: Path, rows: int, bits: int, *weights: tuple[Any, Any]) -> Path:
    """Layers one after the other as a Core ML package, for that many rows."""
    kind = ct.converters.mil.mil.types.type_mapping.string_to_nptype(f"int{bits}")

    @mb.program(input_specs=[mb.TensorSpec((rows, SIZE))], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        for i, (numbers, scale) in enumerate(weights, 1 - len(weights)):
            weight = mb.constexpr_blockwise_shift_scale(data=numbers.astype(kind), scale=scale)
            x = mb.linear(x=x, weight=weight, name=f"y{i}" if i else "y")
        return x

    with quiet():
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
    path = folder / f"{rows}_{len(weights)}.mlpackage"
    model.save(str(path))
    return path


def loaded(path: Path, mode: str) -> Any:
    with cl.configure(packed=mode, rivals=False):
        return cl.load(path)


def held(path: Path, mode: str) -> str:
    """Memory of a process that finds the lowered model in the cache."""
    command = [sys.executable, "-c", HELD, str(path), mode, str(cl.cache().root)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def compare(name: str, rows: int, folder: Path) -> dict[str, float]:
    """Each mode at so many rows; the upper ends of their ratios."""
    bits, block = WEIGHTS[name]
    numbers, scale = stored(bits, block)
    path = package(folder, rows, bits, (numbers, scale))
    x = {"x": RANDOM.standard_normal((rows, SIZE)).astype(np.float32)}
    weight = numbers * np.repeat(scale.astype(np.float64), block, axis=1)
    wanted, full, found = x["x"].astype(np.float64) @ weight.T, loaded(path, "off"), {}
    for mode in MODES:
        model = loaded(path, mode)
        pairs = in_turns(
            lambda m=model: m.predict(x),  # type: ignore[misc]
            lambda: full.predict(x),
            PAIRS if rows < 16 else PAIRS // 3,
        )
        told, times = ratio(pairs), [np.median(s) / 1e6 for s in (pairs.arm, pairs.baseline)]
        found[mode] = told.high or np.inf
        memory = ""
        if rows == 1:
            memory = f"  {held(path, mode)} MB, expanded {held(path, 'off')} MB"
        print(
            f"{name:<12} {rows:>3} rows {mode:<5} {times[0]:8.3f} ms, fp32 {times[1]:8.3f} ms: "
            f"{shown(told)}  {snr(wanted, model.predict(x)['y']):6.1f} dB"
            f"{memory}",
            flush=True,
        )
    return found


def in_a_row(name: str, folder: Path) -> float:
    """Layers with weights of their own, one row, mode high; the upper end of its ratio."""
    bits, block = WEIGHTS[name]
    path = package(folder, 1, bits, *(stored(bits, block) for _ in range(DEEP)))
    x = {"x": RANDOM.standard_normal((1, SIZE)).astype(np.float32)}
    model, full = loaded(path, "high"), loaded(path, "off")
    pairs = in_turns(lambda: model.predict(x), lambda: full.predict(x), PAIRS)
    told, times = ratio(pairs), [np.median(s) / 1e6 for s in (pairs.arm, pairs.baseline)]
    print(
        f"{name:<12} {DEEP} layers in a row, high {times[0]:8.3f} ms, fp32 {times[1]:8.3f} ms: "
        f"{shown(told)}",
        flush=True,
    )
    return told.high or np.inf


if __name__ == "__main__":
    rows = [int(n) for n in sys.argv[1:]] or [1, 4, 16, 128]
    high: dict[tuple[str, int], dict[str, float]] = {}
    for label in WEIGHTS:
        for count in rows:
            with tempfile.TemporaryDirectory() as temporary, cl.configure(cache_dir=temporary):
                high[label, count] = compare(label, count, Path(temporary))
    if 1 in rows:
        with tempfile.TemporaryDirectory() as temporary, cl.configure(cache_dir=temporary):
            deep = in_a_row("int4 by 32", Path(temporary))
        met = {mode: high["int4 by 32", 1][mode] <= TARGET for mode in MODES}
        line = ", ".join(f"{m} {'met' if v else 'MISSED'}" for m, v in met.items())
        line += f", {DEEP} in a row {'met' if deep <= TARGET else 'MISSED'}"
        print(f"int4 by 32 at one row, <= {TARGET}: {line}")
        sys.exit(0 if met["high"] and deep <= TARGET else 1)
