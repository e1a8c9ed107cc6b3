"""Support vector machines, as LIBSVM defines them: kernels, votes and coupled probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np

from coreml_lab.program.classical.classes import Classes
from coreml_lab.program.classical.registry import Interface, ModelTypeError, model_type
from coreml_lab.program.classical.vectors import (
    checked_width,
    matrix,
    numeric,
    prediction,
    regressed,
    vector,
    width,
)
from coreml_lab.program.graph import Array

# From support vectors [n, width] and an example [width] to a number per support vector.
Kernel = Callable[[Array, Array], Array]
# Sparse vectors become dense ones of at most so many numbers together.
MOST = 1 << 27
# Of LIBSVM: probabilities of pairs stay off 0 and 1, coupling stops at this or after so many steps.
LEAST, CLOSE, STEPS = 1e-7, 0.005, 100


def _kernel(part: Any) -> Kernel:
    kind = part.kernel.WhichOneof("kernel")
    told: Any = getattr(part.kernel, kind) if kind else None
    if kind == "linearKernel":
        return lambda vectors, x: np.asarray(vectors @ x)
    if kind == "rbfKernel":
        gamma = told.gamma
        return lambda vectors, x: np.asarray(np.exp(-gamma * ((vectors - x) ** 2).sum(axis=1)))
    if kind == "polyKernel":
        gamma, c, degree = told.gamma, told.c, int(told.degree)
        return lambda vectors, x: np.asarray((gamma * (vectors @ x) + c) ** degree)
    if kind == "sigmoidKernel":
        gamma, c = told.gamma, told.c
        return lambda vectors, x: np.asarray(np.tanh(gamma * (vectors @ x) + c))
    raise ModelTypeError("it has no kernel")


def _vectors(part: Any, interface: Interface) -> Array:
    """The support vectors of a message, [n, width]; sparse ones with their zeros."""
    if part.WhichOneof("supportVectors") != "sparseSupportVectors":
        return matrix([v.values for v in part.denseSupportVectors.vectors], "support vectors")
    rows = part.sparseSupportVectors.vectors
    last = max((node.index for row in rows for node in row.nodes), default=0)
    wide = width(interface)
    wide = last if wide is None else wide
    if last > wide or min((n.index for row in rows for n in row.nodes), default=1) < 1:
        raise ModelTypeError(f"a sparse vector has a number outside of 1 to {wide}")
    if len(rows) * wide > MOST:
        raise ModelTypeError(f"its {len(rows)} sparse vectors of {wide} numbers are too many")
    found = np.zeros((len(rows), wide))
    for row, sparse in zip(found, rows, strict=True):
        for node in sparse.nodes:
            row[node.index - 1] = node.value
    return found


@dataclass(frozen=True)
class Machine:
    """Support vectors and the kernel they are compared by."""

    interface: Interface
    kernel: Kernel
    vectors: Array

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """The machine of a message.

        Raises:
            ModelTypeError: where it has no kernel, or its vectors differ in length.
        """
        vectors = _vectors(part, interface)
        return cls(numeric(interface, vectors.shape[1]), _kernel(part), vectors)

    def of(self, inputs: Mapping[str, Any]) -> Array:
        """The kernel of an example and each support vector."""
        x = vector(inputs, self.interface)
        checked_width(x.size, self.vectors.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            return self.kernel(self.vectors, x)


@model_type("supportVectorRegressor")
@dataclass(frozen=True)
class SupportVectorRegressor:
    """A weighted sum of an example's kernel with each support vector, less a constant."""

    machine: Machine
    weights: Array
    rho: float

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        regressed(interface)
        machine = Machine.read(part, interface)
        weights = np.array(part.coefficients.alpha, np.float64)
        _check_count(len(weights), machine)
        return cls(machine, weights, float(part.rho))

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        found = self.weights @ self.machine.of(inputs) - self.rho
        return prediction(np.array([found]), self.machine.interface)

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return self.machine.vectors.nbytes + self.weights.nbytes


def _check_count(weights: int, machine: Machine) -> None:
    if weights != len(machine.vectors):
        raise ModelTypeError(f"it has {len(machine.vectors)} support vectors, {weights} weights")


