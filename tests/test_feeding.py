"""Inputs from files: each kind fits its input, or is one error that says what would."""

from __future__ import annotations

import pickle
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_lab.errors import InputError
from coreml_lab.feeding import feed
from coreml_lab.program.classical.features import FeatureType
from coreml_lab.program.graph import Dim, TensorType
from coreml_lab.records import PortInfo, ProgramInfo

FLOAT = np.dtype("float32")


@dataclass
class Fake:
    """What is fed: inputs by name, and what their description says."""

    inputs: dict[str, TensorType]
    ports: tuple[PortInfo, ...] = ()
    info: ProgramInfo = field(init=False)

    def __post_init__(self) -> None:
        known = self.ports or tuple(PortInfo(n, (1,), "fp32") for n in self.inputs)
        self.info = ProgramInfo("net", "k", "", "fp32", known, (), (), 0)


def model(*shape: Any) -> Fake:
    return Fake({"x": TensorType(shape, FLOAT)})


def sound(path: Path, values: Any, *, width: int = 2, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(np.asarray(values).tobytes())
    return path


def picture(path: Path, size: tuple[int, int]) -> Path:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", size, (255, 0, 0)).save(path)
    return path


def test_without_a_file_there_is_seeded_noise() -> None:
    made, told = feed(model(2, 3), None, seed=1)
    assert made["x"].shape == (2, 3)
    assert "seed 1" in told
    np.testing.assert_array_equal(made["x"], feed(model(2, 3), None, seed=1)[0]["x"])
    assert (made["x"] != feed(model(2, 3), None, seed=2)[0]["x"]).any()


def test_arrays_come_by_name_or_alone(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "all.npz", x=array)
    np.save(tmp_path / "x.npy", array)
    for given in ("all.npz", "x.npy"):
        np.testing.assert_array_equal(feed(model(2, 3), str(tmp_path / given))[0]["x"], array)


def test_inputs_that_no_file_is_given_for_are_noise(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(2, np.float32))
    two = Fake({"a": TensorType((2,), FLOAT), "b": TensorType((3,), FLOAT)})
    made, told = feed(two, f"a={tmp_path / 'a.npy'}")
    assert list(made["a"]) == [1, 1]
    assert made["b"].shape == (3,)
    assert told.endswith("seeded noise for b")


def test_a_sound_is_cut_or_followed_by_silence(tmp_path: Path) -> None:
    path = sound(tmp_path / "s.wav", np.array([0, 16384, -32768], "<i2"))
    assert feed(model(1, 2), str(path))[0]["x"].tolist() == [[0, 0.5]]
    assert feed(model(5), str(path))[0]["x"].tolist() == [0, 0.5, -1, 0, 0]


def test_a_flexible_input_takes_the_whole_sound(tmp_path: Path) -> None:
    path = sound(tmp_path / "s.wav", np.zeros(7, "<i2"))
    assert feed(model(1, Dim("n", 1, 100)), str(path))[0]["x"].shape == (1, 7)


@pytest.mark.parametrize(
    ("values", "width", "wanted"),
    [(np.array([128, 255, 0], "u1"), 1, [0, 127 / 128, -1]), (np.array([2**30], "<i4"), 4, [0.5])],
)
def test_sounds_of_several_widths_are_minus_one_to_one(
    tmp_path: Path, values: Any, width: int, wanted: list[float]
) -> None:
    path = sound(tmp_path / "s.wav", values, width=width)
    assert feed(model(len(wanted)), str(path))[0]["x"].tolist() == pytest.approx(wanted)


def test_channels_of_a_sound_are_averaged(tmp_path: Path) -> None:
    path = sound(tmp_path / "s.wav", np.array([16384, 0, 8192, 8192], "<i2"), channels=2)
    assert feed(model(2), str(path))[0]["x"].tolist() == [0.25, 0.25]


def test_a_picture_becomes_planes_or_stays_one(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "p.png", (8, 4)))
    planes = feed(model(1, 3, 2, 4), path)[0]["x"]
    assert planes.shape == (1, 3, 2, 4)
    assert planes[0, 0].min() == 1.0
    assert planes[0, 1:].max() == 0.0
    port = PortInfo("x", (1, 3, 2, 4), "fp32", kind="image", colour="RGB")
    image = Fake({"x": TensorType((1, 3, 2, 4), FLOAT)}, (port,))
    assert feed(image, path)[0]["x"].size == (4, 2)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.npy", "cannot be read"),
        ("missing.npz", "cannot be read"),
        ("missing.wav", "cannot be read"),
        ("missing.png", "cannot be read"),
        ("x.txt", "not read from such files"),
        ("y=x.npy", "no input 'y'"),
    ],
)
def test_what_cannot_be_fed_is_one_error(tmp_path: Path, name: str, said: str) -> None:
    name, equals, file = name.rpartition("=")
    with pytest.raises(InputError, match=said) as caught:
        feed(model(1, 3, 2, 2), f"{name}{equals}{tmp_path / file}")
    assert caught.value.hint


def test_a_file_for_one_of_several_inputs_must_say_which(tmp_path: Path) -> None:
    two = Fake({"a": TensorType((2,), FLOAT), "b": TensorType((3,), FLOAT)})
    with pytest.raises(InputError, match=r"which input is x\.npy"):
        feed(two, "x.npy")


def test_a_picture_for_what_is_no_picture_is_one_error(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "p.png", (4, 4)))
    with pytest.raises(InputError, match="is no picture"):
        feed(model(8), path)
    with pytest.raises(InputError, match="5 channels"):
        feed(model(5, 4, 4), path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "y.npy").write_bytes(pickle.dumps({"x": 1}))
    for name in ("x.npy", "y.npy"):
        with pytest.raises(InputError, match="cannot be read"):
            feed(model(1), str(tmp_path / name))


def test_texts_and_dictionaries_come_from_json_and_are_never_made_up(tmp_path: Path) -> None:
    objects = np.dtype(object)
    inputs: dict[str, TensorType] = {
        "word": FeatureType((), objects, "string"),
        "rated": FeatureType((), objects, "dictionary", "int64"),
        "x": FeatureType((), np.dtype("float64"), "number"),
    }
    classical = Fake(inputs)
    with pytest.raises(InputError, match=r"made up for word \(string\), rated \(dictionary"):
        feed(classical, None)
    file = tmp_path / "inputs.json"
    file.write_text('{"word": "tea", "rated": {"3": 1.5}}', encoding="utf-8")
    made, told = feed(classical, str(file))
    assert made["word"] == "tea"
    assert made["rated"] == {3: 1.5}
    assert "seeded noise for x" in told
    for text in ("[1]", "{", '{"rated": {"tea": 1}}'):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError):
            feed(classical, str(file))
