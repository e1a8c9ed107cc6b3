"""The PyTorch engine on an NVIDIA GPU: every op's samples, faults, networks, memory.

    python tests/benchmarks/bench_cuda.py [FOLDER] [--only ops,faults,networks]
        [--networks vit,bert] [--compile]

Prints a table and writes ``bench_cuda.json`` into FOLDER (default: ``$OUT``, else here). Each part
goes on after a failure, which becomes a row. ``networks`` needs coremltools, the others do not.

* ops: for at most four minutes, each sample three times on the device (eager, captured, captured
  again), in fp32 against the NumPy body and in fp16 against the body on rounded inputs.
* faults: states, an index out of range, memory that runs out; the device works on afterwards.
* networks: NumPy to NumPy, in turns with plain PyTorch on the same weights: eager, as a CUDA graph
  and, with --compile, under torch.compile. Ratio = ours / theirs, the median with its 95 %
  interval. Target: at most 1.05 against the best of them, results within 1e-4 in fp32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from coreml_lab.measure.paired import interleave, ratio
from coreml_lab.program.graph import TensorType
from coreml_lab.run.engine import Options
from coreml_lab.run.steps.space import exact
from tests.benchmarks.cuda_faults import faults
from tests.benchmarks.cuda_ops import ops

DEVICE = "cuda:0"
NETWORKS = ("resnet50", "mobilenet_v2", "vit", "bert")
PAIRS, SECONDS = 25, 12.0
HALF = torch.float16
Rows = list[dict[str, Any]]


# -- networks --------------------------------------------------------------------------------------


def graphed(call: Callable[[Any], Any], example: Any) -> Callable[[Any], Any]:
    """Plain PyTorch as a CUDA graph."""
    static, stream = example.clone(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call(static)

    def run(x: Any) -> Any:
        static.copy_(x, non_blocking=True)
        graph.replay()
        return result

    return run


def twin(name: str, batch: int, dtype: Any, *, channels_last: bool = False) -> Callable[[Any], Any]:
    """A network of the zoo in plain PyTorch."""
    from tests.support.torch_zoo import Twin  # the zoo needs coremltools

    made = Twin(name).eval().to(DEVICE, dtype)
    if name == "vit":
        made.register_buffer("cls_token", made.p("cls_token").expand(batch, -1, -1).contiguous())
    if channels_last:
        for key, value in made.named_buffers():
            if value.ndim == 4:
                made._buffers[key] = value.to(memory_format=torch.channels_last)

    def call(x: Any) -> Any:
        x = x.to(dtype) if x.is_floating_point() else x
        return made(x.to(memory_format=torch.channels_last) if channels_last else x)

    return call


def rivals(name: str, batch: int, precision: str, x: Any, compiled: bool) -> dict[str, Any]:
    """Plain PyTorch from NumPy to NumPy, in several ways."""
    example, dtype = torch.from_numpy(x).to(DEVICE), HALF if precision == "fp16" else torch.float32
    pinned = torch.from_numpy(x).pin_memory()
    call = twin(name, batch, dtype)
    ways: dict[str, Callable[[Any], Any]] = {"eager": call}
    makers: dict[str, Callable[[], Any]] = {"graph": lambda: graphed(call, example)}
    if name in {"resnet50", "mobilenet_v2"}:
        last = twin(name, batch, dtype, channels_last=True)
        makers["graph, channels last"] = lambda: graphed(last, example)
    if compiled:
        makers["torch.compile"] = lambda: torch.compile(call, mode="reduce-overhead")
    for way, make in makers.items():
        try:
            ways[way] = make()
            ways[way](example)
        except Exception as error:  # noqa: BLE001 - that way is left out
            ways.pop(way, None)
            print(f"  {way}: {type(error).__name__}: {str(error).splitlines()[0]}")

    def whole(run: Callable[[Any], Any]) -> Callable[[], Any]:
        def once() -> Any:
            pinned.numpy()[...] = x
            return run(pinned.to(DEVICE, non_blocking=True)).float().cpu().numpy()

        return once

    return {way: whole(run) for way, run in ways.items()}


def network(name: str, batch: int, precision: str, compiled: bool) -> dict[str, Any]:
    """A network against its twin."""
    import coreml_lab as cl
    from coreml_lab.run.pytorch import PyTorchEngine
    from coreml_lab.zoo.layers import Layers

    found, net = cl.zoo.NETWORKS[name], Layers(0)
    spec = TensorType((batch, *found.input.sizes[1:]), found.input.dtype)
    model = cl.compile(
        lambda x: found.function(net, x),
        name=name,
        x=spec,
        precision=precision,
        engine="reference",
        device="cpu",
    )
    x = np.concatenate([cl.zoo.inputs(name, seed=i)["x"] for i in range(batch)])
    torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated()
    start = time.perf_counter()
    program = PyTorchEngine().load(model.program, DEVICE, Options(faithful=precision == "fp16"))
    loaded = time.perf_counter() - start
    weights = torch.cuda.memory_allocated() - base

    def ours() -> Any:
        return program.run({"x": x})["output"]

    start = time.perf_counter()
    with torch.inference_mode():
        for _ in range(4):
            got = ours()
        first = time.perf_counter() - start
        captured = next((g for g in program._graphs.values() if g is not None), None)
        row: dict[str, Any] = {
            "part": "networks", "name": name, "batch": batch, "precision": precision,
            "load_s": loaded, "first_runs_s": first, "weights_bytes": weights,
            "peak_bytes": torch.cuda.max_memory_allocated() - base,
            "captured": captured is not None, "eager": program.eager_because,
            "channels_last": program.space.channels_last,
            "device_ms": captured.time() if captured else None,
        }  # fmt: skip
        others = rivals(name, batch, precision, x, compiled)
        wanted = others["eager"]()
        scale = max(float(np.abs(wanted).max()), 1e-12)
        row["apart"] = float(np.abs(got.astype(np.float64) - wanted).max()) / scale
        row["against"] = {}
        for way, other in others.items():
            pairs = interleave(ours, other, pairs=PAIRS, warmup=3, seconds=SECONDS)
            r = ratio(pairs)
            row["against"][way] = {
                "ratio": r.value, "low": r.low, "high": r.high, "pairs": r.pairs,
                "ours_ms": float(np.median(pairs.arm)) / 1e6,
                "theirs_ms": float(np.median(pairs.baseline)) / 1e6,
            }  # fmt: skip
    spans = program.trace({"x": x}, 3)[-1].spans
    row["spans_ms"] = sum(s.duration_ns for s in spans) / 1e6
    row["slowest"] = [
        (s.op, s.node, s.duration_ns / 1e3) for s in sorted(spans, key=lambda s: -s.duration_ns)[:5]
    ]
    row["ok"] = row["apart"] <= (1e-4 if precision == "fp32" else 5e-2)
    return row


def told(row: Mapping[str, Any]) -> None:
    """A network in two lines."""
    at = f"{row['name']} x{row['batch']} {row['precision']}"
    device = f"{row['device_ms']:.3f} ms on the device" if row["device_ms"] else row["eager"]
    layout = ", channels last" if row["channels_last"] else ""
    weights, peak = (row[k] / 2**20 for k in ("weights_bytes", "peak_bytes"))
    print(f"{at:<24} apart {row['apart']:.1e} {'ok' if row['ok'] else 'MISSED'}; {device}{layout}")
    print(
        f"    weights {weights:.0f} MiB, peak {peak:.0f} MiB; loaded in {row['load_s']:.2f} s, "
        f"first four runs {row['first_runs_s']:.2f} s; spans {row['spans_ms']:.3f} ms"
    )
    for way, r in row["against"].items():
        low, high = (float("nan") if r[k] is None else r[k] for k in ("low", "high"))
        print(
            f"    {way:<22} ours {r['ours_ms']:7.3f} ms, theirs {r['theirs_ms']:7.3f} ms: "
            f"x {r['ratio']:.3f} [{low:.3f}, {high:.3f}]"
        )


def networks(names: list[str], compiled: bool) -> Rows:
    """Every network, batch and precision."""
    rows: Rows = []
    for name in names:
        for precision in ("fp32", "fp16"):
            for batch in (1, 32):
                try:
                    with exact(torch):  # for the twin, too
                        rows.append(network(name, batch, precision, compiled))
                    told(rows[-1])
                except Exception as error:  # noqa: BLE001 - a row, and on
                    text = f"{type(error).__name__}: {error}"[:400]
                    rows.append(
                        {"part": "networks", "name": name, "batch": batch, "precision": precision}
                        | {"ok": False, "error": text, "where": traceback.format_exc()[-1500:]}
                    )
                    print(f"{name} x{batch} {precision} FAILED {text}")
                torch.cuda.empty_cache()
    return rows


def main() -> int:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default=os.environ.get("OUT", "."))
    parser.add_argument("--only", default="faults,networks,ops")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("PyTorch finds no NVIDIA GPU here")
        return 0
    name = torch.cuda.get_device_name(0)
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, numpy {np.__version__}")
    parts: dict[str, Callable[[], Rows]] = {
        "faults": lambda: faults(DEVICE),
        "networks": lambda: networks(asked.networks.split(","), asked.compile),
        "ops": lambda: ops(DEVICE),
    }
    rows: Rows = []
    for part in asked.only.split(","):
        start = time.perf_counter()
        try:
            rows += parts[part]()
        except Exception:  # noqa: BLE001 - the other parts go on
            traceback.print_exc()
            rows.append({"part": part, "ok": False, "error": traceback.format_exc()[-1500:]})
        print(f"-- {part}: {time.perf_counter() - start:.0f} s", flush=True)
        found = {"gpu": name, "torch": torch.__version__, "numpy": np.__version__, "rows": rows}
        target = Path(asked.folder) / "bench_cuda.json"
        target.write_text(json.dumps(found, indent=1, default=str), encoding="utf-8")
    return 0 if all(r.get("ok", True) for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
