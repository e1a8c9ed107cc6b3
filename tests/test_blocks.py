"""Settings in with-blocks: each task and thread has its own; what a plain call says stays."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab import config
from coreml_lab.run.compiler import EAGER
from coreml_lab.widgets.lane import Lane
from tests.support.loops import finished


def in_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def threads() -> int:
    return config.current().threads


def test_tasks_that_overlap_have_each_its_own_device() -> None:
    async def first(begun: asyncio.Event, ended: asyncio.Event) -> str:
        with cl.set_device("cpu"):
            begun.set()
            await ended.wait()
            return str(cl.tensor([1.0]).device)

    async def second(begun: asyncio.Event, ended: asyncio.Event) -> str:
        await begun.wait()
        with cl.set_device("coreml"):
            ended.set()
            await asyncio.sleep(0.01)
            return str(cl.tensor([1.0]).device)

    async def both() -> list[str]:
        events = asyncio.Event(), asyncio.Event()
        return list(await asyncio.gather(first(*events), second(*events)))

    assert finished(both()) == ["cpu", "coreml:0"]
    assert config.current().device == "coreml"


def test_threads_that_overlap_have_each_their_own_and_leave_nothing_behind() -> None:
    inside, later, ended = threading.Event(), threading.Event(), threading.Event()

    def first() -> int:
        with cl.configure(threads=3):
            inside.set()
            assert later.wait(30)
            found = threads()
        ended.set()
        return found

    def second() -> int:
        assert inside.wait(30)
        with cl.configure(threads=4):
            later.set()
            assert ended.wait(30)
            return threads()

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(work) for work in (first, second)]
        assert [each.result() for each in found] == [3, 4]
    assert threads() == in_a_thread(threads) == 0


def test_a_plain_call_inside_of_a_block_stays() -> None:
    with cl.set_device("cpu"):
        cl.configure(interval=0.5)
        cl.strategy("battery")
        assert in_a_thread(config.current).interval == 0.5
    assert (config.current().interval, config.current().strategy) == (0.5, "battery")
    assert config.current().device == "coreml"


def test_a_plain_call_for_what_a_block_says_holds_at_once_and_stays() -> None:
    with cl.configure(threads=3):
        with cl.configure(precision="fp16"):
            cl.configure(threads=5)
            assert threads() == 5
        assert threads() == 5
        with cl.configure(threads=6):
            assert threads() == 6
        assert threads() == 5
    assert threads() == 5
    cl.configure(threads=7)
    assert threads() == 7


def test_a_block_holds_in_its_thread_alone_and_where_its_context_is_taken() -> None:
    async def ask() -> int:
        return await asyncio.to_thread(threads)

    with cl.configure(threads=3):
        inherited = contextvars.copy_context()
        assert in_a_thread(threads) == 0
        assert in_a_thread(lambda: inherited.run(asyncio.run, ask())) == 3
        cl.configure(interval=0.7)
        assert in_a_thread(lambda: config.current().interval) == 0.7
    assert inherited.run(threads) == 3
    assert threads() == 0


@pytest.mark.parametrize("ends", list(itertools.permutations(range(3))))
def test_calls_whose_blocks_begin_later_take_back_only_their_own(ends: tuple[int, ...]) -> None:
    calls = [cl.configure(threads=number) for number in (3, 4, 5)]
    for at in ends:
        calls[at].__enter__()
    for at in ends:
        calls[at].__exit__()
    assert threads() == 0


@pytest.mark.parametrize("plain", [0, 1, 2])
def test_of_calls_before_blocks_the_plain_one_stays(plain: int) -> None:
    calls: list[config.configure | None] = [cl.configure(threads=n) for n in (3, 4, 5)]
    calls[plain] = None
    for call in calls:
        if call is not None:
            with call:
                assert threads() != plain + 3
    assert threads() == plain + 3


def test_blocks_may_end_in_any_order_and_be_entered_again() -> None:
    first, second = cl.configure(threads=3), cl.configure(threads=4)
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert threads() == 4
    second.__exit__()
    assert threads() == 0
    with first, first:
        assert threads() == 3
    assert threads() == 0
    with first:
        assert threads() == 3
    first.__exit__()  # one too many
    assert threads() == 0


def test_a_block_that_ends_in_another_context_leaves_that_one_as_it_is() -> None:
    call = cl.configure(threads=3)
    contextvars.copy_context().run(call.__enter__)
    assert threads() == 0
    call.__exit__()
    assert threads() == 0


def test_settings_inside_of_a_block_are_made_once_and_follow_the_base() -> None:
    with cl.configure(threads=3) as inside:
        assert config.current() is inside
        in_a_thread(lambda: cl.configure(interval=0.3))
        assert (config.current().interval, threads()) == (0.3, 3)


def test_tensors_are_computed_anew_where_settings_differ() -> None:
    x = cl.tensor([1.0, 2.0], device="cpu")

    def engines() -> list[str]:
        EAGER.models.clear()
        (x * 5.0 + 1.0).numpy()
        with cl.configure(engine="reference"):
            (x * 5.0 + 1.0).numpy()
            (x * 5.0 + 1.0).numpy()
        with cl.configure(deadline=9.0, interval=0.3):  # no model is made with these
            (x * 5.0 + 1.0).numpy()
        return [model.plan.engine for model in EAGER.models.values()]

    with cl.configure(engine="portable"):
        x = x.to("coreml")
        assert sorted(engines()) == ["portable", "reference"]
    with cl.configure(engine="nonsense"), pytest.raises(cl.errors.LabError, match="'nonsense'"):
        (x * 5.0 + 1.0).numpy()


@pytest.mark.parametrize(
    "changed",
    [
        {"packed": "off"},
        {"threads": 1},
        {"rows": 2},
        {"compute_units": "CPU_ONLY"},
        {"recover": True},
        {"rivals": True},
        {"strategy": "battery"},
        {"strategy": cl.Strategy(gain=3.0)},
    ],
)
def test_what_a_model_is_made_with_makes_tensors_anew(changed: dict[str, Any]) -> None:
    before = EAGER._settled(config.current())
    with cl.configure(**changed):
        assert EAGER._settled(config.current()) != before
    assert EAGER._settled(config.current()) == before


def test_each_job_of_a_lane_has_the_settings_of_who_asked_for_it() -> None:
    seen: list[int] = []
    lane = Lane("test lane", lambda _: None)
    with cl.configure(threads=3):
        lane.put(lambda: seen.append(threads()))
    lane.put(lambda: seen.append(threads()))
    assert lane.drain(30)
    lane.close()
    assert seen == [3, 0]
