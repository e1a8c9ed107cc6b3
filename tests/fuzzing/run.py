"""Fuzz one reader for long: ``python -m tests.fuzzing.run text --count 200000``.

Prints one line of JSON: executions, what was said how often, the slowest, memory. Inputs that raise
anything else than the reader says are kept in ``--finds``. ``--guided`` uses atheris, where it is
installed, which keeps inputs that reach new code.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzzing.readers import Reader

CORPUS = Path(__file__).parent / "corpus"

MOST_FINDS = 40
LIMIT = 6 << 30


class Tally:
    """What came of it."""

    def __init__(self, reader: Reader, finds: Path) -> None:
        self.reader, self.finds = reader, finds
        self.count, self.worst, self.began = 0, 0.0, time.perf_counter()
        self.said: collections.Counter[str] = collections.Counter()
        self.found: dict[str, str] = {}
        self.memory: list[int] = []

    def one(self, data: bytes) -> None:
        """Hand the reader these bytes, and note what it says."""
        begin = time.perf_counter()
        try:
            said = self.reader.refused(data).partition(":")[0] or "taken"
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            said = "FOUND"
            self._find(data, error)
        took = time.perf_counter() - begin
        if took > max(self.worst, 1.0):
            self._keep("slow", data, f"{took:.2f} s")
        self.worst = max(self.worst, took)
        self.said[said] += 1
        self.count += 1
        if self.count % 1000 == 0:
            self.memory.append(rss())

    def _find(self, data: bytes, error: Exception) -> None:
        last = traceback.extract_tb(error.__traceback__)[-1]
        self._keep(f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}", data, error)

    def _keep(self, name: str, data: bytes, why: Any) -> None:
        if (name in self.found and name != "slow") or len(self.found) >= MOST_FINDS:
            return
        self.found[name] = str(why)[:200]
        self.finds.mkdir(parents=True, exist_ok=True)
        (self.finds / f"{self.reader.name}-{name}").write_bytes(data)
        print(f"{self.reader.name}: {name}: {str(why)[:200]}", file=sys.stderr, flush=True)

    def line(self, how: str) -> str:
        """The figures."""
        kept = self.memory or [rss()]
        return json.dumps(
            {
                "reader": self.reader.name,
                "how": how,
                "executions": self.count,
                "said": dict(self.said),
                "found": self.found,
                "slowest_s": round(self.worst, 3),
                "seconds": round(time.perf_counter() - self.began, 1),
                # Growth after a tenth, when caches have filled.
                "rss_mb": [round(kept[len(kept) // 10] / 2**20), round(kept[-1] / 2**20)],
            }
        )


def rss() -> int:
    """Bytes of memory that this process has now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def plain(tally: Tally, count: int, seed: int) -> None:
    """So many damaged seeds; each number of ``seed`` gives others."""
    order, seeds = random.Random(seed), tally.reader.seeds()
    for data in seeds:
        assert not tally.reader.refused(data), tally.reader.refused(data)
    seeds += [p.read_bytes() for p in sorted((CORPUS / tally.reader.name).glob("*"))]
    for _ in range(count):
        tally.one(tally.reader.mutate(order.choice(seeds), order))


def guided(tally: Tally, count: int, seed: int, corpus: Path) -> None:
    """The same with atheris, which damages most what reached new code."""
    import atheris

    corpus.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(tally.reader.seeds()):
        (corpus / f"seed-{i}").write_bytes(data)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        if seed % 3 == 0:
            return bytes(atheris.Mutate(data, size))
        return tally.reader.mutate(data, random.Random(seed))[:size]

    def one(data: bytes) -> None:
        tally.one(data)
        if tally.count % max(count // 10, 1) == 0:  # atheris ends without returning
            print(tally.line("guided"), flush=True)

    kept = str(CORPUS / tally.reader.name)
    arguments = [sys.argv[0], f"-runs={count}", f"-seed={seed + 1}", "-max_len=20000"]
    arguments += ["-rss_limit_mb=4000", "-timeout=60", "-verbosity=0", str(corpus)]
    arguments += [kept] if Path(kept).is_dir() else []
    atheris.Setup(arguments, one, custom_mutator=mutate)
    atheris.Fuzz()


def named(name: str, *, watched: bool) -> Reader:
    """The reader of that name; with atheris, this package's code is watched as it is imported."""
    how: Any = contextlib.nullcontext()
    if watched:
        import atheris

        how = atheris.instrument_imports(include=["coreml_lab"])
    with how:
        from tests.fuzzing.readers import READERS
    if name not in READERS:
        sys.exit(f"there is no reader {name!r}: one of {', '.join(READERS)}")
    return READERS[name]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reader")
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--finds", type=Path, default=Path(".fuzz/finds"))
    parser.add_argument("--guided", action="store_true")
    given = parser.parse_args()
    if sys.platform == "linux" and not given.guided:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    tally = Tally(named(given.reader, watched=given.guided), given.finds)
    if given.guided:
        guided(tally, given.count, given.seed, Path(".fuzz/corpus") / given.reader)
        return
    # Who ends it early gets the figures so far.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        plain(tally, given.count, given.seed)
    finally:
        print(tally.line("damaged"), flush=True)


if __name__ == "__main__":
    main()
