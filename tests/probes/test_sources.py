"""Which sources of energy a machine has, and what the doctor says of them."""

from __future__ import annotations

import coreml_lab as cl
from coreml_lab.metrics import METRICS, Provenance, metric
from coreml_lab.probes import PROBES, Target, sources
from coreml_lab.probes.counters import Domain, Opened, Scope, absent
from coreml_lab.probes.energy import columns
from coreml_lab.probes.ioreport import IOReportSource
from coreml_lab.probes.process_energy import AppleProcessSource, ModelledSource
from coreml_lab.probes.rapl import RaplSource
from coreml_lab.probes.sources import described_sources
from tests.support.machines import NOBODY, machine, stat

RAPL = "sys/class/powercap/intel-rapl:0"


def kinds(found):
    return [type(each.source).__name__ for each in found]


def test_where_nothing_counts_the_cpu_there_is_an_estimate(tmp_path):
    tree = machine(tmp_path, {f"proc/{NOBODY}/stat": stat(0, 0)})
    found = sources.sources(Target(NOBODY, root=str(tree), platform="linux"), gpus=None)
    assert kinds(found) == ["RaplSource", "ModelledSource"]
    assert found[1].domains[0].provenance is Provenance.ESTIMATED


def test_where_a_counter_is_there_is_no_estimate(tmp_path):
    files = {"name": "package-0", "energy_uj": "5", "max_energy_range_uj": "1000"}
    tree = machine(tmp_path, {f"{RAPL}/{k}": f"{v}\n" for k, v in files.items()})
    found = sources.sources(Target(NOBODY, root=str(tree), platform="linux"), gpus=None)
    assert kinds(found) == ["RaplSource"]


def test_a_mac_is_asked_for_its_process_and_its_chip_and_no_nvidia_gpu():
    wanted = sources._counting(Target(1, platform="darwin"), (), ())
    assert [type(each) for each in wanted] == [AppleProcessSource, IOReportSource]


def test_a_gpu_is_asked_only_where_it_may_do_the_work():
    linux = Target(1, platform="linux")
    assert [type(s) for s in sources._counting(linux, (), None)] == [RaplSource]
    assert len(sources._counting(linux, (), ())) == 2
    assert [s.name for s in sources._counting(Target(1, platform="win32"), (), ())] == ["NVML"]


def test_the_doctor_tells_each_counter_and_what_to_do_where_there_is_none():
    package = Domain(
        "package/0", "CPU package", "package", Scope.PACKAGE, Provenance.MEASURED, "RAPL (powercap)"
    )
    missing = absent("gpu", "GPU", "NVML", "NVIDIA's driver is not here")
    rows = described_sources([Opened(RaplSource(), (package, package), (missing,))])
    assert rows == (
        ("CPU package", "measured: RAPL (powercap)"),
        ("GPU", "unavailable: NVIDIA's driver is not here"),
    )


def test_the_doctor_here_has_a_line_for_each_source():
    found = cl.doctor()
    assert found.energy
    assert any(section == "energy" for section, _, _ in found.rows())
    assert all(
        text.startswith(("measured", "estimated", "unavailable")) for _, text in found.energy
    )


def test_every_live_column_is_a_metric_with_a_unit():
    for part in ("package", "gpu/3", "dram", "cpu", "ane", "machine", "process"):
        units = [metric(name).unit for name in columns(part)]
        assert units == ["W", "J", "s"]
    named = [name for make in PROBES for name in make().metrics]
    assert set(named) <= set(METRICS)
    assert len(set(named)) >= len(named) - 3  # gpu is a column of NVIDIA's or of Apple's


def test_the_estimate_counts_the_processes_that_work_for_us_too(tmp_path):
    files = {f"proc/{NOBODY}/stat": stat(0, 0), f"proc/{NOBODY - 1}/stat": stat(0, 0)}
    tree = machine(tmp_path, files)
    found = ModelledSource([NOBODY - 1])
    found.open(Target(NOBODY, (2.0, 8.0), str(tree), "linux"))
    machine(tree, {f"proc/{NOBODY - 1}/stat": stat(100, 0)})
    (reading,) = found.read(0)
    assert (reading.joules, reading.most) == (2.0, 8.0)
