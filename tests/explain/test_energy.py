"""energy(): rows, words, operations, plan against reality, and what an interrupt leaves."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import InputError
from coreml_lab.explain import energy as energy_module
from coreml_lab.explain.apportion import apportioned, planned, shares
from coreml_lab.explain.energy import gpus_of, measured
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.probes import Target
from coreml_lab.probes.counters import Opened, Scope, absent, opened
from coreml_lab.probes.process_energy import ModelledSource
from coreml_lab.records import PlanInfo
from tests.support.energy import FakeSource, Machine
from tests.support.fakes import FakeModel, spans
from tests.support.machines import NOBODY, machine, stat

X = {"x": np.ones((1, 8), "float32")}
MAC_PLAN = PlanInfo("coreml", "coreml:0", "Core ML (CPU, GPU, Neural Engine)")
STATES = (("power supply", "mains"), ("battery", Quantity.unavailable("1", "no battery")))


@dataclasses.dataclass
class Model(FakeModel):
    """A model that makes its machine draw power; ``where`` is its plan."""

    machine: Machine = dataclasses.field(default_factory=Machine)
    where: PlanInfo | None = None

    def predict(self, inputs):
        self.machine.work()
        return {"y": inputs["x"]}

    @property
    def plan(self):
        return self.where or super().plan


def model_of(machine, **settings):
    return Model(clock=machine.clock, machine=machine, **settings)


def result(machine, *counters, model=None, seconds=16.0, **options):
    return measured(
        model or model_of(machine),
        X,
        counters,
        seconds=seconds,
        clock=machine.clock,
        keep=machine.clock.polling,
        conditions=lambda: STATES,
        **options,
    )


def test_the_headline_tells_joules_above_idle_with_their_interval():
    machine = Machine()
    found = result(machine, machine.counter())
    assert found.main.above_idle.value == pytest.approx(machine.joules, rel=0.03)
    assert found.main.above_idle.low < machine.joules < found.main.above_idle.high
    assert "tiny on Core ML program, portable engine (CPU): " in found.page.headline
    assert "above idle per inference (package)" in found.page.headline
    assert found.latency.value == pytest.approx(0.01)
    part = found.main.gross.value - found.main.above_idle.value
    assert part == pytest.approx(found.main.idle.value * 0.01, rel=0.03)
    assert "is idle power during an inference (10.0 ms" in str(found)


def test_it_draws_itself_in_every_format_with_marks_and_reasons():
    machine = Machine()
    gone = Opened(
        FakeSource(machine.clock, machine.watts), (), (absent("gpu", "GPU", "NVML", "<b>x"),)
    )
    found = result(machine, machine.counter(), gone)
    for text in (str(found), found.to_markdown(), found.to_html()):
        assert "Energy per inference" in text
        assert "●" in text
        assert "Conditions" in text
    assert "<b>x" not in found.to_html()
    assert "<b>x" in str(found)
    page = json.loads(found.to_json())
    assert page["tables"][0]["rows"][0][1]["provenance"] == "measured"


def test_what_cannot_be_told_is_below_resolution_with_a_bound_and_never_zero():
    machine = Machine(extra=1e-4, call=0.002)
    found = result(machine, machine.counter())
    row = found.row("package")
    assert math.isnan(row.above_idle.value)
    assert row.above_idle.high > 0
    assert "below resolution (< " in found.page.headline
    assert "below resolution (< " in str(found)


def test_one_window_says_that_it_is_one():
    machine = Machine()
    found = result(machine, machine.counter(), seconds=4.0)
    assert "gross per inference" in found.page.headline
    assert any("Single window" in note for note in found.page.notes)
    assert found.row("package").above_idle.provenance is Provenance.UNAVAILABLE


def test_counters_beside_one_another_are_added_up_and_those_within_another_are_not():
    machine = Machine()
    found = result(
        machine,
        machine.counter(name="p"),
        machine.counter(name="d", group="dram"),
        machine.counter(name="m", group="machine"),
        machine.counter(name="k", group="process", scope=Scope.PROCESS, period=0.0),
    )
    total = found.row("total")
    assert total.above_idle.value == pytest.approx(2 * machine.joules, rel=0.03)
    assert total.title == "package + dram"


def test_a_total_says_what_it_is_without():
    machine = Machine()
    slow = machine.counter(name="a", group="ane", period=2.1, stamped=True)
    found = result(machine, machine.counter(), machine.counter(name="d", group="dram"), slow)
    assert found.row("total").title == "package + dram"
    assert any(
        n.startswith("package + dram: without ane (not resolvable") for n in found.page.notes
    )


def test_where_the_gpu_is_not_named_the_one_that_works_is_told():
    machine = Machine()
    plan = PlanInfo("tinygrad", "opencl:0", "OpenCL")
    resting = opened(
        FakeSource(machine.clock, lambda: 20.0, group="gpu/0", scope=Scope.DEVICE), Target(1)
    )
    busy = machine.counter(group="gpu/1", scope=Scope.DEVICE)
    found = result(machine, resting, busy, model=model_of(machine, where=plan))
    assert found.main.group == "gpu/1"


def test_a_hybrid_program_that_leaves_the_gpu_alone_is_told_by_the_rest():
    machine = Machine()
    plan = PlanInfo("hybrid", "coreml:0", "hybrid")
    resting = FakeSource(machine.clock, lambda: 20.0, group="gpu/0", scope=Scope.DEVICE)
    counters = (opened(resting, Target(1)), machine.counter())
    assert result(machine, *counters, model=model_of(machine, where=plan)).main.group == "total"
    busy = machine.counter(group="gpu/0", scope=Scope.DEVICE)
    assert result(machine, busy, model=model_of(machine, where=plan)).main.group == "gpu/0"


def test_a_model_on_a_gpu_is_told_by_that_gpus_counter():
    machine = Machine()
    plan = PlanInfo("pytorch", "cuda:0", "PyTorch, CUDA (H100)")
    gpu = machine.counter(name="g", group="gpu/3", scope=Scope.DEVICE)
    found = result(machine, machine.counter(), gpu, model=model_of(machine, where=plan))
    assert found.main.group == "gpu/3"


def test_the_estimate_is_an_interval_with_its_cpu_time_and_no_mean(tmp_path):
    machine_ = Machine()
    tree = machine(tmp_path, {f"proc/{NOBODY}/stat": stat(0, 0)})
    source = opened(ModelledSource(), Target(NOBODY, (2.0, 8.0), str(tree), "linux"))

    class Busy(Model):
        def predict(self, inputs):
            found = super().predict(inputs)
            machine(tree, {f"proc/{NOBODY}/stat": stat(self.machine.calls, 0)})
            return found

    found = result(machine_, source, model=Busy(clock=machine_.clock, machine=machine_))
    row = found.row("process")
    assert row.above_idle.provenance is Provenance.ESTIMATED
    assert (row.above_idle.low, row.above_idle.high) == pytest.approx((0.02, 0.08))
    assert math.isnan(row.above_idle.value)
    assert row.gross.provenance is Provenance.UNAVAILABLE
    assert found.cpu_time.value == pytest.approx(0.01)
    assert found.cpu_time.provenance is Provenance.MEASURED
    assert "estimated from CPU time" in found.page.headline
    assert any("core_watts" in note for note in found.page.notes)


def test_without_any_counter_the_headline_says_unavailable():
    machine = Machine()
    assert result(machine).page.headline.endswith("energy is unavailable")
    with pytest.raises(InputError, match="no energy of 'gpu/0'"):
        result(Machine()).row("gpu/0")


def test_an_interrupt_leaves_the_energy_found_so_far_on_the_exception():
    machine = Machine(stop_at=1400)
    with pytest.raises(KeyboardInterrupt) as caught:
        result(machine, machine.counter(), seconds=40.0, operations=True)
    found = caught.value.energy
    assert found.row("package").above_idle.value == pytest.approx(machine.joules, rel=0.05)
    assert found.operations == ()


# -- per operation ---------------------------------------------------------------------------------


def test_energy_per_operation_is_apportioned_by_time_and_adds_up():
    machine = Machine()
    found = result(machine, machine.counter(), operations=True)
    assert {s.energy.provenance for s in found.operations} == {Provenance.APPORTIONED}
    first = found.operations[0]
    assert (first.node, first.share.value) == ("conv_0", pytest.approx(4 / 7))
    assert sum(s.energy.value for s in found.operations) == pytest.approx(
        found.row("package").above_idle.value
    )
    assert "Energy per operation (apportioned)" in str(found)


def test_core_mls_weights_share_each_processors_energy_among_its_own_operations():
    plan = placements(("a", "ne", 0.6), ("b", "ne", 0.2), ("c", "cpu", 0.2), ("d", "gpu", None))
    found = apportioned(plan, {"ane": joules(0.008), "cpu": joules(0.001)})
    by_node = {s.node: s for s in found}
    assert by_node["a"].energy.value == pytest.approx(0.006)
    assert by_node["b"].energy.value == pytest.approx(0.002)
    assert by_node["c"].energy.value == pytest.approx(0.001)
    assert "d" not in by_node


def test_operations_of_a_processor_without_a_counter_have_a_share_and_no_energy():
    (found,) = apportioned(placements(("a", "ne", 1.0)), {"package": joules(1.0)})
    assert found.share.value == 1.0
    assert found.energy.provenance is Provenance.UNAVAILABLE
    assert "Neural Engine" in found.energy.note


def test_a_part_of_an_estimate_is_an_estimate():
    whole = Quantity(math.nan, "J", Provenance.ESTIMATED, 0.002, 0.008)
    (run,) = FakeModel().trace(X)
    found = shares([run], (), {"process": whole})
    assert {s.energy.provenance for s in found} == {Provenance.ESTIMATED}
    assert {s.share.provenance for s in found} == {Provenance.APPORTIONED}


def test_what_is_below_resolution_is_apportioned_as_a_bound():
    whole = Quantity(math.nan, "J", Provenance.MEASURED, 0.0, 0.004, "below resolution (< 4 mJ)")
    (run,) = FakeModel().trace(X)
    found = shares([run], (), {"package": whole})
    assert math.isnan(found[0].energy.value)
    assert found[0].energy.high == pytest.approx(0.004 * 4 / 7)
    assert len(spans(0)) == len(found)


# -- plan against reality --------------------------------------------------------------------------


def placements(*rows):
    from coreml_lab.records import Placement

    return tuple(
        Placement(node, "conv", device, (device,), weight) for node, device, weight in rows
    )


def joules(value):
    return Quantity(value, "J", Provenance.MEASURED, value * 0.95, value * 1.05)


PLAN = placements(("a", "ne", 0.9), ("b", "cpu", 0.1))


def test_the_planned_share_of_the_neural_engine_stands_beside_its_measured_energy():
    rows = planned(PLAN, {"ane": joules(0.008), "cpu": joules(0.002), "gpu": joules(0.0)})
    by_title = {row[0]: row[1:] for row in rows}
    part, energy, share, verdict = by_title["Neural Engine"]
    assert (part.value, part.provenance) == (0.9, Provenance.ESTIMATED)
    assert (energy.value, share.value) == (0.008, pytest.approx(0.8))
    assert share.provenance is Provenance.MEASURED
    assert verdict == "planned, and drew energy"
    assert by_title["GPU"][3] == "not planned, and drew none to be seen"


def test_a_plan_that_the_energy_contradicts_is_told():
    silent = Quantity(math.nan, "J", Provenance.MEASURED, 0.0, 1e-3, "below resolution (< 1 mJ)")
    rows = {r[0]: r[1:] for r in planned(PLAN, {"ane": silent, "gpu": joules(1.0)})}
    assert rows["Neural Engine"][3] == "planned, but no energy was seen"
    assert rows["Neural Engine"][2].provenance is Provenance.UNAVAILABLE
    assert rows["GPU"][3] == "not planned, but drew energy"
    assert rows["CPU"][3] == "cannot be checked"


def test_without_weights_the_plan_is_by_the_number_of_operations():
    rows = planned(placements(("a", "ne", None), ("b", "cpu", None)), {})
    assert [row[1].value for row in rows] == [0.5, 0.0, 0.5]


def test_on_a_mac_the_page_has_the_plan_beside_what_was_drawn():
    machine = Machine()
    plan = dataclasses.replace(MAC_PLAN, placements=PLAN)
    counters = [
        machine.counter(name=g, group=g, stamped=True, scope=Scope.DEVICE) for g in ("ane", "cpu")
    ]
    found = result(machine, *counters, model=model_of(machine, where=plan))
    assert found.main.group == "total"
    assert "Plan against reality" in str(found)
    assert found.against_plan[0][3].value == pytest.approx(0.5, rel=0.05)
    assert {s.where for s in found.operations} == {"Neural Engine", "CPU"}


def test_off_mac_there_is_no_plan_to_hold_against_anything():
    machine = Machine()
    found = result(machine, machine.counter())
    assert found.against_plan == ()
    assert "Neural Engine" not in str(found)


# -- the public function ---------------------------------------------------------------------------


def test_the_public_function_measures_a_model_here_and_asks_no_gpu(monkeypatch):
    seen = {}

    def sources(target, *, also, gpus):
        seen.update(pid=target.pid, also=also, gpus=gpus)
        return ()

    monkeypatch.setattr(energy_module, "sources", sources)
    machine = Machine()
    model = model_of(machine)
    monkeypatch.setattr(energy_module, "measured", lambda *a, **k: (a, k))
    (given, _, found), options = cl.energy(model, X, seconds=5.0)
    assert (given, found) == (model, ())
    assert options["seconds"] == 5.0
    assert seen["also"] == ()
    assert seen["gpus"] is None
    assert machine.calls == 1  # what starts on first use has started


def test_only_devices_that_nvidia_may_drive_have_gpus_to_ask():
    for device in ("cpu", "coreml:0", "metal:0"):
        assert gpus_of(PlanInfo("portable", device, "")) is None
    assert gpus_of(PlanInfo("tinygrad", "opencl:0", "")) == ()
    assert gpus_of(PlanInfo("hybrid", "coreml:0", "")) == ()


def test_cuda_names_its_gpu_by_uuid_and_where_it_cannot_all_are_asked(monkeypatch):
    class Torch:
        class cuda:  # noqa: N801 - its name
            @staticmethod
            def get_device_properties(name):
                assert name == "cuda:1"
                return type("Properties", (), {"uuid": "ab-1"})

    plan = PlanInfo("pytorch", "cuda:1", "")
    monkeypatch.setattr("coreml_lab.run.pytorch.torch_module", lambda: Torch)
    assert gpus_of(plan) == ("ab-1",)
    monkeypatch.setattr("coreml_lab.run.pytorch.torch_module", lambda: None)
    assert gpus_of(plan) == ()


def test_a_model_here_has_an_energy_or_every_counter_says_why_not():
    weight = np.eye(16, dtype=np.float32)
    model = cl.compile(lambda x: cl.ops.matmul(x, weight), x=cl.spec(4, 16), engine="portable")
    found = cl.energy(model, {"x": np.ones((4, 16), np.float32)}, seconds=0.5)
    assert found.rows or found.measurement.missing
    for row in found.rows:
        assert row.above_idle.provenance in set(Provenance) - {Provenance.SIMULATED}
        assert row.above_idle.unit == "J"
    assert all(d.reason for d in found.measurement.missing)
    assert found.latency.value > 0
    assert found.conditions[0][0] == "power supply"
