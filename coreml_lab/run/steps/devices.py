"""The GPUs that PyTorch can use, and why not: it is imported only where there may be one."""

from __future__ import annotations

import ctypes
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


def details(name: str) -> tuple[dict[str, object], dict[str, str]]:
    """Capabilities of a GPU that has been found, and the reasons for what it does not tell."""
    found = torch_module().cuda.get_device_properties(name)
    integrated = getattr(found, "is_integrated", None)
    known = {
        "dtypes": ("fp16", "fp32", "int32", "bool"),
        "memory": int(found.total_memory),
        "compute_units": {"multiprocessor": int(found.multi_processor_count)},
        "unified_memory": None if integrated is None else bool(integrated),
    }
    uuid = str(getattr(found, "uuid", ""))
    free = _free(uuid) if uuid else None
    why = "" if free is not None else "NVIDIA's management library does not tell (libnvidia-ml)"
    return {**known, "memory_free": free}, {"memory_free": why}


def _free(uuid: str) -> int | None:
    """Bytes free on the GPU of that name, for all processes; it makes no context on it."""
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None
    handle, memory = ctypes.c_void_p(), (ctypes.c_ulonglong * 3)()  # total, free, used
    named = ctypes.create_string_buffer(f"GPU-{uuid.removeprefix('GPU-')}".encode())
    if library.nvmlInit_v2() != 0:
        return None
    try:
        asked = library.nvmlDeviceGetHandleByUUID(named, ctypes.byref(handle))
        told = asked == 0 and library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
        return int(memory[1]) if told else None
    finally:
        library.nvmlShutdown()


def metal_memory() -> int | None:
    """Bytes that Metal recommends to use at most; None where PyTorch is too old to ask."""
    ask = getattr(torch_module().mps, "recommended_max_memory", None)
    return int(ask()) if ask else None


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
