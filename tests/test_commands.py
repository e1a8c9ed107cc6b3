"""The commands that measure: options from signatures, results in every format, quiet in pipes."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreml_lab as cl
from coreml_lab import cli, commands, improving
from coreml_lab.options import sentences
from coreml_lab.records import Recording
from tests.support.fakes import recording
from tests.test_legible import EVIL, evil

Output = pytest.CaptureFixture[str]
EVERY = (*commands.MEASURING, *improving.IMPROVING)
QUICK = ["--runs", "5", "--warmup", "1"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in a file, as a person would have it."""
    weight = np.ones((8, 4), np.float32)
    model = cl.compile(lambda x: {"y": cl.ops.relu(cl.ops.matmul(x, weight))}, x=cl.spec(1, 8))
    path = tmp_path_factory.mktemp("models") / "net.mlpackage"
    shutil.copytree(model.info.package, path)
    return path


@pytest.mark.parametrize("command", EVERY, ids=lambda c: c.run.__name__)
def test_options_are_the_parameters_of_the_functions(command: commands.Measuring) -> None:
    found = {p.name: p for p in command.parameters()}
    assert len(found) == len(command.parameters())
    for function in command.functions:
        for name, parameter in inspect.signature(getattr(cl, function)).parameters.items():
            plain = isinstance(parameter.default, bool | int | float | str)
            if plain and name != "progress":
                option = found.get(f"{function}_{name}") or found[name]
                assert option.default == parameter.default


@pytest.mark.parametrize("command", EVERY, ids=lambda c: c.run.__name__)
def test_every_option_says_what_it_is_for(command: commands.Measuring, capsys: Output) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([command.run.__name__, "--help"])
    shown = capsys.readouterr().out
    for parameter in command.parameters():
        assert parameter.annotation.__metadata__[0], parameter.name
    assert "--html FILE" in shown
    assert f"coreml-lab {command.run.__name__}" in shown


def test_sentences_come_from_the_args_of_a_docstring() -> None:
    def function(a: int, b: int) -> None:
        """Do something.

        Args:
            a: the first, e.g. ``1``. More about it.
            b: the second, which takes
                two lines; and more.

        Raises:
            ValueError: never.
        """

    assert sentences(function) == {
        "a": "the first, e.g. 1",
        "b": "the second, which takes two lines",
    }


