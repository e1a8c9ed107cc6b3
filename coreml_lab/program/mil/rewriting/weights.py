"""How weights are stored: fewer bits, tables, zeros; all by coremltools' own optimiser."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.optimize.coreml import _quantization_passes

from coreml_lab.errors import EngineUnavailable, UnknownParameter
from coreml_lab.program.mil.tools import REMARKED

Config = Callable[..., Any]
KMEANS = "kmeans"
# A share more than was asked for that equal weights may make of what is dropped.
ALIKE = 0.1


def _config(
    kind: Config, settings: Mapping[str, Any], skip: Sequence[str], by_name: Mapping[str, Any]
) -> Any:
    """One setting for all weights, but those of operations that are skipped or have their own."""
    names: dict[str, Any] = dict.fromkeys(skip)
    for name, own in by_name.items():
        names[name] = None if own is None else kind(**{**settings, **own})
    return cto.OptimizationConfig(global_config=kind(**settings), op_name_configs=names)


def quantize_weights(
    model: Any,
    *,
    dtype: str = "int8",
    mode: str = "linear_symmetric",
    granularity: str = "per_channel",
    block_size: int = 32,
    weight_threshold: int = 2048,
    skip: Sequence[str] = (),
    by_name: Mapping[str, Mapping[str, Any] | None] | None = None,
    joint: bool = False,
) -> Any:
    """Store weights as integers with a scale per tensor, channel or block."""
    settings = {
        "dtype": dtype,
        "mode": mode,
        "granularity": granularity,
        "weight_threshold": weight_threshold,
    }
    if granularity == "per_block":
        settings["block_size"] = block_size
    config = _config(cto.OpLinearQuantizerConfig, settings, skip, by_name or {})
    return cto.linear_quantize_weights(model, config, joint_compression=joint)


def palettize_weights(
    model: Any,
    *,
    nbits: int = 6,
    mode: str = KMEANS,
    granularity: str = "per_tensor",
    group_size: int = 16,
    cluster_dim: int = 1,
    enable_per_channel_scale: bool = False,
    weight_threshold: int = 2048,
    skip: Sequence[str] = (),
    by_name: Mapping[str, Mapping[str, Any] | None] | None = None,
    joint: bool = False,
) -> Any:
    """Store weights as indices into tables of 2 to the ``nbits`` values.

    Raises:
        EngineUnavailable: for k-means without scikit-learn, which coremltools does it with.
    """
    if mode == KMEANS and importlib.util.find_spec("sklearn") is None:
        raise EngineUnavailable(
            "tables by k-means need scikit-learn",
            hint="pip install scikit-learn, or mode='uniform', which loses more",
        )
    settings = {
        "nbits": nbits,
        "mode": mode,
        "granularity": granularity,
        "cluster_dim": cluster_dim,
        "enable_per_channel_scale": enable_per_channel_scale,
        "weight_threshold": weight_threshold,
    }
    if granularity == "per_grouped_channel":
        settings["group_size"] = group_size
    config = _config(cto.OpPalettizerConfig, settings, skip, by_name or {})
    with _undivided_left_alone():
        return cto.palettize_weights(model, config, joint_compression=joint)


def prune_weights(
    model: Any,
    *,
    target_sparsity: float | None = None,
    threshold: float | None = None,
    n_m_ratio: tuple[int, int] | None = None,
    block_size: int | None = None,
    weight_threshold: int = 2048,
    skip: Sequence[str] = (),
    by_name: Mapping[str, Mapping[str, Any] | None] | None = None,
    joint: bool = False,
) -> Any:
    """Set the smallest weights to zero and store the others: a share, n of m, or below a size."""
    ways = {
        "target_sparsity": target_sparsity,
        "threshold": threshold,
        "n_m_ratio": n_m_ratio and tuple(n_m_ratio),
    }
    given = {name: value for name, value in ways.items() if value is not None}
    if len(given) != 1:
        raise UnknownParameter(
            f"prune_weights takes one of {', '.join(ways)}, not {len(given)}",
            hint="target_sparsity=0.5, say",
        )
    settings = {**given, "weight_threshold": weight_threshold}
    if threshold is not None:
        kind = cto.OpThresholdPrunerConfig
    else:
        kind = cto.OpMagnitudePrunerConfig
        settings |= {"block_size": block_size} if block_size else {}
    config = _config(kind, settings, skip, by_name or {})
    with _limits_in_fp32():
        return cto.prune_weights(model, config, joint_compression=joint)


@contextlib.contextmanager
def _undivided_left_alone() -> Iterator[None]:
    """Weights whose channels do not divide into groups stay as they are.

    coremltools 9.0 finds that out after it has divided them by their scales, in place, and leaves
    them so: results would be wrong, and nothing said.
    """
    utils = _quantization_passes.optimize_utils
    own = utils.infer_block_sizes

    def checked(op: Any, config: Any, weight: Any, *arguments: Any, **settings: Any) -> Any:
        sizes, axis = own(op, config, weight, *arguments, **settings)
        rest = [(n, size) for n, size in zip(weight.shape, sizes or (), strict=False) if size]
        for count, size in rest:
            if count % size:
                logging.getLogger(REMARKED).warning(
                    "%s stays as it is: %d channels do not divide into groups of %d",
                    op.name,
                    count,
                    size,
                )
                return None, axis
        return sizes, axis

    utils.infer_block_sizes = checked
    try:
        yield
    finally:
        utils.infer_block_sizes = own


@contextlib.contextmanager
def _limits_in_fp32() -> Iterator[None]:
    """Have the limit below which fp16 weights become zeros found in fp32.

    coremltools asks NumPy for a percentile, and NumPy counts places in the array's own type: of
    more than 65504 fp16 weights the limit is NaN, and none would be dropped. Where many weights are
    equal, all of them lie at the limit, and far more than the share asked for would go: then none.
    """
    passes = _quantization_passes.prune_weights
    own = passes.compress_by_magnitude

    def widened(val: Any, target_sparsity: float, *arguments: Any, **settings: Any) -> Any:
        found = own(val.astype(np.float32), target_sparsity, *arguments, **settings)
        if found is None:
            return None
        dropped = np.count_nonzero(val) - np.count_nonzero(found.nonzero_data)
        if dropped > (target_sparsity + ALIKE) * val.size:
            logging.getLogger(REMARKED).warning("weights stay as they are: too many are equal")
            return None
        return found._replace(nonzero_data=found.nonzero_data.astype(val.dtype))

    passes.compress_by_magnitude = staticmethod(widened)
    try:
        yield
    finally:
        passes.compress_by_magnitude = staticmethod(own)


def decompress_weights(model: Any) -> Any:
    """Store every weight whole again, with the rounding it has had."""
    return cto.decompress_weights(model)


def int8_weights(model: Any, *, weight_threshold: int = 2048) -> Any:
    """Store large weights as 8-bit integers with one scale per output channel."""
    return quantize_weights(model, weight_threshold=weight_threshold)
