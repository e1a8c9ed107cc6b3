"""Where an operation was written: the user's own line, also in a notebook, never an older one."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import NumericalError

FILE = Path(__file__).name


def here(offset: int = 0) -> str:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return f"{FILE}, line {frame.f_back.f_lineno + offset}"


def test_an_operation_knows_the_line_that_wrote_it() -> None:
    x = cl.tensor(np.ones(3, np.float32))
    for y in (cl.ops.relu(x), x + 1, x.sum()):
        assert y.value.node.where.startswith(f"{FILE}, line ")
    assert cl.ops.relu(x).value.node.where == here()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_compiled_operations_know_their_lines_after_the_passes(precision: str) -> None:
    def network(x: Any) -> Any:
        y = cl.ops.exp(x)
        return {"y": cl.ops.mul(y, 3.0), "place": cl.ops.relu(y)}

    line = here(-3)
    for _ in range(2):  # the second time it comes from the cache
        model = cl.compile(network, x=cl.spec(3), precision=precision)
        found = {op.op: op.where for op in model.info.ops if op.op != "cast"}
        assert found["exp"] == line
        assert len(set(found.values())) == 2
        assert all(where.startswith(f"{FILE}, line ") for where in found.values())


def test_lines_are_not_kept_with_the_compiled_program() -> None:
    def program(x: Any) -> Any:
        return cl.ops.sinh(x)

    def same_elsewhere(x: Any) -> Any:
        return cl.ops.sinh(x)

    first, second = (cl.compile(f, x=cl.spec(3)) for f in (program, same_elsewhere))
    assert first.info.key == second.info.key
    assert first.info.ops[0].where != second.info.ops[0].where == here(-4)
    loaded = cl.load(first.info.package)
    assert loaded.info.ops[0].where == f"model.mlpackage: {loaded.info.ops[0].name}"


def test_a_debugged_run_says_the_line_and_not_that_of_equal_code_before() -> None:
    with cl.configure(debug=True):
        for _ in range(2):
            x = cl.tensor(np.array([-4.0], np.float32))
            cl.ops.sqrt(x + 8.0).numpy()
        with pytest.raises(NumericalError) as caught:
            cl.ops.sqrt(x + 3.0).numpy()
        assert f"sqrt 'value' ({here(-1)}) is the first" in caught.value.message


def test_in_a_notebook_it_is_the_cell_and_its_line() -> None:
    def name(file: str) -> tuple[str, str] | None:
        return ("Cell", "In[7]") if file == "<cell>" else None

    shell = SimpleNamespace(compile=SimpleNamespace(format_code_name=name))
    code = compile("\n\ny = cl.ops.relu(x)", "<cell>", "exec")
    scope = {"cl": cl, "x": cl.tensor(np.ones(2, np.float32)), "get_ipython": lambda: shell}
    exec(code, scope)
    assert scope["y"].value.node.where == "Cell In[7], line 3"
