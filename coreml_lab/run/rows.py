"""Whether a program treats the rows of its inputs apart, so that several requests may share a run.

A flexible first dimension alone does not say so: it may be the length of a sentence, whose words
attend to one another. So a program is tried, once: rows must give the same whatever rows they are
with. The same number of rows runs the same kernels, so that even fp16 gives the same numbers.
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
# Largest differences, relative to the largest value: with other company, and from running alone,
# where kernels add in another order (3e-2 was seen in fp16).
SAME, NEAR = 1e-3, 0.2
# An engine may settle on its kernels in the first runs of a shape.
SETTLED = 3


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
    one, two, three = (interface.feeds(noise(types, seed)) for seed in (0, 1, 2))
    rows = len(next(iter(one.values())))
    first = next(p.shape[0] for p in info.inputs)
    most = info.dims[first][1] if isinstance(first, str) else first
    if most and 2 * rows > most:
        return False  # two do not fit into one run
    alone = loaded.run(one)
    for _ in range(SETTLED):
        loaded.run(_joined(two, three))
    before = [_half(loaded.run(_joined(one, other)), 0) for other in (two, three)]
    after = [_half(loaded.run(_joined(other, one)), 1) for other in (two, three)]
    same = (_alike(found[0], found[1], SAME) for found in (before, after))
    near = (_alike(found[0], alone, NEAR) for found in (before, after))
    return all((*same, *near))


def _half(found: Mapping[str, Array], which: int) -> dict[str, Array]:
    """The results of one of two that ran together; whole, where they have no rows."""
    return {
        k: v[which * (len(v) // 2) :][: len(v) // 2] if v.ndim and not len(v) % 2 else v
        for k, v in found.items()
    }


def _joined(one: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, Array]:
    return {k: np.concatenate([one[k], other[k]]) for k in one}


def _alike(together: Mapping[str, Array], alone: Mapping[str, Array], near: float) -> bool:
    for name, array in together.items():
        if array.shape != alone[name].shape:
            return False
        a, b = array.astype(np.float64), alone[name].astype(np.float64)
        scale = np.abs(b[np.isfinite(b)]).max(initial=0) if array.dtype.kind == "f" else 0.0
        if array.dtype.kind == "f" and not np.isfinite(b).any():
            return False  # nothing can be seen in it
        if not np.allclose(a, b, rtol=0, atol=near * scale, equal_nan=True):
            return False
    return True
