"""fp16 with islands: exactly what overflows on the data stays in fp32, and all is finite then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import config
from coreml_lab.errors import UnknownParameter
from coreml_lab.improve.editing import Edit
from coreml_lab.improve.optimizing.search import Bench
from coreml_lab.improve.tuning.space import Configuration
from coreml_lab.records import Action
from tests.improve.nets import snr, weights

DATA = Path(__file__).parents[2] / "notebooks" / "data"
X = {"x": np.random.default_rng(0).random((2, 8)).astype(np.float32)}


def network(x: Any) -> Any:
    """A norm written out: its squares leave fp16 where x is large."""
    y = cl.ops.relu(cl.ops.linear(x, weight=weights(16, 8)))
    y = cl.ops.mul(x=y, y=np.float32(3000))
    norm = cl.ops.sqrt(x=cl.ops.square(x=y))
    return cl.ops.linear(cl.ops.mul(x=norm, y=np.float32(1e-3)), weight=weights(4, 16))


@pytest.fixture(scope="module")
def model() -> Any:
    return cl.compile(network, x=cl.spec(2, 8), name="net", precision="fp32")


def on_hardware(package: Path, inputs: Any = X) -> Any:
    """What a device that computes in fp16 gives."""
    with config.configure(recover=False):
        (made,) = cl.load(package, precision="faithful").predict(inputs).values()
    return made


def test_without_data_fp16_overflows(model: Any) -> None:
    assert not np.isfinite(on_hardware(cl.edit(model).apply("float16").package)).all()


def test_with_data_what_overflows_and_who_reads_it_stay_in_fp32(model: Any) -> None:
    edit = cl.edit(model).apply("float16", data=X)
    (step,) = edit.steps
    assert step.action == Action("float16", {"skip": ("square_3", "sqrt_4")})
    assert step.remarks == ("in fp32 for these data: square_3, sqrt_4",)
    (want,) = model.predict(X).values()
    assert snr(want, on_hardware(edit.package)) > 50
    again = cl.edit(model).apply(step.action)  # the step can be done again without the data
    assert np.array_equal(on_hardware(again.package), on_hardware(edit.package))


def test_data_that_do_not_overflow_leave_all_in_fp16(model: Any) -> None:
    edit = cl.edit(model).apply("float16", data={"x": X["x"] * 1e-3})
    assert edit.steps[0].action == Action("float16")
    assert edit.steps[0].remarks == ()


def test_every_sample_counts_and_what_is_asked_for_stays_too(model: Any) -> None:
    data = [{"x": X["x"] * 1e-3}, X]
    edit = cl.edit(model).apply("float16", data=data, skip=["relu_1"])
    assert edit.steps[0].action.arguments["skip"] == ("relu_1", "square_3", "sqrt_4")
    with pytest.raises(UnknownParameter, match="called 'nothing'"):
        cl.edit(model).apply("float16", data=X, skip=["nothing"])


def test_an_input_that_fp16_cannot_hold_is_read_in_fp32() -> None:
    def read(x: Any) -> Any:
        return cl.ops.relu(cl.ops.mul(x=x, y=np.float32(1e-3)))

    model = cl.compile(read, x=cl.spec(2, 8), precision="fp32")
    large = {"x": X["x"] * 1e6}
    edit = cl.edit(model).apply("float16", data=large)
    assert edit.steps[0].action.arguments["skip"] == ("mul_0",)
    assert np.isfinite(on_hardware(edit.package, large)).all()


def test_optimize_judges_fp16_as_hardware_computes_it_and_keeps_islands(model: Any) -> None:
    found = cl.optimize(
        model, X, goal="size", pairs=5, seconds=1.0, weight_threshold=10_000, engines=()
    )
    half = next(entry for entry in found.ledger if entry.title == "fp16")
    assert half.evidence is not None
    assert half.evidence.loss < 0.01  # without islands it would not be a number
    assert any("square_3, sqrt_4" in note for note in found.notes) == half.accepted


def test_islands_are_looked_for_once_and_named_each_time(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(Edit.of(model), [X], None, 3, 1.0, memory=False)
    half = Configuration((Action("float16"),))
    first = bench.made(half).steps[0]
    monkeypatch.setattr("coreml_lab.improve.islands.float16", None)  # a second look would fail
    again = bench.made(half).steps[0]
    assert (again.action, again.remarks) == (first.action, first.remarks)
    assert again.remarks


def test_a_loss_that_only_fp16_hardware_shows_is_seen(model: Any) -> None:
    bench = Bench(Edit.of(model), [X], None, 3, 1.0, memory=False)
    edit = cl.edit(model).apply("float16")  # no data, no islands
    found = bench.evidence(edit, {}, bench.original, memory=False)
    assert not found.loss < 1


def test_results_that_a_converter_numbered_are_found_in_both_precisions() -> None:
    reader = cl.load(DATA / "reader.mlpackage")
    pictures = pytest.importorskip("sklearn.datasets").load_digits().images
    scans = {"scans": pictures[1000:, None].astype(np.uint8) * np.float32(4095 / 16)}
    plain, kept = cl.edit(reader).apply("float16"), cl.edit(reader).apply("float16", data=scans)
    told = cl.diff(reader, cl.load(plain.package, precision="faithful"), scans, min_snr=40)
    # The last one bears the output's name, which in fp16 is that of the cast behind it.
    assert len(told.ops) == told.total - 1
    assert told.first is not None
    assert told.first.node == "var_16"
    assert kept.steps[0].action.arguments == {"skip": ("var_16", "var_23", "var_26", "var_27")}
    want = reader.predict(scans)["scores"]
    assert snr(on_hardware(kept.package, scans), want) > 40
