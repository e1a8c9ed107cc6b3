"""Every sentence that the kernel writes for the page has its Japanese: English is the key.

Sentences are found in the sources as they are written, what varies in them as ``{}``; a new one
without a row in js/src/text/sentences/ fails here. Errors stay English: they are what people
search for, and what the page about troubleshooting lists.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import coreml_lab

PACKAGE = Path(coreml_lab.__file__).parent
TABLES = PACKAGE.parent / "js" / "src" / "text" / "sentences"
# Modules whose sentences the page shows.
SOURCES = (
    "explain/rules/*.py",
    "explain/placing/bars.py",
    "explain/placing/risks.py",
    "explain/comparison_arms.py",
    "explain/comparison_counted.py",
    "explain/comparison_more.py",
    "explain/comparison_rows.py",
    "explain/comparison_study.py",
    "explain/picture/weights.py",
    "improve/trial.py",
    "measure/alone.py",
    "measure/energy_estimate.py",
    "measure/model_memory.py",
    "improve/looking.py",
    "run/planner.py",
    "run/choice.py",
    "run/hybrid.py",
    "run/selection.py",
    "run/steps/devices.py",
    "run/split/aims.py",
    "run/split/strategy.py",
    "run/split/wording.py",
    "probes/*.py",
    "measure/sampler.py",
    "metrics.py",
    "widgets/about.py",
    "widgets/desk.py",
)
# Of these, what is no sentence, or none that reaches the page.
NAMES = {
    # names of operations in one string, of threads, channels, counters, and of metrics (METRICS_JA)
    "explain/placing/bars.py": {
        "lstm gru rnn",
        "reduce_argmax reduce_argmin argsort one_hot",
        "tan sinh cosh asin acos atanh",
        "cumsum band_part",
        "scatter scatter_nd scatter_along_axis slice_update",
        "random_uniform random_normal random_bernoulli random_categorical",
        "non_maximum_suppression crop_resize non_zero classify",
    },
    "explain/rules/engine.py": {"padded to"},
    "widgets/desk.py": {"coreml_lab desk", "coreml_lab trials"},
    "measure/sampler.py": {"coreml_lab sampler"},
    "run/steps/devices.py": {"{}, {} GiB"},
    "probes/ioreport.py": {
        "IOReport, Energy Model",
        "CPU of the chip",
        "GPU of the chip",
        "CPU Energy",
        "GPU Energy",
        r"DIE_\d+_CPU Energy",
        r"DIE_\d+_GPU Energy",
    },
    "probes/ioreport_calls.py": {"Energy Model"},
    "probes/nvml.py": {"NVML total energy", "NVML power, added up"},
    "probes/perf.py": {"RAPL (perf)"},
    "probes/rapl.py": {"RAPL (powercap)", "CPU package", "whole machine"},
    "probes/sources.py": {"process energy"},
    "probes/process_energy.py": {
        "process energy",
        "CPU work of the process",
        "proc_pid_rusage, ri_energy_nj",
        "CPU time x watts",
    },
    "probes/supply.py": {"'Battery Power'", "'AC Power'"},
    "probes/disturbance.py": {"cpu MHz"},
    # hints beside an arm that is not here: they stand in reports
    "explain/comparison_arms.py": {
        "a machine with an NVIDIA GPU and its driver, and pip install 'coreml-lab[torch]'",
        "a Mac, and pip install 'coreml-lab[torch]'",
        "an OpenCL driver, and pip install 'coreml-lab[opencl]'",
        "where it is",
        'devices=["opencl"] runs it nevertheless',
    },
    # heads of the report's tables
    "probes/context.py": {"power supply", "hottest sensor", "memory pressure"},
    # what a plan prints in a terminal
    "run/planner.py": {"{} segment{}, {} in all", "{}; strategy {}"},
}
# Pieces of sentences whose whole has a row: they are put together in more than one expression.
PIECES = {
    " and {} more",
    " instead of ",
    ", against {} on {}",
    ", which only helps out",
    ", which draws more power",
    ", having written what is not a sample ({})",
    ", {} counters",
    ": too few for an interval",
    "1 pair is",
    "1 run is",
    "On {} it is estimated to take {}.",
    "Output {} keeps {} signal to noise, largest difference ",
    "not resolved: {} too few",
    "the baseline",
    "the baseline's is unavailable: ",
    " ({} on battery)",
    "it needs {}, and may take {}",
    "with other segments it needs {}, and may take {}",
    "{} are left out: {}",
    "{} is left out: {}",
    "{} results, the strategy sends {} or more",
    "{} does not run on the Neural Engine{}",
    "{} ms ({})",
    "{} of {} operations hold {}",
    "{} of {} weights in arrays of {} elements or more.",
    "{} op{}",
    "{} pairs are",
    "{} pairs{}",
    "{} runs are",
    "{} too few for a 95th percentile",
    "{} is {}",
}


def flat(node: ast.AST) -> str | None:
    """A string, with ``{}`` for what varies; None for what is no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = flat(node.left), flat(node.right)
        return None if sides == (None, None) else "".join(s or "{}" for s in sides)
    return None


def strings(node: ast.AST) -> Iterator[str]:
    """The strings below a node but for docstrings, errors and their hints."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg == "hint"):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    text = flat(node)
    if text is not None:
        yield text
    for child in ast.iter_child_nodes(node):
        # Of a string only what fills its holes may hold others.
        if text is None or not isinstance(child, ast.Constant):
            yield from strings(child)


def sentences(file: Path) -> set[str]:
    """Those with words in them."""
    found = strings(ast.parse(file.read_text(encoding="utf-8")))
    told = (re.sub(r"\{\w+\}", "{}", text) for text in found if not text.startswith("import "))
    return {text for text in told if " " in text.strip() and any(map(str.islower, text))}


@pytest.fixture(scope="module")
def known():
    if not TABLES.is_dir():
        pytest.skip("the TypeScript sources are not here")
    tables = [json.loads(file.read_text(encoding="utf-8")) for file in TABLES.glob("*.json")]
    return {english for table in tables for english in table}


def files() -> list[Path]:
    return [file for pattern in SOURCES for file in sorted(PACKAGE.glob(pattern))]


def lacking(file: Path, known: set[str]) -> set[str]:
    """Sentences of a module that have no row."""
    place, told = file.relative_to(PACKAGE).as_posix(), sentences(file)
    if place == "metrics.py":  # labels are names: METRICS_JA has them
        told = {text for text in told if text.endswith(".")}
    return told - known - PIECES - NAMES.get(place, set())


def test_every_sentence_has_its_japanese(known):
    missing = {file.name: found for file in files() if (found := lacking(file, known))}
    assert missing == {}, "add rows to js/src/text/sentences/"


def test_nothing_is_excused_that_is_not_there():
    for place, names in NAMES.items():
        assert names <= sentences(PACKAGE / place), place
    every = set().union(*map(sentences, files()))
    assert every >= PIECES


def test_sentences_are_found_as_they_are_written():
    source = """
def f(n, x):
    'a docstring of it'
    if not n:
        raise ValueError("an error of it")
    told = x("a sentence " "in two", hint="a hint of it")
    return told, f"{n} of {x} thing{'s are' if n else ' is'}"
"""
    found = {text for text in strings(ast.parse(source)) if " " in text}
    assert found == {"a sentence in two", "{} of {} thing{}", "s are", " is"}
