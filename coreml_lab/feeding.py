"""Inputs of a model from files, as the command line takes them: arrays, sounds, pictures."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.improve.reference import arrays
from coreml_lab.program.classical.features import FeatureType
from coreml_lab.program.graph import Array, TensorType
from coreml_lab.records import PortInfo, ProgramInfo
from coreml_lab.run.simulated import noise, usual

PCM = "PCM of 8, 16 or 32 bits"
HINT = "x.npz, x.json, x.npy, x.wav or x.png; for several inputs: first=a.npy,second=b.wav"
# Widths of samples in a WAV file, and the value that is full scale.
WIDTHS: Mapping[int, tuple[str, float]] = {
    1: ("u1", 128.0),
    2: ("<i2", 2.0**15),
    4: ("<i4", 2.0**31),
}


class Fed(Protocol):
    """A model, as far as its inputs go."""

    @property
    def info(self) -> ProgramInfo:
        """What it is."""
        ...

    @property
    def inputs(self) -> Mapping[str, TensorType]:
        """What it takes."""
        ...


def feed(model: Fed, given: str | None, seed: int = 0) -> tuple[dict[str, Any], str]:
    """Inputs for a model, and a sentence on where they come from.

    Args:
        model: what is to be fed.
        given: ``x.npz`` or ``x.json`` with every input by name, a file for a model's only input,
            or ``name=file`` for each of several, with commas; nothing for seeded noise.
        seed: of the noise; inputs that no file is given for are noise, too.

    Raises:
        InputError: where a file cannot be read, or does not fit its input.
    """
    made = dict(noise(usual(model.inputs, model.info), seed))
    found: dict[str, Any] = {}
    for part in given.split(",") if given is not None else ():
        found.update(_part(model, part))
    rest = [name for name in model.inputs if name not in found and name in made]
    _check_whole(model, {*found, *rest})
    if given is None:
        return made, f"seeded noise that fits the model (seed {seed})"
    told = f"{given}; seeded noise for {', '.join(rest)}" if rest else given
    return {**{name: made[name] for name in rest}, **found}, told


def _check_whole(model: Fed, given: set[str]) -> None:
    """Refuse to make up texts, dictionaries and lists."""
    optional = {port.name for port in model.info.inputs if port.optional}
    missing = [f"{n} ({t})" for n, t in model.inputs.items() if n not in given | optional]
    if missing:
        raise InputError(
            f"nothing can be made up for {', '.join(missing)}",
            hint="inputs.json, with every input by name",
        )


def _part(model: Fed, part: str) -> dict[str, Any]:
    name, equals, file = part.partition("=")
    path = Path(file if equals else part).expanduser()
    suffix = path.suffix.lower()
    if suffix == ".npz" and not equals:
        return dict(arrays(path))
    if suffix == ".json" and not equals:
        return _named(model, path)
    if suffix not in READERS:
        raise InputError(f"{path.name}: inputs are not read from such files", hint=HINT)
    if not equals and len(model.inputs) > 1:
        raise InputError(f"which input is {path.name}? There are {_names(model)}", hint=HINT)
    name = name if equals else next(iter(model.inputs))
    if name not in model.inputs:
        raise InputError(f"there is no input {name!r}", hint=f"one of {_names(model)}")
    port = next((p for p in model.info.inputs if p.name == name), None)
    return {name: READERS[suffix](path, model.inputs[name], port)}


def _named(model: Fed, path: Path) -> dict[str, Any]:
    """Every input by name: numbers, texts, lists and dictionaries."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise InputError(f"{path} holds no inputs by name", hint='{"x": [1, 2], "word": "tea"}')
        return {n: _keyed(value, model.inputs.get(n)) for n, value in found.items()}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint=HINT) from error


def _keyed(value: Any, kind: TensorType | None) -> Any:
    """A dictionary whose keys are whole numbers where the model has those: JSON has texts alone."""
    whole = isinstance(kind, FeatureType) and kind.key == "int64" and isinstance(value, dict)
    return {int(key): held for key, held in value.items()} if whole else value


def _names(model: Fed) -> str:
    return ", ".join(model.inputs)


def _array(path: Path, kind: TensorType, port: PortInfo | None) -> Array:
    del kind, port
    try:
        found: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="np.save(path, array)") from error
    return found


def _sound(path: Path, kind: TensorType, port: PortInfo | None) -> Array:
    """A WAV file as one channel of -1 to 1: cut to the input's length, or with silence at its end.

    The rate is the file's own: nothing is resampled.
    """
    del port
    try:
        with wave.open(str(path), "rb") as file:
            width, channels = file.getsampwidth(), file.getnchannels()
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise InputError(f"{path} cannot be read: {error}", hint=PCM) from error
    if width not in WIDTHS:
        raise InputError(f"{path} has {8 * width} bits a sample", hint=PCM)
    dtype, full = WIDTHS[width]
    values = np.frombuffer(data, dtype).astype(np.float32) / np.float32(full)
    values = values - 1 if width == 1 else values
    mono = values[: len(values) // channels * channels].reshape(-1, channels).mean(1)
    shape = tuple(len(mono) if size is None else size for size in _sizes(kind))
    flat = np.zeros(int(np.prod(shape)), kind.dtype)
    flat[: len(mono)] = mono[: len(flat)]
    return flat.reshape(shape)


def _sizes(kind: TensorType) -> Iterator[int | None]:
    """The sizes of a shape; None for the last of those that are flexible, the length."""
    flexible = [i for i, size in enumerate(kind.shape) if not isinstance(size, int)]
    for i, size in enumerate(kind.shape):
        if isinstance(size, int):
            yield size
        else:
            yield None if i == flexible[-1] else max(1, size.low)


def _picture(path: Path, kind: TensorType, port: PortInfo | None) -> Any:
    """A picture in the input's size: as it is for an image, 0 to 1 with channels for a tensor."""
    try:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - only pictures need it
    except ImportError as error:
        why = "pictures are read by Pillow, which is not installed"
        raise InputError(why, hint="pip install pillow") from error
    planar = (3, 1)
    sizes = tuple(kind.shape)[-3:]
    if not all(isinstance(size, int) for size in sizes) or len(sizes) != 3:  # noqa: PLR2004 - channels, height, width
        raise InputError(f"{path.name}: the input is no picture, its shape is {kind.shape}")
    channels, height, width = (int(str(size)) for size in sizes)
    grey = channels == planar[1]
    if channels not in planar:
        raise InputError(f"{path.name}: the input has {channels} channels, not 1 or 3")
    try:
        with Image.open(path) as opened:
            picture = opened.convert("L" if grey else "RGB").resize((width, height))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint=HINT) from error
    if port is not None and port.kind == "image":
        return picture
    values = np.asarray(picture, np.float32) / 255
    planes = values[None] if grey else values.transpose(2, 0, 1)
    return planes.reshape(tuple(int(str(s)) for s in kind.shape)).astype(kind.dtype)


READERS: Mapping[str, Callable[[Path, TensorType, PortInfo | None], Any]] = {
    ".npy": _array,
    ".wav": _sound,
    ".png": _picture,
    ".jpg": _picture,
    ".jpeg": _picture,
}
