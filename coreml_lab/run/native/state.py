"""States inside the worker: what they hold goes with it, and using them says so."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from coreml_lab.errors import StateLost
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.run.call import NO_LIMIT, Limit
from coreml_lab.run.native.link import Link, Watch
from coreml_lab.run.native.messages import (
    DropState,
    MakeState,
    Predicted,
    ReadState,
    WriteState,
)
from coreml_lab.run.native.process import NOWHERE, Worker
from coreml_lab.run.state import State

_NUMBERS = itertools.count(1)


class Owner(Protocol):
    """A program in the worker, whose states they are."""

    states: dict[str, TensorType]
    watch: Callable[[str], Watch]

    def loaded(self, link: Link, limit: Limit = NO_LIMIT) -> int:
        """The handle of the model."""
        ...


class CoreMLState(State):
    """States of the program that used them last; contents cross the border where another does.

    Only a thread in a session of the worker changes where they are.
    """

    def __init__(self, program: Owner, process: Worker, link: Link, limit: Limit) -> None:
        self.types = dict(program.states)
        self._program = program
        self._process = process
        self._lost: dict[str, str] = {}
        # Contents that no worker has taken yet.
        self._here: dict[str, Array] = {}
        # Shared with the finalizer: the generation of the worker, the model's handle, its own.
        self._place = [NOWHERE, 0, 0]
        self._make(link, limit)
        weakref.finalize(self, _drop, process, self._place)

    def is_of(self, process: Worker) -> bool:
        """Whether it lives in that worker, or lived in one before it."""
        return self._process is process

    def number_in(self, program: Owner, link: Link, limit: Limit) -> int:
        """Its handle in this worker, where it is the program's from now on.

        Raises:
            StateLost: where its contents are lost.
        """
        self._follow(link.generation)
        self._check(self.types)
        if program is not self._program:
            self._here = self.contents(link, limit)
            _drop(self._process, self._place)
            self._program, self._place[0] = program, NOWHERE
        if self._here:
            self._deliver(link, limit)
        return self._place[2]

    def _follow(self, generation: int) -> None:
        """Take for lost what went with its worker."""
        if self._place[0] != generation:
            for name in self.types.keys() - self._here.keys():
                self._lost.setdefault(name, "the worker process that held it is gone")

    def _check(self, names: Mapping[str, TensorType]) -> None:
        for name in names if self._lost else ():
            if name in self._lost:
                raise StateLost(
                    f"what state {name!r} held is not known any more: {self._lost[name]}",
                    hint="begin again with model.make_state(), or write() every state",
                )

    def _deliver(self, link: Link, limit: Limit) -> None:
        if self._place[0] != link.generation:
            self._make(link, limit)
        for name, array in self._here.items():
            self._send(link, name, array, limit)
        self._here.clear()

    def _make(self, link: Link, limit: Limit) -> None:
        handle, number = self._program.loaded(link, limit), next(_NUMBERS)
        try:
            watch = self._program.watch("making a state")
            link.ask(MakeState(handle, number), watch, limit)
        except BaseException:
            # It may be made all the same, when nobody waits for it any more.
            self._process.later(link.generation, DropState(handle, number))
            raise
        self._place[:] = [link.generation, handle, number]

    def _send(self, link: Link, name: str, array: Array, limit: Limit) -> None:
        _, handle, number = self._place
        request = WriteState(handle, number, link.put([{name: array}]))
        link.ask(request, self._program.watch("writing a state"), limit)
        self._lost.pop(name, None)

    def _fetch(self, link: Link, name: str, limit: Limit) -> Array:
        if name in self._here:
            return self._here[name].copy()
        _, handle, number = self._place
        request, watch = ReadState(handle, number, name), self._program.watch("reading a state")
        reply: Predicted = link.ask(request, watch, limit)
        (views,) = link.views(reply.outputs)
        return np.array(views[name], self.types[name].dtype)

    def contents(self, link: Link, limit: Limit = NO_LIMIT) -> dict[str, Array]:
        """Copies of all it holds.

        Raises:
            StateLost: where some of it is lost.
        """
        self._follow(link.generation)
        self._check(self.types)
        return {name: self._fetch(link, name, limit) for name in self.types}

    def take(self, contents: Mapping[str, Array]) -> None:
        """Hold these from now on; the worker takes them when it needs them."""
        self._here = {name: self.fitted(name, contents[name]) for name in self.types}
        self._lost.clear()

    def forget(self, reason: str) -> None:
        """Take its contents for lost."""
        self._lost = dict.fromkeys(self.types, reason)

    def check_held(self) -> None:
        """Raise StateLost where what it held is gone; no worker is started to find out."""
        self._follow(self._process.generation)
        self._check(self.types)

    def read(self, name: str) -> Array:
        """A copy of what it holds."""
        kind = self.check(name)
        self._follow(self._process.generation)
        self._check({name: kind})
        with self._process.session() as link:
            self._follow(link.generation)
            self._check({name: kind})
            return self._fetch(link, name, NO_LIMIT)

    def write(self, name: str, array: Array) -> None:
        """Replace what it holds."""
        fitted = self.fitted(name, array)
        with self._process.session() as link:
            self._follow(link.generation)
            if self._place[0] == link.generation and not self._here:
                self._send(link, name, fitted, NO_LIMIT)
            else:
                self._here[name] = fitted.copy()
                self._lost.pop(name, None)


def _drop(process: Worker, place: list[int]) -> None:
    generation, handle, number = place
    process.later(generation, DropState(handle, number))
