"""Every source of energy there is; a new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coreml_lab.probes.counters import Domain, EnergySource, Opened, opened
from coreml_lab.probes.energy import EnergyProbe
from coreml_lab.probes.nvml import NvmlSource
from coreml_lab.probes.process_energy import AppleProcessSource, ModelledSource
from coreml_lab.probes.protocol import Probe, Target
from coreml_lab.probes.rapl import RaplSource

# Live, once a second, or less often where a reading takes long (``affordable``): the sampler stays
# below half a per cent of a core. Measurements read counters as often as they move.
GPU_PERIOD = 1.0
CHIP_PERIOD = 1.0


def sources(
    target: Target, *, also: Sequence[int] = (), gpus: Sequence[str] | None = ()
) -> tuple[Opened, ...]:
    """All sources, opened; what cannot be read says why.

    The estimate is there only where nothing counts the CPU.

    Args:
        target: the process and the machine.
        also: further processes that work for it, such as the one that runs Core ML.
        gpus: UUIDs of the NVIDIA GPUs that count; all where none is named; None for no GPU.
    """
    found = [opened(source, target) for source in _counting(target, also, gpus)]
    if not any(d.group in {"process", "cpu", "package"} for o in found for d in o.domains):
        found.append(opened(ModelledSource(also), target))
    return tuple(found)


def described_sources(found: Sequence[Opened]) -> tuple[tuple[str, str], ...]:
    """Counter and what is to be said of it: where it is read, or why not and what to do."""
    groups: dict[str, Domain] = {}
    for each in found:
        for domain in each.domains:
            groups.setdefault(domain.group, domain)
    rows = [(d.title, _described(d)) for d in groups.values()]
    rows += [(d.title, f"unavailable: {d.reason}") for each in found for d in each.missing]
    return tuple(rows)


def _described(domain: Domain) -> str:
    note = f" ({domain.note})" if domain.note else ""
    return f"{domain.provenance}: {domain.source}{note}"


def _counting(
    target: Target, also: Sequence[int], gpus: Sequence[str] | None
) -> list[EnergySource]:
    """The counters that a machine of this kind may have."""
    if target.platform == "darwin":
        return [AppleProcessSource(also), _ioreport()]
    cpu: list[EnergySource] = [RaplSource()] if target.linux else []
    return cpu if gpus is None else [*cpu, NvmlSource(gpus)]


def package_probe() -> EnergyProbe:
    """CPU packages, memory and platform, live."""
    return EnergyProbe("rapl", RaplSource, ("package", "dram", "machine"), always=("package",))


def gpu_probe() -> EnergyProbe:
    """NVIDIA's GPUs, live."""
    return EnergyProbe(
        "nvml",
        NvmlSource,
        ("gpu",),
        period=GPU_PERIOD,
        always=("gpu",),
        platforms=("linux", "win32"),
    )


def chip_probe() -> EnergyProbe:
    """The parts of an Apple chip, live."""
    parts = ("cpu", "gpu", "ane", "dram")
    return EnergyProbe(
        "ioreport", _ioreport, parts, period=CHIP_PERIOD, always=parts, platforms=("darwin",)
    )


def process_probe() -> EnergyProbe:
    """The kernel's CPU work on a Mac, live."""
    parts = ("process",)
    return EnergyProbe(
        "process energy", AppleProcessSource, parts, always=parts, platforms=("darwin",)
    )


def _ioreport() -> EnergySource:
    from coreml_lab.probes.ioreport import IOReportSource  # noqa: PLC0415 - slow to import

    return IOReportSource()


ENERGY_PROBES: tuple[Callable[[], Probe], ...] = (
    package_probe,
    gpu_probe,
    chip_probe,
    process_probe,
)
