"""Numbers as people read them: three significant digits, a fitting unit, never a false zero."""

from __future__ import annotations

import math

MINUS = "\u2212"
NO_SAMPLE = "no sample"
# Decimal prefixes per SI unit, smallest first; what is missing here is written as it is.
SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")),
    "By": ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB")),
    "W": ((1e-3, "mW"), (1.0, "W"), (1e3, "kW")),
    "J": ((1e-3, "mJ"), (1.0, "J"), (1e3, "kJ")),
    "1": ((1e-2, "%"),),
    "Cel": ((1.0, "°C"),),
    "{request}": ((1.0, "requests"),),
    "Hz": ((1.0, "/s"),),
    "{core}": ((1.0, "cores"),),
    "{state}": ((1.0, ""),),
}
# Decimals beyond which there would be more zeros than digits.
MOST_DECIMALS = 6
TENTH = 0.1
# What is shown as 1.00 of a unit begins here.
ROUNDED = 0.9995


def digits(value: float) -> str:
    """Three significant digits; two decimals near 1, as on the page; powers very near to zero."""
    size = abs(value)
    text = f"{size:.2f}" if TENTH <= size < 1 else _significant(size, 3)
    return MINUS + text if value < 0 and value else text


def rough(value: float) -> str:
    """Two significant digits: more would claim to know what an estimate does not."""
    return _significant(float(f"{value:.2g}"), 2)


def _significant(size: float, count: int) -> str:
    if not size:
        return "0.00"
    places = count - 1 - math.floor(math.log10(float(f"{size:.{count}g}")))
    if places > MOST_DECIMALS:
        return f"{size:.{count - 1}e}".replace("e-0", "e-")
    return f"{size:.{max(0, places)}f}"


def fitting(value: float, unit: str) -> tuple[float, str]:
    """Divisor and name of the unit in which ``value`` reads best."""
    scales = SCALES.get(unit, ((1.0, unit),))
    best = scales[0]
    for scale in scales:
        if abs(value) >= ROUNDED * scale[0]:
            best = scale
    return (1.0, "s") if value == 0 and unit == "s" else best


def show(value: float, unit: str) -> str:
    """A value with its unit, or the words that say that there is none."""
    if math.isnan(value):
        return NO_SAMPLE
    divisor, name = fitting(value, unit)
    return f"{digits(value / divisor)} {name}".rstrip()


def show_between(low: float, high: float, unit: str) -> str:
    """An estimate: both edges in one unit, marked as such."""
    if math.isnan(low) or math.isnan(high):
        return NO_SAMPLE
    divisor, name = fitting(high, unit)
    return f"≈ {rough(low / divisor)}–{rough(high / divisor)} {name}"
