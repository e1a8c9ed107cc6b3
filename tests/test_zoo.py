"""The zoo: whole networks against the same networks in PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab.errors import UnknownParameter

# Half a gigabyte of weights: compiled in the full sweep only.
LARGE = {"vgg16"}
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow, pytest.mark.sweep] if name in LARGE else [])
    for name in cl.zoo.NETWORKS
]


def made(name: str, **options: Any) -> Any:
    return getattr(cl.zoo, name)(**options)


def snr(wanted: Any, got: Any) -> float:
    """Signal to noise in decibels."""
    wanted, got = np.asarray(wanted, np.float64), np.asarray(got, np.float64)
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


@pytest.mark.torch
@pytest.mark.xdist_group("zoo")
@pytest.mark.parametrize("name", NAMES)
def test_a_network_agrees_with_pytorchs_to_90_db(name: str) -> None:
    import torch

    from tests.support.torch_zoo import Twin

    inputs = cl.zoo.inputs(name)
    got = made(name).predict(inputs)["output"]
    with torch.inference_mode():
        wanted = Twin(name).eval()(torch.from_numpy(inputs["x"])).numpy()
    assert got.shape == wanted.shape
    assert snr(wanted, got) >= 90
    # Of the largest: VGG-16's is 6.1, and PyTorch itself is 9.5e-5 from float64 (ours 3.3e-5).
    assert np.abs(wanted - got).max() <= 1e-4 * max(1.0, np.abs(wanted).max())


@pytest.mark.xdist_group("zoo")
def test_resnet50_gives_a_thousand_scores_of_moderate_size() -> None:
    scores = made("resnet50").predict(cl.zoo.inputs("resnet50"))["output"]
    assert scores.shape == (1, 1000)
    assert np.isfinite(scores).all()
    assert 0.1 < scores.std() < 10


def test_two_images_give_different_scores() -> None:
    model = made("mobilenet_v2")
    first, second = (model.predict(cl.zoo.inputs("mobilenet_v2", seed=s))["output"] for s in (0, 1))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.99


def test_weights_come_from_the_seed_alone() -> None:
    first, again, other = (cl.zoo.weights("digits", seed=s) for s in (0, 0, 1))
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["fc.weight"], other["fc.weight"])


def test_fp16_stays_close_to_fp32() -> None:
    inputs = cl.zoo.inputs("digits")
    full, half = (made("digits", precision=p) for p in ("fp32", "fp16"))
    assert half.info.precision == "fp16"
    assert snr(full.predict(inputs)["output"], half.predict(inputs)["output"]) > 50


def test_the_reference_engine_agrees_on_a_small_network() -> None:
    inputs, model = cl.zoo.inputs("digits"), made("digits")
    wanted = model.to("cpu").predict(inputs)["output"]
    np.testing.assert_allclose(model.predict(inputs)["output"], wanted, atol=1e-5)


def test_an_unknown_network_names_those_there_are() -> None:
    for ask in (cl.zoo.weights, cl.zoo.inputs):
        with pytest.raises(UnknownParameter, match="alexnet") as caught:
            ask("alexnet")
        assert "resnet50" in caught.value.hint


def test_a_network_that_was_compiled_before_is_not_traced_again(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, first = cl.zoo.inputs("digits"), made("digits")
    expected = first.predict(inputs)["output"]
    monkeypatch.setattr(cl, "compile", lambda *_, **__: pytest.fail("traced again"))
    again = made("digits")
    np.testing.assert_array_equal(again.predict(inputs)["output"], expected)
    assert again.info == first.info
    with pytest.raises(BaseException, match="traced again"):
        made("digits", seed=1)
    with pytest.raises(BaseException, match="traced again"):
        made("digits", precision="fp16")


def test_a_network_whose_package_is_gone_is_compiled_again(cache_dir: Path) -> None:
    first = made("digits")
    shutil.rmtree(cache_dir / first.info.key)
    assert made("digits").info == first.info
    assert (cache_dir / first.info.key).is_dir()


def test_a_warm_cache_makes_a_network_without_coremltools(cache_dir: Path) -> None:
    made("digits", engine="portable")
    code = (
        "import sys, coreml_lab as cl; cl.zoo.digits(engine='portable');"
        "print({'coremltools', 'onnx', 'torch'} & set(sys.modules))"
    )
    environment = {**os.environ, "COREML_LAB_CACHE_DIR": str(cache_dir)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()"
