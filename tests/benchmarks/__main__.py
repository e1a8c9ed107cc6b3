"""Run the benches one after another, each in a process of its own; keep what they print in .bench/.

``make bench``, or ``python -m tests.benchmarks [NAME…]``. A bench is a script ``bench_NAME.py``
here that prints ratios measured in one run; nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / ".bench"


def run(bench: str) -> int:
    """Run one bench; what it prints is shown and kept."""
    print(f"--- {bench}", flush=True)
    command = [sys.executable, "-m", f"{HERE.parent.name}.{HERE.name}.{bench}"]
    pipe = subprocess.Popen(
        command,
        cwd=HERE.parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    with pipe, (RESULTS / f"{bench}.txt").open("w", encoding="utf-8") as kept:
        for line in pipe.stdout or ():
            print(line, end="", flush=True)
            kept.write(line)
    return pipe.returncode


def main(names: list[str]) -> int:
    """Run the named benches, or all; 1 if one of them failed."""
    RESULTS.mkdir(exist_ok=True)
    benches = [f"bench_{name.removeprefix('bench_')}" for name in names] or sorted(
        file.stem for file in HERE.glob("bench_*.py")
    )
    failed = [bench for bench in benches if run(bench)]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
