"""Memory that a model needs beyond an idle process: asked in a process of its own.

An idle process is one in which the portable engine has run a model of one operation. The first
model of any kind brings in some 9 MB of ONNX Runtime's code and tables, which stay; they are of no
model, and would hide what one needs more than another. What other engines bring in is counted.

``python -m coreml_lab.improve.optimizing.footprint`` reads a task as JSON and answers as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coreml_lab.errors import ProbeError

RUNS = 3
# Processes that are asked, one after another: one peak alone differs by some percent.
TIMES = 3
KILO = 1024
TIMEOUT = 300.0
# An ONNX model, y = Relu(x) of one number: IR version 8, opset 13.
SMALLEST = (
    b"\x08\x08:3\n\x0c\n\x01x\x12\x01y\x22\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04"
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def footprint(
    package: Path, data: Path, *, function: str, device: str, settings: Mapping[str, Any]
) -> tuple[int, ...]:
    """Bytes by which a process grows at its peak, while it loads and runs a model; several times.

    A process before these fills the compile cache, so that none of them compiles: that would take
    more than most models do.

    Args:
        package: the model's file.
        data: the samples, as ``evaluation.save_samples`` wrote them; the first is run, or as many
            at once as the setting ``batch`` says.
        function: which function of it; empty for the only one.
        device: where to run it.
        settings: of loading and running, as in ``tune``.

    Raises:
        ProbeError: where the system does not tell, or the process failed.
    """
    task = {
        "package": str(package),
        "data": str(data),
        "function": function,
        "device": device,
        "settings": dict(settings),
    }
    _, *found = (_asked(package, task) for _ in range(TIMES + 1))
    return tuple(found)


def _asked(package: Path, task: Mapping[str, Any]) -> int:
    """The answer of one process."""
    command = [sys.executable, "-m", "coreml_lab.improve.optimizing.footprint"]
    try:
        told = subprocess.run(  # noqa: S603 - our own module
            command,
            input=json.dumps(task),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
        return int(json.loads(told.stdout.splitlines()[-1])["bytes"])
    except (OSError, ValueError, KeyError, IndexError, subprocess.SubprocessError) as error:
        raise ProbeError(
            f"the memory of {package.name} could not be measured: {error}",
            hint="the other numbers stand",
        ) from error


def _peak() -> int:
    """Peak bytes of this process; Linux' own counter, since getrusage's is inherited there."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KILO
        raise ProbeError("the system tells no peak of memory", hint="/proc is needed")
    import resource  # noqa: PLC0415 - not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _roused() -> None:
    """Have ONNX Runtime run something: an idle kernel has done that."""
    import numpy as np  # noqa: PLC0415 - part of the idle process

    from coreml_lab.run.onnx_file import OnnxFile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smallest.onnx"
        file.write_bytes(SMALLEST)
        OnnxFile(file, threads=1).run({"x": np.ones(1, np.float32)})


def _inputs(data: str, batch: int) -> dict[str, Any]:
    """The first samples, joined along the first dimension, over again where there are too few."""
    import numpy as np  # noqa: PLC0415 - part of the idle process

    with np.load(data, allow_pickle=False) as file:
        count = len({key.partition("/")[0] for key in file.files})
        names = [key.partition("/")[2] for key in file.files if key.startswith("0/")]
        if batch == 1:
            return {name: file[f"0/{name}"] for name in names}
        rows = [i % count for i in range(batch)]
        return {name: np.concatenate([file[f"{i}/{name}"] for i in rows]) for name in names}


def _main() -> None:
    from coreml_lab import config  # noqa: PLC0415 - part of the idle process
    from coreml_lab.improve.reference import inference  # noqa: PLC0415
    from coreml_lab.run import compiler  # noqa: PLC0415

    _roused()
    task = json.loads(sys.stdin.read())
    settings = task["settings"]
    inputs = _inputs(task["data"], int(settings.pop("batch", 1)))
    loading = {k: settings.pop(k) for k in ("engine", "device", "precision") if k in settings}
    loading = {"device": task["device"], "function": task["function"] or None, **loading}
    idle = _peak()
    with config.configure(**settings, rivals=False):
        model = compiler.load(task["package"], **loading)
        work = inference(model, inputs)
        for _ in range(RUNS):
            work()
    print(json.dumps({"bytes": _peak() - idle}))  # noqa: T201 - the answer


if __name__ == "__main__":
    _main()
