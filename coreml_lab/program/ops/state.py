"""What lives from run to run. The reader makes states values, so that their ops are plain ones."""

from __future__ import annotations

from coreml_lab.program.graph import Array
from coreml_lab.program.ops.registry import op
from coreml_lab.program.ops.samples import normal


@op(
    samples=[{"input": normal(2, 3)}],
    onnx=lambda o, input: input,  # noqa: A006, ARG005 - MIL's name; there is nothing to do
    torch=lambda _, input: input,  # noqa: A006
    stored=True,
    opaque=True,
)
def read_state(input: Array) -> Array:  # noqa: A002 - MIL's name
    """What the state holds at this point of the program."""
    return input


@op(
    samples=[{"state": normal(2, 3), "value": normal(2, 3, seed=1)}],
    onnx=lambda o, state, value: value,  # noqa: ARG005 - the old contents are gone
    torch=lambda _, state, value: value,  # noqa: ARG005
    stored=True,
    opaque=True,
)
def coreml_update_state(state: Array, value: Array) -> Array:  # noqa: ARG001 - replaced whole
    """The value, which the state holds from here on."""
    return value