def test_profile_prints_a_report_and_keeps_the_recording(
    package: Path, tmp_path: Path, capsys: Output
) -> None:
    kept, page = tmp_path / "r.json", tmp_path / "r.html"
    arguments = [str(package), *QUICK, "--recording", str(kept), "--html", str(page)]
    assert cli.main(["profile", *arguments]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("net on Core ML program, portable engine (CPU): ")
    assert "inputs: seeded noise that fits the model (seed 0)" in shown.err
    assert f"written: {kept}" in shown.err
    found = Recording.load(kept)
    assert sum(not run.instrumented for run in found.runs) == 5
    assert found.environment["inputs"] == "seeded noise (seed 0)"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_json_and_markdown_are_all_that_is_printed(package: Path, capsys: Output) -> None:
    assert cli.main(["profile", str(package), *QUICK, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"]
    assert cli.main(["profile", str(package), *QUICK, "--markdown", "--no-spans"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("## net on")
    assert "Times per operation are unavailable" in shown


def test_placement_runs_nothing_and_takes_several_chips(package: Path, capsys: Output) -> None:
    assert cli.main(["placement", str(package), "--chip", "M1,M4", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "M1" in shown["headline"]
    assert "M4" in shown["headline"]
    assert cli.main(["placement", str(package), "--chip", "Z80"]) == 1
    assert "Z80" in capsys.readouterr().err


def test_compare_takes_devices_or_several_models(package: Path, capsys: Output) -> None:
    options = ["--pairs", "3", "--parts", "time,numbers"]
    assert cli.main(["compare", str(package), "--devices", "coreml,cpu", *options]) == 0
    assert "Core ML program, portable engine (CPU)" in capsys.readouterr().out
    assert cli.main(["compare", str(package), str(package), *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_energy_gets_its_options_and_shows_what_it_returns(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    seen: dict[str, Any] = {}

    def energy(model: Any, inputs: Any, *, seconds: float = 30.0, progress: Any = None) -> Any:
        seen.update(model=model, inputs=inputs, seconds=seconds)
        progress(0.5, "half \x1b[2J of it")
        return cl.report(recording())

    monkeypatch.setattr(cl, "energy", energy, raising=False)
    assert cli.main(["energy", str(package), "--seconds", "4"]) == 0
    assert seen["seconds"] == 4.0
    assert seen["inputs"]["x"].shape == (1, 8)
    assert capsys.readouterr().out.startswith("tiny on")


def test_report_tells_of_a_model_and_of_a_recording(
    package: Path, tmp_path: Path, capsys: Output
) -> None:
    assert cli.main(["report", str(package), *QUICK, "--chip", "M2"]) == 0
    shown = capsys.readouterr().out
    assert "Time per operation" in shown
    assert "net on M2, estimated" in shown
    assert "suggest" in shown
    path = recording().save(tmp_path / "r.json")
    trace = tmp_path / "r.trace.json"
    assert cli.main(["report", str(path), "--save", str(trace), "--top", "1"]) == 0
    assert "1 other" in capsys.readouterr().out
    assert json.loads(trace.read_text())["traceEvents"]


def test_diff_tells_what_changed(tmp_path: Path, capsys: Output) -> None:
    path = recording().save(tmp_path / "a.json")
    assert cli.main(["diff", str(path), str(path)]) == 0
    assert "after ÷ before" in capsys.readouterr().out
    assert cli.main(["diff", str(path)]) == 1
    assert "two recordings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["profile", "missing.mlpackage"], 1),
        (["report", "missing.json"], 1),
        (["profile"], 2),
        (["profile", "net.mlpackage", "--rnus", "5"], 2),
        (["profile", "net.mlpackage", "--runs", "many"], 2),
    ],
)
def test_what_goes_wrong_has_its_status(
    arguments: list[str], status: int, capsys: Output, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        got = cli.main(arguments)
    except SystemExit as error:
        got = int(str(error.code))
    assert got == status
    assert capsys.readouterr().err


@pytest.mark.parametrize("name", ["profile", "placement", "energy", "report", "diff"])
def test_more_models_than_a_command_takes_are_not_left_out_in_silence(
    name: str, capsys: Output
) -> None:
    assert cli.main([name, "a.json", "b.json", "c.json"]) == 1
    assert f"{name} takes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["profile", "compare", "placement", "energy", "report"])
def test_an_unknown_ending_is_told_before_anything_is_measured(name: str, capsys: Output) -> None:
    assert cli.main([name, "missing.mlpackage", "--save", "net.pdf"]) == 1
    told = capsys.readouterr().err
    assert "net.pdf: there is no such format" in told
    assert ".html, .md, .json, .txt" in told


def test_the_endings_that_commands_know_are_those_of_their_results() -> None:
    found = cl.report(recording())
    assert set(found._formats()) == set(commands.TIMELINE)
    assert set(commands.PAGE) == set(cl.diff_recordings(recording(), recording())._formats())


def test_wrong_options_show_the_usage_of_their_command(capsys: Output) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", "a.mlpackage", "--seconds", "5"])
    assert "--budget" in capsys.readouterr().err


def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path) -> None:
    path = recording().save(tmp_path / "r.json")
    command = [sys.executable, "-m", "coreml_lab.cli", "report", str(path), "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_an_interrupt_is_130(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def profile(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cl, "profile", profile, raising=False)
    assert cli.main(["profile", str(package)]) == 130


def test_errors_obey_no_escape_code(tmp_path: Path, capsys: Output) -> None:
    assert cli.main(["report", str(tmp_path / "a\x1b[2J\u202e.json")]) == 1
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert "\\x1b[2J\\u202e.json" in told


def test_a_recording_of_a_stranger_is_shown_and_not_obeyed(tmp_path: Path, capsys: Output) -> None:
    path = evil(EVIL["terminal"]).save(tmp_path / "r.json")
    assert cli.main(["report", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_in_a_pipe_there_is_no_bar_and_on_a_terminal_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    with commands.bar("energy") as told:
        told(0.5, "half")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with commands.bar("compare") as told:
        told("half\x1b[2J", 0.5)
        told("done", 1.0)
    shown = capsys.readouterr().err
    assert "compare: done" in shown
    assert "\x1b[2J" not in shown


def test_as_a_process_it_prints_json_and_nothing_else(package: Path) -> None:
    command = [sys.executable, "-m", "coreml_lab.cli", "profile", str(package), *QUICK, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout)["headline"].startswith("net on")
    assert not re.search(r"[█%]", done.stderr)
