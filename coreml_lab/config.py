"""Settings: one frozen dataclass; argument > configure() > environment > default."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from coreml_lab.errors import UnknownParameter

PREFIX = "COREML_LAB_"


def default_cache_dir() -> Path:
    """Where compiled programs are kept: the platform's cache folder."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "coreml-lab"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "coreml-lab"


def default_models_dir() -> Path:
    """Where the real models are kept: the platform's data folder."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "coreml-lab" / "models"
    data = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    return data / "coreml-lab" / "models"


def _setting(default: Any, help_text: str) -> Any:
    factory = {"default_factory": default} if callable(default) else {"default": default}
    return field(**factory, metadata={"help": help_text})


@dataclass(frozen=True)
class Config:
    """Every setting there is; each has a ``COREML_LAB_<NAME>`` variable."""

    engine: str = _setting(
        "auto",
        "Engine to run programs on: auto, coreml, portable, openvino, pytorch, tinygrad, "
        "reference, or hybrid (parts on several of them).",
    )
    strategy: str = _setting(
        "balanced",
        "What a program that is split over engines aims at: performance, battery or balanced.",
    )
    rivals: bool = _setting(
        True, "Whether engine='auto' measures the engines that are here, once per model."
    )
    device: str = _setting("coreml", "Device of new tensors and models.")
    precision: str = _setting(
        "fp32",
        "Arithmetic of programs compiled here: fp32, fp16, or faithful (fp16, results rounded).",
    )
    packed: str = _setting(
        "high",
        "Linear-quantized weights of large products: high (stay packed where that is faster, their "
        "inputs taken in 16 bits or more), exact (with results as in fp32), fast (their inputs "
        "rounded to int8), or off (expanded).",
    )
    cache_dir: Path = _setting(  # noqa: RUF009 - returns a dataclasses.field
        default_cache_dir, "Folder of the compile cache."
    )
    cache_limit: int = _setting(
        4 << 30, "Bytes the compile cache may hold; the oldest entries go first."
    )
    models_dir: Path = _setting(  # noqa: RUF009 - returns a dataclasses.field
        default_models_dir, "Folder of the real models that `coreml-lab models` fetches."
    )
    interval: float = _setting(0.1, "Seconds between samples.")
    recover: bool = _setting(True, "Whether failed runs are recovered (each leaves an incident).")
    debug: bool = _setting(
        False, "Whether a run stops at the first operation that makes NaN or infinity, naming it."
    )
    threads: int = _setting(0, "Threads an engine may use inside one op; 0 means one per core.")
    rows: int = _setting(
        0, "Rows one run takes at most: longer batches run in slices, in less memory; 0: no limit."
    )
    compute_units: str = _setting(
        "ALL",
        "Processors Core ML may use on a Mac: ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE.",
    )
    deadline: float = _setting(
        0.0,
        "Seconds a prediction may take on an engine that can be stopped, with its recovery; 0 "
        "means no limit.",
    )
    worker_timeout: float = _setting(
        900.0, "Seconds Core ML may take to compile, plan or load a model; 0 means no limit."
    )
    worker_memory: int = _setting(
        0, "Bytes the process that runs Core ML may hold; 0 means three quarters of the machine's."
    )
    core_watts: str = _setting(
        "2-8", "Watts per busy core, low-high, for the energy estimate where no counter exists."
    )


_HINTS = get_type_hints(Config)


def _parse(name: str, text: str) -> Any:
    kind = _HINTS[name]
    if kind is bool:
        return text.strip().lower() in {"1", "true", "yes", "on"}
    try:
        return kind(text)
    except ValueError as error:
        raise UnknownParameter(
            f"{PREFIX}{name.upper()}={text!r} is not a {kind.__name__}",
            hint=f"unset {PREFIX}{name.upper()}",
        ) from error


def from_environment(environ: Mapping[str, str]) -> Config:
    """The defaults, overridden by ``COREML_LAB_*`` variables."""
    given = {
        f.name: _parse(f.name, environ[key])
        for f in dataclasses.fields(Config)
        if (key := PREFIX + f.name.upper()) in environ
    }
    return Config(**given)


class _Current:
    value: Config | None = None


def current() -> Config:
    """The settings in force. Only public entry points ask; all below is handed values."""
    if _Current.value is None:
        _Current.value = from_environment(os.environ)
    return _Current.value


class configure(contextlib.AbstractContextManager["Config"]):  # noqa: N801 - reads as a verb: cl.configure(...)
    """Change settings from now on, or inside a ``with`` block only.

    Raises:
        UnknownParameter: for a setting that does not exist.
    """

    def __init__(self, **settings: Any) -> None:
        unknown = sorted(set(settings) - set(_HINTS))
        if unknown:
            raise UnknownParameter(
                f"configure({unknown[0]}=…): there is no such setting",
                hint="one of " + ", ".join(_HINTS),
            )
        for name in ("cache_dir", "models_dir"):
            if name in settings:
                settings[name] = Path(settings[name])
        self.before = current()
        _Current.value = dataclasses.replace(self.before, **settings)

    def __enter__(self) -> Config:
        return current()

    def __exit__(self, *_: object) -> None:
        _Current.value = self.before

    def __repr__(self) -> str:
        return repr(current())


def rows() -> Iterator[tuple[str, str, Any, str]]:
    """Name, variable, default and help of every setting: the documentation's table."""
    for f in dataclasses.fields(Config):
        default = f.default
        if f.default_factory is not dataclasses.MISSING:
            default = f.default_factory()
        yield f.name, PREFIX + f.name.upper(), default, f.metadata["help"]
