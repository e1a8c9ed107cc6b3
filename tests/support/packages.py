"""Small Core ML packages, written with coremltools' own builder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import coremltools as ct
from coremltools.converters.mil import Builder as mb  # noqa: N813 - its own documentation's name

from coreml_lab.program import mil
from tests.support.converting import convert


def save(path: Path, body: Any, inputs: list[Any], shape: tuple[Any, ...], **options: Any) -> Path:
    target = options.pop("target", ct.target.iOS17)
    dtype = options.pop("dtype", None)
    spec = mb.TensorSpec(shape, dtype) if dtype else mb.TensorSpec(shape)

    @mb.program(input_specs=[spec], opset_version=target)
    def program(x: Any) -> Any:
        return body(x)

    convert(
        program,
        inputs=inputs,
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=target,
        skip_model_load=True,
        **options,
    ).save(str(path))
    return path


def picture_output(package: Path, colour: str, width: int, height: int) -> None:
    """Describe the output as a picture: coremltools lets only torch and TensorFlow ask for one."""
    file = next(package.rglob("*.mlmodel"))
    spec = ct.utils.load_spec(str(file))
    described = spec.description.output[0].type.imageType
    described.width, described.height = width, height
    described.colorSpace = described.ColorSpace.Value(colour)
    file.write_bytes(spec.SerializeToString())


def compiled(package: Path, folder: Path) -> Path:
    """The package as a compiled model below ``folder``."""
    made = folder / f"{package.stem}.mlmodelc"
    made.mkdir(parents=True)
    mil.compile_folder(package, made)
    return made


def assert_same_when_compiled(package: Path, function: str | None = None) -> Path:
    """A package, printed as text and read back, is the same program with the same interface."""
    with tempfile.TemporaryDirectory() as folder:
        made = compiled(package, Path(folder))
        for read in (mil.describe, lambda *given, **k: mil.read(*given, **k).key()):
            assert read(made, function=function) == read(package, function=function)
    return package


def identity(x: Any) -> Any:
    return mb.identity(x=x, name="y")
