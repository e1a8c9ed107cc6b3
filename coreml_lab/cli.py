"""The command ``coreml-lab``: it parses, calls the public API and prints.

A command is a function here: its docstring is the help, its parameters are the options. What an
option is for stands in the annotation of its parameter. What it returns is the exit status.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import io
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import coreml_lab as cl
from coreml_lab import caching
from coreml_lab.commands import MEASURING, STOPPED
from coreml_lab.improving import IMPROVING
from coreml_lab.legible import SENTENCE, legible
from coreml_lab.options import LateParser, add_options, parameters
from coreml_lab.program import frameworks

PROGRAM = "coreml-lab"
TOUR = "00_tour.ipynb"
COPY = Path("coreml-lab-notebooks")
# What a gate returns where it cannot say anything.
UNCHECKED = 2
BEGIN = f"Begin with: {PROGRAM} lab (the course), {PROGRAM} doctor (what works on this machine)"
Command = Callable[..., int | None]


def lab(*, folder: Path | None = None, jupyter: Sequence[str] = ()) -> None:
    """Open the notebooks in JupyterLab, fetching the real models first.

    The notebooks are copied to FOLDER (./coreml-lab-notebooks), where your changes are kept;
    in a clone they are opened in place. Other options go to JupyterLab: --no-browser, --port 8890.
    """
    notebooks = working_copy(folder)
    if cl.models.missing():
        try:
            cl.models.fetch()
        except cl.errors.ModelError as error:
            # Without a network the rest of the lab still works, and the tour says what it misses.
            print(f"{PROGRAM}: {error}", file=sys.stderr)
    print(f"notebooks: {notebooks}", flush=True)
    tour = str(notebooks / TOUR)
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", tour, *jupyter])  # noqa: S606


def models(*, folder: Path | None = None, progress: bool = True) -> None:
    """Fetch the real models of the tour and the tests, and say where they are."""
    found = cl.models.fetch(folder=folder, progress=progress)
    for name, place in found.items():
        model = cl.models.MODELS[name]
        print(f"{name:<17} {model.licence:<11} {place}\n{'':<17} {model.note}")


def doctor() -> None:
    """Say what works on this machine, and why the rest does not."""
    print(cl.doctor())


def devices() -> None:
    """List the devices, with the reason for each that is missing."""
    print(cl.devices())


def cache(
    action: caching.Do = "list",
    *,
    key: Annotated[str, "one entry, by its key or how that begins: for clear and export"] = "",
    file: Annotated[Path | None, "the file that export writes and import reads"] = None,
) -> int:
    """List, check, remove, export or import the compiled programs that are kept.

    coreml-lab cache verify
    coreml-lab cache clear --key 3f2a
    coreml-lab cache export --key 3f2a --file net.cache

    An entry that verify finds damaged is removed, and made again when it is needed; exit status 1.
    """
    told, whole = caching.cache(action, key, file)
    print(told)
    return int(not whole)


def check(
    *model: Annotated[Path, "the models to check: .mlpackage, .mlmodel, .mlmodelc"],
    reference: Annotated[Path | None, "an ONNX file, a Core ML model or outputs (.npz)"] = None,
    min_snr: Annotated[float | None, "signal to noise each output must reach, in dB"] = None,
    max_abs: Annotated[float | None, "largest difference from the reference"] = None,
    max_latency: Annotated[str | None, "most time of an inference: 20ms, 1.5s, 800us"] = None,
    max_latency_ratio: Annotated[float | None, "most time, divided by the reference's"] = None,
    max_size: Annotated[str | None, "most bytes on disk: 10MB"] = None,
    inputs: Annotated[Path | None, "inputs by name (.npz); else seeded noise"] = None,
    names: Annotated[str | None, "the model's names = the reference's: y=Identity,z=Id_1"] = None,
    seed: Annotated[int, "of the noise"] = 0,
    runs: Annotated[int, "blocks of runs that are timed at first"] = 20,
    seconds: Annotated[float, "most time to spend on timing a model"] = 60.0,
    strict: Annotated[bool, "a limit that noise leaves open fails"] = False,
    device: Annotated[str | None, "where to run: see coreml-lab devices"] = None,
    engine: Annotated[str | None, "what to run on: portable, reference"] = None,
    precision: Annotated[str | None, "widened, or faithful: each fp16 result is rounded"] = None,
    function: Annotated[str | None, "which function of the file"] = None,
    json: Annotated[bool, "print JSON instead of tables"] = False,
) -> int:
    """Check models against limits: results, time, size. For CI: a limit exceeded is exit status 1.

    coreml-lab check net.mlpackage --reference net.onnx --min-snr 60 --max-latency-ratio 1.2
    coreml-lab check a.mlpackage b.mlpackage --max-latency 20ms --max-size 10MB

    Exit status: 0 every limit is kept, 1 one is exceeded, 2 something could not be checked (a bad
    file, bad options, or times too noisy to tell).
    """
    try:
        gate = cl.check(
            model,
            inputs,
            reference=reference,
            min_snr=min_snr,
            max_abs=max_abs,
            max_latency=max_latency,
            max_latency_ratio=max_latency_ratio,
            max_size=max_size,
            runs=runs,
            seconds=seconds,
            names=names,
            seed=seed,
            strict=strict,
            device=device,
            engine=engine,
            precision=precision,
            function=function,
        )
    except cl.errors.LabError as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return UNCHECKED
    except Exception:  # noqa: BLE001 - a fault of ours must not read as a limit exceeded
        traceback.print_exc()
        return UNCHECKED
    print(gate.to_json() if json else gate)
    return int(gate.exit_code)


COMMANDS: dict[str, Command] = {
    **{f.__name__: f for f in (lab, models, doctor, devices, cache)},
    **{command.run.__name__: command for command in (*MEASURING, *IMPROVING)},
    "check": check,
}


def working_copy(folder: Path | None) -> Path:
    """The notebooks to work in: the clone's own, or a copy that overwrites nothing."""
    package = Path(cl.__file__).parent
    clone, packaged = package.parent / "notebooks", package / "notebooks"
    if folder is None and (clone / TOUR).is_file():
        return clone
    source = clone if (clone / TOUR).is_file() else packaged
    if not (source / TOUR).is_file():
        raise cl.errors.ModelError(
            f"this installation has no notebooks in {source}",
            hint="pip install --force-reinstall --no-deps coreml-lab",
        )
    target = COPY if folder is None else folder
    try:
        shutil.copytree(source, target, copy_function=_copy_missing, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise cl.errors.ModelError(
            f"the notebooks cannot be copied to {target}: {error}",
            hint=f"choose another folder: {PROGRAM} lab --dir FOLDER",
        ) from error
    return target.absolute()


def _copy_missing(source: str, target: str) -> None:
    if not Path(target).exists():
        shutil.copy2(source, target)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(prog=PROGRAM, description=_first_line(cl))
    top.add_argument("--version", action="version", version=f"{PROGRAM} {cl.__version__}")
    commands = top.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=LateParser
    )
    for name, command in COMMANDS.items():
        text = inspect.getdoc(command) or ""
        sub = commands.add_parser(
            name,
            help=_first_line(command),
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.fill = functools.partial(add_options, command=command)
        sub.set_defaults(chosen=sub)
    return top


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def run() -> int:
    """The command in a process of its own."""
    frameworks.leave_out()  # models come as Core ML files
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 1 a reported error, 2 wrong usage; a gate has its own rule."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without "≤" must not turn a gate that passed into a failure.
            stream.reconfigure(errors="replace")
    top = parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        print(f"{top.format_help()}\n{BEGIN}")
        return 0
    options, rest = top.parse_known_args(arguments)
    chosen = vars(options)
    command, sub = COMMANDS[chosen.pop("command")], chosen.pop("chosen")
    known = parameters(command)
    if any(p.name == "jupyter" for p in known):
        chosen["jupyter"] = rest
    elif rest:
        sub.error(f"unrecognized arguments: {' '.join(rest)}")
    several = [p.name for p in known if p.kind is p.VAR_POSITIONAL]
    given = [value for name in several for value in chosen.pop(name)]
    return _told(lambda: command(*given, **chosen))


def _told(command: Callable[[], int | None]) -> int:
    """The exit status of a command; errors that say what to try need no traceback."""
    try:
        status = command() or 0
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        if isinstance(error, cl.errors.LabError):  # a run that was interrupted is both
            print(f"{PROGRAM}: {error}", file=sys.stderr)
        return STOPPED
    except cl.errors.LabError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read has read enough; nothing is to be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        told = f"{error.filename or 'a file'}: {error.strerror or error}"
        print(f"{PROGRAM}: {legible(told, SENTENCE)}\ntry: another place", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(run())
