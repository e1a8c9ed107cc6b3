"""What is not as one would wish: layers of one value, channels that do not divide, full disks."""

from __future__ import annotations

import errno
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import CacheError, InputError
from coreml_lab.improve.optimizing import bench, search
from coreml_lab.improve.reference import arrays
from coreml_lab.measure.paired import Ratio
from coreml_lab.program.cache import Cache
from tests.improve.nets import mixed, weights

X = {"x": np.random.default_rng(0).random((1, 12)).astype(np.float32)}
QUICK: dict[str, Any] = {"pairs": 3, "seconds": 0.2, "engines": (), "weight_threshold": 16}
TABLES = {"nbits": 4, "mode": "uniform", "weight_threshold": 16}
GROUPS = {**TABLES, "granularity": "per_grouped_channel", "enable_per_channel_scale": True}
# What can be done to a layer of one value, or with rows of zeros, without loss.
HARMLESS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("int8_weights", {"weight_threshold": 16}),
    ("palettize_weights", TABLES),
    ("palettize_weights", {**GROUPS, "group_size": 5}),
    ("prune_weights", {"target_sparsity": 0.5, "weight_threshold": 16}),
    ("w8a8", {"weight_threshold": 16}),
)


def layer(weight: Any) -> Any:
    return cl.compile(
        lambda x: cl.ops.linear(x, weight=weight), name="layer", x=cl.spec(1, 12), precision="fp32"
    )


def output(model: Any, inputs: Any = X) -> Any:
    (made,) = model.predict(inputs).values()
    return made


@pytest.fixture(autouse=True)
def equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """All take the same time and memory: no verdict here depends on them."""
    monkeypatch.setattr(bench, "ratio", lambda pairs: Ratio(1.0, 0.99, 1.01, len(pairs.arm)))
    monkeypatch.setattr(bench, "footprint", lambda *_, **__: (1_000_000,) * 3)


@pytest.fixture(scope="module")
def constant() -> Any:
    return layer(np.full((10, 12), 0.25, np.float32))


def test_layers_of_one_value_lose_nothing_and_warn_of_nothing(constant: Any) -> None:
    rows = np.zeros((10, 12), np.float32)
    rows[0] = np.linspace(0.1, 1, 12)
    for model, most in ((constant, 0.01), (layer(rows), 0.05)):
        for action, arguments in HARMLESS[: 3 if model is constant else None]:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                made = cl.edit(model).apply(action, data=X, **arguments).model
            lost = np.linalg.norm(output(made) - output(model)) / np.linalg.norm(output(model))
            assert lost < (0.6 if action == "prune_weights" else most), action


def test_equal_weights_are_not_dropped_all_where_half_was_asked_for(constant: Any) -> None:
    edit = cl.edit(constant).apply("prune_weights", target_sparsity=0.5, weight_threshold=16)
    assert np.array_equal(output(edit.model), output(constant))
    assert "too many are equal" in str(edit)


def test_channels_that_do_not_divide_into_groups_stay_as_they_are() -> None:
    model = layer(weights(10, 12))
    edit = cl.edit(model).apply("palettize_weights", **GROUPS)
    assert np.array_equal(output(edit.model), output(model))
    assert "10 channels do not divide into groups of" in str(edit)


def test_what_is_compressed_already_is_not_compressed_again() -> None:
    model = layer(weights(10, 12))
    small = cl.edit(model).apply("int8_weights", weight_threshold=16)
    want = output(small.model)
    for action, arguments in (HARMLESS[0], HARMLESS[1], HARMLESS[3]):
        assert np.array_equal(output(small.copy().apply(action, **arguments).model), want)
    result = cl.optimize(small.model, X, goal="size", tolerance=0.5, **QUICK)
    assert [entry.title for entry in result] == ["Core ML's passes again"]


def test_a_model_without_weights_is_given_back() -> None:
    model = cl.compile(cl.ops.relu, x=cl.spec(1, 12), name="bare")
    result = cl.optimize(model, X, goal="size+memory", **QUICK)
    assert {entry.title for entry in result} == {"Core ML's passes again"}
    assert np.array_equal(output(result.model), output(model))
    edit = cl.edit(model)
    for action, arguments in HARMLESS:
        edit.apply(action, data=X, **arguments)
    assert np.array_equal(output(edit.model), output(model))


def test_a_tolerance_that_cannot_be_met_gives_the_original_and_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = search.candidates
    lossy = {"int8 weights", "4-bit tables"}
    few = lambda *a, **k: [c for c in every(*a, **k) if c.title in lossy]  # noqa: E731
    monkeypatch.setattr(search, "candidates", few)
    monkeypatch.setattr(search.mixed, "measured", lambda *_: {})
    monkeypatch.setattr(search.mixed, "candidate", lambda *_: None)
    model = layer(weights(10, 12))
    result = cl.optimize(model, X, goal="size", tolerance=1e-9, **QUICK)
    assert not result.configuration.actions
    assert result.after.size == result.before.size
    assert np.array_equal(output(result.model), output(model))
    assert "Nearest to the tolerance came int8 weights" in str(result)


def test_data_that_do_not_fit_are_one_error_before_any_trial() -> None:
    wrong = {"x": np.zeros((3, 3), np.float32)}
    with ThreadPoolExecutor(1) as pool, pytest.raises(InputError):
        cl.tune(mixed(), [wrong], {"actions": [None]}, executor=pool)


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_neither_the_search_nor_what_was_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search, "write_atomically", full)
    model = cl.compile(cl.ops.relu, x=cl.spec(1, 12), name="bare")
    result = cl.optimize(model, X, goal="size", folder=tmp_path, **QUICK)
    assert len(result.ledger) == 1
    assert "The ledger on disk is not complete: [Errno 28] No space left" in str(result)


def test_a_cache_on_a_full_disk_says_how_to_make_room(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="No space left") as caught:
        Cache(tmp_path).put("k", full)
    assert "cache clear" in caught.value.hint
    assert not list(tmp_path.iterdir())


def header(text: str) -> bytes:
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


BROKEN = {
    "sizes": "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
    "brackets": "{'descr': '<f4', 'fortran_order': False, 'shape': (((((((((((,), }",
    "words": "{'descr': '<f4', 'fortran_order': False, 'shape': no words, }",
}


@pytest.mark.parametrize("kind", [*BROKEN, "deflate"])
def test_a_broken_file_of_arrays_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.npz"
    if kind == "deflate":
        np.savez_compressed(file, x=np.random.default_rng(0).random((1, 64)))
        data = bytearray(file.read_bytes())
        data[60:75] = b"\xff" * 15
        file.write_bytes(data)
    else:
        with zipfile.ZipFile(file, "w") as made:
            made.writestr("x.npy", header(BROKEN[kind]))
    with pytest.raises(InputError, match=r"x\.npz cannot be read") as caught:
        arrays(file)
    assert "np.savez" in caught.value.hint
