"""What the PyTorch engine must survive on a device; without coremltools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from coreml_lab.errors import EngineError, LabError, OutOfMemory
from coreml_lab.program.graph import Graph, Node, TensorType, Value
from coreml_lab.program.liveness import Manner, liveness
from coreml_lab.run.engine import Options
from coreml_lab.run.steps.program import PyTorchProgram

Rows = list[dict[str, Any]]


def kind(*shape: int, dtype: Any = np.float32) -> tuple[TensorType, ...]:
    """One type."""
    return (TensorType(shape, np.dtype(dtype)),)


def raised(error: type[LabError], work: Callable[[], object]) -> str:
    """The message of the error that must come."""
    try:
        work()
    except error as found:
        return found.message
    raise AssertionError(f"no {error.__name__}")


def states(device: str) -> str:
    """Two states through one program, in turns."""
    x = Node("input", kind(4), name="x")
    total = Node("state", x.types, name="total")
    new = Node("add", x.types, {"x": Value(total), "y": Value(x)}, name="new")
    graph = Graph({"y": Value(new)}, states={"total": total}, updates={"total": Value(new)})
    program = PyTorchProgram(graph, device, Options(), torch)
    first, second, ones = program.make_state(), program.make_state(), np.ones(4, np.float32)
    for i in range(1, 6):
        assert program.run({"x": ones}, first)["y"].tolist() == [i] * 4
        assert program.run({"x": 2 * ones}, second)["y"].tolist() == [2 * i] * 4
    first.write("total", np.zeros(4, np.float32))
    assert program.run({"x": ones}, first)["y"].tolist() == [1] * 4
    assert second.read("total").tolist() == [10] * 4
    return "two states in turns, captured" if any(program._graphs.values()) else "eager only"


def outside(device: str) -> str:
    """An index out of range is an error that names the op, and the device works on."""
    x, at = Node("input", kind(4), name="x"), Node("input", kind(2, dtype=np.int32), name="i")
    picked = Node("gather", kind(2), {"x": Value(x), "indices": Value(at)}, name="picked")
    program = PyTorchProgram(Graph({"y": Value(picked)}), device, Options(), torch)
    data = np.arange(4, dtype=np.float32)
    for _ in range(3):
        found = raised(EngineError, lambda: program.run({"x": data, "i": np.int32([0, 4])}))
        assert "picked" in found, found
        found = program.run({"x": data, "i": np.array([-1, 2], np.int32)})["y"]
        assert found.tolist() == [3, 2]
    return "refused, named, and the device works on"


def memory(device: str) -> str:
    """What does not fit is OutOfMemory, and the device works on."""
    n = 400_000
    x, y = Node("input", kind(n, 1), name="x"), Node("input", kind(1, n), name="y")
    total = Node("add", kind(n, n), {"x": Value(x), "y": Value(y)}, name="total")
    graph = Graph({"z": Value(total)})
    program = PyTorchProgram(graph, device, Options(), torch)
    column = np.zeros((n, 1), np.float32)
    found = raised(OutOfMemory, lambda: program.run({"x": column, "y": column.T}))
    return f"{found[:120]} ({states(device)} afterwards)"


def spans(device: str) -> str:
    """The spans of an instrumented run."""
    x = Node("input", kind(512, 512), name="x")
    y = Node("matmul", kind(512, 512), {"x": Value(x), "y": Value(x)}, name="product")
    z = Node("relu", kind(512, 512), {"x": Value(y)}, name="cut")
    program = PyTorchProgram(Graph({"z": Value(z)}), device, Options(), torch)
    run = program.trace({"x": np.ones((512, 512), np.float32)}, 3)[-1]
    return ", ".join(f"{s.op} {s.duration_ns / 1e3:.1f} us {s.bytes} B" for s in run.spans)


def account(device: str) -> str:
    """Memory per operation, by the allocator: what liveness says of the values, and workspace."""
    x = Node("input", kind(1024, 1024), name="x")
    nodes = [x]
    for op in ("exp", "softmax", "sin"):
        nodes.append(Node(op, kind(1024, 1024), {"x": Value(nodes[-1])}, name=f"its_{op}"))
    graph = Graph({"y": Value(nodes[-1])})
    program = PyTorchProgram(graph, device, Options(), torch)
    data = {"x": np.ones((1024, 1024), np.float32)}
    plan = liveness(graph, manner=Manner(in_place=False))
    found = program.account(data)
    told = {s.node: s.memory for s in program.trace(data, 2)[-1].spans if s.node != "inputs"}
    assert {op.node: op.live for op in found.ops}.items() <= told.items(), told
    wanted = [step.live for step in plan.steps]
    given = [op.live for op in found.ops]
    # An input that is not read any more is the caller's in the plan, and on the device here.
    assert all(abs(g - w) <= 4 * 2**20 for g, w in zip(given, wanted, strict=True)), given
    return f"estimate {wanted}, allocator {given}, made {[op.made for op in found.ops]}"


def growth(device: str) -> str:
    """Device memory over a thousand runs and a hundred loads."""
    x = Node("input", kind(64, 64), name="x")
    y = Node("matmul", kind(64, 64), {"x": Value(x), "y": Value(x)}, name="y")
    data = {"x": np.ones((64, 64), np.float32)}

    def load(runs: int) -> None:
        program = PyTorchProgram(Graph({"y": Value(y)}), device, Options(), torch)
        for _ in range(runs):
            program.run(data)

    load(1000)
    before = torch.cuda.memory_reserved()
    for _ in range(100):
        load(3)
    after = torch.cuda.memory_reserved()
    return f"reserved {before / 2**20:.0f} MiB, after 100 loads {after / 2**20:.0f} MiB"


def joined(device: str) -> str:
    """Inputs in memory of the program's own, written again as soon as a run has ended."""
    x = Node("input", kind(8, 3, 224, 224), name="x")
    y = Node("real_div", kind(8, 3, 224, 224), {"x": Value(x), "y": Value(x)}, name="y")
    z = Node("reduce_sum", kind(8), {"x": Value(x)}, {"axes": [1, 2, 3]}, name="z")
    graph = Graph({"y": Value(y), "z": Value(z)})
    program = PyTorchProgram(graph, device, Options(), torch)
    room = program.room((16, 3, 224, 224), np.dtype(np.float32))
    assert room is not None, "no pinned memory"
    for turn in range(1, 200):
        room[:8] = turn
        found = program.run({"x": room[:8]})
        assert (found["y"] == 1).all(), turn
        np.testing.assert_allclose(found["z"], turn * 3 * 224 * 224, rtol=1e-5)
    assert any(program._graphs.values()), program.eager_because
    return f"{turn} runs, pinned: {torch.from_numpy(room[:8]).is_pinned()}"


