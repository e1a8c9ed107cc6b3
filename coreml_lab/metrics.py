"""What can be measured: one row per metric, named as in OpenTelemetry, in SI base units.

A new metric is one row in ``METRICS``; sampler, dashboard, report and docs pick it up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Provenance(StrEnum):
    """How a number came to be. Every number that is shown carries one."""

    MEASURED = "measured"
    APPORTIONED = "apportioned"
    ESTIMATED = "estimated"
    SIMULATED = "simulated"
    UNAVAILABLE = "unavailable"


class Kind(StrEnum):
    """How values of a metric add up."""

    GAUGE = "gauge"  # a level: take the last
    COUNTER = "counter"  # grows: take differences


@dataclass(frozen=True)
class Metric:
    """One thing that can be measured.

    Attributes:
        name: OpenTelemetry name where there is one, else ``coreml_lab.*``.
        label: what a person calls it.
        unit: UCUM unit, SI base form: ``s``, ``By``, ``J``, ``W``, ``1`` (ratio), ``Hz``.
        kind: gauge or counter.
        panel: the dashboard strip it belongs to.
        help: one sentence: what it says and where it comes from.
    """

    name: str
    label: str
    unit: str
    kind: Kind
    panel: str
    help: str


def _waited(percent: int) -> Metric:
    """A percentile of the time that requests wait in a scheduler."""
    return Metric(
        f"coreml_lab.scheduler.wait.p{percent}",
        f"wait p{percent}",
        "s",
        Kind.GAUGE,
        "scheduler",
        f"{percent}th percentile of the time from submission to the start of the run, over the "
        "last second.",
    )


def _counted(part: str, label: str, whose: str) -> tuple[Metric, Metric, Metric]:
    """The three rows of an energy counter: power, energy, and how old both are."""
    kind = "process" if part == "process" else "hw"
    end = "" if part == "process" else f".{part}"
    power, energy = f"{kind}.power{end}", f"{kind}.energy{end}"
    age = f"coreml_lab.energy.age.{part}"
    return (
        Metric(
            power,
            label,
            "W",
            Kind.GAUGE,
            "power",
            f"Power of {whose} between the energy counter's last two publications.",
        ),
        Metric(
            energy,
            f"{label} energy",
            "J",
            Kind.COUNTER,
            "power",
            f"Energy of {whose} since the sampler was started.",
        ),
        Metric(
            age,
            f"{label}, age",
            "s",
            Kind.GAUGE,
            "power",
            f"Time since the energy counter of {whose} was last published.",
        ),
    )


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric(
            "system.cpu.cores",
            "whole machine",
            "{core}",
            Kind.GAUGE,
            "cpu",
            "Busy cores of the whole machine over the last interval (kernel tick counters).",
        ),
        Metric(
            "system.cpu.core",
            "core",
            "1",
            Kind.GAUGE,
            "cpu",
            "Busy share of one core over the last interval; columns system.cpu.core/0 and so on.",
        ),
        Metric(
            "process.cpu.cores",
            "this kernel",
            "{core}",
            Kind.GAUGE,
            "cpu",
            "Busy cores of this kernel's process over the last interval (its CPU time).",
        ),
        Metric(
            "process.cpu.time",
            "kernel CPU time",
            "s",
            Kind.COUNTER,
            "cpu",
            "CPU seconds this kernel's process has used, user and system.",
        ),
        Metric(
            "process.memory.usage",
            "kernel",
            "By",
            Kind.GAUGE,
            "memory",
            "Resident set on Linux, physical footprint on macOS.",
        ),
        Metric(
            "process.memory.peak",
            "peak",
            "By",
            Kind.GAUGE,
            "memory",
            "Highest resident set (Linux) or footprint (macOS) of this kernel so far.",
        ),
        Metric(
            "system.memory.available",
            "available",
            "By",
            Kind.GAUGE,
            "memory",
            "Memory to be had without swapping, within the container's limit if there is one.",
        ),
        Metric(
            "system.memory.limit",
            "limit",
            "By",
            Kind.GAUGE,
            "memory",
            "The container's memory limit, or the machine's memory.",
        ),
        Metric(
            "coreml_lab.memory.pressure",
            "pressure",
            "1",
            Kind.GAUGE,
            "memory",
            "Share of the last 10 s that some task waited for memory (Linux PSI); macOS' level.",
        ),
        Metric(
            "coreml_lab.power.cpu.low",
            "CPU, lower edge",
            "W",
            Kind.GAUGE,
            "power",
            "Lower edge of this kernel's estimated CPU power: busy cores x the low bound.",
        ),
        Metric(
            "coreml_lab.power.cpu.high",
            "CPU, upper edge",
            "W",
            Kind.GAUGE,
            "power",
            "Upper edge of this kernel's estimated CPU power: busy cores x the high bound.",
        ),
        *_counted("package", "CPU package", "the CPU package (RAPL)"),
        *_counted(
            "gpu", "GPU", "each GPU's board, or the Mac's GPU (NVML, IOReport); hw.power.gpu/0"
        ),
        *_counted("dram", "memory", "the machine's memory (RAPL, IOReport)"),
        *_counted("cpu", "CPU of the Mac", "the whole CPU of a Mac, a firmware model (IOReport)"),
        *_counted("ane", "Neural Engine", "the Neural Engine, a firmware model (IOReport)"),
        *_counted("machine", "platform", "the whole platform (RAPL psys); contains the others"),
        *_counted("process", "kernel CPU", "this kernel's CPU work on a Mac, a firmware model"),
        Metric(
            "hw.gpu.utilization",
            "GPU busy",
            "1",
            Kind.GAUGE,
            "device",
            "Share of time in which some kernel ran on a GPU (NVML); hw.gpu.utilization/0.",
        ),
        Metric(
            "hw.gpu.memory.usage",
            "GPU memory, all processes",
            "By",
            Kind.GAUGE,
            "device",
            "Memory of a GPU that is in use, by all processes (NVML); hw.gpu.memory.usage/0.",
        ),
        Metric(
            "hw.temperature.gpu",
            "GPU temperature",
            "Cel",
            Kind.GAUGE,
            "device",
            "Temperature of a GPU (NVML); hw.temperature.gpu/0.",
        ),
        Metric(
            "hw.battery.charge",
            "battery",
            "1",
            Kind.GAUGE,
            "conditions",
            "How full the battery is; no column where there is none.",
        ),
        Metric(
            "coreml_lab.thermal.state",
            "heat",
            "{state}",
            Kind.GAUGE,
            "conditions",
            "Whether heat slows the machine down: 0 nominal, 1 fair, 2 serious, 3 critical.",
        ),
        Metric(
            "coreml_lab.device.memory.live",
            "GPU memory held",
            "By",
            Kind.GAUGE,
            "device",
            "What this kernel's tensors hold on the GPU after the runs (PyTorch's own count).",
        ),
        Metric(
            "coreml_lab.device.memory.peak",
            "GPU memory, most",
            "By",
            Kind.GAUGE,
            "device",
            "The most that this kernel's tensors have held on the GPU (PyTorch's own count).",
        ),
        Metric(
            "coreml_lab.memory.above",
            "memory needed on top",
            "By",
            Kind.GAUGE,
            "device",
            "The most that this kernel held while it was profiled, less what it held before.",
        ),
        Metric(
            "coreml_lab.memory.weights",
            "weights, as held",
            "By",
            Kind.GAUGE,
            "device",
            "Bytes of the model's weights in the form in which the engine holds them.",
        ),
        Metric(
            "coreml_lab.memory.neural",
            "Neural Engine memory, most",
            "By",
            Kind.GAUGE,
            "device",
            "The most the Neural Engine held for Core ML's process: the kernel's count on macOS.",
        ),
        Metric(
            "coreml_lab.memory.activations",
            "activations, at the most",
            "By",
            Kind.GAUGE,
            "device",
            "The most that values of one inference take at once: by the engine, or by liveness.",
        ),
        Metric(
            "coreml_lab.executor.throughput",
            "throughput",
            "Hz",
            Kind.GAUGE,
            "executor",
            "Inferences finished per second, over the last interval.",
        ),
        Metric(
            "coreml_lab.executor.latency.p50",
            "latency p50",
            "s",
            Kind.GAUGE,
            "executor",
            "Median duration of the inferences that finished in the last interval.",
        ),
        Metric(
            "coreml_lab.executor.latency.p95",
            "p95",
            "s",
            Kind.GAUGE,
            "executor",
            "95th percentile of the durations of the inferences of the last interval.",
        ),
        Metric(
            "coreml_lab.executor.latency.p99",
            "p99",
            "s",
            Kind.GAUGE,
            "executor",
            "99th percentile of the durations of the last interval, where there were 100 or more.",
        ),
        Metric(
            "coreml_lab.scheduler.throughput",
            "requests served",
            "Hz",
            Kind.GAUGE,
            "scheduler",
            "Requests that schedulers answered per second, over the last second.",
        ),
        Metric(
            "coreml_lab.scheduler.waiting",
            "requests waiting",
            "{request}",
            Kind.GAUGE,
            "scheduler",
            "Requests in the queues of all schedulers when the last one had ended.",
        ),
        Metric(
            "coreml_lab.scheduler.batch",
            "requests per run",
            "{request}",
            Kind.GAUGE,
            "scheduler",
            "Requests that ran together, over the last second: answered requests by runs.",
        ),
        *map(_waited, (50, 95, 99)),
        Metric(
            "coreml_lab.scheduler.refused",
            "requests refused",
            "{request}",
            Kind.COUNTER,
            "scheduler",
            "Requests that found the queue full, since the recording began.",
        ),
        Metric(
            "coreml_lab.scheduler.cancelled",
            "requests cancelled",
            "{request}",
            Kind.COUNTER,
            "scheduler",
            "Requests that were taken back before they ran, since the recording began.",
        ),
        Metric(
            "coreml_lab.scheduler.failed",
            "requests failed",
            "{request}",
            Kind.COUNTER,
            "scheduler",
            "Requests that ended in an error, since the recording began.",
        ),
    )
}


def metric(name: str) -> Metric:
    """The row of a column's name: ``system.cpu.core/3`` is an instance of ``system.cpu.core``."""
    return METRICS[name.partition("/")[0]]


@dataclass(frozen=True)
class Quantity:
    """A number as it may be shown: with unit, provenance and, where known, an interval.

    ``value`` is NaN where there is none; ``provenance`` is *unavailable* and ``note`` says why.
    """

    value: float
    unit: str
    provenance: Provenance
    low: float | None = None
    high: float | None = None
    note: str = ""

    @staticmethod
    def unavailable(unit: str, reason: str) -> Quantity:
        """The quantity that could not be had, and why."""
        return Quantity(math.nan, unit, Provenance.UNAVAILABLE, note=reason)
