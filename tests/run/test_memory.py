"""What devices hold is told by whoever knows it; copies are counted, and what is not copied."""

from __future__ import annotations

import gc
import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import GraphError, ProbeError, ShapeError, UnknownParameter
from coreml_lab.metrics import METRICS, Provenance
from coreml_lab.records import PlanInfo
from coreml_lab.run import interface, ledger, memory, selection
from coreml_lab.run.engine import Border, Options
from coreml_lab.run.ledger import GATHERED, Account, Ledger, Meter, Moved
from coreml_lab.run.openvino_onnx import OpenVINOEngine
from coreml_lab.run.portable import PortableEngine
from coreml_lab.run.traits import traits_of

Patch = pytest.MonkeyPatch
X = np.ones((4, 8), np.float32)


@pytest.fixture
def books(monkeypatch: Patch) -> Ledger:
    """A new ledger, in which everything made from now on is written."""
    fresh = Ledger()
    for name in ("account", "taken", "tensor"):
        monkeypatch.setattr(ledger.LEDGER, name, getattr(fresh, name), raising=False)
    monkeypatch.setattr(memory, "LEDGER", fresh)
    monkeypatch.setattr(memory, "_readers", {})
    assert interface.LEDGER is selection.LEDGER is ledger.LEDGER
    return fresh


@pytest.fixture
def torch(monkeypatch: Patch) -> Any:
    """A PyTorch that counts."""
    cuda = SimpleNamespace(memory_allocated=lambda d: 3_000_000, max_memory_allocated=lambda d: 9e6)
    mps = SimpleNamespace(current_allocated_memory=lambda: 5_000_000)
    double = SimpleNamespace(cuda=cuda, mps=mps)
    monkeypatch.setitem(sys.modules, "torch", double)
    return double


def plan(device: str, engine: str = "pytorch") -> PlanInfo:
    return PlanInfo(engine, device, "a title")


def seen(books: Ledger, device: str) -> memory.DeviceMemory:
    return memory.memory(books)[device]


def linear(engine: str = "auto", **how: Any) -> Any:
    weight = np.ones((16, 8), np.float32)
    return cl.compile(
        lambda x: cl.ops.linear(x, weight=weight), x=cl.spec(4, 8), engine=engine, **how
    )


def test_weights_are_counted_wherever_an_engine_keeps_them() -> None:
    model = linear()
    stored = sum(op.weight_bytes for op in model.info.ops)
    assert stored >= 16 * 8 * 4
    assert linear("reference", device="cpu").weight_bytes == stored
    pytest.importorskip("torch")
    assert linear("pytorch", device="cpu").weight_bytes >= 16 * 8 * 4


# -- what devices hold -----------------------------------------------------------------------------


@pytest.mark.usefixtures("torch")
def test_a_gpu_tells_what_it_holds_and_what_was_copied(books: Ledger) -> None:
    memory.copied("cuda:1", sent=100, received=10, arrays=2)
    memory.copied("cuda:1", sent=100, received=10, arrays=2)
    found = seen(books, "cuda:1")
    assert (found.live.value, found.peak.value) == (3e6, 9e6)
    assert (found.sent.value, found.received.value, found.copies) == (200, 20, 4)
    assert found.live.provenance is Provenance.MEASURED
    table = str(memory.memory(books)).splitlines()
    assert " ".join(table[1].split()) == "cuda:1 3.0 MB 9.0 MB 200 B 20 B 4 0 B 0"


@pytest.mark.usefixtures("torch")
def test_what_the_framework_does_not_count_is_unavailable_with_a_reason(books: Ledger) -> None:
    memory.copied("metal:0", sent=1, received=1, arrays=2)
    found = seen(books, "metal:0")
    assert found.live.value == 5e6
    assert found.peak.provenance is Provenance.UNAVAILABLE
    assert "metal:0: peak: unavailable: PyTorch keeps no record" in str(memory.memory(books))