@model_type("supportVectorClassifier")
@dataclass(frozen=True)
class SupportVectorClassifier:
    """A machine per pair of classes: the most votes, or coupled probabilities where it has them.

    Attributes:
        weights: [classes - 1, support vectors]; those of a vector's own class are left out.
        starts: where the support vectors of each class begin, and the end.
        rho, scale, shift: per pair of classes; without probabilities there are no last two.
    """

    machine: Machine
    classes: Classes
    weights: Array
    starts: Array
    rho: Array
    scale: Array
    shift: Array

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        machine, classes = Machine.read(part, interface), Classes.read(part, interface)
        count = len(classes.labels)
        sizes = list(part.numberOfSupportVectorsPerClass)
        if len(sizes) != count or min(sizes) < 0 or sum(sizes) != len(machine.vectors):
            raise ModelTypeError(
                f"its {count} classes have {sizes} of {len(machine.vectors)} support vectors"
            )
        weights = matrix([row.alpha for row in part.coefficients], "coefficients")
        _check_count(weights.shape[1], machine)
        rho, scale, shift = (np.array(v, np.float64) for v in (part.rho, part.probA, part.probB))
        pairs = count * (count - 1) // 2
        _check_pairs(count, len(weights), pairs, {len(rho)}, {len(scale), len(shift)})
        if classes.chances and not scale.size:
            raise ModelTypeError("its description has probabilities, but it has no probA and probB")
        starts = np.cumsum([0, *sizes])
        return cls(machine, classes, weights, starts, rho, scale, shift)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        decisions = np.array(list(self._decisions(self.machine.of(inputs))))
        count = len(self.classes.labels)
        if self.scale.size:
            odds = np.clip(_sigmoid(decisions * self.scale + self.shift), LEAST, 1 - LEAST)
            return self.classes.told(coupled(odds, count))
        votes = np.zeros(count)
        for (i, j), decision in zip(combinations(range(count), 2), decisions, strict=True):
            votes[i if decision > 0 else j] += 1
        return self.classes.told(votes)

    def _decisions(self, kernel: Array) -> Iterator[float]:
        """One number per pair of classes, above 0 for the first of them."""
        spans = [slice(a, b) for a, b in zip(self.starts, self.starts[1:], strict=False)]
        for pair, (i, j) in enumerate(combinations(range(len(spans)), 2)):
            first, second = spans[i], spans[j]
            total = self.weights[j - 1, first] @ kernel[first]
            total += self.weights[i, second] @ kernel[second]
            yield float(total - self.rho[pair])

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return self.machine.vectors.nbytes + self.weights.nbytes


def _check_pairs(count: int, rows: int, pairs: int, rho: set[int], odds: set[int]) -> None:
    if rows != max(count - 1, 1):
        raise ModelTypeError(f"it has {count} classes and {rows} rows of coefficients")
    if rho != {pairs} or odds not in ({0}, {pairs}):
        told = "rho, and probA and probB or none of them"
        raise ModelTypeError(f"it has {count} classes: {told}, are {pairs} numbers each")


def _sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(x))``, without overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, e, 1.0) / (1 + e))


def coupled(odds: Array, count: int) -> Array:
    """Probabilities of classes from those of each pair's first (Wu, Lin and Weng 2004, method 2).

    Two classes have those of their only pair.
    """
    if count == 2:  # noqa: PLR2004 - one pair
        return np.array([odds[0], 1 - odds[0]])
    r = np.zeros((count, count))
    for (i, j), odd in zip(combinations(range(count), 2), odds, strict=True):
        r[i, j], r[j, i] = odd, 1 - odd
    q = -r.T * r
    np.fill_diagonal(q, (r**2).sum(axis=0))
    p = np.full(count, 1 / count)
    for _ in range(max(STEPS, count)):
        qp = q @ p
        pqp = p @ qp
        if np.abs(qp - pqp).max() < CLOSE / count:
            break
        for t in range(count):
            step = (pqp - qp[t]) / q[t, t]
            p[t] += step
            pqp = (pqp + step * (step * q[t, t] + 2 * qp[t])) / (1 + step) ** 2
            qp = (qp + step * q[t]) / (1 + step)
            p /= 1 + step
    return p
