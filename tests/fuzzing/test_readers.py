"""Every reader of strangers' bytes: seeds are taken, finds of the fuzzers and fresh damage refused.

``python -m tests.fuzzing.run READER`` looks for more.
"""

from __future__ import annotations

import functools
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing.readers import HERE, READERS


@functools.cache
def seeds(name: str) -> list[bytes]:
    """The well-formed inputs of a reader."""
    return READERS[name].seeds()


FINDS = sorted((HERE / "corpus").glob("*/*"))


@pytest.mark.parametrize("find", FINDS, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_what_fuzzers_found_is_refused_as_it_should_be(find: Path) -> None:
    READERS[find.parent.name].refused(find.read_bytes())


@pytest.mark.parametrize("name", READERS)
def test_seeds_are_taken(name: str) -> None:
    for seed in seeds(name):
        assert READERS[name].refused(seed) == ""


@pytest.mark.parametrize("name", [name for name in READERS if not name.startswith("load")])
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.integers(0, 10**6))
def test_damage_is_an_error_of_the_reader_or_none(
    name: str, order: random.Random, place: int
) -> None:
    reader, good = READERS[name], seeds(name)
    reader.refused(reader.mutate(good[place % len(good)], order))


@pytest.mark.sweep
@pytest.mark.parametrize("name", READERS)
def test_much_damage_is_an_error_of_the_reader_or_none(name: str) -> None:
    reader, order = READERS[name], random.Random(7)
    for _ in range(1_000 if name.startswith("load") else 20_000):
        reader.refused(reader.mutate(order.choice(seeds(name)), order))
