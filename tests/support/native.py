"""The native engine on the strict double, and its orders."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coreml_lab.program.cache import Cache
from coreml_lab.run.coreml import CoreMLEngine, Host, Limits
from coreml_lab.run.native.link import Progress
from coreml_lab.run.native.process import Worker, worker

ENTRY = "tests.support.seam_worker"
NO_LIMITS = Limits(0, 0)
MAC = Host("macOS", "26.1", "25B78", "Apple M4")


@dataclass
class Double:
    """What tests tell the double, and what it was asked."""

    folder: Path
    progress: list[Progress] = field(default_factory=list)
    # Ctrl-C comes when this is waited for, once.
    interrupted: str = ""

    def fail(self, order: str) -> None:
        """The next call of a stage fails: ``predict-segv``."""
        (self.folder / order).touch()

    def hear(self, progress: Progress) -> None:
        """Keep what is told of a long wait; at the stage that is ordered, interrupt it."""
        self.progress.append(progress)
        if self.interrupted and progress.stage == self.interrupted:
            self.interrupted = ""
            os.kill(os.getpid(), signal.SIGINT)

    @property
    def pending(self) -> list[str]:
        """Orders that no call has met."""
        return sorted(p.name for p in self.folder.iterdir() if "-" in p.name)

    def calls(self, stage: str) -> list[list[Any]]:
        """What the calls of a stage were given, in their order."""
        file = self.folder / "calls"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        rows = [json.loads(line) for line in lines]
        return [details for name, *details in rows if name == stage]

    @property
    def worker(self) -> Worker:
        """The process on the double."""
        return worker(ENTRY)

    def engine(self, cache: Cache | None = None, limits: Limits = NO_LIMITS) -> CoreMLEngine:
        """The native engine of a made-up Mac."""
        return CoreMLEngine(cache, limits, MAC, ENTRY, self.hear)


def clear(folder: Path) -> None:
    """Forget calls and orders: the worker stays."""
    for file in folder.iterdir():
        file.unlink()
