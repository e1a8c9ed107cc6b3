"""Quantities as people read them: three digits, unit, mark. Numbers are scaled here only."""

from __future__ import annotations

import math

from coreml_lab.legible import legible
from coreml_lab.metrics import Provenance, Quantity

MARKS = {
    Provenance.MEASURED: "●",
    Provenance.APPORTIONED: "◐",
    Provenance.ESTIMATED: "≈",
    Provenance.SIMULATED: "◌",
    Provenance.UNAVAILABLE: "⊘",
}
LEGEND = "  ".join(f"{mark} {provenance.value}" for provenance, mark in MARKS.items())

# Factors from large to small, each with the unit it makes.
SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "By": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
    "J": ((1e3, "kJ"), (1, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
    "W": ((1, "W"), (1e-3, "mW")),
    "Hz": ((1, "/s"),),
    "1": ((0.01, "%"),),
    "Cel": ((1, "°C"),),
    "{core}": ((1, "cores"),),
    "{state}": ((1, ""),),
    "{ratio}": ((1, "×"),),
    "{value}": ((1, ""),),
    "{run}": ((1, "runs"),),
    "{time}": ((1, "times"),),
    "{request}": ((1, "requests"),),
    "{ulp}": ((1, "ulp"),),
    "{element}": ((1, "values"),),
    "{object}": ((1, "objects"),),
    "{thread}": ((1, "threads"),),
    "{file}": ((1, "files"),),
}
# What is counted has no decimals, unless it is a mean of few.
COUNTS = {"{run}", "{time}", "{request}", "{ulp}", "{element}", "{byte}"}
FEW = 100
DIGITS = 3
# Decimals beyond which there would be more zeros than digits.
MOST_DECIMALS = 6


def show(quantity: Quantity) -> str:
    """``61.3 ms ●``; with an interval ``0.650 × [0.630, 0.670] ●``; or ``unavailable``."""
    mark = MARKS[quantity.provenance]
    if missing(quantity):
        return Provenance.UNAVAILABLE.value
    ends = _ends(quantity)
    if ends and math.isnan(quantity.value):
        return f"{between(*ends, quantity.unit)} {mark}"
    factor, unit = scale(quantity.value, quantity.unit)
    counted = "{byte}" if unit == "B" else quantity.unit
    text = f"{digits(quantity.value / factor, counted)} {unit}".rstrip()
    if ends:
        text += f" [{', '.join(digits(end / factor, counted) for end in ends)}]"
    return f"{text} {mark}"


def _ends(quantity: Quantity) -> tuple[float, float] | tuple[()]:
    """Both ends of its range; none where one of them is not known."""
    low, high = quantity.low, quantity.high
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ()
    return low, high


def bare(value: float, unit: str) -> str:
    """``20.0 ms``: a number that nobody measured, so without a mark."""
    factor, name = scale(value, unit)
    return f"{value / factor:g} {name}".rstrip()


def missing(quantity: Quantity) -> bool:
    """Whether there is neither a value nor a range."""
    return quantity.provenance is Provenance.UNAVAILABLE or (
        math.isnan(quantity.value) and not _ends(quantity)
    )


def explained(quantity: Quantity) -> str:
    """As ``show``, with the reason where it is missing."""
    reason = f": {quantity.note}" if missing(quantity) and quantity.note else ""
    return show(quantity) + reason


def others(count: int) -> str:
    """``1 other``, ``3 others``: those that a list leaves out."""
    return f"{count} other" if count == 1 else f"{count} others"


def between(low: float, high: float, unit: str) -> str:
    """``2.00-8.00 W``: a range that has no best value."""
    factor, name = scale(high, unit)
    return f"{digits(low / factor, unit)}\N{EN DASH}{digits(high / factor, unit)} {name}".rstrip()


def scale(value: float, unit: str) -> tuple[float, str]:
    """The factor and unit under which ``value`` reads best; a unit may be a stranger's text."""
    rows = SCALES.get(unit, ((1.0, legible(unit)),))
    if not math.isfinite(value) or value == 0:
        return next((row for row in rows if row[0] == 1), rows[0])
    for factor, name in rows:
        if round_digits(abs(value) / factor) >= 1:
            return factor, name
    return rows[-1]


def round_digits(value: float) -> float:
    """``value`` with three significant digits."""
    return float(f"{value:.{DIGITS}g}")


def digits(value: float, unit: str = "") -> str:
    """``value`` with three significant digits and a real minus sign; very small ones as powers."""
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        text = "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    elif unit in COUNTS and (value == round(value) or abs(value) >= FEW):
        text = f"{round(value):,}"
    elif value == 0:
        text = "0"
    else:
        text = _significant(value, unit)
    return text.replace("-", "\N{MINUS SIGN}", 1 if value < 0 else 0).replace(
        ",", "\N{NARROW NO-BREAK SPACE}"
    )


def _significant(value: float, unit: str) -> str:
    size = abs(value)
    decimals = max(0, DIGITS - 1 - math.floor(math.log10(round_digits(size))))
    zeros = unit == "{value}" and not 1e-3 <= size < 1e4  # noqa: PLR2004 - where zeros stop helping
    if zeros or decimals > MOST_DECIMALS:
        text = f"{value:.{DIGITS - 1}e}"
        return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{round_digits(value):,.{decimals}f}"
