"""Whether a program treats the rows of its inputs apart, so that several requests may share a run.

A flexible first dimension alone does not say so: it may be the length of a sentence, whose words
attend to one another. So a program is tried, once: rows must give the same whatever rows they are
with, and wherever they stand. Rows a thousand times as large, and of zeros, are among them: a
largest value or a norm of all rows shows in their company, and what happens only beyond some bound.
The same number of rows runs the same kernels, so that even fp16 gives the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from coreml_lab import config
from coreml_lab.program.cache import Cache
from coreml_lab.program.graph import Array
from coreml_lab.program.program import Program
from coreml_lab.records import ProgramInfo
from coreml_lab.run.call import Limit, seconds
from coreml_lab.run.cutting import rows, sizes
from coreml_lab.run.engine import Loaded
from coreml_lab.run.interface import Interface
from coreml_lab.run.simulated import noise, usual

FILE = "rows.json"
Arrays = Mapping[str, Array]
Run = Callable[[Arrays], Arrays]
# Largest differences, relative to the largest value: with other company; at another place, where a
# kernel may take them at the end of its vectors; and from running alone, where kernels add in
# another order (3e-2 was seen in fp16).
SAME, PLACED, NEAR = 1e-3, 1e-2, 0.2
# An engine may settle on its kernels in the first runs of a shape.
SETTLED = 3
# What the company of real numbers is scaled by.
SCALES = (1e3, 0.0)


def independent(loaded: Loaded, program: Program, cache: Cache) -> bool | None:
    """Whether rows are independent: as remembered in the cache, or tried now on noise.

    None where the program or its engine refuses the noise, or a deadline ends the trial: nothing is
    known, and rows stay alone.
    """
    key = f"{program.key}-rows-2"
    folder = cache.get(key)
    try:
        if folder is not None:
            told = json.loads((folder / FILE).read_text(encoding="utf-8"))
            return bool(told["independent"])
        found = _tried(_within(loaded, program.info.name), program.info)
    except KeyboardInterrupt:  # of a model inside of it, it is an error of ours, too
        raise
    except Exception:  # noqa: BLE001 - an engine may raise whatever it likes at what nobody gave it
        return None
    cache.put(key, lambda f: _write(f, found))
    return found


def _write(folder: Path, found: bool) -> None:
    (folder / FILE).write_text(json.dumps({"independent": found}), encoding="utf-8")


def _within(loaded: Loaded, name: str) -> Run:
    """Runs that take no longer than what is configured."""
    most = seconds(config.current().deadline)
    return (lambda feeds: Limit.of(most, name).run(loaded, feeds, None)) if most else loaded.run


def _tried(run: Run, info: ProgramInfo) -> bool:
    interface, taken = Interface(info), sizes(info)
    types = usual(interface.inputs, info)
    one, two, three = (interface.feeds(noise(types, seed)) for seed in (0, 1, 2))
    count = rows(one)
    total = taken.fitted(2 * count) if taken is not None else None
    if total is None:
        return False  # two do not fit into one run
    alone = run(one)
    for _ in range(SETTLED):
        run(_beside(two, three, total))
    company = [two, *([_scaled(three, s) for s in SCALES] if _real(three) else [three])]
    first = [_rows(run(_beside(one, c, total)), count, total) for c in company]
    last = [_rows(run(_beside(one, c, total, last=True)), -count, total) for c in company]
    same = (_alike(found, of[0], SAME) for of in (first, last) for found in of[1:])
    return (
        all(same)
        and _alike(last[0], first[0], PLACED)
        and all(_alike(of[0], alone, NEAR) for of in (first, last))
    )


def _real(arrays: Arrays) -> bool:
    return any(a.dtype.kind == "f" for a in arrays.values())


def _scaled(arrays: Arrays, factor: float) -> dict[str, Array]:
    return {k: a * a.dtype.type(factor) if a.dtype.kind == "f" else a for k, a in arrays.items()}


def _beside(one: Arrays, other: Arrays, total: int, *, last: bool = False) -> dict[str, Array]:
    """One first or last, and the other again and again for the rest."""
    joined = {}
    for name, array in one.items():
        rest = np.resize(other[name], (total - len(array), *array.shape[1:]))
        joined[name] = np.concatenate([rest, array] if last else [array, rest])
    return joined


def _rows(found: Arrays, count: int, total: int) -> dict[str, Array]:
    """So many of the first results, or last ones where it is negative; whole, if without rows."""
    part = slice(count) if count > 0 else slice(count, None)
    return {k: v[part] if v.ndim and len(v) == total else v for k, v in found.items()}


def _alike(together: Arrays, alone: Arrays, near: float) -> bool:
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