def test_without_a_gpu_there_is_the_process(books: Ledger) -> None:
    found = memory.memory(books)
    assert found.devices == ()
    assert found.process.provenance is Provenance.MEASURED
    assert 1e6 < found.process.value <= found.process_peak.value
    assert "process: all of it" in repr(found)
    assert memory.samples(plan("cpu"), 0) == ()


def test_a_process_that_cannot_be_read_is_unavailable_not_zero(
    books: Ledger, monkeypatch: Patch
) -> None:
    def refuses(pid: int) -> Any:
        raise ProbeError(f"{pid} is not to be read")

    monkeypatch.setattr(memory, "_reader", refuses)
    found = memory.memory(books)
    assert found.process.provenance is Provenance.UNAVAILABLE
    assert "is not to be read" in found.process.note
    assert "unavailable" in str(found)


@pytest.mark.usefixtures("torch")
def test_a_recording_of_a_gpu_holds_its_memory(books: Ledger) -> None:
    memory.copied("cuda:0", sent=1, received=1, arrays=2)
    found = {s.metric: s.value for s in memory.samples(plan("cuda:0"), 7)}
    assert found == {memory.LIVE: 3e6, memory.PEAK: 9e6}
    assert set(found) <= set(METRICS)
    assert books.account("cuda:0").total.copies == 2


def test_a_process_that_serves_a_device_tells_what_it_holds(books: Ledger) -> None:
    memory.held_by("coreml:0", lambda: (5e6, float("nan")))
    found = seen(books, "coreml:0")
    assert found.live.value == 5e6
    assert found.peak.provenance is Provenance.UNAVAILABLE
    assert memory.samples(plan("coreml:0", "coreml"), 0)
    assert not memory.samples(plan("coreml:0", "portable"), 0)


def test_weights_are_held_as_long_as_their_model(books: Ledger) -> None:
    model = linear()
    held = seen(books, "coreml:0").live
    assert held.value >= 16 * 8 * 4
    assert held.provenance is Provenance.ESTIMATED
    assert "~" in str(memory.memory(books))
    del model
    gc.collect()
    assert seen(books, "coreml:0").live.value == 0
    assert seen(books, "coreml:0").peak.value == held.value


def test_tensors_lie_in_the_memory_of_the_cpu_until_they_go(books: Ledger) -> None:
    x = cl.tensor(X)
    assert seen(books, "cpu").live.value == X.nbytes
    moved = x.to_cpu()
    assert seen(books, "cpu").live.value == X.nbytes, "the same memory counts once"
    result = (x + x).numpy()
    assert seen(books, "cpu").live.value == 2 * X.nbytes
    del x, moved, result
    gc.collect()
    assert seen(books, "cpu").live.value == 0


@pytest.mark.parametrize(
    "view", [lambda x: x.to("cpu"), lambda x: x.numpy(), lambda x: x.numpy()[3:]]
)
def test_memory_counts_as_long_as_any_view_keeps_it(books: Ledger, view: Any) -> None:
    x = cl.tensor(X)
    kept = view(x)
    del x
    gc.collect()
    assert seen(books, "cpu").live.value == X.nbytes
    del kept
    gc.collect()
    assert seen(books, "cpu").live.value == 0


def test_an_owner_counts_once_and_until_it_goes(books: Ledger) -> None:
    account = books.account("coreml:0")
    owners = [np.zeros(1) for _ in range(3)]
    for owner in owners:
        account.hold(owner, 10)
        account.hold(owner, 10)
    assert account.live == 30
    owners.clear()
    del owner
    assert (account.live, account.peak) == (0, 30)


def test_many_threads_lose_no_row() -> None:
    account = Account("cpu")

    def write() -> None:
        for _ in range(5 * GATHERED):
            account.moved(Moved(sent=1, copies=1))
            account.hold(np.zeros(1), 8)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert account.total == Moved(sent=20 * GATHERED, copies=20 * GATHERED)
    assert account.live == 0
    assert len(account.rows) == 0


# -- what is copied --------------------------------------------------------------------------------


