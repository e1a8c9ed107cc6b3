"""Non-maximum suppression: of boxes that overlap much, the one of the highest confidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coreml_lab.errors import InputError
from coreml_lab.program.classical.features import FeatureType
from coreml_lab.program.classical.registry import Interface, ModelTypeError, model_type
from coreml_lab.program.graph import Array, Dim

SIDES = 4
THRESHOLD = FeatureType((), np.dtype(np.float64), "number", optional=True)


@dataclass(frozen=True)
class Names:
    """The names of its inputs and outputs; those of thresholds are empty where there are none."""

    confidence: str
    boxes: str
    overlap: str
    least: str
    confidence_out: str
    boxes_out: str


def widened(part: Any, interface: Interface) -> Interface:
    """The interface with the thresholds that may be given, which descriptions often leave out."""
    given = dict(interface.inputs)
    for name in (part.iouThresholdInputFeatureName, part.confidenceThresholdInputFeatureName):
        if name:
            given[name] = dataclasses.replace(given.get(name, THRESHOLD), optional=True)
    return dataclasses.replace(interface, inputs=given)


@model_type("nonMaximumSuppression")
@dataclass(frozen=True)
class NonMaximumSuppression:
    """Boxes, the most confident first, without those that overlap a better one too much.

    A box has its highest confidence of all classes, and that class. Boxes (x and y of the centre,
    width, height) below the least confidence are left out first. Where the description says how
    many rows there are, the rest are zeros.

    Attributes:
        overlap: how much of their union two boxes may share.
        least: the confidence that a box needs.
        per_class: whether boxes of different classes may overlap.
    """

    interface: Interface
    names: Names
    overlap: float
    least: float
    per_class: bool

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        names = Names(
            part.confidenceInputFeatureName,
            part.coordinatesInputFeatureName,
            part.iouThresholdInputFeatureName,
            part.confidenceThresholdInputFeatureName,
            part.confidenceOutputFeatureName,
            part.coordinatesOutputFeatureName,
        )
        given = {names.confidence, names.boxes} - {""} - set(interface.inputs)
        made = {names.confidence_out, names.boxes_out} - {""} - set(interface.outputs)
        if given or made or not names.confidence or not names.boxes:
            told = ", ".join(sorted(given | made)) or "an input without a name"
            raise ModelTypeError(f"{told}: it is not described")
        if not part.iouThreshold >= 0 or not part.confidenceThreshold >= 0:
            raise ModelTypeError("a threshold of it is negative")
        return cls(
            interface,
            names,
            float(part.iouThreshold),
            float(part.confidenceThreshold),
            bool(part.pickTop.perClass),
        )

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        confidence, boxes = self._rows(inputs)
        overlap = self._threshold(inputs, self.names.overlap, self.overlap)
        least = self._threshold(inputs, self.names.least, self.least)
        kept = picked(confidence, boxes, overlap=overlap, least=least, per_class=self.per_class)
        made = {self.names.confidence_out: confidence, self.names.boxes_out: boxes}
        low, high = self._bounds()
        kept = kept[:high] if high else kept
        found = {}
        for name, rows in made.items():
            if name:
                found[name] = np.zeros((max(len(kept), low), rows.shape[1]))
                found[name][: len(kept)] = rows[kept]
        return found

    def _rows(self, inputs: Mapping[str, Any]) -> tuple[Array, Array]:
        """Confidence [boxes, classes] and coordinates [boxes, 4]; networks may have more axes."""
        boxes = np.asarray(inputs[self.names.boxes], np.float64)
        confidence = np.asarray(inputs[self.names.confidence], np.float64)
        count, rest = divmod(boxes.size, SIDES)
        if rest or (count and confidence.size % count) or (not count and confidence.size):
            raise InputError(
                f"coordinates of shape {boxes.shape} and confidences of shape {confidence.shape} "
                "are not of as many boxes",
                hint="give coordinates [boxes, 4] and confidences [boxes, classes]",
            )
        classes = confidence.size // count if count else confidence.shape[-1]
        return confidence.reshape(count, classes), boxes.reshape(count, SIDES)

    def _threshold(self, inputs: Mapping[str, Any], name: str, usual: float) -> float:
        given = inputs.get(name) if name else None
        value = usual if given is None else float(np.asarray(given).reshape(()))
        if not value >= 0:
            raise InputError(f"{name} is {value}, which is below 0", hint="give 0 to 1")
        return value

    def _bounds(self) -> tuple[int, int]:
        """The least and the largest number of rows; 0 where there is no largest."""
        low, high = 0, 0
        for name in (self.names.confidence_out, self.names.boxes_out):
            shape = self.interface.outputs[name].shape if name else ()
            if not shape:
                continue
            first = shape[0]
            ends = (first.low, first.high) if isinstance(first, Dim) else (first, first)
            low = max(low, ends[0])
            high = min(high, ends[1]) if high and ends[1] else high or ends[1]
        return low, high

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        return 0


def picked(
    confidence: Array, boxes: Array, *, overlap: float, least: float, per_class: bool
) -> Array:
    """The rows that are kept, the most confident first; of equal ones the earlier.

    Args:
        confidence: [boxes, classes].
        boxes: [boxes, 4]: x and y of the centre, width, height.
        overlap: boxes that share more of their union with a better one are left out.
        least: boxes of less confidence are left out.
        per_class: whether only boxes of one class are compared.
    """
    best = confidence.max(axis=1, initial=0)
    kinds = confidence.argmax(axis=1) if confidence.shape[1] else np.zeros(len(best), int)
    order = np.argsort(-best, kind="stable")
    left = order[best[order] >= least]
    kept = []
    while left.size:
        top, left = left[0], left[1:]
        kept.append(top)
        close = shared(boxes[top], boxes[left]) > overlap
        left = left[~(close & (kinds[left] == kinds[top]) if per_class else close)]
    return np.array(kept, np.int64)


def shared(box: Array, others: Array) -> Array:
    """Of the union of a box and each other one, the share that both cover."""
    low, high = others[:, :2] - others[:, 2:] / 2, others[:, :2] + others[:, 2:] / 2
    sides = np.minimum(high, box[:2] + box[2:] / 2) - np.maximum(low, box[:2] - box[2:] / 2)
    common = np.prod(np.clip(sides, 0, None), axis=1)
    union = np.prod(others[:, 2:], axis=1) + np.prod(box[2:]) - common
    return np.asarray(np.divide(common, union, out=np.zeros(len(others)), where=union > 0))
