"""What of PyTorch's is the whole process's: switches, threads, pinned memory, and who sets it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.run.steps import pinned
from coreml_lab.run.steps.pinned import Pinned
from coreml_lab.run.steps.space import exact
from coreml_lab.run.steps.threads import limited

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch


def switches() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    return cudnn.benchmark, cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision


def test_the_last_of_two_that_compute_exactly_puts_the_switches_back() -> None:
    before = switches()
    first, second = exact(torch), exact(torch)
    first.__enter__()
    inside = switches()
    second.__enter__()
    first.__exit__(None, None, None)
    assert switches() == inside == (True, "ieee", "ieee")
    second.__exit__(None, None, None)
    assert switches() == before


def test_switches_are_put_back_after_many_threads_at_once() -> None:
    before = switches()

    def work(_: int) -> None:
        for _ in range(50):
            with exact(torch):
                assert torch.backends.cudnn.benchmark

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert switches() == before


@pytest.fixture
def usual() -> Iterator[int]:
    """The number of threads that PyTorch uses, which a test leaves as it was."""
    number = torch.get_num_threads()
    yield number
    torch.set_num_threads(number)


def test_threads_of_a_model_are_its_own(usual: int) -> None:
    seen: list[int] = []
    with cl.configure(threads=usual + 1):
        model = cl.compile(lambda x: x @ x, x=cl.spec(4, 4), engine="pytorch", device="cpu")
        assert torch.get_num_threads() == usual
    plain = cl.compile(lambda x: x @ x, x=cl.spec(4, 4), engine="pytorch", device="cpu")
    feeds = {"x": np.eye(4, dtype=np.float32)}
    entered = model._executor.loaded._plan.space.entered
    for each in (model, plain):
        each._executor.loaded._plan.space.entered = lambda array: (
            seen.append(torch.get_num_threads()) or entered(array)
        )
        each.predict(feeds)
        each.trace(feeds, runs=1)
    assert seen[0] == usual + 1
    assert seen[-1] == usual
    assert set(seen) == {usual, usual + 1}
    assert torch.get_num_threads() == usual


def test_threads_are_as_before_after_a_run_that_fails(usual: int) -> None:
    with pytest.raises(ValueError, match="no"), limited(torch, usual + 1):
        raise ValueError("no")
    assert torch.get_num_threads() == usual


def test_two_that_run_at_once_both_go_back_to_the_usual_number(usual: int) -> None:
    meet, seen = threading.Barrier(2, timeout=30), {}

    def work(number: int) -> int:
        meet.wait()
        with limited(torch, number):
            meet.wait()  # the one that came later began with the other's number
            seen[number] = torch.get_num_threads()
            meet.wait()
        return int(torch.get_num_threads())

    with ThreadPoolExecutor(2) as pool:
        after = list(pool.map(work, (usual + 1, usual + 2)))
    assert seen == {usual + 1: usual + 1, usual + 2: usual + 2}
    assert after == [usual, usual]
    assert torch.get_num_threads() == usual


class Tensor:
    """Something that holds memory until it is let go."""


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> type[Pinned]:
    monkeypatch.setattr(Pinned, "held", 0)
    monkeypatch.setattr(pinned, "GIVEN_AWAY", 100)
    Pinned.back.clear()
    return Pinned


def test_pinned_memory_is_counted_right_from_many_threads_and_finalizers(
    count: type[Pinned],
) -> None:
    fake: Any = SimpleNamespace(empty=lambda *_, **__: Tensor())
    inside = SimpleNamespace(nbytes=1, shape=(1,), dtype=None)

    def work(_: int) -> None:
        for _ in range(2000):
            count.result(fake, inside)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    gc.collect()
    kept = count.result(fake, inside)
    assert count.held == 1
    del kept


def test_of_too_much_pinned_memory_with_callers_the_rest_is_plain(count: type[Pinned]) -> None:
    pins: list[bool] = []

    def empty(*_: Any, pin_memory: bool, **__: Any) -> Tensor:
        pins.append(pin_memory)
        return Tensor()

    fake, inside = SimpleNamespace(empty=empty), SimpleNamespace(nbytes=60, shape=(), dtype=None)
    kept = [count.result(fake, inside) for _ in range(2)]
    kept.clear()
    gc.collect()
    count.result(fake, inside)
    assert pins == [True, False, True]


def test_pinned_memory_that_cannot_be_had_is_not_counted(count: type[Pinned]) -> None:
    def empty(*_: Any, **__: Any) -> Tensor:
        raise MemoryError

    fake, inside = SimpleNamespace(empty=empty), SimpleNamespace(nbytes=60, shape=(), dtype=None)
    for _ in range(3):
        with pytest.raises(MemoryError):
            count.result(fake, inside)
    assert count._taken(60)