def test_onnx_runtime_reads_inputs_where_they_are_and_gives_results_where_it_made_them(
    books: Ledger,
) -> None:
    model = linear("portable")
    for _ in range(3):
        model.predict({"x": X})
    found = seen(books, "coreml:0")
    assert (found.copies, found.shares) == (0, 6)
    assert found.shared.value == 3 * (X.nbytes + 4 * 16 * 4)


@pytest.mark.parametrize(("size", "lean"), [(1 << 10, False), (1 << 17, True)])
def test_a_program_of_large_results_holds_no_second_room_for_them(size: int, lean: bool) -> None:
    model = cl.compile(cl.ops.relu, x=cl.spec(1, size))
    loaded = PortableEngine().load(model.program, "coreml:0", Options())
    assert traits_of(model.program.info).lean is lean
    assert loaded.session.get_session_options().enable_mem_pattern is not lean


def test_an_input_with_gaps_is_a_counted_copy(books: Ledger) -> None:
    model = linear("portable")
    gaps = np.ones((8, 4), np.float32).T
    model.predict({"x": gaps})
    model.predict({"x": X})
    model.predict({"x": gaps})
    found = seen(books, "coreml:0")
    assert (found.sent.value, found.copies, found.shares) == (2 * X.nbytes, 2, 4)


@pytest.mark.skipif(not OpenVINOEngine().available().available, reason="openvino is not here")
def test_openvino_reads_what_can_be_written_to_in_its_place(books: Ledger) -> None:
    model = linear("openvino")
    frozen = X.copy()
    frozen.flags.writeable = False
    name = next(iter(model.outputs))
    results = [model.predict({"x": x})[name] for x in (X, frozen, 2 * X)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[2], 2 * results[0])
    assert (X == 1).all(), "what it reads in place it leaves as it is"
    found = seen(books, "coreml:0")
    assert (found.sent.value, found.shares, found.copies) == (X.nbytes, 2, 4)


def test_an_input_of_another_type_is_a_counted_copy(books: Ledger) -> None:
    linear("portable").predict({"x": X.astype(np.float64)})
    assert seen(books, "cpu").sent.value == X.nbytes


def test_an_engine_that_copies_is_counted_so(books: Ledger) -> None:
    account = books.account("opencl:0")
    meter = Meter(account, Border(copies_inputs=True, copies_outputs=True), fixed=True)
    for _ in range(2):
        meter.count({"x": X}, {"y": X[:1]})
    assert account.total == Moved(sent=2 * X.nbytes, received=2 * X[:1].nbytes, copies=4)


def test_an_engine_that_does_not_tell_is_named_so(books: Ledger) -> None:
    account = books.account("beads:0")
    Meter(account, None).count({"x": X}, {"y": X})
    assert account.total == Moved()
    assert "beads:0: 1 runs of an engine that does not tell" in str(memory.memory(books))


def test_an_engine_that_counts_by_itself_is_not_counted_twice(books: Ledger) -> None:
    account = books.account("cuda:0")
    Meter(account, Border(copies_inputs=True, copies_outputs=True, counts=True)).count({"x": X}, {})
    assert account.total == Moved()
    assert account.untold == 0


# -- arrays of other libraries ---------------------------------------------------------------------


def test_what_can_be_written_to_is_copied_and_what_cannot_is_not(books: Ledger) -> None:
    array = X.copy()
    x = cl.tensor(array)
    array[:] = 7
    assert (x.numpy() == 1).all()
    assert array.flags.writeable
    frozen = X.copy()
    frozen.flags.writeable = False
    assert np.may_share_memory(cl.tensor(frozen).numpy(), frozen)
    found = seen(books, "cpu")
    assert (found.copies, found.shares) == (1, 1)


def test_memory_is_shared_on_demand(books: Ledger) -> None:
    array = X.copy()
    x = cl.tensor(array, copy=False)
    assert np.may_share_memory(x.numpy(), array)
    assert array.flags.writeable
    assert not x.numpy().flags.writeable
    assert seen(books, "cpu").copies == 0
    for impossible in ([1.0, 2.0], X.astype(np.float64)):
        with pytest.raises(GraphError, match="cannot share its memory"):
            cl.tensor(impossible, copy=False)


