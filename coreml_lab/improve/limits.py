"""Limits that a model must keep, and what a measurement says about one. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from coreml_lab.errors import UnknownParameter

SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
BYTES = {"b": 1.0} | {
    f"{prefix}{middle}b": base**power
    for middle, base in (("", 1000.0), ("i", 1024.0))
    for power, prefix in enumerate("kmgt", 1)
}
# An interval that reaches so many times the limit says nothing about it.
TOO_WIDE = 2.0


class Decision(StrEnum):
    """What a measurement says about a limit."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    OPEN = "not resolved"
    UNCHECKED = "could not be checked"
    NONE = ""


@dataclass(frozen=True)
class Limits:
    """What is asked of a model, in SI units; None where it is not asked."""

    min_snr: float | None = None
    max_abs: float | None = None
    max_latency: float | None = None
    max_latency_ratio: float | None = None
    max_size: float | None = None

    @property
    def numbers(self) -> bool:
        """Whether results are asked about."""
        return self.min_snr is not None or self.max_abs is not None

    @property
    def times(self) -> bool:
        """Whether anything has to be timed."""
        return self.max_latency is not None or self.max_latency_ratio is not None


def limits(
    *,
    min_snr: float | None,
    max_abs: float | None,
    max_latency: float | str | None,
    max_latency_ratio: float | None,
    max_size: float | str | None,
) -> Limits:
    """The limits as numbers: durations like ``20ms``, sizes like ``10MB`` are read.

    Raises:
        UnknownParameter: for what is no such number, or where no limit is given at all.
    """
    found = Limits(
        min_snr=_number("min_snr", min_snr),
        max_abs=_number("max_abs", max_abs, low=0),
        max_latency=duration(max_latency),
        max_latency_ratio=_number("max_latency_ratio", max_latency_ratio, low=0),
        max_size=size(max_size),
    )
    if found == Limits():
        raise UnknownParameter(
            "no limit is given: nothing could fail",
            hint="min_snr=60 with a reference, max_latency='20ms', max_size='10MB'",
        )
    return found


def duration(given: float | str | None) -> float | None:
    """Seconds: a number of them, or ``20ms``, ``1.5s``, ``800us``."""
    return _scaled("max_latency", given, SECONDS, "20ms, 1.5s or 800us")


def size(given: float | str | None) -> float | None:
    """Bytes: a number of them, or ``10MB`` (10^7), ``10MiB`` (10 · 2^20)."""
    return _scaled("max_size", given, BYTES, "10MB, 500kB or 10MiB")


def _scaled(
    name: str, given: float | str | None, units: dict[str, float], example: str
) -> float | None:
    if not isinstance(given, str):
        return _number(name, given, low=0)
    matched = re.fullmatch(r"\s*([\d.]+(?:e[+-]?\d+)?)\s*([a-zµμ]+)\s*", given, re.IGNORECASE)
    factor = units.get(matched[2].lower()) if matched else None
    try:
        value = float(matched[1]) if matched else math.nan
    except ValueError:
        value = math.nan
    if factor is None or math.isnan(value):
        raise UnknownParameter(
            f"{name}={given!r}: not a number with a unit", hint=f"like {example}"
        )
    return _number(name, value * factor, low=0)


def _number(name: str, given: float | str | None, low: float = -math.inf) -> float | None:
    if given is None:
        return None
    try:
        value = float(given)
    except (TypeError, ValueError) as error:
        raise UnknownParameter(f"{name}={given!r}: not a number", hint="like 60") from error
    if not math.isfinite(value) or value < low:
        least = "" if math.isinf(low) else f" of {low:g} or more"
        raise UnknownParameter(f"{name}={given!r}: not a finite number{least}", hint="like 60")
    return value


def decide(low: float, high: float, limit: float) -> Decision:
    """What an interval says about an upper limit.

    It is kept where the whole interval is, exceeded where the whole interval is above. Else it is
    open, unless the interval reaches ``TOO_WIDE`` times the limit: noise that could hide so much
    is no answer.
    """
    if high <= limit:
        return Decision.PASS
    if low > limit:
        return Decision.FAIL
    return Decision.OPEN if high <= TOO_WIDE * limit else Decision.UNCHECKED
