"""What OpenCL's drivers tell about their devices, asked through tinygrad's binding."""

from __future__ import annotations

import ctypes
from typing import Any

from coreml_lab.run.tinygrad_onnx import OPENCL

FREE = "OpenCL has no question for how much memory is free"


def details(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Capabilities of a device that has been found, and the reasons for what it does not tell."""
    from tinygrad.device import Device  # noqa: PLC0415 - an extra, heavy
    from tinygrad.runtime.autogen import opencl  # noqa: PLC0415

    number = name.partition(":")[2]
    found: Any = Device[f"{OPENCL}:{number}".removesuffix(":0")]

    def ask(question: int, kind: Any) -> int | None:
        answer = kind(0)
        size = ctypes.sizeof(answer)
        refused = opencl.clGetDeviceInfo(found.cl_dev, question, size, ctypes.byref(answer), None)
        return None if refused else int(answer.value)

    half = ("fp16",) if "cl_khr_fp16" in found.device_exts else ()
    cores = ask(opencl.CL_DEVICE_MAX_COMPUTE_UNITS, ctypes.c_uint32)
    unified = ask(opencl.CL_DEVICE_HOST_UNIFIED_MEMORY, ctypes.c_uint32)
    kind = ask(opencl.CL_DEVICE_TYPE, ctypes.c_uint64) or 0
    known = {
        "is_gpu": bool(kind & opencl.CL_DEVICE_TYPE_GPU),
        "dtypes": (*half, "fp32", "int32", "bool"),
        "memory": ask(opencl.CL_DEVICE_GLOBAL_MEM_SIZE, ctypes.c_uint64),
        "compute_units": {"compute unit": cores} if cores else None,
        "unified_memory": None if unified is None else bool(unified),
    }
    return known, {"memory_free": FREE}
