"""coremltools, imported quietly, and the one lock its global state needs."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import warnings
from collections.abc import Iterator

import numpy as np

from coreml_lab.program.frameworks import left_out
from coreml_lab.program.mil.settled import settled

# The block being written lives in a module global of coremltools: one thread at a time.
LOCK = threading.RLock()

with warnings.catch_warnings(), left_out():
    # It warns about optional frameworks it was not tested with, and that this is not a Mac.
    warnings.simplefilter("ignore")
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    import coremltools as ct
    from coremltools import proto
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - its customary name
    from coremltools.converters.mil.frontend.milproto.load import load as load_proto
    from coremltools.converters.mil.mil import Function, Operation, Program, get_new_symbol, types
    from coremltools.converters.mil.mil import program as mil_program
    from coremltools.converters.mil.mil.input_type import TupleInputType
    from coremltools.converters.mil.mil.ops.defs._utils import CONV_POOLING_TYPE_INFERENCE_CACHE
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
    from coremltools.converters.mil.mil.passes import pass_pipeline
    from coremltools.converters.mil.mil.types.symbolic import is_symbolic
    from coremltools.converters.mil.mil.types.type_mapping import (
        nptype_from_builtin,
        numpy_type_to_builtin_type,
    )
    from coremltools.optimize._utils import pack_elements_into_bits as pack_bits
    from coremltools.optimize._utils import restore_elements_from_packed_bits as unpack_bits
    from coremltools.optimize.coreml import _post_training_quantization, _quantization_passes
    from coremltools.optimize.coreml.experimental import (
        _model_debugger,
    )
    from coremltools.optimize.coreml.experimental import (
        _post_training_quantization as _calibration,
    )

for module in (ct.models.model, ct.models.utils):
    module._create_mlpackage = settled(module._create_mlpackage)  # noqa: SLF001 - see there

TARGET = ct.target.iOS18
# What is said to this logger is a remark on a change.
REMARKED = "coreml_lab.remarks"
WITH_BARS = (
    pass_pipeline,
    _quantization_passes,
    _post_training_quantization,
    _model_debugger,
    _calibration,
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep coremltools' progress bars out of the notebook; under the lock, for they are global."""
    with LOCK:
        bars = [module.tqdm for module in WITH_BARS]
        try:
            for module, bar in zip(WITH_BARS, bars, strict=True):
                module.tqdm = functools.partial(bar, disable=True)
            # A pass compares the ranges of element types, which overflows on purpose; weights that
            # are all equal have no range to divide by, and need none.
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                yield
        finally:
            for module, bar in zip(WITH_BARS, bars, strict=True):
                module.tqdm = bar


def bars_apart() -> None:
    """Progress bars of this process do not wait for those of others.

    The lock between processes is a semaphore, which a process that is killed leaves behind.
    """
    pass_pipeline.tqdm.set_lock(threading.RLock())


# coremltools keeps every tensor type that was ever asked for, by element type and shape, and every
# result of a convolution or pooling, by the sizes of its input and its parameters.
KEPT: tuple[dict[object, object], ...] = (
    next(c.cell_contents for c in types.tensor.__closure__ if isinstance(c.cell_contents, dict)),
    CONV_POOLING_TYPE_INFERENCE_CACHE,
)


@contextlib.contextmanager
def types_forgotten() -> Iterator[None]:
    """Let go of the tensor types made meanwhile, once nothing of coremltools' program is left.

    Each flexible size has a symbol of its own, so that no other program would ask for them again.
    """
    before = [len(kept) for kept in KEPT]
    try:
        yield
    finally:
        for kept, count in zip(KEPT, before, strict=True):
            for made in list(kept)[count:]:
                del kept[made]


@contextlib.contextmanager
def remarks() -> Iterator[list[str]]:
    """What coremltools says to the root logger meanwhile, and we to ours: kept, not printed.

    In this thread.
    """
    said: list[str] = []
    here = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        ours = record.name == REMARKED
        mine = record.thread == here and (ours or "coremltools" in record.pathname)
        if mine and record.levelno >= logging.WARNING:
            said.append(record.getMessage())
        return not mine

    listening = [logging.getLogger(), logging.getLogger(REMARKED)]
    for logger in listening:
        logger.addFilter(keep)
    try:
        yield said
    finally:
        for logger in listening:
            logger.removeFilter(keep)


__all__ = [
    "KEPT",
    "LOCK",
    "REMARKED",
    "TARGET",
    "Function",
    "Operation",
    "Program",
    "SSAOpRegistry",
    "TupleInputType",
    "ct",
    "get_new_symbol",
    "is_symbolic",
    "load_proto",
    "mb",
    "mil_program",
    "nptype_from_builtin",
    "numpy_type_to_builtin_type",
    "pack_bits",
    "proto",
    "quiet",
    "remarks",
    "types",
    "types_forgotten",
    "unpack_bits",
]
