"""Damaged packages: flipped, cut, overwritten bytes give one error or a working model.

Each batch runs in a process of its own with its address space limited, so that a crash, a hang or a
read of a whole terabyte would be seen.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import coreml_lab as cl
from tests.support.packages import compiled

BATCH = """
import random, resource, sys, time
from pathlib import Path
if sys.platform == "linux":
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
import coreml_lab as cl

package, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cl.configure(cache_dir=package.parent / "cache")
names = ("*.mlmodel", "model.mil", "metadata.json", "weight.bin")
files = [file for name in names for file in package.rglob(name)]
whole = [file.read_bytes() for file in files]
order, worst, tally = random.Random(seed), 0.0, {}

def damaged(data):
    data = bytearray(data)
    at = order.randrange(len(data) if order.random() < 0.7 else min(256, len(data)))
    kind = order.choice(("flip", "zero", "ones", "cut", "stretch"))
    if kind == "flip":
        for _ in range(order.randrange(1, 6)):
            data[order.randrange(len(data))] ^= 1 << order.randrange(8)
    elif kind == "zero":
        data[at : at + 8] = bytes(8)
    elif kind == "ones":
        data[at : at + 8] = bytes([255]) * 8
    elif kind == "cut":
        data = data[:at]
    else:
        data[at:at] = order.randbytes(4)
    return bytes(data)

cl.load(package)
for _ in range(count):
    which = order.choice((0, *range(len(files))))
    files[which].write_bytes(damaged(whole[which]))
    start = time.perf_counter()
    try:
        cl.load(package)
        name = "loaded"
    except cl.errors.LabError as error:
        assert error.hint, error
        name = type(error).__name__
    worst = max(worst, time.perf_counter() - start)
    tally[name] = tally.get(name, 0) + 1
    files[which].write_bytes(whole[which])
assert not list((package.parent / "cache").glob(".part-*"))
print(worst, tally)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with weights in a file of their own."""
    random = np.random.default_rng(0)
    kernel = random.standard_normal((8, 3, 3, 3), np.float32)
    weight = random.standard_normal((4, 8), np.float32)

    def network(x):  # type: ignore[no-untyped-def]
        features = cl.ops.conv2d(x, kernel, padding=1).relu()
        return cl.ops.linear(features.mean([2, 3]), weight=weight)

    model = cl.compile(network, x=cl.spec(1, 3, 8, 8), precision="fp16")
    target = tmp_path_factory.mktemp("fuzz") / "net.mlpackage"
    shutil.copytree(model.program.package, target)
    return target


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "count"), [(0, 100), pytest.param(1, 2000, marks=pytest.mark.sweep)]
)
@pytest.mark.parametrize("form", ["package", "compiled"])
def test_damaged_models_give_one_error_and_never_a_crash(
    package: Path, tmp_path: Path, form: str, seed: int, count: int
) -> None:
    if form == "package":
        copy = shutil.copytree(package, tmp_path / package.name)
    else:
        copy = compiled(package, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", BATCH, str(copy), str(seed), str(count)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "ModelError" in done.stdout
    # Two seconds are the limit; a shared machine gets five times that.
    assert float(done.stdout.split()[0]) < 10
