"""Which engines can run a program on a device, and in which order they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coreml_lab.errors import EngineUnavailable, LabError
from coreml_lab.program.cache import Cache
from coreml_lab.program.program import Program
from coreml_lab.run import choice, foreign, packed
from coreml_lab.run.coreml import CoreMLEngine
from coreml_lab.run.engine import Engine, Loaded, Options, Weighing
from coreml_lab.run.interface import Interface
from coreml_lab.run.ledger import LEDGER
from coreml_lab.run.simulated import noise, usual

# The engine that runs everything, slowly.
LAST = "reference"
# OpenCL is left out: compiling for it takes longer than who waits for a result would like.
GPUS = ("cuda", "metal")


def drives(engine: Engine, device: str) -> bool:
    """Whether an engine drives a device; one that names its kinds is not made to look for others.

    Looking takes time: OpenCL's drivers load a compiler, and some catch signals of the process.
    """
    kinds = getattr(engine, "kinds", ())
    return (not kinds or device.partition(":")[0] in kinds) and device in engine.devices


def candidates(found: Sequence[Engine], device: str, wanted: str | object) -> list[Engine]:
    """The engines to ask for a program, the best first; one that is given is the only one.

    Raises:
        EngineUnavailable: where there is none of the wanted name.
        UnknownParameter: where the given object is no engine.
    """
    if not isinstance(wanted, str):
        return [foreign.checked(wanted)]
    if wanted == "auto":
        # The reference engine can stand in for any device, being NumPy.
        # Core ML itself, on a Mac, comes first; where it cannot be had, its load says why.
        able = [e for e in found if drives(e, device)]
        able = [e for e in able if e.name == CoreMLEngine.name or e.available().available]
        return [*able, *(e for e in found if e.name == LAST and e not in able)]
    named = [e for e in found if e.name == wanted]
    if not named:
        raise EngineUnavailable(
            f"there is no engine {wanted!r}",
            hint="one of auto, " + ", ".join(e.name for e in found),
        )
    return named


def loader(engine: Engine, program: Program, device: str, options: Options) -> Callable[[], Loaded]:
    """What loads a program on an engine, when it is called; its weights are counted as held."""

    def load() -> Loaded:
        loaded = engine.load(program, device, options)
        stored = sum(op.weight_bytes for op in program.info.ops)
        held = loaded.weight_bytes if isinstance(loaded, Weighing) else stored
        LEDGER.account(device).hold(loaded, held)
        return loaded

    return load


def fallbacks(
    found: Sequence[Engine],
    program: Program,
    device: str,
    options: Options,
    next_: Sequence[Engine],
) -> list[tuple[str, Callable[[], Loaded]]]:
    """Where a program goes when its engine fails, in order: the next ones, a GPU, the CPU.

    Whether a GPU is there is asked when it is needed: looking for one can take long.
    """
    rest = [e for e in next_ if e.name != LAST]
    kept = [(e.name, loader(e, program, device, options)) for e in rest]
    if rest == list(next_):  # an engine was asked for by name: it, or an error
        return kept
    if not device.startswith(GPUS):
        kept.append(("a GPU", lambda: _on_a_gpu(found, program, options)))
    here = [e for e in found if e.name != LAST and drives(e, "cpu") and e not in next_]
    last = [*here, *(e for e in next_ if e.name == LAST)]
    return [*kept, *((e.name, loader(e, program, "cpu", options)) for e in last)]


def _on_a_gpu(found: Sequence[Engine], program: Program, options: Options) -> Loaded:
    for engine in found:
        if set(getattr(engine, "kinds", GPUS)).isdisjoint(GPUS):
            continue
        for device in engine.devices:
            if device.startswith(GPUS):
                return engine.load(program, device, options)
    raise EngineUnavailable("there is no GPU here", reason="none was found")


def measured(
    cache: Cache, program: Program, device: str, found: list[Engine], options: Options
) -> tuple[list[Engine], str]:
    """The engines with the one first that was measured to be faster, and a sentence about it."""
    able = [e for e in found if drives(e, device) and e.name != "reference"]
    # Core ML has no rivals on its own device; NumPy is nobody's.
    if len(able) < 2 or able[0].name == CoreMLEngine.name or options.faithful:  # noqa: PLR2004
        return found, ""
    key = program.key if options.packed != packed.FAST else f"{program.key}-{options.packed}"
    known = choice.remembered(cache, key)
    if known is None:
        try:
            first = able[0].load(program, device, options)
            interface = Interface(program.info)
            feeds = interface.feeds(noise(usual(interface.inputs, program.info)))
        except LabError:
            return found, ""  # who loads it next says why
        if first.states:
            return found, ""
        others = [(e.name, loader(e, program, device, options)) for e in able[1:]]
        known = choice.fastest((able[0].name, first), others, feeds)
        choice.remember(cache, key, known)
    return sorted(found, key=lambda e: e.name != known.engine), known.why


def batched(program: Program) -> bool:
    """Whether every input and output has the same flexible first dimension."""
    firsts = [p.shape[0] if p.shape else 0 for p in (*program.info.inputs, *program.info.outputs)]
    return bool(firsts) and isinstance(firsts[0], str) and all(f == firsts[0] for f in firsts)
