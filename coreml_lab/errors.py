"""Every error this package raises on purpose.

* LabError(.hint)
  + GraphError            the program as written is wrong
    - ShapeError          Core ML's own type inference refused the operands
    - UnknownParameter    an op, option or input was given a name it does not have
    - UnsupportedOp       an engine has no lowering for an op (.node, .engine)
  + ModelError            the file: missing, truncated, wrong version, a kind that is not supported
  + CompileError          coremltools refused the program (.node, .stage)
  + InputError            what was fed to a model does not fit its description
  + CacheError            the compile cache cannot be read or written
  + EngineError           an engine could not run a program
    - EngineUnavailable   the engine or its device is not here (.reason)
    - EngineCrashed       the process that ran it is gone
    - StateLost           what a state held went with that process
    - DeviceLost          the device stopped answering
    - DeviceResting       it failed several times in a row and is left alone for a while
    - OutOfMemory         it does not fit
    - Timeout             it took longer than allowed
    - QueueFull           more requests wait than the scheduler takes
  + NumericalError        not finite, or engines disagree (.node, .difference)
  + RegressionFound       a recording is surely slower than its baseline; an AssertionError, too
  + ExecutionError        recovery is exhausted (.incidents tells the story)
  + ProbeError            a sensor failed; it becomes an *unavailable* sample, never a zero
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreml_lab.legible import SENTENCE, legible

if TYPE_CHECKING:
    from coreml_lab.records import Incident


class LabError(Exception):
    """Base class: the message says what and where, ``hint`` what to try next.

    ``str()`` shows both, with names of strangers made visible; ``message`` has them as they are.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        # Names in it are anyone's, and a terminal obeys what it is shown.
        text = f"{self.message}\ntry: {self.hint}" if self.hint else self.message
        return "\n".join(legible(line, SENTENCE) for line in text.split("\n"))


class GraphError(LabError):
    """The program as written is wrong."""


class ShapeError(GraphError):
    """Core ML's type inference refused the operands of an op."""


class UnknownParameter(GraphError):
    """A name that the op, option or model does not have."""


class UnsupportedOp(GraphError):
    """An engine has no lowering for an op."""

    def __init__(self, message: str, *, node: str = "", engine: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.node = node
        self.engine = engine


class ModelError(LabError):
    """A model file that cannot be used: missing, broken, or of an unsupported kind."""


class CompileError(LabError):
    """coremltools refused a program."""

    def __init__(self, message: str, *, node: str = "", stage: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.node = node
        self.stage = stage


class InputError(LabError):
    """What was fed to a model does not fit its description."""


class CacheError(LabError):
    """The compile cache cannot be read or written."""


class EngineError(LabError):
    """An engine could not run a program."""


class EngineUnavailable(EngineError):
    """The engine, or the device it drives, is not here; ``reason`` says why."""

    def __init__(self, message: str, *, reason: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason or message


class EngineCrashed(EngineError):
    """The process that ran the program is gone."""


class StateLost(EngineError):
    """What a state held went with the process that held it: no engine can go on from it."""


class DeviceLost(EngineError):
    """The device stopped answering."""


class DeviceResting(EngineError):
    """The device failed several times in a row and is left alone for a while."""


class OutOfMemory(EngineError):
    """The program does not fit into the memory there is."""


class Timeout(EngineError):
    """The program took longer than allowed; ``ended``: its process had to be ended for that."""

    def __init__(self, message: str, *, ended: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.ended = ended


class QueueFull(EngineError):
    """More requests wait than a scheduler takes."""


class NumericalError(LabError):
    """A value is not finite, or two engines disagree."""

    def __init__(
        self, message: str, *, node: str = "", difference: float = float("nan"), hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.node = node
        self.difference = difference


class RegressionFound(LabError, AssertionError):
    """A recording is surely slower than its baseline: a test that asserts it is not fails."""


class ExecutionError(LabError):
    """Recovery is exhausted; ``incidents`` tells the story."""

    def __init__(
        self, message: str, *, incidents: tuple[Incident, ...] = (), hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.incidents = incidents


class ProbeError(LabError):
    """A sensor failed."""
