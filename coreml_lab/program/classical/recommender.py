"""Recommenders: the items most similar to those that somebody had."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from coreml_lab.program.classical.classes import Label
from coreml_lab.program.classical.registry import Interface, ModelTypeError, model_type
from coreml_lab.program.graph import Array

# Items without names are counted from 0, and a number above this is no count of anything.
MOST = 10_000_000


@dataclass(frozen=True)
class Names:
    """The names of a recommender's inputs and outputs; empty where it has no such."""

    items: str
    count: str
    only: str
    without: str
    found: str
    scores: str

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """The names of a message.

        Raises:
            ModelTypeError: for a name that is not described, or outputs that are not named.
        """
        names = cls(
            part.itemInputFeatureName,
            part.numRecommendationsInputFeatureName,
            part.itemRestrictionInputFeatureName,
            part.itemExclusionInputFeatureName,
            part.recommendedItemListOutputFeatureName,
            part.recommendedItemScoreOutputFeatureName,
        )
        taken = {names.items, names.count, names.only, names.without} - {""}
        given = {names.found, names.scores} - {""}
        if not names.items or not taken <= set(interface.inputs):
            raise ModelTypeError("an input that it names is not described")
        if not given or not given <= set(interface.outputs):
            raise ModelTypeError("an output that it names is not described")
        return names


@model_type("itemSimilarityRecommender")
@dataclass(frozen=True)
class Recommender:
    """Items by their score: the sum, over items had, of similarity times (rating - adjustment).

    A list of items is one of ratings of 1; items that the model does not know are passed over.
    Items had are left out unless a list of exclusions is given; of equal scores the earlier item
    is first.

    Attributes:
        known: the items, by their place.
        similar: per item had, the places of similar ones and how similar they are.
        adjustment: per item, what is taken from ratings.
    """

    names: Names
    known: tuple[Label, ...]
    similar: Mapping[int, tuple[Array, Array]]
    adjustment: Array

    @classmethod
    def read(cls, part: Any, interface: Interface) -> Self:
        """See ``Evaluated.read``."""
        rows = part.itemItemSimilarities
        known: tuple[Label, ...] = (*part.itemStringIds.vector, *part.itemInt64Ids.vector)
        if part.itemStringIds.vector and part.itemInt64Ids.vector:
            raise ModelTypeError("its items have two kinds of names")
        last = max(
            (max([r.itemId, *(c.itemId for c in r.similarItemList)]) for r in rows), default=0
        )
        if last >= (len(known) or MOST):
            raise ModelTypeError(f"there is no item {last}")
        known = known or tuple(range(last + 1))
        adjustment = np.zeros(len(known))
        similar = {}
        for row in rows:
            adjustment[row.itemId] = row.itemScoreAdjustment
            places = np.array([c.itemId for c in row.similarItemList], np.int64)
            near = np.array([c.similarityScore for c in row.similarItemList], np.float64)
            similar[int(row.itemId)] = places, near
        return cls(Names.read(part, interface), known, similar, adjustment)

    def evaluate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Evaluated.evaluate``."""
        place = self._place
        had = inputs.get(self.names.items) or {}
        ratings = had if isinstance(had, Mapping) else dict.fromkeys(had, 1.0)
        scores = np.zeros(len(self.known))
        for item, rating in ratings.items():
            places, near = self.similar.get(place.get(item, -1), (None, None))
            if places is not None and near is not None:
                np.add.at(scores, places, near * (rating - self.adjustment[places]))
        allowed = self._allowed(inputs, place, list(ratings))
        order = allowed[np.argsort(-scores[allowed], kind="stable")]
        count = inputs.get(self.names.count)
        best = [int(i) for i in order[: len(order) if count is None else max(int(count), 0)]]
        return {
            self.names.found: [self.known[i] for i in best],
            self.names.scores: {self.known[i]: float(scores[i]) for i in best},
        }

    @functools.cached_property
    def _place(self) -> Mapping[Label, int]:
        return {name: i for i, name in enumerate(self.known)}

    def _allowed(
        self, inputs: Mapping[str, Any], place: Mapping[Label, int], had: list[Label]
    ) -> Array:
        """The places of items that may be recommended."""
        only, without = inputs.get(self.names.only), inputs.get(self.names.without)
        mask = np.full(len(self.known), only is None)
        mask[[place[item] for item in only or () if item in place]] = True
        mask[[place[item] for item in (had if without is None else without) if item in place]] = (
            False
        )
        return np.flatnonzero(mask)

    @property
    def weight_bytes(self) -> int:
        """See ``Evaluated.weight_bytes``."""
        held = [a.nbytes for pair in self.similar.values() for a in pair]
        return sum(held) + self.adjustment.nbytes
