"""The PyTorch engine: NVIDIA GPUs through CUDA, Apple's through Metal, and the CPU.

Numerics: *widened* holds fp16 values as fp32, as the portable engine does. *Faithful* computes in
fp16 on a GPU, whose units do; on the CPU it rounds every fp16 result. TF32 is off: single precision
is single precision.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coreml_lab.errors import EngineUnavailable
from coreml_lab.program.graph import CONTROL_FLOW, LEAVES, Node
from coreml_lab.program.program import Program
from coreml_lab.run.engine import Availability, Options, package_version

if TYPE_CHECKING:
    from coreml_lab.run.steps.program import PyTorchProgram

DRIVERS = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
INSTALL = "pip install 'coreml-lab[torch]'"


@functools.cache
def nvidia_gpus() -> int:
    """How many GPUs NVIDIA's driver has; PyTorch, which takes seconds to import, is not asked."""
    for name in DRIVERS:
        try:
            driver, count = ctypes.CDLL(name), ctypes.c_int(0)
        except OSError:
            continue
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0


def torch_module() -> Any:
    """PyTorch, imported when it is used.

    Raises:
        EngineUnavailable: where it is not here, or cannot be imported.
    """
    try:
        import torch  # noqa: PLC0415 - heavy, and an extra
    except (ImportError, OSError) as error:
        raise EngineUnavailable(
            f"PyTorch cannot be imported: {error}", reason=str(error), hint=INSTALL
        ) from error
    return torch


@dataclass(frozen=True)
class PyTorchEngine:
    """Runs the torch lowerings of the op declarations."""

    name: str = "pytorch"

    @property
    def devices(self) -> tuple[str, ...]:
        """The CPU, a Mac's GPU, and as many GPUs as NVIDIA's driver counts."""
        metal = ("metal:0",) if sys.platform == "darwin" else ()
        return ("cpu", *metal, *(f"cuda:{i}" for i in range(nvidia_gpus())))

    def title(self, device: str) -> str:
        """What arms and panels call it."""
        where = "CPU" if device == "cpu" else "Apple GPU"
        if device.startswith("cuda"):
            where = torch_module().cuda.get_device_name(device)
        return f"Core ML program, PyTorch engine ({where})"

    def available(self) -> Availability:
        """Whether PyTorch is installed; it is not imported for that."""
        version = package_version("torch")
        if not version:
            return Availability(False, f"PyTorch is not installed: {INSTALL}")
        return Availability(True, version=f"torch {version}")

    def supports(self, node: Node) -> bool:
        """Whether its op has a torch lowering."""
        from coreml_lab.program.ops import OPS  # noqa: PLC0415 - slow to import

        return node.op in LEAVES | CONTROL_FLOW or (
            node.op in OPS and OPS[node.op].torch is not None
        )

    def load(self, program: Program, device: str, options: Options) -> PyTorchProgram:
        """Put the weights on the device and prepare every op."""
        torch = torch_module()
        from coreml_lab.run.steps.program import PyTorchProgram, Translated  # noqa: PLC0415 - slow

        if not options.threads:
            with Translated(torch):
                return PyTorchProgram(program.graph, device, options, torch)
        from coreml_lab.run.steps.threads import Threaded, limited  # noqa: PLC0415 - as above

        # The number is the process's: it is set while the program is made and runs, and put back.
        with Translated(torch), limited(torch, options.threads):
            return Threaded(program.graph, device, options, torch)