def product(device: str, seed: int = 0) -> PyTorchProgram:
    """A long sum of products for few results, which cuBLAS splits up and adds in its workspace."""
    weight = np.random.default_rng(seed).standard_normal((16384, 256), np.float32)
    x = Node("input", kind(4, 16384), name="x")
    w = Node("const", kind(*weight.shape), attrs={"val": weight}, name="w")
    y = Node("matmul", kind(4, 256), {"x": Value(x), "y": Value(w)}, name="y")
    return PyTorchProgram(Graph({"y": Value(y)}), device, Options(), torch)


def unharmed(device: str, others: Callable[[], object]) -> str:
    """A captured program gives the same after ``others`` have used the device."""
    data = {"x": np.random.default_rng(1).standard_normal((4, 16384), np.float32)}
    program = product(device)
    wanted = [program.run(data)["y"] for _ in range(4)][-1].copy()
    assert any(program._graphs.values())
    others()
    torch.cuda.empty_cache()
    junk = [torch.full((1 << 20,), np.nan, device=device) for _ in range(64)]
    for _ in range(50):
        found = program.run(data)["y"]
    assert found.tobytes() == wanted.tobytes(), float(np.abs(found - wanted).max())
    return f"equal to the bit ({len(junk)} tensors later)"


def neighbours(device: str) -> str:
    """A program runs on when so many others came and went that each stream was used again."""
    data = {"x": np.ones((4, 16384), np.float32)}

    def others() -> None:
        for seed in range(40):
            other = product(device, seed)
            for _ in range(3):
                other.run(data)

    return unharmed(device, others)


def compiling(device: str) -> str:
    """A program runs on beside torch.compile, which captures graphs, too."""
    weight = torch.ones((16384, 256), device=device)

    def others() -> None:
        step = torch.compile(lambda x: torch.relu(x @ weight), mode="reduce-overhead")
        with torch.inference_mode():
            for _ in range(4):
                step(torch.ones((4, 16384), device=device)).cpu()

    return unharmed(device, others)


# The last two end the process where they fail.
CHECKS = (states, outside, memory, spans, account, growth, joined, neighbours, compiling)


def faults(device: str) -> Rows:
    """What must be survived."""
    rows = []
    for check in CHECKS:
        try:
            row = {"part": "faults", "name": check.__name__, "ok": True, "told": check(device)}
        except Exception as error:  # noqa: BLE001 - a row, and on
            told = f"{type(error).__name__}: {error}"[:400]
            row = {"part": "faults", "name": check.__name__, "ok": False, "told": told}
        rows.append(row)
        print(f"{check.__name__:<10} {'ok' if row['ok'] else 'FAILED'}  {row['told']}")
    return rows
