"""The commands that better a model: suggest, optimize, tune, edit."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import coreml_lab as cl
from coreml_lab.commands import INPUT, PACKAGE, PAGE, RECORDING, Job, Measuring, Row, Told
from coreml_lab.errors import InputError, UnknownParameter
from coreml_lab.legible import legible
from coreml_lab.records import Action

NONE = "none"
OVER = "actions=none, float16, int8_weights, float16+int8_weights; threads=0, 1"
FORM = "float16 + palettize_weights(nbits=4)"
KEEP: tuple[Row, ...] = (
    ("samples", Path | None, None, "a folder of .npz files, a sample of inputs each"),
    ("output", Path | None, None, "write the model to this new .mlpackage"),
)


def suggest(job: Job) -> Told:
    """Say what could be better about a model, and try it: size, time and numbers.

    coreml-lab suggest net.mlpackage --goal size
    coreml-lab suggest net.json --target M4 --no-measure
    """
    if job.models[0].suffix == RECORDING:
        if job.output["inputs"] is not None:
            raise InputError(
                f"--inputs: nothing is run for {job.models[0].name}, which is a recording",
                hint="suggest net.mlpackage --inputs x.npz runs the model",
            )
        return job.call("suggest", cl.Recording.load(job.models[0]))  # type: ignore[no-any-return]
    return job.call("suggest", *job.ready())  # type: ignore[no-any-return]


def optimize(job: Job) -> Told:
    """Make a copy of a model better: keeps what measurement speaks for, and says why.

    coreml-lab optimize net.mlpackage --goal size --samples data/ --output small.mlpackage
    coreml-lab optimize net.mlpackage --goal latency --folder search   # interrupted, goes on
    """
    model, data = fed(job)
    options = dict(job.options["optimize"])
    return cl.optimize(model, data, **options, progress=_entry)  # type: ignore[no-any-return]


def tune(job: Job) -> Told:
    """Try many ways to run a model and show those that nothing else beats.

    coreml-lab tune net.mlpackage --n-trials 40 --samples data/
    coreml-lab tune net.mlpackage --over "actions=none, palettize_weights;
        palettize_weights.nbits=4, 6, 8; threads=1, 2" --storage study.db --html front.html
    coreml-lab tune net.mlpackage --over space.txt   # the same, a line for each name
    """
    model, data = fed(job)
    choices = over(written(job.output["over"]))
    return cl.tune(model, data, choices, **job.options["tune"], progress=_trial)  # type: ignore[no-any-return]


def edit(job: Job) -> Told:
    """Apply actions to a copy of a model, in their order.

    coreml-lab edit net.mlpackage --apply "float16 + int8_weights" --output small.mlpackage
    coreml-lab edit net.mlpackage --apply w8a8 --samples data/ --output fast.mlpackage

    With data, float16 keeps in fp32 what overflows on them. Without --output nothing is kept.
    """
    asked = chain(job.output["apply"])
    if not asked:
        from coreml_lab.improve.actions import KINDS  # noqa: PLC0415 - heavy

        raise InputError("edit needs --apply", hint=f'"{FORM}"; actions: {", ".join(KINDS)}')
    given = job.output["inputs"] is not None or job.output["samples"] is not None
    model, data = fed(job) if given else (job.call("load", job.models[0]), ())
    made = cl.edit(model)
    for action in asked:
        made.apply(action, data=data)
    return made  # type: ignore[no-any-return]


def fed(job: Job) -> tuple[Any, Sequence[Mapping[str, Any]]]:
    """The model and its samples: those of a folder, or one of ``--inputs`` or of noise.

    Raises:
        InputError: for a folder without samples.
    """
    folder = job.output["samples"]
    if folder is None:
        model, inputs = job.ready()
        return model, (inputs,)
    from coreml_lab.feeding import feed  # noqa: PLC0415 - numpy, and what reads models

    files = sorted(folder.glob("*.npz"))
    if not files:
        raise InputError(f"{folder} holds no .npz files", hint="numpy.savez(file, input=array)")
    model = job.call("load", job.models[0])
    return model, tuple(feed(model, str(file), job.output["seed"])[0] for file in files)


def chain(text: str) -> tuple[Action, ...]:
    """Actions as they are written: ``float16 + palettize_weights(nbits=4)``; none is none.

    Raises:
        UnknownParameter: for what is not written so.
    """
    if text.strip().lower() in {"", NONE}:
        return ()
    try:
        return tuple(_actions(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, ValueError) as error:
        raise UnknownParameter(f"{text!r} is no list of actions", hint=FORM) from error


def _actions(node: ast.expr) -> list[Action]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _actions(node.left) + _actions(node.right)
    if isinstance(node, ast.Name):
        return [Action(node.id)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        told = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
        if len(told) == len(node.keywords):
            return [Action(node.func.id, told)]
    raise ValueError(ast.unparse(node))


def written(text: str) -> str:
    """What is given, or what stands in the file of that name: UTF-8, ``#`` begins a comment.

    Raises:
        UnknownParameter: for a file that is no text.
    """
    file = Path(text)
    if "=" in text or not file.is_file():
        return text
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnknownParameter(f"{text} is no text: {error}", hint=OVER) from error
    return ";".join(line.partition("#")[0] for line in lines)


def over(text: str) -> dict[str, list[Any]]:
    """A space as it is written: ``actions=none, float16; threads=1, 2``.

    Raises:
        UnknownParameter: for what is not written so.
    """
    found: dict[str, list[Any]] = {}
    for part in filter(str.strip, text.split(";")):
        name, sign, choices = part.partition("=")
        if not sign:
            raise UnknownParameter(f"{part.strip()!r} has no choices", hint=OVER)
        read = chain if name.strip() == "actions" else _value
        parted = _parted(choices)
        if not all(map(str.strip, parted)):
            raise UnknownParameter(f"{part.strip()!r} has an empty choice", hint=OVER)
        found[name.strip()] = [read(choice) for choice in parted]
    return found


def _parted(text: str) -> list[str]:
    """What commas part, but for those inside brackets."""
    found, depth = [""], 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            found.append("")
        else:
            found[-1] += sign
    return found


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return None if text.strip().lower() == NONE else text.strip()


def _entry(entry: Any) -> None:
    print(legible(f"{entry.title}: {entry.verdict}: {entry.reason}", 160), file=sys.stderr)


def _trial(trial: Any, left: int) -> None:
    what = trial.failure or f"{trial.found.ratio:.2f} of the time, loss {trial.found.loss:.2g}"
    print(legible(f"{trial.configuration}: {what} ({left} left)", 160), file=sys.stderr)


def _itself(found: Any) -> Any:
    return found


def _best(found: Any) -> Any:
    return found.apply()


FILES = (*INPUT, *KEEP)
# A result that has a model is saved as one, too.
MODEL = (*PAGE, PACKAGE)
IMPROVING: Sequence[Measuring] = (
    Measuring(suggest, ("load", "suggest"), INPUT, "a model, or a recording (.json)"),
    Measuring(optimize, ("load", "optimize"), FILES, formats=MODEL, keep=_itself),
    Measuring(
        tune,
        ("load", "tune"),
        (*FILES, ("over", str, OVER, "what may differ, or a file of it: NAME=CHOICE, CHOICE; …")),
        keep=_best,
    ),
    Measuring(
        edit,
        ("load",),
        (*FILES, ("apply", str, "", f"actions in their order: {FORM}")),
        formats=MODEL,
        keep=_itself,
    ),
)
