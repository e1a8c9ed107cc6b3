"""Packages are whole when they are used, though somebody holds the frames that made them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.program.mil import settled as waiting


@pytest.fixture
def sampled() -> Iterator[None]:
    """A profiler of this process: it looks at all threads every half millisecond."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            frames = sys._current_frames()
            time.sleep(0.0005)
            frames.clear()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.usefixtures("sampled")
def test_conversions_succeed_beside_a_profiler_that_holds_their_frames() -> None:
    weight = np.ones((8, 8), np.float32)
    model = cl.compile(lambda x: cl.ops.linear(x=x, weight=weight), x=cl.spec(1, 8))
    for _ in range(8):
        changed = cl.edit(model).apply("float16").model
        assert changed.info.precision == "fp16"


def test_a_list_that_never_comes_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_NS", 5_000_000)
    made: list[str] = []

    def create(path: str) -> str:
        made.append(path)
        return path

    assert waiting.settled(create)(str(tmp_path)) == str(tmp_path)
    assert made == [str(tmp_path)]
