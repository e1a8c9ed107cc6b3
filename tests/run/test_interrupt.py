"""A real kernel, interrupted in the middle of its runs: one error, and the next cell works."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

import coreml_lab

SETUP = """
import numpy as np, coreml_lab as cl
weight = np.eye(1500, dtype=np.float32)
model = cl.compile(lambda x: cl.ops.matmul(x, weight), x=cl.spec(1500, 1500), name="big")
inputs = {"x": np.ones((1500, 1500), np.float32)}
model.predict(inputs)
"""


@pytest.fixture
def kernel() -> Iterator[Any]:
    """A kernel of its own process, with this checkout on its path."""
    environment = os.environ | {"PYTHONPATH": str(Path(coreml_lab.__file__).parent.parent)}
    manager, client = start_new_kernel(env=environment)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client: Any, code: str) -> dict[str, Any]:
    """The reply to a cell."""
    reply = client.execute_interactive(code, timeout=60, output_hook=lambda _message: None)
    return dict(reply["content"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_interrupt_in_the_middle_of_runs_is_one_error_and_the_model_still_works(
    kernel: Any,
) -> None:
    manager, client = kernel
    assert run(client, SETUP)["status"] == "ok"
    # After an error Jupyter's kernels drop what is asked in the next moment, if told to stop.
    busy = client.execute("while True: model.predict(inputs)", stop_on_error=False)
    time.sleep(1.5)
    manager.interrupt_kernel()
    reply = client.get_shell_msg(timeout=30)
    while reply["parent_header"].get("msg_id") != busy:
        reply = client.get_shell_msg(timeout=30)
    assert reply["content"]["status"] == "error"
    assert reply["content"]["ename"] in {"Interrupted", "KeyboardInterrupt"}
    after = run(client, "assert (model.predict(inputs)['output'] == 1).all()")
    assert after["status"] == "ok"
