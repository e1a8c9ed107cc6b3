"""The command ``coreml-lab``: it parses, calls the public API and prints.

A command is a function here: its docstring is the help, its parameters are the options.
"""

from __future__ import annotations

import argparse
import inspect
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import coreml_lab as cl

PROGRAM = "coreml-lab"
TOUR = "00_tour.ipynb"
COPY = Path("coreml-lab-notebooks")
Command = Callable[..., None]


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
    for device in cl.devices():
        state = "available" if device.available else f"not available: {device.reason}"
        print(f"{device.name:<10} {device.title:<48} {state}")


def cache(action: Literal["list", "clear"] = "list") -> None:
    """List the compiled programs that are kept, or forget them."""
    store = cl.cache()
    if action == "clear":
        print(f"{_megabytes(store.clear())} removed from {store.root}")
        return
    entries = store.entries()
    for entry in entries:
        print(f"{entry.key}  {_megabytes(entry.bytes):>12}")
    total = _megabytes(sum(entry.bytes for entry in entries))
    print(f"{len(entries)} compiled programs, {total}, in {store.root}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


COMMANDS: dict[str, Command] = {f.__name__: f for f in (lab, models, doctor, devices, cache)}
# Spellings that people try first.
ALIASES = {"folder": ("--dir", "--folder")}


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
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        text = inspect.getdoc(command) or ""
        sub = commands.add_parser(
            name,
            help=_first_line(command),
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_options(sub, command)
    return top


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _add_options(sub: argparse.ArgumentParser, command: Command) -> None:
    hints = get_type_hints(command)
    for name, parameter in inspect.signature(command).parameters.items():
        kind, default = hints[name], parameter.default
        if kind is bool:
            sub.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default)
        elif get_origin(kind) is Literal:
            sub.add_argument(name, nargs="?", choices=get_args(kind), default=default)
        elif name in ALIASES:
            sub.add_argument(*ALIASES[name], dest=name, metavar=name.upper(), type=Path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 1 a reported error, 2 wrong usage."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    chosen = vars(options)
    command = COMMANDS[chosen.pop("command")]
    if "jupyter" in inspect.signature(command).parameters:
        chosen["jupyter"] = rest
    elif rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        command(**chosen)
    except cl.errors.LabError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
