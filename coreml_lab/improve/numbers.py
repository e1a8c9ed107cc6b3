"""How far each output is from what is expected, as rows of a gate. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from coreml_lab.explain.agreement import Agreement, agree
from coreml_lab.improve.gate import Row
from coreml_lab.improve.limits import Decision, Limits
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.program.graph import Array


def compared(
    got: Mapping[str, Array],
    expected: Mapping[str, Array],
    pairs: Mapping[str, str],
    asked: Limits,
    provenance: Provenance,
) -> list[Row]:
    """Two rows per output, the worst output first: signal to noise, and the largest difference.

    ``pairs`` says which of the expected arrays an output is compared with.
    """
    wanted = {k: np.asarray(expected[v]).reshape(got[k].shape) for k, v in pairs.items()}
    found = [
        (agreement, got[agreement.output], wanted[agreement.output])
        for agreement in agree(got, wanted, provenance)
    ]
    found.sort(key=lambda item: _decibels(*item))
    rows = [row for item in found for row in _pair(*item, asked)]
    return [
        replace(row, against=other) if (other := pairs[row.output]) != row.output else row
        for row in rows
    ]


def alone(got: Mapping[str, Array], provenance: Provenance) -> list[Row]:
    """One row per output that holds NaN or infinities, where nothing says what is expected."""
    rows = []
    for name, array in got.items():
        nan, infinite = _counts(array)
        if nan or infinite:
            value = Quantity(nan + infinite, "{element}", provenance)
            note = f"{nan} NaN and {infinite} infinite of {array.size} values"
            rows.append(
                Row("values that are not finite", name, value, None, Decision.NONE, note=note)
            )
    return rows


def _pair(found: Agreement, got: Array, expected: Array, asked: Limits) -> list[Row]:
    lost = _lost(got, expected)
    bad = int(lost.sum())
    odd = (
        f"{bad} of {got.size} values are NaN or infinite on one side, the first at {_place(lost)}"
        if bad
        else found.note
    )
    note = odd or ("identical" if found.identical else "")
    value = _decibels(found, got, expected)
    return [
        Row(
            "signal to noise",
            found.output,
            found.snr,
            asked.min_snr,
            _verdict(asked.min_snr, kept=value >= (asked.min_snr or 0)),
            "≥",
            note,
        ),
        Row(
            "largest difference",
            found.output,
            found.largest,
            asked.max_abs,
            _verdict(asked.max_abs, kept=not bad and _most(found) <= (asked.max_abs or 0)),
            note="" if found.identical or bad else _worst(got, expected),
        ),
    ]


def _verdict(limit: float | None, *, kept: bool) -> Decision:
    if limit is None:
        return Decision.NONE
    return Decision.PASS if kept else Decision.FAIL


def _decibels(found: Agreement, got: Array, expected: Array) -> float:
    """Signal to noise as a limit sees it: none at all where one side only is finite."""
    if found.identical:
        return math.inf
    if _lost(got, expected).any():
        return -math.inf
    if math.isnan(found.snr.value):
        # Nothing but zeros, or nothing finite, is expected: any difference is all noise.
        return math.inf if _most(found) == 0 else -math.inf
    return found.snr.value


def _most(found: Agreement) -> float:
    return 0.0 if math.isnan(found.largest.value) else found.largest.value


def _lost(got: Array, expected: Array) -> Array:
    """Where values are not finite on one side, or in another way than on the other."""
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    odd = ~(np.isfinite(a) & np.isfinite(b))
    lost: Array = odd & ~((a == b) | (np.isnan(a) & np.isnan(b)))
    return lost


def _counts(array: Array) -> tuple[int, int]:
    if array.dtype.kind != "f":
        return 0, 0
    return int(np.isnan(array).sum()), int(np.isinf(array).sum())


def _worst(got: Array, expected: Array) -> str:
    """Where the largest difference is."""
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num(np.abs(a - b), nan=-1, posinf=-1)
    if not apart.size:
        return ""
    at = np.unravel_index(int(apart.argmax()), apart.shape)
    return f"{a[at]:.7g} instead of {b[at]:.7g} at {_shown(at)}"


def _place(mask: Array) -> str:
    return _shown(np.unravel_index(int(mask.argmax()), mask.shape))


def _shown(place: tuple[np.intp, ...]) -> str:
    return f"[{', '.join(str(int(i)) for i in place)}]"
