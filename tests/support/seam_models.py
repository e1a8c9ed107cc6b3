"""Small models as coremltools makes them, with nothing said about not loading them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from coreml_lab.program.mil.tools import TARGET, ct, mb, quiet, types
from tests.support.converting import convert

WEIGHT = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32) / 4


def converted(program: Any, **given: Any) -> Any:
    """What coremltools makes of a program, with nothing said about loading it."""
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        given = {"compute_precision": ct.precision.FLOAT32, **given}
        return convert(program, convert_to="mlprogram", minimum_deployment_target=TARGET, **given)


def network(weight: Any = WEIGHT, **given: Any) -> Any:
    """softmax(relu(x @ weight)) of a vector of 8."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 8))], opset_version=TARGET)
    def program(x: Any) -> Any:
        product = mb.linear(x=x, weight=weight.T.copy(), name="product")
        return mb.softmax(x=mb.relu(x=product, name="cut"), name="y")

    return converted(program, **given)


def expected(x: Any, weight: Any = WEIGHT) -> Any:
    """What the network computes."""
    e = np.exp(np.maximum(x @ weight, 0))
    return e / e.sum(-1, keepdims=True)


def counter() -> Any:
    """A model that adds its input to a state."""

    @mb.program(
        input_specs=[
            mb.TensorSpec((1, 4), dtype=types.fp16),
            mb.StateTensorSpec((1, 4), dtype=types.fp16),
        ],
        opset_version=TARGET,
    )
    def program(x: Any, total: Any) -> Any:
        y = mb.add(x=x, y=mb.read_state(input=total), name="y")
        mb.coreml_update_state(state=total, value=y)
        return y

    return converted(program, compute_precision=ct.precision.FLOAT16)
