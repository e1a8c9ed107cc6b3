"""PyTorch modules -> Core ML model packages, through coremltools' own converter.

A module is run once on examples and recorded by ``torch.jit.trace``: what its Python code decides
then is decided for good. It is recorded as in ``eval()``, and left as it was. Buffers that it
writes to are states of the model.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coreml_lab.errors import CompileError, GraphError, LabError, UnknownParameter
from coreml_lab.program import frameworks, heap
from coreml_lab.program.graph import Array, Dim, TensorType
from coreml_lab.program.mil.tools import TARGET, ct, quiet
from coreml_lab.program.naming import border

# The size at which a flexible dimension is recorded, where its bounds allow that.
RECORDED = 16
# What changes from one recording of the same module to the next: counted names, lines of code.
CHANCE = re.compile(r"\.___torch_mangle_\d+| *#.*$", re.MULTILINE)
EXAMPLES = "give examples that it can be called with: cl.compile(net, x=array)"


@dataclass(frozen=True)
class Recorded:
    """A module as it ran on examples.

    Attributes:
        traced: PyTorch's recording.
        kinds: types of its inputs, as they were asked for.
        outputs: names of its results, and whether each is made of real numbers.
        states: shapes of the buffers that it writes to.
    """

    traced: Any
    kinds: Mapping[str, TensorType]
    outputs: Mapping[str, bool]
    states: Mapping[str, tuple[int, ...]]

    @property
    def digest(self) -> str:
        """A hash of all that decides what becomes of it."""
        graph = self.traced.inlined_graph
        found = hashlib.sha256(repr((self.kinds, self.outputs, self.states)).encode())
        found.update(CHANCE.sub("", str(graph)).encode())
        for name, tensor in (*self.traced.state_dict().items(), *_constants(graph)):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            if tensor.numel():
                plain = tensor.detach().contiguous().flatten()
                found.update(plain.view(_torch().uint8).numpy().data)
        return found.hexdigest()


def _torch() -> Any:
    import torch  # noqa: PLC0415 - whoever has a module has imported it

    return torch


def _constants(graph: Any) -> Iterator[tuple[str, Any]]:
    """Tensors that are part of a recording without being parameters or buffers."""
    for node in graph.findAllNodes("prim::Constant"):
        if node.hasAttribute("value") and node.kindOf("value") == "t":
            yield "constant", node.t("value")


# -- recording -------------------------------------------------------------------------------------


def record(module: Any, kinds: Mapping[str, TensorType], examples: Mapping[str, Array]) -> Recorded:
    """See ``mil.record``."""
    torch = _torch()
    module = _here(torch, module)
    _accepted(module, kinds)
    given = {k: _example(torch, kind, examples.get(k)) for k, kind in kinds.items()}
    with _as_it_was(torch, module) as buffers, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outputs = _named(module.forward(**given))
            entering = tuple(_entering(torch, given[k], kind) for k, kind in kinds.items())
            traced = torch.jit.trace(_flat(torch, module, given), entering, check_trace=False)
        except LabError:
            raise
        except Exception as error:  # whatever the user's code raises
            called = ", ".join(f"{k}: {kind}" for k, kind in kinds.items())
            raise GraphError(
                f"{title(module)}({called}) cannot be recorded: {type(error).__name__}: {error}",
                hint=EXAMPLES,
            ) from error
        states = {b.name: b.shape for b in buffers if b.written}
    real = {name: bool(tensor.is_floating_point()) for name, tensor in outputs.items()}
    return Recorded(traced, kinds, real, states)


def title(module: Any) -> str:
    """What a module is called."""
    return str(getattr(module, "original_name", type(module).__name__))


def _here(torch: Any, module: Any) -> Any:
    """A module whose weights are in the CPU's memory: the same one, if they are."""
    if isinstance(module, torch.export.ExportedProgram):
        return module.module()
    held = (*module.parameters(), *module.buffers())
    if all(tensor.device.type == "cpu" for tensor in held):
        return module
    return copy.deepcopy(module).to("cpu")


