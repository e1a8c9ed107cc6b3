"""What tests of the sampler share: a header, waiting for a condition, stand-in processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from coreml_lab.measure.backlog import Backlog
from coreml_lab.measure.framing import Header
from coreml_lab.measure.sampling_process import Orders
from coreml_lab.metrics import Provenance
from coreml_lab.probes import Channel

MS = 1_000_000
PATIENCE = 60.0
NAN = float("nan")
CHANNELS = (
    Channel("process.cpu.cores", Provenance.MEASURED, "own"),
    Channel("hw.power.package", Provenance.UNAVAILABLE, "no counter"),
)
HEADER = Header(CHANNELS, 100 * MS)


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, for as long as an overloaded machine may need."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


def python(*lines: str) -> Callable[[Orders], subprocess.Popen[bytes]]:
    """A stand-in for the sampling process."""

    def start(_: Orders) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-c", "\n".join(lines)]
        return subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


def put(backlog: Backlog, *stamps: int, header: Header = HEADER) -> None:
    backlog.put(header, [header.pack(t, (float(t), NAN)) for t in stamps])
