"""Tree ensembles: the sum of one leaf per tree, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coreml_lab.program.classical.classes import Classes, logistic, softmax
from coreml_lab.program.classical.registry import Interface, ModelTypeError, model_type
from coreml_lab.program.classical.vectors import (
    checked_width,
    numeric,
    prediction,
    regressed,
    vector,
    width,
)
from coreml_lab.program.graph import Array

LEAF = 6
FURTHEST = np.iinfo(np.int64).max - 1
# Per branch mode (<=, <, >=, >, ==, !=): whether it is true of a value below, at, above its own.
TRUTH = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0], [1, 0, 1]], bool)
PLAIN, SOFTMAX, LOGISTIC, REFERENCE = range(4)
TRANSFORMS: dict[int, Callable[[Array], Array]] = {
    PLAIN: lambda x: x,
    SOFTMAX: softmax,
    LOGISTIC: logistic,
    REFERENCE: lambda x: softmax(np.array([0.0, *x])),
}
EVEN = 0.5


@dataclass(frozen=True)
class Ensemble:
    """All nodes of all trees as columns; a leaf is its own child.

    Attributes:
        roots: row of each tree's root.
        feature, value, mode, missing: of a branch; where a missing value goes is ``missing``.
        children: rows of its false and true child, [nodes, 2].
        depth: branches on the longest way.
        first, index, amount: a leaf adds ``amount[first[row]:first[row + 1]]`` to these indices.
        base: what the sums begin with.
        single: its numbers are all of 32 bits, and so are then those they are compared with.
    """

    roots: Array
    feature: Array
    value: Array
    mode: Array
    missing: Array
    children: Array
    depth: int
    first: Array
    index: Array
    amount: Array
    base: Array
    single: bool

    @classmethod
    def read(cls, part: Any) -> Self:
        """The trees of a message.

        Raises:
            ModelTypeError: where its nodes are no trees.
        """
        nodes = list(part.nodes)
        mode = np.array([n.nodeBehavior for n in nodes], np.int64)
        if mode.size and not 0 <= mode.min() <= mode.max() <= LEAF:
            raise ModelTypeError(f"a node has behavior {mode.max()}")
        leaf = mode == LEAF
        children = _children(nodes, leaf)
        roots, depth = _shape([n.treeId for n in nodes], children, leaf)
        leaves = [n.evaluationInfo if n.nodeBehavior == LEAF else () for n in nodes]
        dims = int(part.numPredictionDimensions)
        base = np.array(part.basePredictionValue, np.float64)
        index = np.array([e.evaluationIndex for leaf in leaves for e in leaf], np.uint64)
        amount = np.array([e.evaluationValue for leaf in leaves for e in leaf], np.float64)
        if not base.size and dims <= max(len(amount), 1):
            base = np.zeros(dims)
        _check_dims(dims, base, index)
        value = np.array([n.branchFeatureValue for n in nodes], np.float64)
        if np.isnan(value[~leaf]).any():
            raise ModelTypeError("a branch compares with what is no number")
        return cls(
            roots,
            np.where(leaf, 0, [min(n.branchFeatureIndex, FURTHEST) for n in nodes]),
            value,
            np.where(leaf, 0, mode),
            np.array([n.missingValueTracksTrueChild for n in nodes], bool),
            children,
            depth,
            np.cumsum([0, *map(len, leaves)]),
            index.astype(np.int64),
            amount,
            base,
            _single(value) and _single(amount),
        )

    @property
    def features(self) -> int:
        """How many numbers its branches look at, counted from the first."""
        return int(self.feature.max()) + 1 if self.depth else 0

    def sums(self, x: Array) -> Array:
        """Base and leaves of all trees, added up."""
        if self.single:
            with np.errstate(over="ignore"):
                x = x.astype(np.float32).astype(np.float64)
        at = self.roots
        for _ in range(self.depth):
            seen = x[self.feature[at]]
            side = (seen >= self.value[at]).astype(np.int64) + (seen > self.value[at])
            truth = np.where(np.isnan(seen), self.missing[at], TRUTH[self.mode[at], side])
            at = self.children[at, truth.astype(np.int64)]
        return self.base + self._leaves(at)

    def _leaves(self, rows: Array) -> Array:
        """What these leaves add to each sum."""
        counts = self.first[rows + 1] - self.first[rows]
        begin = np.cumsum(counts) - counts
        entries = np.arange(counts.sum()) + np.repeat(self.first[rows] - begin, counts)
        found = np.bincount(self.index[entries], self.amount[entries], len(self.base))
        return np.asarray(found)

    @property
    def nbytes(self) -> int:
        """Bytes of its columns."""
        held = (self.roots, self.feature, self.value, self.mode, self.missing, self.children)
        more = (self.first, self.index, self.amount, self.base)
        return sum(array.nbytes for array in (*held, *more))


def _single(numbers: Array) -> bool:
    """Whether numbers of 32 bits are enough for all of these."""
    with np.errstate(over="ignore"):
        return bool((numbers.astype(np.float32) == numbers).all())


def _check_dims(dims: int, base: Array, index: Array) -> None:
    if dims < 1 or len(base) != dims:
        raise ModelTypeError(f"it has {dims} dimensions and {len(base)} base values")
    if index.size and index.max() >= dims:
        raise ModelTypeError(f"a leaf adds to number {index.max()} of {dims}")


def _children(nodes: Sequence[Any], leaf: Array) -> Array:
    """Rows of each node's false and true child; of leaves, their own."""
    rows = {(n.treeId, n.nodeId): row for row, n in enumerate(nodes)}
    if len(rows) != len(nodes):
        raise ModelTypeError("two nodes of a tree have one number")
    found = np.empty((len(nodes), 2), np.int64)
    for row, node in enumerate(nodes):
        found[row] = row
        if not leaf[row]:
            for side, child in enumerate((node.falseChildNodeId, node.trueChildNodeId)):
                if (node.treeId, child) not in rows:
                    raise ModelTypeError(f"tree {node.treeId} has no node {child}")
                found[row, side] = rows[node.treeId, child]
    return found


