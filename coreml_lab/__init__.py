"""coreml_lab: the notebook laboratory for Apple Core ML.

``import coreml_lab as cl`` loads nothing heavy: each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"

# Public name -> (module, attribute). These names are the contract: add, do not rename.
_PUBLIC: dict[str, tuple[str, str]] = {
    "Tensor": ("coreml_lab.run.compiler", "Tensor"),
    "tensor": ("coreml_lab.run.compiler", "tensor"),
    "spec": ("coreml_lab.run.compiler", "spec"),
    "Dim": ("coreml_lab.program.graph", "Dim"),
    "ops": ("coreml_lab.run.compiler", "ops"),
    "load": ("coreml_lab.run.compiler", "load"),
    "compile": ("coreml_lab.run.compiler", "compile"),
    "Model": ("coreml_lab.run.compiler", "Model"),
    "Scheduler": ("coreml_lab.run.scheduler", "Scheduler"),
    "device": ("coreml_lab.run.devices", "device"),
    "set_device": ("coreml_lab.run.devices", "set_device"),
    "plan": ("coreml_lab.run.split.plans", "plan"),
    "strategy": ("coreml_lab.run.split.strategy", "strategy"),
    "Strategy": ("coreml_lab.run.split.strategy", "Strategy"),
    "devices": ("coreml_lab.run.devices", "devices"),
    "doctor": ("coreml_lab.run.doctor", "doctor"),
    "memory": ("coreml_lab.run.memory", "memory"),
    "cache": ("coreml_lab.run.compiler", "cache"),
    "profile": ("coreml_lab.measure.profiler", "profile"),
    "region": ("coreml_lab.measure.regions", "region"),
    "monitor": ("coreml_lab.measure.sampler", "monitor"),
    "Recording": ("coreml_lab.records", "Recording"),
    "report": ("coreml_lab.explain.report", "report"),
    "compare": ("coreml_lab.explain.comparison", "compare"),
    "energy": ("coreml_lab.explain.energy", "energy"),
    "diff": ("coreml_lab.explain.diff", "diff"),
    "placement": ("coreml_lab.explain.placement", "placement"),
    "diff_recordings": ("coreml_lab.explain.changes", "diff_recordings"),
    "assert_no_regression": ("coreml_lab.improve.regression", "assert_no_regression"),
    "install_runtime": ("coreml_lab.interop.runtime", "install_runtime"),
    "suggest": ("coreml_lab.improve.suggesting", "suggest"),
    "edit": ("coreml_lab.improve.editing", "edit"),
    "merge": ("coreml_lab.improve.several", "merge"),
    "chunk": ("coreml_lab.improve.several", "chunk"),
    "mixed_bits": ("coreml_lab.improve.optimizing.mixed", "mixed_bits"),
    "optimize": ("coreml_lab.improve.optimizing.search", "optimize"),
    "tune": ("coreml_lab.improve.tuning.study", "tune"),
    "check": ("coreml_lab.improve.checking", "check"),
    "Dashboard": ("coreml_lab.widgets.dashboard", "Dashboard"),
    "Inspector": ("coreml_lab.widgets.inspector", "Inspector"),
    "zoo": ("coreml_lab.zoo", ""),
    "models": ("coreml_lab.models", ""),
    "configure": ("coreml_lab.config", "configure"),
    "peak": ("coreml_lab.explain.memory", "peak"),
    "leaks": ("coreml_lab.explain.memory", "leaks"),
    "footprint": ("coreml_lab.explain.footprint", "footprint"),
    "metrics": ("coreml_lab.metrics", ""),
    "errors": ("coreml_lab.errors", ""),
}

__all__ = [*_PUBLIC, "__version__", "load_ipython_extension", "unload_ipython_extension"]  # noqa: PLE0604 - from the table


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'coreml_lab' has no attribute {name!r}")
    module_name, attribute = _PUBLIC[name]
    module = importlib.import_module(module_name)
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext coreml_lab``: register the magics and watch the cells."""
    importlib.import_module("coreml_lab.magics").load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """``%unload_ext coreml_lab``: take everything back."""
    importlib.import_module("coreml_lab.magics").unload(shell)
