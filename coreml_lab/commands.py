"""The commands that measure: load a model, call the public function, print what it found.

Their options are the parameters of the functions they call.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import coreml_lab as cl
from coreml_lab.legible import legible
from coreml_lab.options import derived

RECORDING = ".json"
# How results are written, by the ending of a file; what tells of a recording has more.
PAGE = (".html", ".md", ".json", ".txt")
TIMELINE = (*PAGE, ".trace.json", ".perfetto.json", ".prom", ".otlp.json")
# More models than anyone compares at once.
MANY = 100
PACKAGE = ".mlpackage"
# The exit status of what was interrupted, as shells have it, and how the notes of results begin.
STOPPED, INTERRUPTED = 130, "It was interrupted"


class Told(Protocol):
    """What a command prints: every result of the public functions."""

    def to_json(self) -> str:
        """As JSON."""
        ...

    def to_markdown(self) -> str:
        """As Markdown."""
        ...

    def save(self, path: Path, /) -> Path:
        """As a file, its format by its ending."""
        ...


@dataclass
class Job:
    """One call of a command: what was asked, and the calls that it makes.

    Attributes:
        models: the paths given.
        options: of each function, by its name.
        output: where results go, and what feeds the model.
    """

    models: tuple[Path, ...]
    options: Mapping[str, Mapping[str, Any]]
    output: Mapping[str, Any] = field(default_factory=dict)

    def call(self, name: str, *arguments: Any) -> Any:
        """A public function with the options given, its progress shown on a terminal."""
        function = getattr(cl, name)
        options = dict(self.options.get(name, {}))
        if len(chips := options.get("chip", ())) == 1:
            options["chip"] = chips[0]
        # A bar that moves by itself would be work beside what is timed: only those move that are
        # told, between what they measure.
        if "progress" not in inspect.signature(function).parameters:
            return function(*arguments, **options)
        with bar(name) as told:
            return function(*arguments, **options, progress=told)

    def ready(self) -> tuple[Any, dict[str, Any]]:
        """The first model and its inputs; says on standard error where the inputs come from."""
        from coreml_lab.feeding import feed  # noqa: PLC0415 - numpy, and what reads models

        model = self.call("load", self.models[0])
        inputs, told = feed(model, self.output["inputs"], self.output["seed"])
        print(f"inputs: {legible(told)}", file=sys.stderr)
        return model, inputs

    def recorded(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """A recording of the model; kept in a file where that is asked."""
        made = self.call("profile", model, inputs)
        told = self.output["inputs"] or f"seeded noise (seed {self.output['seed']})"
        found = dataclasses.replace(made, environment={**made.environment, "inputs": told})
        if self.output["recording"] is not None:
            said(found.save(self.output["recording"]))
        return found


def profile(job: Job) -> Told:
    """Measure a model: time per inference and per operation, memory, what the machine did.

    coreml-lab profile net.mlpackage --html net.html
    coreml-lab profile net.mlpackage --inputs x.npz --recording net.json
    """
    return job.call("report", job.recorded(*job.ready()))  # type: ignore[no-any-return]


def compare(job: Job) -> Told:
    """Compare a model on several devices, or several models, in turns: time, memory, results.

    coreml-lab compare net.mlpackage --devices coreml,cpu
    coreml-lab compare before.mlpackage after.mlpackage
    """
    model, inputs = job.ready()
    models = [model, *(job.call("load", path) for path in job.models[1:])]
    return job.call("compare", models if len(models) > 1 else model, inputs)  # type: ignore[no-any-return]


def placement(job: Job) -> Told:
    """Estimate where Core ML would run each operation on an Apple chip, and why.

    coreml-lab placement net.mlpackage --chip M4
    coreml-lab placement net.mlpackage --chip M1,M4
    """
    return job.call("placement", job.models[0])  # type: ignore[no-any-return]


def energy(job: Job) -> Told:
    """Measure how much energy an inference takes, where this machine has a counter for it.

    coreml-lab energy net.mlpackage --seconds 60
    """
    return job.call("energy", *job.ready())  # type: ignore[no-any-return]


def report(job: Job) -> Told:
    """Tell all about a model or a recording: time, placement, advice; if asked, energy, devices.

    coreml-lab report net.mlpackage --html net.html
    coreml-lab report net.json --html net.html
    coreml-lab report net.mlpackage --energy --compare --markdown
    """
    if job.models[0].suffix == RECORDING:
        return job.call("report", cl.Recording.load(job.models[0]))  # type: ignore[no-any-return]
    model, inputs = job.ready()
    recording, parts = job.recorded(model, inputs), []
    parts += [job.call(name, model, inputs) for name in ("energy", "compare") if job.output[name]]
    if job.output["suggestions"]:
        parts.append(cl.suggest(model, inputs, measure=False))
    if job.output["placement"]:
        try:
            parts.insert(0, job.call("placement", job.models[0]))
        except cl.errors.ModelError as error:
            # What is no ML Program has no placement; its times are worth a report all the same.
            print(f"no placement: {legible(error.message)}", file=sys.stderr)
    return job.call("report", recording, *parts)  # type: ignore[no-any-return]


def diff(job: Job) -> Told:
    """Say what changed from one recording to another, with intervals.

    coreml-lab diff before.json after.json --markdown
    """
    if len(job.models) != 2:  # noqa: PLR2004 - before and after
        raise cl.errors.InputError("diff needs two recordings", hint="diff before.json after.json")
    before, after = map(cl.Recording.load, job.models)
    return cl.diff_recordings(before, after)  # type: ignore[no-any-return]


ENDINGS = "write what its ending says: .md, .json, .txt; recordings: .trace.json, .prom, .otlp.json"
OUTPUT = (
    ("json", bool, False, "print JSON instead of tables"),
    ("markdown", bool, False, "print Markdown, for a pull request"),
    ("html", Path | None, None, "write one HTML file with figures; needs no network"),
    ("save", Path | None, None, ENDINGS),
)
INPUT = (
    ("inputs", str | None, None, "x.npz, x.npy, x.wav, x.png or name=file,…; else seeded noise"),
    ("seed", int, 0, "of the noise"),
)
KEEP = (("recording", Path | None, None, "keep the recording in this file (.json)"),)
PARTS = (
    ("placement", bool, True, "with the estimate of where Core ML would run each operation"),
    ("suggestions", bool, True, "with what could be better, listed and not tried"),
    ("energy", bool, False, "with the energy of an inference (takes half a minute)"),
    ("compare", bool, False, "with a comparison of the devices that are here"),
)
Row = tuple[str, Any, Any, str]


@dataclass(frozen=True)
class Measuring:
    """A command: what it does, whose parameters are its options, and further options.

    Attributes:
        rows: options besides those of the functions and of output.
        what: what it is called with, and ``most`` of how many.
        formats: endings of files that its result can be written to.
        keep: the model that ``--output`` keeps, of what was found; it is saved as a package.
    """

    run: Callable[[Job], Told]
    functions: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    what: str = "a model: .mlpackage, .mlmodel, .mlmodelc"
    most: int = 1
    formats: tuple[str, ...] = PAGE
    keep: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", inspect.getdoc(self.run))

    def parameters(self) -> list[inspect.Parameter]:
        """Its options: further ones, of output, and those of the functions, in this order."""
        several = inspect.Parameter(
            "model", inspect.Parameter.VAR_POSITIONAL, annotation=Annotated[Path, self.what]
        )
        own = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, told],
            )
            for name, kind, default, told in (*self.rows, *OUTPUT)
        ]
        return [several, *own, *(p for found in self._derived().values() for p in found.values())]

    def _derived(self) -> dict[str, dict[str, inspect.Parameter]]:
        """Of each function, its parameters as options: first come, first named."""
        taken = [name for name, *_ in (*self.rows, *OUTPUT)]
        found: dict[str, dict[str, inspect.Parameter]] = {}
        for name in self.functions:
            found[name] = derived(getattr(cl, name), prefix=name, taken=taken)
            taken += [parameter.name for parameter in found[name].values()]
        return found

    def __call__(self, *model: Path, **chosen: Any) -> int:
        """Run it, and print or write what was found."""
        if len(model) > self.most:
            name = self.run.__name__
            raise cl.errors.InputError(
                f"{name} takes {self.most} of these, not {len(model)}",
                hint=f"one after the other, or compare: {name} {model[0]}",
            )
        for name, formats in (("html", ()), ("save", self.formats), ("output", (PACKAGE,))):
            if chosen.get(name) is not None:
                writable(chosen[name], formats)
        if chosen.get("recording") is not None:
            writable(chosen["recording"], (RECORDING,))
        options = {}
        for function, found in self._derived().items():
            given = {name: chosen.pop(parameter.name) for name, parameter in found.items()}
            # What is not said keeps the function's own default.
            options[function] = {n: v for n, v in given.items() if v != found[n].default}
        told = self.run(Job(model, options, chosen))
        show(told, chosen, self.keep)
        notes = getattr(told, "notes", ())
        return STOPPED if any(note.startswith(INTERRUPTED) for note in notes) else 0


def writable(path: Path, formats: tuple[str, ...]) -> None:
    """Tell before anything is measured what nobody could write afterwards.

    Raises:
        InputError: for an ending that nobody knows, or a place where nothing can be written.
    """
    if formats and not path.name.lower().endswith(formats):
        hint = f"{path}{PACKAGE}" if formats == (PACKAGE,) else "one of " + ", ".join(formats)
        raise cl.errors.InputError(f"{legible(path.name)}: there is no such format", hint=hint)
    package = path.suffix.lower() == PACKAGE
    if path.is_dir() or (package and path.exists()):
        kind = "exists already" if package else "is a folder"
        raise cl.errors.InputError(f"{path} {kind}", hint="give a new name: nothing is overwritten")
    above = next(p for p in path.absolute().parents if os.path.lexists(p))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise cl.errors.InputError(
            f"{path} cannot be written: {above} is no folder that can be written to",
            hint="give another folder",
        )


def show(found: Told, output: Mapping[str, Any], keep: Callable[[Any], Any] | None = None) -> None:
    """Write the files that were asked for, and print what was found: also where writing fails."""
    try:
        for name in ("html", "save"):
            if output[name] is not None:
                said(_saved(found, output[name], html=name == "html"))
        if keep is not None and output["output"] is not None:
            said(keep(found).save(output["output"]))
    finally:
        _print(found, output)


def _print(found: Told, output: Mapping[str, Any]) -> None:
    if output["json"]:
        print(found.to_json())
    elif output["markdown"]:
        print(found.to_markdown(), end="")
    else:
        print(found)


def _saved(found: Told, path: Path, *, html: bool) -> Path:
    """``--html`` writes HTML whatever the file is called."""
    if not html or path.suffix.lower() == ".html":
        return found.save(path)
    return found.save(path.with_name(path.name + ".html"))


def said(path: Path) -> None:
    """Say on standard error what was written: standard output may be a pipe."""
    print(f"written: {legible(str(path))}", file=sys.stderr)


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[Any, Any], None]]:
    """A progress bar on standard error where that is a terminal; nothing in a pipe."""
    from tqdm import tqdm  # noqa: PLC0415 - only what measures needs it

    layout = "{l_bar}{bar}| {elapsed}"
    with tqdm(
        total=1.0, desc=title, bar_format=layout, leave=False, disable=not sys.stderr.isatty()
    ) as drawn:

        def told(one: Any, two: Any) -> None:
            share, text = (two, one) if isinstance(one, str) else (one, two)
            drawn.set_description_str(legible(f"{title}: {text}", 60), refresh=False)
            drawn.update(max(0.0, min(float(share), 1.0) - drawn.n))
            drawn.refresh()

        yield told


MEASURING: Sequence[Measuring] = (
    Measuring(profile, ("load", "profile", "report"), (*INPUT, *KEEP), formats=TIMELINE),
    Measuring(compare, ("load", "compare"), INPUT, most=MANY),
    Measuring(placement, ("placement",)),
    Measuring(energy, ("load", "energy"), INPUT),
    Measuring(
        report,
        ("load", "profile", "report", "placement"),
        (*INPUT, *KEEP, *PARTS),
        "a model, or a recording (.json)",
        formats=TIMELINE,
    ),
    Measuring(diff, (), (), "two recordings: before and after (.json)", 2),
)
