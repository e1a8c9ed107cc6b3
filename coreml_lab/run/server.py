"""What a thread of a scheduler does with the requests whose turn it is."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from coreml_lab.clock import Clock
from coreml_lab.run.activity import Activity
from coreml_lab.run.ending import Endings
from coreml_lab.run.joining import Joiner
from coreml_lab.run.queue import Queue, Request


@dataclass
class Server:
    """Answers requests together, or else one by one; used by one thread.

    Attributes:
        queue: is told what was answered.
        lock: the scheduler's.
        endings: gives results and errors to who asked.
        clock: tells the time.
        activity: whether somebody watches runs.
        joiner: joins inputs, in memory of this thread's own.
    """

    queue: Queue
    lock: threading.Condition
    endings: Endings
    clock: Clock
    activity: Activity
    joiner: Joiner = field(default_factory=Joiner)

    def answer(self, batch: list[Request]) -> None:
        """Give each of them its end, and empty the list; nothing of what was run is kept."""
        running = list(batch)
        try:
            self._answer(batch)
        except BaseException as error:  # noqa: BLE001 - a fault of ours loses no request
            for request in [r for r in running if not r.future.done()]:
                self.endings.failed(request, error)
        finally:
            running.clear()  # an error may know this frame

    def _answer(self, batch: list[Request]) -> None:
        """Nothing of one is held by another's error."""
        begun = [r for r in batch if self.endings.begins(r)]
        batch.clear()
        if len(begun) > 1 and self._together(begun):
            return
        while begun:
            self._alone(begun.pop(0))

    def _together(self, batch: list[Request]) -> bool:
        """Whether they could be answered in one run."""
        start, watchers = self.clock.now_ns(), self.activity.watchers
        try:
            run = partial(self.joiner.together, batch, anew=bool(watchers))
            results = batch[0].context.run(run)
        except BaseException:  # noqa: BLE001 - whose fault it was is seen when they run alone
            return False
        if watchers:  # somebody may have begun to watch meanwhile, and keeps the inputs
            self.joiner.forget(batch[0].model)
        self._served(batch, results, start)
        return True

    def _alone(self, request: Request) -> None:
        start = self.clock.now_ns()
        try:
            run = partial(request.model.run, request.feeds, request.state)
            results = [request.context.run(run)]
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who asked
            self.endings.failed(request, error)
        else:
            self._served([request], results, start)
        finally:
            del request  # the error knows this frame: it would know itself, and the inputs

    def _served(self, batch: list[Request], results: list[dict[str, Any]], start: int) -> None:
        with self.lock:
            self.queue.returned(batch, self.clock.now_ns())
        self.endings.served(batch, results, start)