def _shape(trees: Sequence[int], children: Array, leaf: Array) -> tuple[Array, int]:
    """The root of each tree, and how deep the deepest one is.

    Raises:
        ModelTypeError: for a tree without or with several roots, or nodes that cannot be reached.
    """
    parents = np.bincount(_once(children[~leaf]), minlength=len(leaf))
    roots = np.flatnonzero(parents == 0)
    named = [trees[row] for row in roots]
    if not named or len(named) != len(set(named)) or set(named) != set(trees):
        raise ModelTypeError("each tree needs one node that is the child of no other")
    level, reached, depth = roots, len(roots), 0
    while (inner := level[~leaf[level]]).size and reached <= len(leaf):
        level = _once(children[inner])
        reached, depth = reached + len(level), depth + 1
    if (parents > 1).any() or reached != len(leaf):
        raise ModelTypeError("its nodes are no trees: one is the child of two, or of none above it")
    return roots, depth


def _once(pairs: Array) -> Array:
    """Children of branches; where both sides lead to one, it counts once."""
    return np.concatenate([pairs[:, 0], pairs[pairs[:, 0] != pairs[:, 1], 1]])


@dataclass(frozen=True)
class _Trees:
    """What regressors and classifiers share."""

    interface: Interface
    ensemble: Ensemble
    transform: int

    def sums(self, inputs: Mapping[str, Any]) -> Array:
        """The sums of an example; a missing input is what its branches say of missing values."""
        x = vector(inputs, self.interface, missing=np.nan)
        checked_width(x.size, max(x.size, self.ensemble.features))
        return self.ensemble.sums(x)

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return self.ensemble.nbytes


def _read(part: Any, interface: Interface) -> tuple[Interface, Ensemble, int]:
    ensemble, wide = Ensemble.read(part.treeEnsemble), width(interface)
    if part.postEvaluationTransform not in TRANSFORMS:
        raise ModelTypeError(f"its transform is {part.postEvaluationTransform}")
    if wide is not None and ensemble.features > wide:
        told = f"a branch looks at number {ensemble.features}, its inputs are {wide} together"
        raise ModelTypeError(told)
    return numeric(interface), ensemble, int(part.postEvaluationTransform)


@model_type("treeEnsembleRegressor")
@dataclass(frozen=True)
class TreeRegressor(_Trees):
    """The sum of one leaf per tree and a base, one or several numbers, as it is or transformed."""

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        regressed(interface)
        return cls(*_read(part, interface))

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        return prediction(TRANSFORMS[self.transform](self.sums(inputs)), self.interface)


@model_type("treeEnsembleClassifier")
@dataclass(frozen=True)
class TreeClassifier(_Trees):
    """The sums of leaves as probabilities of classes: as they are, logistic or softmax."""

    classes: Classes

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        held, ensemble, transform = _read(part, interface)
        classes = Classes.read(part, interface)
        count, dims = len(classes.labels), len(ensemble.base)
        fits = {count, *_alone(count, transform)}
        if transform == REFERENCE:
            fits = {count - 1}
        if dims not in fits:
            wanted = " or ".join(map(str, sorted(fits)))
            raise ModelTypeError(f"it has {count} classes and {dims} sums, not {wanted}")
        return cls(held, ensemble, transform, classes)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        chances = TRANSFORMS[self.transform](self.sums(inputs))
        if len(self.classes.labels) > len(chances):
            chances = np.array([1 - chances[0], chances[0]])
        winner = None
        if len(chances) == 2 and len(self.ensemble.base) == 1:  # noqa: PLR2004 - one sum for two
            # coremltools' converters take a bit from 0.5 where the first of two classes is meant.
            winner = int(chances[1] >= EVEN)
        return self.classes.told(chances, winner)


def _alone(count: int, transform: int) -> Iterator[int]:
    """A single sum, where it is the probability of the second of two classes."""
    if count == 2 and transform in {PLAIN, LOGISTIC}:  # noqa: PLR2004 - two classes
        yield 1
