from __future__ import annotations

import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab.metrics import METRICS, Provenance
from coreml_lab.run import memory


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    held: Counter[tuple[str, str]] = Counter()
    monkeypatch.setattr(memory, "_copied", held)
    cuda = SimpleNamespace(memory_allocated=lambda d: 3_000_000, max_memory_allocated=lambda d: 9e6)
    mps = SimpleNamespace(current_allocated_memory=lambda: 5_000_000)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, mps=mps))
    return held


def test_a_gpu_tells_what_it_holds_and_what_was_copied(counted: Any) -> None:
    memory.copied("cuda:1", sent=100, received=10)
    memory.copied("cuda:1", sent=100, received=10)
    found = cl.memory()["cuda:1"]
    assert (found.live.value, found.peak.value) == (3e6, 9e6)
    assert (found.sent.value, found.received.value) == (200, 20)
    assert found.live.provenance is Provenance.MEASURED
    assert str(cl.memory()) == ("cuda:1: live 3.0 MB, peak 9.0 MB, sent 0.0 MB, received 0.0 MB")


def test_what_the_framework_does_not_count_is_unavailable_with_a_reason(counted: Any) -> None:
    memory.copied("metal:0", sent=1, received=1)
    found = cl.memory()["metal:0"]
    assert found.live.value == 5e6
    assert found.peak.provenance is Provenance.UNAVAILABLE
    assert "unavailable (PyTorch keeps no record" in str(cl.memory())


def test_without_a_gpu_there_is_nothing_to_tell(counted: Any) -> None:
    assert cl.memory().devices == ()
    assert "no GPU has been used" in repr(cl.memory())
    assert memory.samples("cpu", 0) == ()


def test_a_recording_of_a_gpu_holds_its_memory(counted: Any) -> None:
    memory.copied("cuda:0", sent=1, received=1)
    found = {s.metric: s.value for s in memory.samples("cuda:0", 7)}
    assert found == {memory.LIVE: 3e6, memory.PEAK: 9e6}
    assert set(found) <= set(METRICS)
