"""The commands that better a model, and how actions and spaces are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import cli, improving
from coreml_lab.errors import UnknownParameter
from coreml_lab.records import Action
from tests.improve.nets import mixed

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cl.edit(mixed()).save(tmp_path_factory.mktemp("models") / "net.mlpackage")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    for i in range(2):
        x = np.random.default_rng(i).random((1, 4, 8, 8)).astype(np.float32)
        np.savez(folder / f"{i}.npz", x=x)
    return folder


def test_actions_are_written_as_calls_and_sums() -> None:
    assert improving.chain("") == improving.chain("None") == ()
    told = improving.chain("float16 + palettize_weights(nbits=4, skip=['a', 'b'])")
    named = Action("palettize_weights", {"nbits": 4, "skip": ["a", "b"]})
    assert told == (Action("float16"), named)


@pytest.mark.parametrize(
    "text", ["float16 -", "a * b", "a(1)", "a(**b)", "a(x=open('f'))", "a.b()", "1", "a(b)(c=1)"]
)
def test_what_is_no_action_is_refused_and_never_run(text: str) -> None:
    with pytest.raises(UnknownParameter, match="no list of actions"):
        improving.chain(text)


def test_a_space_is_written_as_choices_of_dimensions() -> None:
    text = "actions=none, float16 + w8a8(skip=['a', 'b']); threads=1,2 ;engine=None,portable"
    assert improving.over(text) == {
        "actions": [(), (Action("float16"), Action("w8a8", {"skip": ["a", "b"]}))],
        "threads": [1, 2],
        "engine": [None, "portable"],
    }
    with pytest.raises(UnknownParameter, match="'threads' has no choices"):
        improving.over("threads")
    assert list(improving.over(improving.OVER)) == ["actions", "threads"]


def test_a_space_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "space.txt"
    file.write_text("# what to try\nactions = none, float16  # two\n\nthreads = 1, 2\n")
    found = improving.over(improving.written(str(file)))
    assert found == {"actions": [(), (Action("float16"),)], "threads": [1, 2]}
    assert improving.written("threads=1") == "threads=1"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UnknownParameter, match="is no text"):
        improving.written(str(file))


def test_edit_writes_a_new_package_and_prints_its_steps(
    package: Path, samples: Path, tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "small.mlpackage"
    words = ["edit", str(package), "--apply", "float16 + int8_weights(weight_threshold=64)"]
    assert cli.main([*words, "--samples", str(samples), "--output", str(out)]) == 0
    shown = capsys.readouterr()
    assert "2 changes" in shown.out
    assert shown.err.splitlines()[-1] == f"written: {out}"
    assert cl.load(out).info.precision == "fp16"
    assert cli.main([*words, "--output", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_edit_without_actions_names_those_there_are(package: Path, capsys: Output) -> None:
    assert cli.main(["edit", str(package)]) == 1
    assert "palettize_weights" in capsys.readouterr().err


def test_optimize_prints_its_ledger_and_writes_what_it_found(
    package: Path, samples: Path, tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "small.mlpackage"
    quick = ["--pairs", "3", "--seconds", "0.5", "--weight-threshold", "500", "--tolerance", "0.05"]
    words = ["optimize", str(package), "--goal", "size", "--samples", str(samples), "--json"]
    assert cli.main([*words, *quick, "--output", str(out)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["headline"]
    assert "int8 weights: " in shown.err
    assert out.exists()


def test_suggest_takes_a_model(package: Path, capsys: Output) -> None:
    assert cli.main(["suggest", str(package), "--no-measure", "--goal", "size"]) == 0
    assert capsys.readouterr().out


def test_a_folder_without_samples_is_one_clear_error(
    package: Path, tmp_path: Path, capsys: Output
) -> None:
    assert cli.main(["optimize", str(package), "--samples", str(tmp_path)]) == 1
    assert "holds no .npz files" in capsys.readouterr().err


def test_tune_hands_over_what_was_written(
    package: Path, samples: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    asked: dict[str, Any] = {}

    def tuned(model: Any, data: Any, choices: Any, **options: Any) -> Any:
        asked.update(options, samples=len(data), choices=choices)
        return cl.edit(model)

    monkeypatch.setattr(cl, "tune", tuned)
    monkeypatch.setattr(improving.Measuring, "_derived", lambda _: {"load": {}, "tune": {}})
    words = ["tune", str(package), "--samples", str(samples), "--over", "threads=1,2"]
    assert cli.main(words) == 0
    assert asked["samples"] == 2
    assert asked["choices"] == {"threads": [1, 2]}
