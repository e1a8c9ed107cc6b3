"""The GPUs that PyTorch can use, and why not: it is imported only where there may be one."""

from __future__ import annotations

import platform
import sys

from coreml_lab.errors import EngineUnavailable
from coreml_lab.records import Device
from coreml_lab.run.engine import Availability
from coreml_lab.run.pytorch import PyTorchEngine, nvidia_gpus, torch_module

ENGINES = ("pytorch",)
UNNAMED = "NVIDIA GPU"


def installed() -> Availability:
    """Whether PyTorch is here at all."""
    return PyTorchEngine().available()


def cuda() -> tuple[Device, ...]:
    """Every NVIDIA GPU with its name and memory; or ``cuda:0``, and why there is none."""
    try:
        reason = _no_cuda()
        if reason:
            return (Device("cuda:0", UNNAMED, False, reason),)
        torch = torch_module()
        return tuple(
            _gpu(f"cuda:{i}", torch.cuda.get_device_properties(i))
            for i in range(torch.cuda.device_count())
        )
    except (EngineUnavailable, RuntimeError) as error:
        return (Device("cuda:0", UNNAMED, False, str(error).splitlines()[0]),)


def _gpu(name: str, found: object) -> Device:
    memory = int(getattr(found, "total_memory", 0))
    title = f"{getattr(found, 'name', UNNAMED)}, {memory / 2**30:.0f} GiB"
    return Device(name, title, True, engines=ENGINES, memory=memory)


def _no_cuda() -> str:
    """Why CUDA cannot be used, or an empty string."""
    here = installed()
    if not here.available:
        return here.reason
    if not nvidia_gpus():
        return "NVIDIA's driver was not found, or has no GPU"
    torch = torch_module()
    if torch.version.cuda is None:
        return (
            f"this PyTorch ({torch.__version__}) was built without CUDA: "
            "install the one for your CUDA from pytorch.org"
        )
    if not torch.cuda.is_available() or torch.cuda.device_count() == 0:
        return "PyTorch finds no usable NVIDIA GPU (nvidia-smi shows what the driver sees)"
    return ""


def metal() -> Device:
    """The GPU of a Mac with an Apple chip."""
    reason = _no_metal()
    engines = () if reason else ENGINES
    return Device("metal:0", "Apple GPU", not reason, reason, engines)


def _no_metal() -> str:
    if sys.platform != "darwin":
        return f"this is {platform.system()}, not macOS"
    here = installed()
    if not here.available:
        return here.reason
    try:
        usable = torch_module().backends.mps.is_available()
    except EngineUnavailable as error:
        return error.reason
    return "" if usable else "PyTorch cannot use Metal here: it needs an Apple chip and macOS 14"
