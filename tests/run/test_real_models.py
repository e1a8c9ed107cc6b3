"""Real models from their packages: against their own ONNX form, and on sound we know."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreml_lab as cl

pytestmark = pytest.mark.models

RATE, HOP, SECONDS = 22050, 256, 0.48
MELODY = (60, 64, 67, 72)


@pytest.fixture(scope="module")
def basic_pitch() -> Any:
    return cl.load(cl.models.path("basic-pitch"))


@pytest.fixture(scope="module")
def crepe() -> Any:
    return cl.load(cl.models.path("crepe-tiny"))


def tone(midi: int) -> Any:
    """A decaying note with six partials."""
    t = np.arange(int(SECONDS * RATE)) / RATE
    pitch = 440 * 2 ** ((midi - 69) / 12)
    wave = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 7)) * np.exp(-3 * t)
    return 0.3 * wave * np.minimum(1, t / 0.01) * np.minimum(1, (SECONDS - t) / 0.02)


def melody() -> Any:
    audio = np.random.default_rng(0).normal(0, 1e-3, 43844)
    played = np.concatenate([tone(m) for m in MELODY])
    audio[: len(played)] += played
    return audio.astype(np.float32)[None, :, None]


@pytest.mark.parametrize("amplitude", [1.0, 0.1])
def test_basic_pitch_agrees_with_its_own_onnx_file_on_noise(
    basic_pitch: Any, amplitude: float
) -> None:
    """Graph optimisations off: with them the ONNX file differs from itself by up to 1e-4."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(cl.models.path("basic-pitch-onnx")), options)
    name = session.get_inputs()[0].name
    for seed in range(2):
        noise = np.random.default_rng(seed).standard_normal((1, 43844, 1), np.float32) * amplitude
        wanted = session.run(None, {name: noise.astype(np.float32)})
        for array in basic_pitch.predict({"input_2": noise.astype(np.float32)}).values():
            differences = [np.abs(array - w).max() for w in wanted if w.shape == array.shape]
            assert min(differences) <= 1e-5


def test_basic_pitch_writes_down_a_melody(basic_pitch: Any) -> None:
    notes = basic_pitch.predict({"input_2": melody()})["Identity_1"][0]
    frames = RATE / HOP
    heard = []
    for i in range(len(MELODY)):
        part = notes[int(i * SECONDS * frames) + 5 : int((i + 1) * SECONDS * frames) - 5].mean(0)
        heard.append(21 + int(part.argmax()))
    assert tuple(heard) == MELODY


def test_the_reference_engine_agrees_on_a_real_network(basic_pitch: Any) -> None:
    ours = basic_pitch.predict({"input_2": melody()})
    numpy = basic_pitch.to("cpu").predict({"input_2": melody()})
    for name, array in ours.items():
        np.testing.assert_allclose(array, numpy[name], atol=2e-3)


def test_silence_is_nan_in_this_network_and_is_not_hidden(basic_pitch: Any) -> None:
    """Its normalisation divides 0 by 0 (facts of the model, not of the engine)."""
    silent = basic_pitch.predict({"input_2": np.zeros((1, 43844, 1), np.float32)})
    assert np.isnan(silent["Identity"]).any()


def test_crepe_hears_400_pitches_within_50_cents(crepe: Any) -> None:
    rng = np.random.default_rng(0)
    pitches = 2 ** rng.uniform(np.log2(80), np.log2(800), 400)
    t = np.arange(1024) / 16000
    frames = sum(np.sin(2 * np.pi * pitches[:, None] * k * t) / k for k in range(1, 6))
    frames = (frames - frames.mean(1, keepdims=True)) / frames.std(1, keepdims=True)
    found = crepe.predict({"frames": frames.astype(np.float32)})["probabilities"]
    bins = (found.argmax(1)[:, None] + np.arange(-4, 5)).clip(0, 359)
    weights = np.take_along_axis(found, bins, 1)
    cents = 1997.3794084376191 + 20 * (weights * bins).sum(1) / weights.sum(1)
    error = np.abs(cents - 1200 * np.log2(pitches / 10))
    assert (error < 50).all()
    assert np.median(error) < 10


def test_crepe_takes_any_batch_within_its_bounds(crepe: Any) -> None:
    for size in (1, 3, 64):
        frames = np.random.default_rng(size).standard_normal((size, 1024), np.float32)
        assert crepe.predict({"frames": frames})["probabilities"].shape == (size, 360)
    with pytest.raises(cl.errors.InputError, match="4096"):
        crepe.predict({"frames": np.zeros((4097, 1024), np.float32)})


def test_spans_cover_the_run_and_name_the_programs_ops(basic_pitch: Any) -> None:
    runs = basic_pitch.trace({"input_2": melody()}, runs=3)
    names = {op.name for op in basic_pitch.info.ops}
    for run in runs:
        total = sum(span.duration_ns for span in run.spans)
        assert 0.5 * run.duration_ns < total <= run.duration_ns
        assert all(s.node in names or s.op.startswith("[") for s in run.spans)
    assert {s.op for s in runs[0].spans} > {"conv"}
    told = {n for s in runs[0].spans for n in (s.node, *s.fused)} & names
    assert len(told) > 0.9 * len(names)


def test_weights_that_ops_share_are_counted_once(basic_pitch: Any) -> None:
    held = sum(op.weight_bytes for op in basic_pitch.info.ops)
    assert 0.5 * basic_pitch.info.size_bytes < held < basic_pitch.info.size_bytes
