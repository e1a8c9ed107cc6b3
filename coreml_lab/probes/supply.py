"""Battery and heat, asked once: what a machine runs on, and whether heat slows it down."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence

from coreml_lab.probes.protocol import Target, read_text

UNKNOWN = "unknown"
MAINS, BATTERY = "mains", "battery"
NOMINAL, SERIOUS, CRITICAL = "nominal", "serious", "critical"
# The points at which Linux begins to slow a machine down, and at which it must.
TRIPS = {"passive": SERIOUS, "hot": CRITICAL, "critical": CRITICAL}
SUPPLIES = ("sys", "class", "power_supply", "*")
ZONES = ("sys", "class", "thermal", "thermal_zone*")

# What a program of macOS prints.
Ask = Callable[[Sequence[str]], str]


def _ask(command: Sequence[str]) -> str:
    import subprocess  # noqa: PLC0415 - on a Mac only: it would slow the sampler's start

    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)  # noqa: S603 - constants
    except subprocess.SubprocessError as error:
        raise OSError(f"{command[0]}: {error}") from error
    return done.stdout


def power(target: Target, ask: Ask = _ask) -> str:
    """``mains``, ``battery`` or ``unknown``."""
    if target.linux:
        return _linux_power(target)
    if target.platform != "darwin":
        return UNKNOWN
    try:
        text = ask(("/usr/bin/pmset", "-g", "batt"))
    except OSError:
        return UNKNOWN
    return BATTERY if "'Battery Power'" in text else MAINS if "'AC Power'" in text else UNKNOWN


def _linux_power(target: Target) -> str:
    """A battery that discharges; a supply from outside that is there."""
    batteries = []
    for folder in sorted(glob.glob(target.path(*SUPPLIES))):  # noqa: PTH207 - as the paths of probes
        try:
            if read_text(f"{folder}/type") != "Battery":
                if read_text(f"{folder}/online") == "1":
                    return MAINS
            elif device_scope(folder) != "Device":
                batteries.append(read_text(f"{folder}/status"))
        except OSError:
            continue
    if "Discharging" in batteries:
        return BATTERY
    return MAINS if batteries else UNKNOWN


def device_scope(folder: str) -> str:
    """``Device`` for the battery of a mouse or keyboard."""
    try:
        return read_text(f"{folder}/scope")
    except OSError:
        return "System"


def thermal(target: Target, ask: Ask = _ask) -> str:
    """``nominal``, ``serious`` (slowed down), ``critical`` or ``unknown``."""
    if target.linux:
        return _linux_thermal(target)
    if target.platform != "darwin":
        return UNKNOWN
    try:
        text = ask(("/usr/bin/pmset", "-g", "therm"))
    except OSError:
        return UNKNOWN
    limits = [line.partition("=")[2] for line in text.splitlines() if "CPU_Speed_Limit" in line]
    slowed = [int(limit) for limit in limits if limit.strip().isdigit()]
    # Without a limit, macOS says that no warning was recorded.
    return SERIOUS if slowed and min(slowed) < 100 else NOMINAL  # noqa: PLR2004 - per cent


def _linux_thermal(target: Target) -> str:
    """The worst of the zones, by the trip points that each names."""
    found = []
    for zone in sorted(glob.glob(target.path(*ZONES))):  # noqa: PTH207
        try:
            heat = int(read_text(f"{zone}/temp"))
            found.append(NOMINAL)
        except (OSError, ValueError):
            continue
        for point in glob.glob(f"{zone}/trip_point_*_type"):  # noqa: PTH207
            try:
                state = TRIPS.get(read_text(point))
                if state and 0 < int(read_text(point.replace("_type", "_temp"))) <= heat:
                    found.append(state)
            except (OSError, ValueError):
                continue
    return max(found, key=(NOMINAL, SERIOUS, CRITICAL).index, default=UNKNOWN)
