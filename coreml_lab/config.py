"""Settings: one frozen dataclass; argument > configure() > environment > default.

A plain call changes the base, which is the whole process's. A ``with`` block lays its settings over
the base for the task or thread that is in it alone, and for what that calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_type_hints

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


class Named(Protocol):
    """A strategy of one's own: a ``cl.Strategy``, which stands above this layer."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...


@dataclass(frozen=True)
class Config:
    """Every setting there is; each has a ``COREML_LAB_<NAME>`` variable."""

    engine: str = _setting(
        "auto",
        "Engine to run programs on: auto, coreml, portable, openvino, pytorch, tinygrad, "
        "reference, or hybrid (parts on several of them).",
    )
    strategy: str | Named = _setting(  # noqa: RUF009 - returns a dataclasses.field
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
    kind = _HINTS[name] if isinstance(_HINTS[name], type) else str
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
    """The base, and the calls that made it so whose objects may still be entered as blocks."""

    value: Config | None = None
    calls: list[_Call] = []  # noqa: RUF012 - the one list
    lock = threading.RLock()


def _after_fork() -> None:
    _Current.lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # Windows has none
    os.register_at_fork(after_in_child=_after_fork)


class _Inside:
    """What is laid over the base in one context: settings, each with whose they are.

    ``True`` marks those of a block; the others were said by plain calls inside of it.
    """

    def __init__(self, said: tuple[tuple[configure, bool], ...]) -> None:
        self.said = said
        self.given = {k: v for call, _ in said for k, v in call.given.items()}
        # The base and what is in force over it: asked for in every prediction, and made once.
        self.made: tuple[Any, Any] = (None, None)

    def over(self, base: Config) -> Config:
        """What is in force over another base than before."""
        found = dataclasses.replace(base, **self.given)
        self.made = (base, found)
        return found


_inside: ContextVar[_Inside | None] = ContextVar("settings of the blocks around", default=None)


def current() -> Config:
    """The settings in force here. Only public entry points ask; all below is handed values."""
    inside = _inside.get()
    base = _Current.value
    if base is None:
        base = _base()
    if inside is None:
        return base
    known, found = inside.made
    return found if known is base else inside.over(base)


def _base() -> Config:
    with _Current.lock:
        if _Current.value is None:
            _Current.value = from_environment(os.environ)
        return _Current.value


@dataclass(eq=False)
class _Call:
    """What the base held before a call changed it; ``owner`` is gone where it was a plain one."""

    owner: weakref.ref[configure]
    former: dict[str, Any]
    before: Config
    after: Config

    @staticmethod
    def of(owner: configure) -> _Call:
        """Change the base."""
        with _Current.lock:
            base = _base()
            former = {k: getattr(base, k) for k in owner.given}
            _Current.value = after = dataclasses.replace(base, **owner.given)
            call = _Call(weakref.ref(owner), former, base, after)
            _settle()
            _Current.calls.append(call)
        return call

    def take_back(self) -> None:
        """Make the base what it would be without this call; once."""
        with _Current.lock:
            if self not in _Current.calls:
                return
            if _Current.value is self.after:  # the usual case: nobody said anything since
                _Current.calls.remove(self)
                _Current.value = self.before
                return
            _settle()
            later = _Current.calls[_Current.calls.index(self) + 1 :]
            _Current.calls.remove(self)
            free: dict[str, Any] = {}
            for name, value in self.former.items():
                heir = next((c.former for c in later if name in c.former), free)
                heir[name] = value
            # Also where nothing is free: what later calls hold of before is no longer so.
            _Current.value = dataclasses.replace(_base(), **free)


def _settle() -> None:
    """What plain calls said stays: no earlier call takes it back when it turns out to be a block's.

    Two threads may each be between ``configure(…)`` and its block, in any order.
    """
    calls = _Current.calls
    for at, call in enumerate(calls):
        if call.owner() is None:
            for earlier in calls[:at]:
                for name in call.former:
                    earlier.former.pop(name, None)
    calls[:] = [call for call in calls if call.owner() is not None]


class configure(contextlib.AbstractContextManager["Config"]):  # noqa: N801 - reads as a verb: cl.configure(...)
    """Change settings from now on, or inside a ``with`` block only.

    From now on means in the whole process, also when it is called inside of a block. A block's
    settings hold for the thread or ``asyncio`` task that is in it, and for what that calls; threads
    that are begun there do not have them (``asyncio.to_thread`` does; else give the thread
    ``contextvars.copy_context().run``).

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
        self.given: Mapping[str, Any] = settings
        self._call = _Call.of(self)
        inside = _inside.get()
        if inside is not None and not inside.given.keys().isdisjoint(settings):
            # It holds at once, whatever the blocks around it say.
            _inside.set(_Inside((*inside.said, (self, False))))

    def __enter__(self) -> Config:
        self._call.take_back()
        inside = _inside.get()
        said = inside.said if inside is not None else ()
        _inside.set(_Inside((*(s for s in said if s != (self, False)), (self, True))))
        return current()

    def __exit__(self, *_: object) -> None:
        inside = _inside.get()
        said = list(inside.said) if inside is not None else []
        # Blocks need not end in the order in which they began: those of generators do not.
        if (self, True) in said:
            del said[-1 - said[::-1].index((self, True))]
        # What was said inside of blocks that have all ended is in the base.
        while said and not said[0][1]:
            del said[0]
        _inside.set(_Inside(tuple(said)) if said else None)

    def __repr__(self) -> str:
        return repr(current())


def rows() -> Iterator[tuple[str, str, Any, str]]:
    """Name, variable, default and help of every setting: the documentation's table."""
    for f in dataclasses.fields(Config):
        default = f.default
        if f.default_factory is not dataclasses.MISSING:
            default = f.default_factory()
        yield f.name, PREFIX + f.name.upper(), default, f.metadata["help"]