def test_pytorch_reads_a_tensor_and_a_tensor_reads_pytorch_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    given = torch.arange(6.0)
    x = cl.tensor(given, copy=False)
    given[0] = 9.0
    assert x.numpy()[0] == 9.0
    lent = torch.from_dlpack(x)
    assert lent.data_ptr() == given.data_ptr()
    half = torch.full((2,), 1.5, dtype=torch.bfloat16, requires_grad=True)
    assert cl.tensor(half).numpy().tolist() == [1.5, 1.5]
    model = cl.compile(cl.ops.relu, x=cl.spec(6))
    assert next(iter(model.predict({"x": given}).values()))[0] == 9.0


def test_who_knows_no_read_only_memory_gets_a_counted_copy(books: Ledger) -> None:
    x = cl.tensor(X)
    before = seen(books, "cpu").copies

    class Old:
        """A consumer of the first DLPack, which cannot tell that memory is read-only."""

        def __dlpack__(self, stream: Any = None) -> Any:
            return x.__dlpack__(stream=stream)

        def __dlpack_device__(self) -> tuple[int, int]:
            return x.__dlpack_device__()

    np.testing.assert_array_equal(np.from_dlpack(Old()), X)
    assert seen(books, "cpu").copies == before + 1
    with pytest.raises(BufferError):
        x.__dlpack__(copy=False)


def test_numpy_reads_a_tensor_in_its_place() -> None:
    x = cl.tensor(X)
    assert np.asarray(x) is x.numpy()
    assert np.may_share_memory(np.from_dlpack(x), x.numpy())
    assert not np.may_share_memory(np.array(x, copy=True), x.numpy())
    assert np.asarray(x, np.float64).dtype == np.float64


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes have no buffers before Python 3.12")
def test_a_tensor_is_a_buffer() -> None:
    view = memoryview(cl.tensor(X))
    assert view.nbytes == X.nbytes
    assert view.readonly


class OnGpu:
    """An array on a GPU, of a library like CuPy."""

    dtype = np.dtype(np.float32)

    def __init__(self, array: Any, fetch: str) -> None:
        self.array = array
        if fetch:
            setattr(self, fetch, lambda: self.array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("it is not exported")


@pytest.mark.parametrize("fetch", ["cpu", "get"])
def test_an_array_on_a_gpu_is_fetched_which_is_a_counted_copy(books: Ledger, fetch: str) -> None:
    np.testing.assert_array_equal(cl.tensor(OnGpu(X, fetch)).numpy(), X)
    assert seen(books, "cpu").copies == 1
    found = cl.compile(cl.ops.relu, x=cl.spec(4, 8)).predict({"x": OnGpu(X, fetch)})
    np.testing.assert_array_equal(next(iter(found.values())), X)
    assert seen(books, "cpu").copies >= 2


def test_an_array_that_cannot_be_fetched_is_refused_with_a_way_out() -> None:
    with pytest.raises(ShapeError, match="lies on a device") as caught:
        cl.tensor(OnGpu(X, ""))
    assert "CPU" in caught.value.hint
    with pytest.raises(cl.errors.InputError, match="'x' is not an array"):
        cl.compile(cl.ops.relu, x=cl.spec(4, 8)).predict({"x": OnGpu(X, "")})


def test_a_device_is_found_by_its_short_name_and_an_unused_one_is_a_clear_error(
    books: Ledger,
) -> None:
    with pytest.raises(UnknownParameter, match=r"'coreml'.*it used: none"):
        memory.memory(books)["coreml"]
    held = np.zeros(8)
    books.account("coreml:0").hold(held, held.nbytes)
    found = memory.memory(books)
    assert found["coreml"] == found["coreml:0"]
    for name in ("opencl:0", "abacus", 0):
        with pytest.raises(UnknownParameter, match=r"it used: coreml:0") as caught:
            found[name]  # type: ignore[index]
        assert caught.value.hint
