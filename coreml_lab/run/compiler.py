"""compile() and load(): anything -> Model, through the compile cache."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coreml_lab import __version__, config
from coreml_lab.errors import (
    GraphError,
    UnknownParameter,
)
from coreml_lab.program import intake, mil, tensors, tracing
from coreml_lab.program.aside import aside
from coreml_lab.program.cache import Cache, hash_files, size_files
from coreml_lab.program.classical import linked
from coreml_lab.program.graph import Graph
from coreml_lab.program.program import (
    Program,
    bounds,
    check_constants,
    describe,
    placed,
    port,
)
from coreml_lab.program.tensors import Tensor, spec, tensor
from coreml_lab.run import (
    classical,
    devices,
    foreign,
    modules,
    pipelines,
    reading,
    selection,
    stages,
)
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.breaker import breaker
from coreml_lab.run.coreml import CoreMLEngine, Limits, checked_hints, checked_units
from coreml_lab.run.cutting import sizes
from coreml_lab.run.eager import Eager
from coreml_lab.run.engine import Engine, Options, package_version, planned
from coreml_lab.run.executor import Executor
from coreml_lab.run.ledger import LEDGER
from coreml_lab.run.lowering import packed
from coreml_lab.run.model import Model
from coreml_lab.run.openvino_onnx import OpenVINOEngine
from coreml_lab.run.portable import PortableEngine
from coreml_lab.run.pytorch import PyTorchEngine
from coreml_lab.run.reading import PACKAGE
from coreml_lab.run.reference import ReferenceEngine
from coreml_lab.run.rows import independent
from coreml_lab.run.slices import Slices
from coreml_lab.run.tinygrad_onnx import TinygradEngine

# Tensors and ops pass through here, so that whoever makes one has the engines that compute it.
__all__ = ["Model", "Tensor", "cache", "compile", "engines", "load", "spec", "tensor"]

FAITHFUL = "faithful"
# Part of every cache key: a new version may build or lower differently.
FORMAT = "9"


def __getattr__(name: str) -> Any:
    """``ops``, which take a while to declare: a warm cache does without them."""
    if name == "ops":
        return importlib.import_module("coreml_lab.program.ops")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def cache() -> Cache:
    """The compile cache: ``.entries()``, ``.verify()``, ``.clear()``, ``.export()``, ``.take()``.

    Entries are checked when they are used, and made again where they are damaged.
    """
    settings = config.current()
    return Cache(settings.cache_dir, settings.cache_limit)


def engines() -> tuple[Engine, ...]:
    """Every engine, in order of preference. A new one is one line here."""
    settings, kept = config.current(), cache()
    limits = Limits(settings.worker_timeout, settings.worker_memory)
    return (
        CoreMLEngine(kept, limits),
        PortableEngine(kept),
        OpenVINOEngine(kept),
        PyTorchEngine(),
        TinygradEngine(kept),
        ReferenceEngine(),
    )


@stages.collecting
def load(
    path: str | Path,
    *,
    function: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    engine: str | Engine | None = None,
    debug: bool | None = None,
    compute_units: str | None = None,
    hints: Mapping[str, str | bool] | None = None,
) -> Model:
    """Open a Core ML model: an ML Program, a classic neural network or a classical model.

    Trees, linear models and the like (``docs/layers.md`` lists them) run in NumPy, on the CPU,
    whatever the device; they take and give numbers, strings and dictionaries, too.

    Args:
        path: the ``.mlpackage``, ``.mlmodel`` or ``.mlmodelc``.
        function: which function of it, where there are several.
        precision: ``widened`` computes fp16 values in fp32, ``faithful`` rounds each fp16 result
            to fp16 (default: faithful where ``Config.precision`` says so).
        device: where to run it (default: ``Config.device``); for ``engine="hybrid"`` where what
            belongs to no part is counted: its plan says which devices have parts.
        engine: which engine to run it on (default: the first that can); a name, or an object of
            your own with what ``coreml_lab.run.engine.Engine`` asks.
        debug: stop each run at the first operation that makes NaN or infinity, with an error that
            names it; slower, and every result is held at once (default: ``Config.debug``).
        compute_units: which processors Core ML itself may use, on a Mac: ``ALL``, ``CPU_ONLY``,
            ``CPU_AND_GPU`` or ``CPU_AND_NE`` (default: ``Config.compute_units``).
        hints: Core ML's own optimization hints: ``{"reshapeFrequency": "Infrequent"}``.

    Raises:
        ModelError: where the file is missing, broken or of an unsupported kind.
        UnsupportedOp: where no engine here has one of its ops.
        EngineUnavailable: where the device or engine is not here.
    """
    package = Path(path).expanduser()
    device = _device(device, engine)
    _allowed(precision, ("widened", FAITHFUL))
    options = _options(precision, debug, compute_units, hints)
    if not package.exists():
        mil.read(package)  # raises: it knows how to say what is wrong with a path
    return _loaded(package, function, device, engine, options)


def _loaded(
    package: Path,
    function: str | None,
    device: str,
    engine: str | Engine | None,
    options: Options,
) -> Model:
    intake.examine(package)
    digest = aside(lambda: hash_files(package))
    for candidate in _candidates(device, engine)[:1]:
        candidate.available()  # its library is imported meanwhile
    key = _key("load", digest(), function or "", package_version("coremltools") or "unknown")
    store = cache()
    known = store.use(key, lambda folder: reading.kept(folder, package))
    if known is not None:
        ACTIVITY.cache_hits += 1
        return _model(known, device, engine, options)
    ACTIVITY.cache_misses += 1
    spec = mil.open_model(package)
    if linked.is_link(spec):
        return _loaded(linked.target(package, spec), function, device, engine, options)
    # The usual device is that of programs: only another one was asked for.
    asked = classical.CPU if device == _device(None, None) else device
    if pipelines.is_pipeline(spec):
        classical.check_function(package.name, function)
        opens = functools.partial(_stage, options, device)
        return pipelines.model(
            package, spec, key, options, opens=opens, device=asked, engine=engine, cache=store
        )
    if classical.is_classical(spec):
        classical.check_function(package.name, function)
        return classical.model(package, spec, key, options, device=asked, engine=engine)
    if mil.is_classic(spec):
        del spec  # its weights are read once more
        program = reading.translated(package, function, key, store)
        return _model(program, device, engine, options)
    program = reading.read(package, function, key, package.stem)
    model = _model(program, device, engine, options)
    store.put(key, program.save, title=package.stem)
    return model


def _stage(
    options: Options, usual: str, device: str, engine: str | Engine | None, path: Path
) -> Model:
    """A network of a pipeline; where no device was asked for, on the usual one."""
    return _loaded(path, None, usual if device == classical.CPU else device, engine, options)


@stages.collecting
def compile(  # noqa: A001 - the public name; never imported unqualified
    source: Callable[..., Any] | Tensor | Mapping[str, Tensor],
    /,
    *,
    name: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    engine: str | Engine | None = None,
    debug: bool | None = None,
    target: str | None = None,
    **specs: Any,
) -> Model:
    """Compile a function of tensors, tensors, or a module of PyTorch, with Core ML's own passes.

    Args:
        source: a function that is called with one tensor per input, recorded tensors, or a
            ``torch.nn.Module``, also exported, which is recorded as in ``eval()``.
        name: what to call the model (default: the function's name, or the module's class).
        precision: ``fp32`` or ``fp16`` values, or ``faithful``: fp16, and each result rounded to
            fp16 when it runs (default: ``Config.precision``).
        device: where to run it.
        engine: which engine to run it on: a name, or an object, as in ``load``.
        debug: as in ``load``.
        target: of a module, the oldest system that the package is for: ``iOS15`` … ``iOS18``,
            which are macOS 12 … 15 (default: ``iOS18``).
        **specs: the inputs: ``x=cl.spec(1, 3, 224, 224)``, or an array as an example.

    Raises:
        GraphError: where the source is not a program, or a module cannot be recorded.
        UnknownParameter: for inputs that the source does not take.
        CompileError: where coremltools refuses it.
        NumericalError: where a weight holds NaN.
    """
    device = _device(device, engine)
    precision = precision or config.current().precision
    _allowed(precision, ("fp32", "fp16", FAITHFUL))
    inputs = modules.given(specs)
    if modules.is_module(source):
        how = modules.How.of(source, name, precision, target)
        program = modules.program(source, inputs, how, cache(), _key)
        return _model(program, device, engine, _options(precision, debug))
    modules.untargeted(target)
    if callable(source) and not isinstance(source, Tensor):
        graph = tracing.trace(source, inputs[0], device)
        label = name or getattr(source, "__name__", "program").strip("<>")
    else:
        graph = tracing.bake(tracing.gather(source))
        label = name or "program"
    return _model(_build(graph, label, precision), device, engine, _options(precision, debug))


def opened(
    program: Program, *, precision: str | None, device: str | None, engine: str | Engine | None
) -> Model:
    """A model of a program that was compiled before; arguments as in ``compile``."""
    _allowed(precision, ("fp32", "fp16", FAITHFUL))
    return _model(program, _device(device, engine), engine, _options(precision))


def _device(asked: str | None, engine: str | Engine | None) -> str:
    """Where to run; an engine of the user's own, or one that is named, knows its devices."""
    settings = config.current()
    usual, wanted = settings.device, engine or settings.engine
    if not isinstance(wanted, str):
        return foreign.place(wanted, asked, usual)
    place = devices.resolve(asked or usual)
    return place if asked else selection.where(engines(), wanted, place)


