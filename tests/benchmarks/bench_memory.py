"""Peak memory of loading packages of 100 MB, cold (an empty cache) and warm, each in a process.

The peak is the kernel's (VmHWM, so Linux only), less what the process held after its imports, as a
multiple of the package; absolute numbers stand beside it. Cold, it reads the package with
coremltools, lowers it, writes the cache and makes the session; warm, it makes the session from the
cache. An fp16 package computes in fp32, so its session alone holds twice its size.
Target: <= 3.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import coreml_lab as cl

MOST, WIDTH = 3.0, 1024
LAYERS = {"fp32": 25, "fp16": 50}

LOAD = """
import sys
from pathlib import Path
import coreml_lab as cl, coreml_lab.run.compiler, onnxruntime
if sys.argv[3] == "cold":
    import onnx, coreml_lab.program.mil.reader, coreml_lab.run.lowering.graph
cl.configure(cache_dir=sys.argv[2])

def megabytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ":"))

Path("/proc/self/clear_refs").write_text("5")
before = megabytes("VmRSS")
model = cl.load(sys.argv[1], engine="portable")
print(before, megabytes("VmHWM"), megabytes("VmRSS"), model.info.size_bytes / 2**20)
"""


def linear(precision: str, package: Path) -> None:
    """A chain of products with square weights, 100 MB of them."""
    rng = np.random.default_rng(0)
    weights = [
        (rng.standard_normal((WIDTH, WIDTH)) / 32).astype(np.float32)
        for _ in range(LAYERS[precision])
    ]

    def chain(x: cl.Tensor) -> dict[str, cl.Tensor]:
        for weight in weights:
            x = cl.ops.relu(cl.ops.matmul(x, weight))
        return {"y": x}

    model = cl.compile(chain, x=cl.spec(1, WIDTH), precision=precision, engine="reference")
    shutil.copytree(model.info.package, package)


def resnet(package: Path) -> None:
    """ResNet-50 in fp32: convolutions, whose weights ONNX Runtime rearranges."""
    shutil.copytree(cl.zoo.resnet50().info.package, package)


def measured(package: Path, cache: Path, kind: str) -> bool:
    """One load; whether it met the target."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(package), str(cache), kind],
        check=True,
        capture_output=True,
        text=True,
    )
    before, peak, after, size = map(float, done.stdout.split())
    more = peak - before
    ratio = more / size
    print(
        f"{package.stem:<14} {kind:<5} {size:4.0f} MB  peak +{more:4.0f} MB = x {ratio:.2f}"
        f" [+{after - before:.0f} MB after; {before:.0f} MB after imports, {peak:.0f} MB in all]"
        f"  target <= {MOST:g}: {'met' if ratio <= MOST else 'MISSED'}",
        flush=True,
    )
    return ratio <= MOST


def main() -> int:
    """Three packages, cold and warm."""
    if not Path("/proc/self/clear_refs").exists():
        print("skipped: peaks are read from /proc, which is Linux")
        return 0
    met = []
    with tempfile.TemporaryDirectory() as folder, cl.configure(cache_dir=Path(folder) / "made"):
        makers = {
            "linear fp32": lambda p: linear("fp32", p),
            "linear fp16": lambda p: linear("fp16", p),
            "resnet50 fp32": resnet,
        }
        for name, make in makers.items():
            package, cache = Path(folder) / f"{name}.mlpackage", Path(folder) / name
            make(package)
            met += [measured(package, cache, kind) for kind in ("cold", "warm")]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
