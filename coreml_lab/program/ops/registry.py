"""``@op``: declare an operation once.

The decorated function *is* the definition: its name and parameters are MIL's, its docstring is the
documentation, its body is the NumPy reference and the oracle of the generated tests. Positional
parameters are tensors, keyword-only ones are constants, exactly as MIL's own input specification
has it (a generated test holds each op to it).

A lowering is a function of a *namespace* and the same parameters::

    onnx=lambda o, x, *, axis: o.Softmax(x, axis=axis)    # o: OnnxBuilder, x: a Ref
    torch=lambda t, x, *, axis: t.softmax(x, dim=axis)    # t: the torch module, x: a tensor

Where MIL leaves an optional tensor out, a lowering receives ``None`` for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coreml_lab.errors import UnknownParameter
from coreml_lab.program.graph import Array
from coreml_lab.program.tensors import apply

Reference = Callable[..., Any]
Lowering = Callable[..., Any]
Sample = Mapping[str, Any]

OPS: dict[str, Op] = {}


@dataclass(frozen=True)
class Limit:
    """What an engine cannot do: a strict expected failure in the tests, a footnote in the docs.

    ``sample`` is the index of the sample it concerns; -1 means all of them.
    """

    engine: str
    why: str
    sample: int = -1


@dataclass(frozen=True, eq=False)
class Law:
    """How random numbers are distributed: the share of them from each edge up to the next.

    ``shares`` has one row for all numbers or, where they follow several distributions, one for
    each of as many equal parts; ``whole`` says that only whole numbers come out.
    """

    edges: tuple[float, ...]
    shares: Array
    whole: bool = False


@dataclass(frozen=True)
class Op:
    """One operation in every language we speak; calling it records it on tensors."""

    name: str
    reference: Reference
    samples: tuple[Sample, ...]
    onnx: Lowering | None
    torch: Lowering | None
    limits: tuple[Limit, ...]
    family: str
    signature: inspect.Signature
    doc: str = field(compare=False)
    # Tensors that are part of the program when they hold data (a convolution's weight).
    baked: frozenset[str] = frozenset()
    # Only coremltools' passes and compression write it; users do not call it.
    stored: bool = False
    # Its operands or results are lists or states in MIL, which are tensors here.
    opaque: bool = False
    # Its results are random: they follow the law that this makes of the arguments.
    law: Callable[..., Law] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", f"{self.name}{self.signature}\n\n{self.doc}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record the operation; returns a Tensor, or a tuple of them for several results.

        Constants may be given by place, too, after the tensors: ``linear(x, weight, bias)``.
        """
        args, kwargs = self._named(args, kwargs)
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise UnknownParameter(
                f"{self.name}: {error}", hint=f"{self.name}{self.signature}"
            ) from error
        bound.apply_defaults()
        operands = self.operands
        inputs = {k: v for k, v in bound.arguments.items() if k in operands and v is not None}
        attrs = {k: v for k, v in bound.arguments.items() if k not in operands and v is not None}
        return apply(self.name, inputs, attrs, baked=self.baked)

    def _named(self, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Arguments as the signature has them: constants that were given by place get names."""
        tensors = len(self.operands)
        if len(args) <= tensors:
            return args, kwargs
        kinds = {p.name: p.kind for p in self.signature.parameters.values()}
        constants = [name for name, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY]
        several = inspect.Parameter.VAR_POSITIONAL in kinds.values()
        if several or len(args) > tensors + len(constants):
            return args, kwargs
        beyond = dict(zip(constants, args[tensors:], strict=False))
        if twice := [name for name in beyond if name in kwargs]:
            raise UnknownParameter(
                f"{self.name}: {twice[0]} is given by place and by name",
                hint=f"{self.name}{self.signature}",
            )
        return args[:tensors], {**beyond, **kwargs}

    @property
    def operands(self) -> tuple[str, ...]:
        """Parameters that are tensors."""
        return tuple(
            p.name for p in self.signature.parameters.values() if p.kind is not p.KEYWORD_ONLY
        )

    @property
    def defaults(self) -> dict[str, Any]:
        """Default of each constant parameter that has one."""
        return {
            p.name: p.default
            for p in self.signature.parameters.values()
            if p.default is not p.empty and p.kind is p.KEYWORD_ONLY
        }

    def call(
        self,
        rule: Callable[..., Any],
        backend: Any,
        inputs: Mapping[str, Any],
        attrs: Mapping[str, Any],
    ) -> Any:
        """Run a lowering: ``backend`` is its namespace, absent constants take their defaults."""
        return rule(backend, *(inputs.get(k) for k in self.operands), **{**self.defaults, **attrs})


def op(
    *,
    samples: list[dict[str, Any]],
    onnx: Lowering | None = None,
    torch: Lowering | None = None,
    limits: tuple[Limit, ...] = (),
    baked: tuple[str, ...] = (),
    stored: bool = False,
    opaque: bool = False,
    older: tuple[str, ...] = (),
    law: Callable[..., Law] | None = None,
) -> Callable[[Reference], Op]:
    """Register the decorated NumPy function as an operation.

    ``older`` names parameters that only earlier opsets have: stored models bring them, the
    signature is the latest.
    """

    def register(reference: Reference) -> Op:
        whole = inspect.signature(reference)
        latest = whole.replace(
            parameters=[p for k, p in whole.parameters.items() if k not in older]
        )
        name = reference.__name__.rstrip("_")  # a trailing underscore avoids a Python builtin
        declared = Op(
            name,
            reference,
            tuple(samples),
            onnx,
            torch,
            limits,
            reference.__module__.rpartition(".")[2],
            latest,
            inspect.getdoc(reference) or "",
            frozenset(baked),
            stored,
            opaque,
            law,
        )
        OPS[name] = declared
        return declared

    return register