def _allowed(precision: str | None, names: Sequence[str]) -> None:
    if precision is not None and precision not in names:
        raise UnknownParameter(f"there is no precision {precision!r}", hint=" or ".join(names))


def _build(graph: Graph, name: str, precision: str) -> Program:
    """The package of a graph, from the cache or made now."""
    precision = "fp16" if precision == FAITHFUL else precision
    if not graph.ops and all(v.const is not None for v in graph.outputs.values()):
        raise GraphError(
            f"{name}: nothing depends on an input",
            hint="give inputs: cl.compile(f, x=cl.spec(2, 3))",
        )
    key = _key("build", graph.key(), precision, package_version("coremltools") or "unknown")
    store = cache()
    known = store.use(key, lambda folder: Program.open(folder, folder / PACKAGE, name))
    if known is not None:
        ACTIVITY.cache_hits += 1
        return placed(known, graph)
    ACTIVITY.cache_misses += 1
    check_constants(graph)
    made: list[Graph] = []
    folder = store.put(
        key, lambda f: made.append(_fill(f, graph, name, precision, key)), title=name
    )
    return placed(Program.open(folder, folder / PACKAGE, name, *made), graph)


@stages.step("passes")
def _fill(folder: Path, graph: Graph, name: str, precision: str, key: str) -> Graph:
    """Write the package and its description; returns the program as Core ML's passes left it."""
    package = folder / PACKAGE
    mil.build(graph, package, precision=precision)
    optimised = mil.read(package)
    info = describe(
        optimised, name=name, key=key, package=package, function="", size=size_files(package)
    )
    # The interface is the one asked for: bool and small integers cross Core ML's border as int32.
    inputs = tuple(port(k, n.type) for k, n in graph.inputs.items())
    outputs = tuple(port(k, v.type) for k, v in graph.outputs.items())
    info = dataclasses.replace(info, inputs=inputs, outputs=outputs, dims=bounds(graph))
    Program(info, package, optimised).save(folder)
    return optimised


