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
KILO = 1024
TIMEOUT = 300.0
# An ONNX model, y = Relu(x) of one number: IR version 8, opset 13.
SMALLEST = (
    b"\x08\x08:3\n\x0c\n\x01x\x12\x01y\x22\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04"
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def footprint(
    package: Path, data: Path, *, function: str, device: str, settings: Mapping[str, Any]
) -> int:
    """Bytes by which a process grows at its peak, while it loads and runs a model.

    Args:
        package: the model's file.
        data: the samples, as ``evaluation.save_samples`` wrote them; the first is run.
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


def _main() -> None:
    import numpy as np  # noqa: PLC0415 - part of the idle process

    from coreml_lab import config  # noqa: PLC0415
    from coreml_lab.run import compiler  # noqa: PLC0415

    _roused()
    task = json.loads(sys.stdin.read())
    with np.load(task["data"], allow_pickle=False) as file:
        inputs = {k.partition("/")[2]: file[k] for k in file.files if k.startswith("0/")}
    settings = task["settings"]
    loading = {k: settings.pop(k) for k in ("engine", "device", "precision") if k in settings}
    settings.pop("batch", None)
    loading = {"device": task["device"], "function": task["function"] or None, **loading}
    idle = _peak()
    with config.configure(**settings, rivals=False):
        model = compiler.load(task["package"], **loading)
        for _ in range(RUNS):
            model.predict(inputs)
    print(json.dumps({"bytes": _peak() - idle}))  # noqa: T201 - the answer


if __name__ == "__main__":
    _main()