def _accepted(module: Any, kinds: Mapping[str, TensorType]) -> None:
    """Refuse inputs that are not those of the module."""
    if not kinds:
        raise UnknownParameter(
            f"{title(module)} has no inputs",
            hint="give one spec or example per input: cl.compile(net, x=cl.spec(1, 3, 224, 224))",
        )
    try:
        signature = inspect.signature(module.forward)
        signature.bind(**dict.fromkeys(kinds))
    except ValueError:  # a scripted function has none: calling it will tell
        return
    except TypeError as error:
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        raise UnknownParameter(
            f"{title(module)}.forward{inspect.Signature(bare)} cannot be called with inputs "
            f"{', '.join(kinds)}: {error}",
            hint="give one spec or example per input: cl.compile(net, x=cl.spec(1, 3, 224, 224))",
        ) from error


def _example(torch: Any, kind: TensorType, array: Array | None) -> Any:
    """What an input is recorded with: noise where there is no array, and zeros for integers."""
    if array is not None:
        return torch.from_numpy(np.array(array, kind.dtype, order="C"))
    shape = tuple(_recorded(d) if isinstance(d, Dim) else d for d in kind.shape)
    if kind.dtype.kind == "f":
        noise = np.random.default_rng(0).standard_normal(shape)
        return torch.from_numpy(np.asarray(noise, kind.dtype))
    return torch.from_numpy(np.zeros(shape, kind.dtype))


def _recorded(dim: Dim) -> int:
    return max(dim.low, min(RECORDED, dim.high or RECORDED))


def _entering(torch: Any, example: Any, kind: TensorType) -> Any:
    """An example as Core ML hands it over: it knows few element types at its border."""
    return example if border(kind) == kind else example.to(torch.int32)


def _flat(torch: Any, module: Any, given: Mapping[str, Any]) -> Any:
    """The module with its inputs in a row, in Core ML's types, and its results as a tuple."""
    types = {name: example.dtype for name, example in given.items()}

    def forward(_: Any, *entering: Any) -> Any:
        own = {k: e.to(t) for (k, t), e in zip(types.items(), entering, strict=True)}
        return tuple(_named(module.forward(**own)).values())

    if isinstance(module, torch.jit.ScriptModule):
        flat = type(title(module), (torch.nn.Module,), {"forward": forward})()
        flat.inner = module
        return flat.eval()
    flat = copy.copy(module)  # which shares weights and buffers, and so their names
    flat.__dict__.pop("forward", None)
    flat.__class__ = type(title(module), (type(module),), {"forward": forward})
    return flat


def _named(result: Any) -> dict[str, Any]:
    """Results by name, as those of a function are named."""
    torch = _torch()
    found = {"output": result}
    if isinstance(result, Mapping):
        found = {str(k): v for k, v in result.items() if v is not None}
    elif isinstance(result, tuple | list):
        found = {f"output_{i}": v for i, v in enumerate(result)}
    for name, value in found.items():
        if not isinstance(value, torch.Tensor):
            raise GraphError(
                f"output {name!r} is a {type(value).__name__}, not a tensor",
                hint="return tensors: wrap the module in one that picks those you need",
            )
    return found


@dataclass(frozen=True)
class _Buffer:
    """A buffer as it was."""

    name: str
    owner: Any
    key: str
    tensor: Any
    values: Any
    version: int

    @property
    def shape(self) -> tuple[int, ...]:
        """That of its array; as a state it begins with zeros.

        Raises:
            GraphError: where the buffer does not.
        """
        if self.values.count_nonzero():
            raise GraphError(
                f"buffer {self.name!r} is written to, and does not begin with zeros",
                hint="states of Core ML do: zero it, or add its beginning in forward()",
            )
        return tuple(self.values.shape)

    @property
    def written(self) -> bool:
        """Whether anybody wrote to it since."""
        return _version(self.tensor) != self.version

    def restore(self) -> None:
        """Make it what it was."""
        if self.written:
            self.tensor.copy_(self.values)
        setattr(self.owner, self.key, self.tensor)


