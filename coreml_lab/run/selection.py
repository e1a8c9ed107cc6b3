"""Which engines can run a program on a device, and in which order they are asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from coreml_lab import config
from coreml_lab.errors import EngineError, EngineUnavailable, LabError, UnsupportedOp
from coreml_lab.program.cache import Cache
from coreml_lab.program.program import Program
from coreml_lab.run import devices, foreign, stages
from coreml_lab.run.coreml import CoreMLEngine
from coreml_lab.run.engine import Engine, Loaded, Options, weighed
from coreml_lab.run.interface import Interface
from coreml_lab.run.ledger import LEDGER
from coreml_lab.run.recovery import Alternative, Promotion

if TYPE_CHECKING:
    from coreml_lab.records import Device
    from coreml_lab.run import hybrid
    from coreml_lab.run.executor import Executor
    from coreml_lab.run.split.strategy import Strategy

# Splitting programs, choosing among engines and watching them are loaded where they are asked for.
HYBRID = "hybrid"
# The engine that runs everything, slowly.
LAST = "reference"
# OpenCL is left out: compiling for it takes longer than who waits for a result would like.
GPUS = ("cuda", "metal")
# How much more work counts on an engine that only helps out: what can stay stays.
ELSEWHERE = 1000.0


def drives(engine: Engine, device: str) -> bool:
    """Whether an engine drives a device; one that names its kinds is not made to look for others.

    Looking takes time: OpenCL's drivers load a compiler, and some catch signals of the process.
    """
    kinds = getattr(engine, "kinds", ())
    return (not kinds or device.partition(":")[0] in kinds) and device in engine.devices


def where(found: Sequence[Engine], name: str, usual: str) -> str:
    """The usual device, or the first of a named engine that does not drive it."""
    named = next((e for e in found if e.name == name), None)
    if named is None or drives(named, usual):
        return usual
    return next(iter(named.devices), usual)


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
    if wanted == HYBRID:
        return [everywhere(found)]
    named = [e for e in found if e.name == wanted]
    if not named:
        raise EngineUnavailable(
            f"there is no engine {wanted!r}",
            hint="one of auto, hybrid, " + ", ".join(e.name for e in found),
        )
    return named


def everywhere(found: Sequence[Engine]) -> hybrid.HybridEngine:
    """Every engine that is here, on every device, for parts of a program."""
    from coreml_lab.run import hybrid  # noqa: PLC0415 - see above

    able = [e for e in found if e.name not in hybrid.WHOLE_ONLY and e.available().available]
    return hybrid.HybridEngine(tuple(hybrid.Seat(e, d) for e in able for d in e.devices))


@stages.step("session")
def accepted(
    chosen: Sequence[Engine],
    load_on: Callable[[Engine], Callable[[], Loaded]],
    around_it: Callable[[Engine, Sequence[Engine]], Engine],
    passed_over: tuple[type[LabError], ...],
) -> tuple[Engine, Loaded, list[Engine], list[LabError]]:
    """The first engine that loads a program, the program, who is left, and what was refused.

    Where an engine lacks operations, it is asked to do the others, before the next one gets all.

    Raises:
        LabError: the first refusal, where no engine loads it.
    """
    refused = list[LabError]()
    waiting = list(chosen)
    while waiting:
        candidate = waiting.pop(0)
        try:
            return candidate, load_on(candidate)(), waiting, refused
        except passed_over as error:
            refused.append(error)
            if isinstance(error, UnsupportedOp) and waiting and candidate.name != HYBRID:
                waiting.insert(0, around_it(candidate, waiting))
    raise refused[0]  # every engine either loads or refuses


def reason(accepted_by: Engine, refused: Sequence[LabError]) -> str:
    """Why a program is not where it was to go first; "" where it is."""
    if not refused:
        return ""
    how = "the rest of it stays" if accepted_by.name == HYBRID else "fell back"
    return f"{refused[0].message}; {how}"


def report(refused: Sequence[LabError], accepted_by: Engine, executor: Executor) -> None:
    """An incident for each engine that failed to load a program; one that is not here did not."""
    for error in refused:
        if not isinstance(error, EngineUnavailable):
            executor.report(error, f"Fallback to {accepted_by.name}", "recovered")


def passed_over() -> tuple[type[LabError], ...]:
    """The errors of an engine after which the next one is asked to load the program."""
    refusals = (UnsupportedOp, EngineUnavailable)
    return (*refusals, EngineError) if config.current().recover else refusals


def around(
    refusing: Engine,
    others: Sequence[Engine],
    *,
    found: Sequence[Engine],
    device: str,
    cache: Cache,
) -> Engine:
    """The engine that refused a program keeps what it can run; the rest goes to others.

    Besides the other candidates, the portable engine may help, which runs on any machine.
    """
    from coreml_lab.run import hybrid  # noqa: PLC0415 - see above

    names = {refusing.name, *(e.name for e in others)}
    portable = [e for e in found if e.name == "portable" and e.name not in names]
    seats = [hybrid.Seat(refusing, device)]
    for other in (*others, *portable):
        where = device if drives(other, device) else other.devices[0]
        if other.name not in hybrid.WHOLE_ONLY and other.available().available:
            seats.append(hybrid.Seat(other, where, ELSEWHERE))
    return informed(hybrid.HybridEngine(tuple(seats), keeps=refusing.name), cache)


def informed(engine: Engine, cache: Cache, aim: Strategy | None = None) -> Engine:
    """A hybrid engine with what is known at this moment; any other as it is.

    ``aim``: the strategy of its plans; the one in force where none is given.
    """
    if engine.name != HYBRID:
        return engine
    from coreml_lab.run import hybrid  # noqa: PLC0415 - see above
    from coreml_lab.run.split import conditions, learned, strategy  # noqa: PLC0415

    if not isinstance(engine, hybrid.HybridEngine):
        return engine
    aim = strategy.current() if aim is None else aim
    # Who asked for a GPU gets it, however little there is to do.
    aim = dataclasses.replace(aim, smallest=0, gain=1.0) if engine.keeps else aim
    now, gpus = conditions.read(), _gpus(engine.seats)
    free = {d.name: d.memory_free for d in gpus if d.memory_free is not None}
    homes = {d.name: "cpu" for d in gpus if d.unified_memory}
    now = dataclasses.replace(now, free={**now.free, **free}, homes={**now.homes, **homes})
    return dataclasses.replace(engine, costs=learned.costs(cache), strategy=aim, conditions=now)


def _gpus(seats: Sequence[hybrid.Seat]) -> list[Device]:
    """What the GPUs among them tell of themselves."""
    from coreml_lab.run.split import places  # noqa: PLC0415 - see above

    names = dict.fromkeys(s.device for s in seats if s.device.partition(":")[0] in places.GPUS)
    return [devices.device(name) for name in names]


def watched(found: Sequence[Engine]) -> list[Engine]:
    """The engines, each made to stop at the first operation that makes NaN or infinity."""
    from coreml_lab.run.debug import Debugging  # noqa: PLC0415 - only where it is asked for

    return [Debugging(engine) for engine in found]


def loader(engine: Engine, program: Program, device: str, options: Options) -> Callable[[], Loaded]:
    """What loads a program on an engine, when it is called; its weights are counted as held."""

    def load() -> Loaded:
        loaded = engine.load(program, device, options)
        LEDGER.account(device).hold(loaded, weighed(loaded, program.info))
        return loaded

    return load


def widened(
    engine: Engine, found: Sequence[Engine], program: Program, device: str, options: Options
) -> Promotion | None:
    """What loads a program that computes in fp16 with fp32 arithmetic, for results that overflow.

    The same engine does; NumPy's, which always rounds, and Core ML, which computes as the program
    says, leave it to the portable one. None where it computes in fp32 anyway, or is watched for
    what is not finite.
    """
    native = engine.name == CoreMLEngine.name
    half = options.faithful or (native and any(op.dtype == "fp16" for op in program.info.ops))
    if options.debug or not half:
        return None
    how = dataclasses.replace(options, faithful=False)
    if engine.name != LAST and not native:
        return Promotion(loader(engine, program, device, how))
    able = [e for e in found if e.name == "portable"]
    return Promotion(loader(able[0], program, device, how), able[0].name) if able else None


def fallbacks(
    found: Sequence[Engine],
    program: Program,
    device: str,
    options: Options,
    next_: Sequence[Engine],
) -> list[Alternative]:
    """Where a program goes when its engine fails, in order: the next ones, a GPU, the CPU.

    Whether a GPU is there is asked when it is needed: looking for one can take long.
    """

    def on(engine: Engine, where: str) -> Alternative:
        wider = widened(engine, found, program, where, options)
        return Alternative(engine.name, loader(engine, program, where, options), wider, where)

    rest = [e for e in next_ if e.name != LAST]
    kept = [on(e, device) for e in rest]
    if rest == list(next_):  # an engine was asked for by name: it, or an error
        return kept
    if not device.startswith(GPUS):
        how = dataclasses.replace(options, faithful=False)
        wider = Promotion(lambda: _on_a_gpu(found, program, how)) if options.faithful else None
        kept.append(Alternative("a GPU", lambda: _on_a_gpu(found, program, options), wider))
    here = [e for e in found if e.name != LAST and drives(e, "cpu") and e not in next_]
    last = [*here, *(e for e in next_ if e.name == LAST)]
    return [*kept, *(on(e, "cpu") for e in last)]


def _on_a_gpu(found: Sequence[Engine], program: Program, options: Options) -> Loaded:
    for engine in found:
        if set(getattr(engine, "kinds", ()) or GPUS).isdisjoint(GPUS):
            continue
        for device in engine.devices:
            if device.startswith(GPUS):
                return engine.load(program, device, options)
    raise EngineUnavailable("there is no GPU here", reason="none was found")


@stages.step("choosing")
def measured(
    cache: Cache, program: Program, device: str, found: list[Engine], options: Options
) -> tuple[list[Engine], str]:
    """The engines with the one first that was measured to be faster, and a sentence about it."""
    able = [e for e in found if drives(e, device) and e.name != "reference"]
    # Core ML has no rivals on its own device; NumPy is nobody's.
    if len(able) < 2 or able[0].name == CoreMLEngine.name or options.faithful:  # noqa: PLR2004
        return found, ""
    from coreml_lab.run import choice  # noqa: PLC0415 - see above
    from coreml_lab.run.simulated import noise, usual  # noqa: PLC0415

    names = [engine.name for engine in able]
    key = choice.key(program.key, device, names, f"{options.packed} {options.threads}")
    known = choice.remembered(cache, key)
    if known is None:
        try:
            first = able[0].load(program, device, options)
            interface = Interface(program.info)
            feeds = interface.feeds(noise(usual(interface.inputs, program.info)))
        except KeyboardInterrupt:  # of a model inside of it, it is an error of ours, too
            raise
        except LabError:
            return found, ""  # who loads it next says why
        if first.states:
            return found, ""
        others = [(e.name, loader(e, program, device, options)) for e in able[1:]]
        known = choice.fastest((able[0].name, first), others, feeds)
        if known.lasting:
            choice.remember(cache, key, known, program.info.name)
    return sorted(found, key=lambda e: e.name != known.engine), known.why
