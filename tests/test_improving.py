"""The commands that better a model, and how actions and spaces are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import cli, improving
from coreml_lab.errors import LabError, UnknownParameter
from coreml_lab.records import Action
from coreml_lab.run.executor import Interrupted
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
    for empty in ("threads=1, 2,", "threads=", "actions=,float16"):
        with pytest.raises(UnknownParameter, match="has an empty choice"):
            improving.over(empty)
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "{}/there.mlpackage"], "exists already"),
        (["--output", "{}/small"], "no such format"),
        (["--output", "{}/file/small.mlpackage"], "no folder"),
        (["--save", "{}/x.docx"], "no such format"),
        (["--save", "{}/file/x.md"], "no folder"),
        (["--html", "{}/there.mlpackage"], "exists already"),
        (["--html", "{}/folder"], "is a folder"),
    ],
)
@pytest.mark.parametrize("command", ["optimize", "tune", "edit"])
def test_what_cannot_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: Output, command: str, words: list[str], said: str
) -> None:
    (tmp_path / "there.mlpackage").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("a file")
    given = [word.format(tmp_path) for word in words]
    assert cli.main([command, "no model is opened.mlpackage", *given]) == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert "try: " in shown


class Found:
    """A result that cannot be written, of a search that may have been interrupted."""

    def __init__(self, *notes: str, failure: Exception | None = None) -> None:
        self.notes, self._failure = notes, failure

    def __str__(self) -> str:
        return "the whole ledger"

    def apply(self) -> Found:
        return self

    def save(self, path: Path) -> Path:
        if self._failure is not None:
            raise self._failure
        return path


@pytest.mark.parametrize("command", ["optimize", "tune"])
@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device", "small"), LabError("it is full", hint="rm")]
)
def test_what_was_found_is_printed_also_where_it_cannot_be_written(  # noqa: PLR0917 - fixtures
    package: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    failure: Exception,
) -> None:
    monkeypatch.setattr(improving, "fed", lambda _: (None, ()))
    monkeypatch.setattr(improving.Measuring, "_derived", lambda _: {command: {}})
    monkeypatch.setattr(cl, command, lambda *_, **__: Found(failure=failure))
    words = [command, str(package), "--output", str(tmp_path / "small.mlpackage")]
    assert cli.main(words) == 1
    shown = capsys.readouterr()
    assert "the whole ledger" in shown.out
    assert "full" in shown.err or "No space left" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("command", ["optimize", "tune"])
def test_what_was_interrupted_is_printed_and_ends_with_130(
    package: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(improving, "fed", lambda _: (None, ()))
    monkeypatch.setattr(improving.Measuring, "_derived", lambda _: {command: {}})
    note = "It was interrupted: candidates that were not tried are not here."
    monkeypatch.setattr(cl, command, lambda *_, **__: Found("a note", note))
    assert cli.main([command, str(package)]) == 130
    assert "the whole ledger" in capsys.readouterr().out

    def stopped(*_: Any, **__: Any) -> Any:
        raise Interrupted("net: interrupted after 1 s", hint="")

    monkeypatch.setattr(cl, command, stopped)
    assert cli.main([command, str(package)]) == 130
    assert "interrupted after" in capsys.readouterr().err


def test_edit_loads_the_function_that_is_asked_for(
    package: Path, tmp_path: Path, capsys: Output
) -> None:
    assert cli.main(["edit", str(package), "--apply", "float16", "--function", "none"]) == 1
    assert "'none'" in capsys.readouterr().err


def test_suggest_refuses_inputs_for_a_recording(tmp_path: Path, capsys: Output) -> None:
    assert cli.main(["suggest", str(tmp_path / "net.json"), "--inputs", "x.npz"]) == 1
    assert "which is a recording" in capsys.readouterr().err
