"""How far two results are apart: signal to noise, largest difference, last places. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coreml_lab.errors import NumericalError
from coreml_lab.metrics import Provenance, Quantity

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Agreement:
    """One output of two models, compared value by value.

    Attributes:
        snr: energy of the expected values over energy of the differences, in dB.
        largest: the largest absolute difference.
        ulp: the largest difference in units in the last place of the largest value (fp32, fp16).
            Counted at each value's own last place it would say more of zeros than of errors.
        note: what keeps the numbers from saying everything: values that are not finite.
    """

    output: str
    identical: bool
    snr: Quantity
    largest: Quantity
    ulp: Quantity
    note: str = ""


def agree(
    got: Mapping[str, Any],
    expected: Mapping[str, Any],
    provenance: Provenance = Provenance.MEASURED,
) -> tuple[Agreement, ...]:
    """Compare the outputs of two models, by name.

    Raises:
        NumericalError: where they differ in names or shapes.
    """
    if set(got) != set(expected):
        raise NumericalError(
            f"outputs differ in name: {sorted(got)} and {sorted(expected)}",
            hint="compare two versions of one model",
        )
    return tuple(
        _one(name, _numbers(got[name]), _numbers(value), provenance)
        for name, value in expected.items()
        # A classifier's label says no more than the probabilities that are compared too.
        if not isinstance(value, str | int)
    )


def _numbers(value: Any) -> Array:
    """An array or image as numbers; of a dictionary, its probabilities."""
    if isinstance(value, Mapping):
        return np.asarray(list(value.values()), np.float32)
    return np.asarray(value)


def _one(name: str, got: Array, expected: Array, provenance: Provenance) -> Agreement:
    if got.shape != expected.shape:
        raise NumericalError(
            f"output {name!r} has shape {got.shape}, not {expected.shape}", node=name
        )
    finite = np.isfinite(got) & np.isfinite(expected)
    identical = bool(np.array_equal(got, expected, equal_nan=True))
    a, b = got[finite].astype(np.float64), expected[finite].astype(np.float64)
    odd = got.size - int(finite.sum())
    return Agreement(
        name,
        identical,
        _snr(a, b, provenance),
        Quantity(float(np.abs(a - b).max()), "{value}", provenance)
        if a.size
        else Quantity.unavailable("{value}", "no finite value"),
        _ulp(got[finite], expected[finite], provenance),
        f"{odd} of {got.size} values are not finite and were left out" if odd else "",
    )


def _snr(got: Array, expected: Array, provenance: Provenance) -> Quantity:
    signal, noise = float(np.square(expected).sum()), float(np.square(got - expected).sum())
    if signal == 0:
        return Quantity.unavailable("dB", "the expected values are all zero")
    decibels = math.inf if noise == 0 else 10 * math.log10(signal / noise)
    return Quantity(decibels, "dB", provenance)


def _ulp(got: Array, expected: Array, provenance: Provenance) -> Quantity:
    if got.dtype != expected.dtype or got.dtype.name not in {"float16", "float32"}:
        pair = f"{got.dtype.name} and {expected.dtype.name}"
        return Quantity.unavailable(
            "{ulp}", f"only between two fp32 or two fp16 arrays, not {pair}"
        )
    if not got.size:
        return Quantity.unavailable("{ulp}", "no finite value")
    place = float(np.spacing(np.abs(expected).max()))
    largest = float(np.abs(got.astype(np.float64) - expected).max())
    return Quantity(largest / place, "{ulp}", provenance)
