"""coremltools 9.0's calibration, corrected: ranges of activations over all samples.

Its own two functions overwrite the range of a tensor with the newest sample's before they compare
the two, so that every sample but the last one is forgotten.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np
from coremltools.optimize.coreml.experimental import _post_training_quantization
from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger

__all__ = ["CHANGES", "ModelDebugger"]

Ranges = MutableMapping[str, dict[str, Any]]


def update(name: str, value: Any, ranges: Ranges) -> None:
    """Widen the range of ``name`` to hold ``value``."""
    held = ranges[name]
    array = np.asarray(value)
    low, high = array.min(), array.max()
    held["rmin"] = min(low, held.get("rmin", low))
    held["rmax"] = max(high, held.get("rmax", high))


def record(output_value: Any, output_name: str, activation_stats_dict: Ranges) -> None:
    """The same, in the order of arguments of ``ModelDebugger.record_intermediate_output``."""
    update(output_name, output_value, activation_stats_dict)


# Name, what coremltools has there, what it gets.
CHANGES = (
    (
        "_update_tensor_range",
        vars(_post_training_quantization)["_update_tensor_range"],
        update,
    ),
    (
        "record_intermediate_output",
        vars(ModelDebugger)["record_intermediate_output"],
        staticmethod(record),
    ),
)
