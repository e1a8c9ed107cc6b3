"""How far two results are apart: signal to noise, largest difference, last places. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coreml_lab.errors import NumericalError
from coreml_lab.metrics import Provenance, Quantity

Array = np.ndarray[Any, np.dtype[Any]]
# The 97.5 % point of the normal distribution, for 95 % intervals of shares.
NORMAL = 1.959964
NOT_CLASSES = "not the scores of classes: it has no row of several numbers"
LABEL = "a label is no number"
NO_TOP1 = Quantity.unavailable("1", NOT_CLASSES)


@dataclass(frozen=True)
class Agreement:
    """One output of two models, compared value by value.

    Attributes:
        snr: energy of the expected values over energy of the differences, in dB.
        largest: the largest absolute difference.
        ulp: the largest difference in units in the last place of the largest value (fp32, fp16).
            Counted at each value's own last place it would say more of zeros than of errors.
        note: what keeps the numbers from saying everything: values that are not finite.
        top1: share of examples whose largest value, or label, is the same, with its 95 % interval
            (Wilson); for outputs that are a row of scores per example, a label, or probabilities.
        examples: how many inferences are behind the numbers.
    """

    output: str
    identical: bool
    snr: Quantity
    largest: Quantity
    ulp: Quantity
    note: str = ""
    top1: Quantity = NO_TOP1
    examples: int = 1


def agree(
    got: Mapping[str, Any],
    expected: Mapping[str, Any],
    provenance: Provenance = Provenance.MEASURED,
) -> tuple[Agreement, ...]:
    """Compare the outputs of two models, by name.

    Raises:
        NumericalError: where they differ in names or shapes.
    """
    tally = Tally(provenance)
    tally.add(got, expected)
    # A classifier's label says no more than the probabilities that are compared too.
    return tally.results(labels=False)


@dataclass
class _Sums:
    """What is kept of one output, whatever the number of examples."""

    identical: bool = True
    signal: float = 0.0
    noise: float = 0.0
    largest: float = math.nan
    ulp: Quantity | None = None
    odd: int = 0
    values: int = 0
    examples: int = 0
    same: int = 0
    ranked: int = 0
    label: bool = False


@dataclass
class Tally:
    """Agreement over many examples: sums are kept, not results."""

    provenance: Provenance = Provenance.MEASURED
    _outputs: dict[str, _Sums] = field(default_factory=dict)

    def add(self, got: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """Count one example.

        Raises:
            NumericalError: where they differ in names or shapes.
        """
        if set(got) != set(expected):
            raise NumericalError(
                f"outputs differ in name: {sorted(got)} and {sorted(expected)}",
                hint="compare two versions of one model",
            )
        for name, value in expected.items():
            sums = self._outputs.setdefault(name, _Sums())
            sums.examples += 1
            if isinstance(value, str | int):
                same = got[name] == value
                sums.label, sums.identical = True, sums.identical and same
                sums.same, sums.ranked = sums.same + same, sums.ranked + 1
            else:
                self._count(name, sums, got[name], value)

    def _count(self, name: str, sums: _Sums, got: Any, expected: Any) -> None:
        a, b = _numbers(got, expected), _numbers(expected, expected)
        if a.shape != b.shape:
            raise NumericalError(f"output {name!r} has shape {a.shape}, not {b.shape}", node=name)
        finite = np.isfinite(a) & np.isfinite(b)
        sums.identical &= bool(np.array_equal(a, b, equal_nan=True))
        x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
        sums.signal += float(np.square(y).sum())
        sums.noise += float(np.square(x - y).sum())
        sums.odd += a.size - int(finite.sum())
        sums.values += a.size
        if x.size:
            sums.largest = _more(float(np.abs(x - y).max()), sums.largest)
        sums.ulp = _worse(_ulp(a[finite], b[finite], self.provenance), sums.ulp)
        same, rows = _top(a, b)
        sums.same += same
        sums.ranked += rows

    def results(self, *, labels: bool = True) -> tuple[Agreement, ...]:
        """What was found, per output; of labels, only whether they are the same."""
        return tuple(
            self._agreement(name, sums)
            for name, sums in self._outputs.items()
            if labels or not sums.label
        )

    def _agreement(self, name: str, sums: _Sums) -> Agreement:
        odd = f"{sums.odd} of {sums.values} values are not finite and were left out"
        missing = Quantity.unavailable("{value}", LABEL if sums.label else "no finite value")
        largest = Quantity(sums.largest, "{value}", self.provenance)
        return Agreement(
            name,
            sums.identical,
            self._snr(sums),
            missing if math.isnan(sums.largest) else largest,
            sums.ulp or Quantity.unavailable("{ulp}", LABEL),
            odd if sums.odd else "",
            share(sums.same, sums.ranked, self.provenance) if sums.ranked else NO_TOP1,
            sums.examples,
        )

    def _snr(self, sums: _Sums) -> Quantity:
        if sums.label:
            return Quantity.unavailable("dB", LABEL)
        if sums.signal == 0:
            return Quantity.unavailable("dB", "the expected values are all zero")
        ratio = math.inf if sums.noise == 0 else 10 * math.log10(sums.signal / sums.noise)
        return Quantity(ratio, "dB", self.provenance)


def share(count: int, of: int, provenance: Provenance = Provenance.MEASURED) -> Quantity:
    """A share with its 95 % interval after Wilson (1927), which also holds near 0 and 1."""
    found, squared = count / of, NORMAL**2
    middle = (found + squared / (2 * of)) / (1 + squared / of)
    half = NORMAL / (1 + squared / of)
    half *= math.sqrt(found * (1 - found) / of + squared / (4 * of**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Quantity(found, "1", provenance, low, high, f"{count} of {of}")


def _numbers(value: Any, like: Any) -> Array:
    """An array or image as numbers; of a dictionary, its probabilities in the order of ``like``."""
    if isinstance(value, Mapping):
        return np.asarray([value.get(key, math.nan) for key in like], np.float32)
    return np.asarray(value)


def _top(got: Array, expected: Array) -> tuple[int, int]:
    """How many rows have their largest value at the same place, and how many rows there are."""
    if not 1 <= got.ndim <= 2 or got.shape[-1] < 2 or got.dtype.kind != "f":  # noqa: PLR2004 - rows of scores
        return 0, 0
    return int((got.argmax(-1) == expected.argmax(-1)).sum()), got.size // got.shape[-1]


def _more(value: float, before: float) -> float:
    return value if math.isnan(before) else max(value, before)


def _worse(found: Quantity, before: Quantity | None) -> Quantity:
    """The larger of two; a number says more than a reason for none."""
    if before is None or math.isnan(before.value):
        return found
    return before if math.isnan(found.value) or found.value <= before.value else found


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
