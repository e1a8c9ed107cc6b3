"""The command line: options come from signatures, errors are one line and what to try."""

from __future__ import annotations

import inspect
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab import cli
from coreml_lab.errors import ModelError
from coreml_lab.program import frameworks
from coreml_lab.records import Device
from coreml_lab.run.devices import Devices

Output = pytest.CaptureFixture[str]


class Replaced(BaseException):
    """Stands for the process being replaced by JupyterLab."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been executed instead of this process."""
    calls: list[list[str]] = []

    def execv(path: str, arguments: list[str]) -> None:
        calls.append(arguments)
        raise Replaced

    monkeypatch.setattr(cli.os, "execv", execv)
    monkeypatch.setattr(cl.models, "missing", lambda: ())
    return calls


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation from a wheel, with its notebooks, used from an empty folder."""
    package = tmp_path / "site-packages" / "coreml_lab"
    (package / "notebooks" / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "notebooks" / cli.TOUR).write_text(json.dumps({"cells": []}))
    (package / "notebooks" / "data" / "melody.txt").write_text("c d e")
    monkeypatch.setattr(cl, "__file__", str(package / "__init__.py"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return package


def test_version_is_printed(capsys: Output) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"coreml-lab {cl.__version__}\n"


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(sys, "argv", ["coreml_lab", "--version"])
    monkeypatch.setattr(frameworks._Asked, "to_leave_out", False)  # put back afterwards
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("coreml_lab", run_name="__main__")
    assert cl.__version__ in capsys.readouterr().out


def test_help_lists_every_command_with_its_sentence(capsys: Output) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    for name, command in cli.COMMANDS.items():
        assert f"{name} {(command.__doc__ or '').partition(chr(10))[0]}" in words


@pytest.mark.parametrize("arguments", [["bake"], ["doctor", "--loud"], ["cache", "eat"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: coreml-lab" in capsys.readouterr().err


def test_the_options_of_models_are_the_parameters_of_fetch() -> None:
    def defaults(function: Callable[..., Any]) -> dict[str, Any]:
        return {n: p.default for n, p in inspect.signature(function).parameters.items()}

    assert defaults(cli.models) == defaults(cl.models.fetch)


def test_models_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    seen: dict[str, Any] = {}

    def fetch(**options: Any) -> dict[str, Path]:
        seen.update(options)
        return {"crepe-tiny": Path("there/tiny.mlpackage")}

    monkeypatch.setattr(cl.models, "fetch", fetch)
    assert cli.main(["models", "--dir", "there", "--no-progress"]) == 0
    assert seen == {"folder": Path("there"), "progress": False}
    assert "crepe-tiny        MIT         there/tiny.mlpackage" in capsys.readouterr().out


def test_an_error_is_its_message_and_what_to_try(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def fetch(**_: Any) -> dict[str, Path]:
        raise ModelError("no network", hint="look at the cable")

    monkeypatch.setattr(cl.models, "fetch", fetch)
    assert cli.main(["models"]) == 1
    assert capsys.readouterr().err == "coreml-lab: no network\ntry: look at the cable\n"


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(**_: Any) -> dict[str, Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cl.models, "fetch", fetch)
    assert cli.main(["models"]) == 130


def test_doctor_prints_what_the_api_returns(capsys: Output) -> None:
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == f"{cl.doctor()}\n"


def test_devices_gives_the_reason_for_each_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    found = Devices(
        (Device("cpu", "a processor", True), Device("metal:0", "Apple GPU", False, "not a Mac"))
    )
    monkeypatch.setattr(cl, "devices", lambda: found, raising=False)
    assert cli.main(["devices"]) == 0
    _, first, second, why = capsys.readouterr().out.splitlines()
    assert first.startswith("cpu      a processor")
    assert second.startswith("metal:0  Apple GPU")
    assert why == "metal:0 cannot be used: not a Mac"


def test_cache_lists_and_clears(cache_dir: Path, capsys: Output) -> None:
    def fill(folder: Path) -> None:
        (folder / "program").write_bytes(b"x" * 3_000_000)

    cl.cache().put("abc", fill, title="net")
    assert cli.main(["cache"]) == 0
    head, row, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["key", "size", "made", "used", "of"]
    assert row.split() == ["abc", "3.0", "MB", "0", "s", "0", "s", "net"]
    assert total.startswith(f"1 entry, 3.0 MB, in {cache_dir}")
    assert cli.main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == f"3.0 MB removed from {cache_dir}\n"
    assert cl.cache().entries() == ()


def test_cache_verify_removes_what_is_damaged_and_says_so(cache_dir: Path, capsys: Output) -> None:
    def fill(folder: Path) -> None:
        (folder / "program").write_bytes(b"x")

    cl.cache().put("good", fill)
    assert cli.main(["cache", "verify"]) == 0
    (cl.cache().put("bad", fill) / "program").write_bytes(b"y")
    assert cli.main(["cache", "verify"]) == 1
    whole, removed, rest = capsys.readouterr().out.splitlines()
    assert whole.startswith("1 of 1 entries are whole")
    assert removed == "bad removed: program is not as it was written"
    assert rest.startswith("1 of 2 entries are whole")


def test_cache_exports_and_imports_one_entry(
    cache_dir: Path, tmp_path: Path, capsys: Output
) -> None:
    file = str(tmp_path / "net.cache")
    cl.cache().put("abc", lambda folder: None)
    assert cli.main(["cache", "export", "--key", "a", "--file", file]) == 0
    assert cli.main(["cache", "clear", "--key", "abc"]) == 0
    assert cli.main(["cache", "import", "--file", file]) == 0
    assert [entry.key for entry in cl.cache().entries()] == ["abc"]
    assert capsys.readouterr().out.splitlines()[-1] == f"abc is in {cache_dir}"


@pytest.mark.parametrize("words", [["export"], ["import"], ["export", "--file", "f"]])
def test_cache_says_what_is_missing(words: list[str], capsys: Output) -> None:
    assert cli.main(["cache", *words]) == 1
    assert f"cache {words[0]} --" in capsys.readouterr().err


def test_lab_copies_the_notebooks_and_opens_the_tour(
    installed: Path, started: list[list[str]]
) -> None:
    with pytest.raises(Replaced):
        cli.main(["lab", "--no-browser", "--port", "8890"])
    tour = Path.cwd() / "coreml-lab-notebooks" / cli.TOUR
    rest = ["--no-browser", "--port", "8890"]
    assert started == [[sys.executable, "-m", "jupyterlab", str(tour), *rest]]
    assert (tour.parent / "data" / "melody.txt").read_text() == "c d e"


def test_lab_never_overwrites_what_was_changed(
    installed: Path, started: list[list[str]], tmp_path: Path
) -> None:
    mine = tmp_path / "mine" / cli.TOUR
    mine.parent.mkdir()
    mine.write_text("my work")
    with pytest.raises(Replaced):
        cli.main(["lab", "--dir", str(mine.parent)])
    assert mine.read_text() == "my work"
    assert (mine.parent / "data" / "melody.txt").is_file()


def test_in_a_clone_lab_opens_the_notebooks_in_place(
    installed: Path, started: list[list[str]]
) -> None:
    clone = installed.parent / "notebooks"
    clone.mkdir()
    (clone / cli.TOUR).write_text("{}")
    with pytest.raises(Replaced):
        cli.main(["lab"])
    assert started[0][3] == str(clone / cli.TOUR)
    assert not Path("coreml-lab-notebooks").exists()


def test_lab_opens_without_the_models_and_says_so(
    installed: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def fetch(**_: Any) -> dict[str, Path]:
        raise ModelError("no network", hint="run: coreml-lab models")

    monkeypatch.setattr(cl.models, "missing", lambda: ("crepe-tiny",))
    monkeypatch.setattr(cl.models, "fetch", fetch)
    with pytest.raises(Replaced):
        cli.main(["lab"])
    assert "no network\ntry: run: coreml-lab models" in capsys.readouterr().err
    assert len(started) == 1


def test_an_installation_without_notebooks_is_one_error(
    installed: Path, started: list[list[str]], capsys: Output
) -> None:
    (installed / "notebooks" / cli.TOUR).unlink()
    assert cli.main(["lab"]) == 1
    assert "has no notebooks" in capsys.readouterr().err
    assert started == []


def test_a_folder_that_cannot_take_the_notebooks_is_one_error(
    installed: Path, started: list[list[str]], tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["lab", "--dir", str(tmp_path / "file" / "x")]) == 1
    assert "--dir FOLDER" in capsys.readouterr().err


def test_the_options_of_check_are_the_parameters_of_the_function() -> None:
    def defaults(function: Callable[..., Any]) -> dict[str, Any]:
        return {n: p.default for n, p in inspect.signature(function).parameters.items()}

    mine, others = defaults(cli.check), defaults(cl.check)
    del mine["model"], others["model"]
    assert mine.pop("json") is False
    assert mine == others


def test_every_option_of_check_is_explained(capsys: Output) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["check", "--help"])
    shown = capsys.readouterr().out
    assert "--max-latency TEXT    most time of an inference: 20ms" in shown
    assert "Exit status: 0 every limit is kept" in shown


def test_without_arguments_it_helps_and_says_where_to_begin(capsys: Output) -> None:
    assert cli.main([]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in cli.COMMANDS)
    assert "Begin with: coreml-lab lab" in said
