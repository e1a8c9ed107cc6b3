"""install_runtime(): our runtime at coremltools' native seam, until it is uninstalled.

coremltools reaches Core ML through one compiled module, which exists on macOS only. Here its
classes are replaced, wherever coremltools has bound them; coremltools itself stays as it is.
"""

from __future__ import annotations

import importlib
import sys
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from coreml_lab.explain.placing import tables
from coreml_lab.explain.placing.tables import Chip
from coreml_lab.interop.chips import CHIP, INSTALLED

PACKAGE = "coremltools"
NATIVE = "libcoremlpython"
# What coremltools is told where it asks for the version of macOS: the one of its own version 9.
MACOS = (26, 0)


@dataclass(frozen=True)
class _Patch:
    """One name in coremltools: what it was bound to, and what it is bound to meanwhile."""

    name: str
    original: Any
    replacement: Any


class Runtime:
    """An installation: ``uninstall()`` it, or use it as a context manager."""

    def __init__(self, chip: Chip) -> None:
        self.chip = chip

    @property
    def installed(self) -> bool:
        """Whether this installation is in force."""
        return self in INSTALLED

    def uninstall(self) -> None:
        """Put back what coremltools had; other installations stay in force."""
        with _LOCK:
            if self not in INSTALLED:
                return
            INSTALLED.remove(self)
            if not INSTALLED:
                _restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.uninstall()

    def __repr__(self) -> str:
        return f"Runtime({'installed' if self.installed else 'not installed'})"


_LOCK = threading.RLock()
_PATCHES: list[_Patch] = []


def install_runtime(*, chip: str = CHIP) -> Runtime:
    """Let coremltools' own ``MLModel.predict`` and its relatives run here, without a Mac.

    Models made before do not run: load them again. On a Mac this takes the place of Core ML.
    While it is installed, ``linear_quantize_activations`` also takes its ranges from all samples;
    coremltools 9.0 by itself keeps those of the last one.

    Args:
        chip: the Apple chip that ``MLComputePlan`` is estimated for: its plans are
            ``cl.placement``'s estimates. Of several installations the last one's chip counts.

    Raises:
        UnknownParameter: for a chip that is not in the tables (the message lists them).
    """
    runtime = Runtime(tables.chip(chip))
    with _LOCK:
        if not INSTALLED:
            _install()
        INSTALLED.append(runtime)
    return runtime


def _install() -> None:
    """Replace names where they are bound: every module has its own copy."""
    # Imported here: coremltools takes seconds, and whoever never installs does not need it.
    from coreml_lab.interop import calibration, seam  # noqa: PLC0415

    real = sys.modules.get(f"{PACKAGE}.{NATIVE}")
    native = seam.module(f"{PACKAGE}.{NATIVE}")
    utils = vars(sys.modules[f"{PACKAGE}.models.utils"])
    gates = {"_is_macos": lambda: True, "_macos_version": lambda: MACOS}
    _PATCHES.append(_Patch(NATIVE, real, native))
    _PATCHES.extend(_Patch(n, getattr(real, n, None), c) for n, c in seam.CLASSES.items())
    _PATCHES.extend(_Patch(n, utils[n], gate) for n, gate in gates.items())
    _PATCHES.extend(_Patch(*change) for change in calibration.CHANGES)
    # Its module level derives classes from these: it must have done so before.
    importlib.import_module(f"{PACKAGE}.models.ml_program.experimental.compute_plan_utils")
    # First of all: the real module itself, where there is one, keeps its names.
    sys.modules[f"{PACKAGE}.{NATIVE}"] = native
    setattr(sys.modules[PACKAGE], NATIVE, native)
    _swap([(p.name, p.original, p.replacement) for p in _PATCHES])


def _restore() -> None:
    """Put everything back, also in modules that were imported meanwhile and bound our classes."""
    if (real := _PATCHES[0].original) is None:
        del sys.modules[f"{PACKAGE}.{NATIVE}"]
        delattr(sys.modules[PACKAGE], NATIVE)
    else:
        sys.modules[f"{PACKAGE}.{NATIVE}"] = real
    _swap([(p.name, p.replacement, p.original) for p in _PATCHES])
    _PATCHES.clear()


def _swap(changes: list[tuple[str, Any, Any]]) -> None:
    """Bind each name to its second value, wherever in coremltools it has the first."""
    from coreml_lab.interop.calibration import ModelDebugger  # noqa: PLC0415

    modules = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == PACKAGE]
    for holder in [*modules, ModelDebugger]:
        for name, old, new in changes:
            if name in vars(holder) and vars(holder)[name] is old:
                setattr(holder, name, new)
