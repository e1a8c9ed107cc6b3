"""Whether a program treats the rows of its inputs apart, so that several requests may share a run.

A flexible first dimension alone does not say so: it may be the length of a sentence, whose words
attend to one another. So a program is tried, once: rows together must give what they give alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from coreml_lab.errors import LabError
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import Array
from coreml_lab.program.program import Program
from coreml_lab.records import ProgramInfo
from coreml_lab.run.engine import Loaded
from coreml_lab.run.interface import Interface
from coreml_lab.run.simulated import noise, usual

FILE = "rows.json"
# Largest difference, relative to the largest value: kernels add in another order, also in fp16.
SAME = 1e-2


def independent(loaded: Loaded, program: Program, cache: Cache) -> bool:
    """Whether rows are independent: as remembered in the cache, or tried now on noise.

    Where the program refuses the noise, nothing is known, and rows stay alone.
    """
    key = f"{program.key}-rows"
    folder = cache.get(key)
    if folder is not None:
        return bool(json.loads((folder / FILE).read_text(encoding="utf-8"))["independent"])
    try:
        found = _tried(loaded, program.info)
    except LabError:
        return False
    cache.put(key, lambda f: _write(f, found))
    return found


def _write(folder: Path, found: bool) -> None:
    (folder / FILE).write_text(json.dumps({"independent": found}), encoding="utf-8")


def _tried(loaded: Loaded, info: ProgramInfo) -> bool:
    interface = Interface(info)
    types = usual(interface.inputs, info)
    parts = [interface.feeds(noise(types, seed)) for seed in (0, 1)]
    rows = [len(next(iter(part.values()))) for part in parts]
    first = next(p.shape[0] for p in info.inputs)
    most = info.dims[first][1] if isinstance(first, str) else first
    if most and sum(rows) > most:
        return False  # two do not fit into one run
    joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    together = loaded.run(joined)
    alone = [loaded.run(part) for part in parts]
    return _alike(together, {k: np.concatenate([a[k] for a in alone]) for k in together})


def _alike(together: Mapping[str, Array], alone: Mapping[str, Array]) -> bool:
    for name, array in together.items():
        if array.shape != alone[name].shape:
            return False
        a, b = array.astype(np.float64), alone[name].astype(np.float64)
        scale = np.abs(b[np.isfinite(b)]).max(initial=0) if array.dtype.kind == "f" else 0.0
        if array.dtype.kind == "f" and not np.isfinite(b).any():
            return False  # nothing can be seen in it
        if not np.allclose(a, b, rtol=0, atol=SAME * scale, equal_nan=True):
            return False
    return True
