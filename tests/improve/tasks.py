"""What trials do in other processes in the tests: answer, refuse, crash, hang."""

from __future__ import annotations

import os
import time
from typing import Any

from coreml_lab.errors import CompileError


def work(task: str) -> Any:
    if task == "refuse":
        raise CompileError("not with me", hint="try another")
    if task == "crash":
        os._exit(11)
    if task == "hang":
        time.sleep(600)
    return task.upper()
