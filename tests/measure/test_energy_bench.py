"""The bench of the GPU run, on a made-up GPU: what it will print and write on a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coreml_lab.measure.energy import paced
from coreml_lab.measure.energy_estimate import Block, power
from coreml_lab.measure.energy_watch import Watch
from coreml_lab.metrics import Provenance
from coreml_lab.probes import Target
from coreml_lab.probes.counters import Domain, Scope, opened
from coreml_lab.probes.nvml import NvmlSource
from tests.benchmarks import bench_energy
from tests.support.energy import FakeSource, Machine, Replay, Steps
from tests.support.nvml import FakeNvml, Gpu

# Counters of real GPUs, as the bench wrote them.
RECORDINGS = Path(__file__).parents[1] / "probes" / "recordings"


class Board:
    """A GPU that draws 75 W, and 600 W more while it works; its counter moves every 100 ms."""

    def __init__(self, extra=600.0):
        self.machine = Machine(clock=Steps(), base=lambda _: 75.0, extra=extra)
        self.counter = FakeSource(self.machine.clock, self.machine.watts, quantum=1e-3)
        self.counter.open(Target(1))
        self.nvml = FakeNvml((Gpu("GPU-1"), Gpu("GPU-2", energy=self.millijoules)))

    def millijoules(self):
        return round(self.counter._shown * 1e3) + 5_000_000

    def stage(self):
        source = NvmlSource(["2"], load=lambda: self.nvml)
        found = opened(source, Target(1, platform="linux"))
        return bench_energy.Stage(found, self.machine.clock, self.machine.clock.polling)


@pytest.fixture
def result():
    board = Board()
    found = bench_energy.bench(
        board.stage(), lambda: board.machine.work, seconds=60.0, repeats=3, batch=32
    )
    found["about"] = {
        "network": "ResNet-50", "batch": 32, "precision": "fp32", "gpu": "Made-up",
        "driver": "580.1", "torch": "2", "cuda": "13", "date": "2026-01-01",
    }  # fmt: skip
    return found


def test_the_bench_finds_the_joules_of_an_image_and_its_repeats_agree(result, capsys):
    truth = 600.0 * 0.01 / 32
    assert [r["above_idle"] for r in result["rows"]] == pytest.approx([truth] * 3, rel=0.02)
    assert result["idle_before"]["watts"] == pytest.approx(75.0, rel=0.01)
    assert result["idle_before"]["gap_ms"] == pytest.approx(100.0)
    assert result["rows"][0]["above_relaxed_idle"] == pytest.approx(truth, rel=0.02)
    assert result["ok"]


def test_the_bench_writes_a_table_for_the_docs_and_a_recording_for_the_tests(result, tmp_path):
    bench_energy.write(result, tmp_path)
    table = (tmp_path / "bench_energy.md").read_text()
    assert table.count("\n| ") == 5
    assert "Made-up" in table
    assert "580.1" in table
    assert "2026-01-01" in table
    assert json.loads((tmp_path / "bench_energy.json").read_text())["ok"] is True
    about, first, *rest = (tmp_path / "nvml_counter.jsonl").read_text().splitlines()
    assert about.startswith("# Made-up")
    assert json.loads(first) == {"t_ns": 0, "joules": 0.0}
    assert json.loads(rest[-1])["joules"] > 1000


def played(path, period):
    """A recorded counter, watched as it was then."""
    clock = Steps()
    domain = Domain(
        "gpu/0", "GPU", "gpu/0", Scope.DEVICE, Provenance.MEASURED, "NVML", period=period
    )
    watch = Watch([opened(Replay(path, domain), Target(1))], clock)
    with clock.polling(watch):
        clock.sleep(15.0)
    return domain, watch.points("gpu/0"), clock.now_ns()


def test_what_the_bench_recorded_can_be_played_again(result, tmp_path):
    bench_energy.write(result, tmp_path)
    domain, line, end = played(tmp_path / "nvml_counter.jsonl", period=0.1)
    assert paced(domain, line).state == "fresh"
    assert paced(domain, line).period == pytest.approx(0.1, rel=0.05)
    watts = power(line, Block(0, end, 1), domain).watts
    assert 75.0 < watts < 675.0


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("nvml_*.jsonl")), ids=lambda p: p.stem)
def test_a_counter_of_a_real_gpu_is_paced_and_gives_a_power_it_can_have(path):
    domain, line, end = played(path, period=0.1)
    assert paced(domain, line).state == "fresh"
    assert 0.015 < paced(domain, line).period < 0.15
    assert 10.0 < power(line, Block(0, end, 1), domain).watts < 1500.0


def test_repeats_that_disagree_miss_the_target():
    rows = [{"above_idle": 1.0}, {"above_idle": 1.06}, {"above_idle": 1.02}]
    assert bench_energy.spread(rows, "above_idle") == pytest.approx(0.06)


def test_without_a_gpu_the_bench_says_so_and_is_no_failure(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench_energy"])
    assert bench_energy.main() == 0
    assert "left out: NVIDIA's driver is not here" in capsys.readouterr().out
