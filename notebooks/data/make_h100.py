"""Make h100.json and h100.recording.json: what a real NVIDIA H100 did, for those who have none.

    python notebooks/data/make_h100.py FOLDER

FOLDER holds what this project's benches wrote on the machine with the GPU: ``bench_cuda.json``
(``tests/benchmarks/bench_cuda.py``), ``bench_energy.json`` and ``nvml_counter.jsonl``
(``python -m tests.benchmarks.bench_energy``). Nothing is computed here but power, which is the
energy between two publications of the counter by the time between them.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from coreml_lab.metrics import Provenance
from coreml_lab.records import PlanInfo, ProgramInfo, Recording, Sample

HERE = Path(__file__).parent
NETWORKS = ("mobilenet_v2", "resnet50")
KEPT = ("name", "batch", "precision", "device_ms", "weights_bytes", "first_runs_s", "against")


def table(folder: Path) -> dict[str, Any]:
    """What the benches measured, and on what."""
    speed = json.loads((folder / "bench_cuda.json").read_text(encoding="utf-8"))
    energy = json.loads((folder / "bench_energy.json").read_text(encoding="utf-8"))
    rows = [r for r in speed["rows"] if r["part"] == "networks" and r["name"] in NETWORKS]
    return {
        "what": "a recording of a real GPU; not of the machine that shows it",
        "about": {**energy["about"], "numpy": speed["numpy"]},
        "speed": [{key: row[key] for key in KEPT} for row in rows],
        "energy": energy["rows"],
        "idle_before": energy["idle_before"],
        "reading_ms": energy["reading_ms"],
    }


def recording(folder: Path, about: dict[str, Any]) -> Recording:
    """The GPU's energy counter as it moved, 20 s of it."""
    lines = (folder / "nvml_counter.jsonl").read_text(encoding="utf-8").splitlines()
    points = [json.loads(line) for line in lines if not line.startswith("#")]
    note = f"NVML total energy, whole board; recorded on {about['gpu']} on {about['date']}"
    how = (Provenance.MEASURED, note)
    samples = [Sample(p["t_ns"], "hw.energy.gpu/0", p["joules"], *how) for p in points]
    for one, two in itertools.pairwise(points):
        watts = (two["joules"] - one["joules"]) / ((two["t_ns"] - one["t_ns"]) * 1e-9)
        samples.append(Sample(two["t_ns"], "hw.power.gpu/0", watts, *how))
    title = f"Core ML program, PyTorch engine ({about['gpu']}), recorded on {about['date']}"
    return Recording(
        environment={key: str(value) for key, value in about.items()},
        program=ProgramInfo("resnet50", "", "", about["precision"], (), (), (), 0),
        plan=PlanInfo("pytorch", "cuda:0", title),
        runs=(),
        samples=sorted(samples, key=lambda sample: sample.t_ns),
    )


def main(folder: Path) -> None:
    """Write both files."""
    found = table(folder)
    text = json.dumps(found, indent=1)
    (HERE / "h100.json").write_text(text + "\n", encoding="utf-8")
    recording(folder, found["about"]).save(HERE / "h100.recording.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