def _options(
    precision: str | None,
    debug: bool | None = None,
    compute_units: str | None = None,
    hints: Mapping[str, str | bool] | None = None,
) -> Options:
    """What engines are told: what was given, else what the settings say."""
    settings = config.current()
    return Options(
        settings.threads,
        (precision or settings.precision) == FAITHFUL,
        settings.debug if debug is None else debug,
        checked_units(compute_units or settings.compute_units),
        checked_hints(hints or {}),
        packed.allowed(settings.packed),
    )


@stages.collecting
def _model(
    program: Program,
    device: str,
    engine: str | Engine | None,
    options: Options,
    *,
    rivals: bool = True,
) -> Model:
    chosen = [selection.informed(e, cache()) for e in _candidates(device, engine)]
    if options.faithful or not packed.packable(op.op for op in program.info.ops):
        options = dataclasses.replace(options, packed=packed.OFF)
    why, found = "", list[Engine](engines())
    if options.debug:
        chosen, found = selection.watched(chosen), selection.watched(found)
    elif rivals and config.current().rivals:
        chosen, why = selection.measured(cache(), program, device, chosen, options)
    help_ = functools.partial(selection.around, found=found, device=device, cache=cache())
    load_on = functools.partial(selection.loader, program=program, device=device, options=options)
    passed = selection.passed_over()
    candidate, loaded, rest, refused = selection.accepted(chosen, load_on, help_, passed)
    plan = planned(candidate, device, options, loaded, selection.reason(candidate, refused) or why)
    most = config.current().rows
    kind = functools.partial(Slices, most) if most else Executor
    executor = kind(
        program.info.name,
        loaded,
        selection.fallbacks(found, program, device, options, rest),
        reload=load_on(candidate),
        promote=selection.widened(candidate, found, program, device, options),
        breaker=breaker(candidate.name, device),
        sizes=sizes(program.info),
        independent=functools.partial(independent, program=program, cache=cache()),
        fixed=not program.info.dims,
        account=LEDGER.account(device),
        recover=config.current().recover,
    )
    selection.report(refused, candidate, executor)
    return Model(
        program,
        plan,
        executor,
        lambda to, **how: _model(
            program,
            _device(to, by := foreign.kept(engine, to) or how.get("engine")),
            by,
            dataclasses.replace(options, debug=how.get("debug", options.debug)),
        ),
        options,
        engine=getattr(candidate, "engine", candidate) if options.debug else candidate,
    )


def _candidates(device: str, engine: str | Engine | None) -> list[Engine]:
    return selection.candidates(engines(), device, engine or config.current().engine)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join((FORMAT, __version__, *parts)).encode()).hexdigest()[:32]


def _of_tensors(program: Graph, device: str, precision: str) -> Model:
    built = _build(program, "tensors", precision)
    return _model(built, device, None, _options(precision), rivals=False)


EAGER = Eager(_of_tensors)
tensors.install(EAGER.evaluate, devices.resolve, LEDGER)
