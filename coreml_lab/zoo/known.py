"""Networks that were compiled before: found by their recipe, without tracing them again.

Tracing asks coremltools for every shape, and importing it takes seconds. A recipe is everything
that a network follows from: its name and seed, the precision, the source files that trace and
compile it, and the versions of what else has a say.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

import coreml_lab
from coreml_lab.program.program import Program
from coreml_lab.run import compiler
from coreml_lab.run.activity import ACTIVITY
from coreml_lab.run.engine import package_version
from coreml_lab.run.reading import PACKAGE

SOURCES = ("zoo", "program")


def recipe(name: str, seed: int, precision: str) -> str:
    """The cache key of a network."""
    root = Path(coreml_lab.__file__).parent
    parts = [name, str(seed), precision, compiler.FORMAT, coreml_lab.__version__, np.__version__]
    digest = hashlib.sha256("\0".join([*parts, package_version("coremltools")]).encode())
    for folder in SOURCES:
        for file in sorted((root / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:32] + "-recipe"


def recall(key: str, name: str) -> Program | None:
    """The program of a recipe, where it and its package are in the cache."""
    store = compiler.cache()
    folder = store.get(key)
    made = Program.open(folder, folder, name) if folder is not None else None
    package = store.get(made.key) if made is not None else None
    if folder is None or package is None:
        return None
    ACTIVITY.cache_hits += 1
    return Program.open(folder, package / PACKAGE, name)


def keep(key: str, program: Program) -> None:
    """Remember what a recipe resulted in."""
    compiler.cache().put(key, program.save, title=program.info.name)