def _version(tensor: Any) -> int:
    """How often a tensor was written to."""
    return int(tensor._version)  # noqa: SLF001 - PyTorch has no other name for it


@contextlib.contextmanager
def _as_it_was(torch: Any, module: Any) -> Iterator[Sequence[_Buffer]]:
    """Put a module into eval(); leaves modes and buffers as they were."""
    scripted = isinstance(module, torch.jit.ScriptModule)
    modes = {part: part.training for part in module.modules()}
    buffers = [
        _Buffer(f"{at}.{key}" if at else key, owner, key, b, b.clone(), _version(b))
        for at, owner in module.named_modules()
        for key, b in (() if scripted else owner.named_buffers(recurse=False))
    ]
    _mode(dict.fromkeys(modes, False))
    try:
        yield buffers
    finally:
        _mode(modes)
        with torch.no_grad():
            for buffer in buffers:
                buffer.restore()


def _mode(modes: Mapping[Any, bool]) -> None:
    """Set modes part by part; an exported module refuses to be asked, and has none."""
    for part, training in modes.items():
        if part.training != training:
            part.training = training


# -- converting ------------------------------------------------------------------------------------


def convert(recorded: Recorded, package: Path, *, precision: str, target: str | None) -> None:
    """See ``mil.convert``."""
    if frameworks.are_left_out():
        raise CompileError(
            "this process imported coremltools without PyTorch, and cannot convert from it",
            stage="conversion",
            hint="convert it before, in the process that starts this one",
        )
    sizes: dict[str, Any] = {}
    inputs = [_entry(name, kind, sizes) for name, kind in recorded.kinds.items()]
    outputs = [
        ct.TensorType(name=name, dtype=np.float32 if real else np.int32)
        for name, real in recorded.outputs.items()
    ]
    states = [
        ct.StateType(ct.TensorType(shape=shape, dtype=np.float16), name=name)
        for name, shape in recorded.states.items()
    ]
    half = precision == "fp16"
    with quiet(), _no_bar(), heap.apart(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = ct.convert(
                recorded.traced,
                convert_to="mlprogram",
                inputs=inputs,
                outputs=outputs,
                states=states or None,
                minimum_deployment_target=_target(target),
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                skip_model_load=True,
            )
            model.save(str(package))
        except LabError:
            raise
        except Exception as error:  # coremltools raises bare Exceptions of every kind
            raise CompileError(
                f"coremltools cannot convert it: {type(error).__name__}: {error}",
                stage="conversion",
                hint="write what it refuses in other operations, or with cl.ops",
            ) from error


@contextlib.contextmanager
def _no_bar() -> Iterator[None]:
    """``quiet`` for the part of coremltools that imports PyTorch: errors are raised as well."""
    from coremltools.converters.mil.frontend.torch import ops  # noqa: PLC0415 - see above

    bar, log = vars(ops)["_tqdm"], logging.getLogger("coremltools")
    vars(ops)["_tqdm"], log.disabled = functools.partial(bar, disable=True), True
    try:
        yield
    finally:
        vars(ops)["_tqdm"], log.disabled = bar, False


def _target(name: str | None) -> Any:
    if name is None:
        return TARGET
    known = {t.name: t for t in ct.target if t >= ct.target.iOS15}
    if name not in known:
        raise UnknownParameter(f"there is no target {name!r}", hint=", ".join(known))
    return known[name]


def _entry(name: str, kind: TensorType, sizes: dict[str, Any]) -> Any:
    """An input as coremltools wants it described; equal dimensions are one object."""

    def size(d: int | Dim) -> Any:
        if not isinstance(d, Dim):
            return d
        if d.name not in sizes:
            sizes[d.name] = ct.RangeDim(d.low, d.high or -1, default=_recorded(d))
        return sizes[d.name]

    shape = tuple(size(d) for d in kind.shape)
    return ct.TensorType(name=name, shape=shape, dtype=border(kind).dtype.type)
