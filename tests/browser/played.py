"""What a kernel would tell the page: recordings, suggestions and strategies, made by our code."""

from __future__ import annotations

import numpy as np

from coreml_lab.metrics import Provenance
from coreml_lab.records import OpInfo, OpSpan, PlanInfo, ProgramInfo, Recording, Run
from coreml_lab.run.split.strategy import STRATEGIES
from coreml_lab.widgets.recorded import recorded

STEM = """def stem(x):
    x = cl.tensor(x, device='coreml')
    x = cl.ops.conv(x=x, weight=w0)
    return x.relu().max_pool(3, 2)
"""
CODE = ["", "", "", "", STEM]
KINDS = ("conv", "batch_norm", "relu", "max_pool", "matmul", "softmax")
CPU, GPU = ("portable", "coreml:0"), ("pytorch", "cuda:0")
MILLISECOND = 1_000_000


def recording(*, slower=1.0, count=48, name="resnet50"):
    """Operations on a CPU, a transfer, operations on a GPU; 40 timed runs and 2 traced."""
    infos = tuple(
        OpInfo(f"layer{i // 12}.{KINDS[i % 6]}_{i}", KINDS[i % 6], (1, 64, 56, 56), "fp32",
               36_864 if i % 6 in {0, 4} else 0, where=f"Cell In[4], line {2 + i % 3}")
        for i in range(count)
    )  # fmt: skip
    program = ProgramInfo(
        name, "key", "", "fp32", (), (), infos, 102_000_000,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    took = 18.6 * slower * (1 + 0.02 * rng.standard_normal(40))
    plain = tuple(
        Run(i, i * 20 * MILLISECOND, int(t * MILLISECOND)) for i, t in enumerate(took.tolist())
    )
    traced = tuple(_traced(40 + k, infos, slower) for k in range(2))
    plan = PlanInfo("hybrid", "cuda:0", "CPU and GPU, split", "the stem stays on the CPU")
    return Recording({}, program, plan, (*plain, *traced))


def _traced(index, infos, slower):
    start = at = index * 1000 * MILLISECOND
    spans = []
    for i, info in enumerate(infos):
        engine, device = CPU if i < len(infos) // 4 else GPU
        if i == len(infos) // 4:
            spans.append(OpSpan("[portable to pytorch]", "[transfer]", "pytorch", "cuda:0", at,
                                440_000, 3_200_000, Provenance.MEASURED))  # fmt: skip
            at += 500_000
        length = int({"conv": 900_000, "matmul": 500_000}.get(info.op, 120_000) * slower)
        how = Provenance.APPORTIONED if info.op == "relu" else Provenance.MEASURED
        memory = 802_816 if i % 2 else None
        spans.append(OpSpan(info.name, info.op, engine, device, at, length, 802_816, how,
                            memory=memory))  # fmt: skip
        at += length + 20_000
    return Run(index, start, at - start, tuple(spans), instrumented=True)


def told(number=1, **options):
    """Header and numbers of the message for one recording."""
    made = recording(**options)
    names = [info.name for info in made.program.ops]
    places = dict.fromkeys(names, ("CPU", "it computes in fp32; the Neural Engine runs fp16"))
    header, buffers = recorded(made, number, places, "M4", CODE)
    return header, np.frombuffer(buffers[0]).tolist()


def amount(value, unit, how="measured", *, low=None, high=None, note=""):
    return {
        "value": value, "unit": unit, "provenance": how, "low": low, "high": high, "note": note,
    }  # fmt: skip


def card(number, state="new", **extra):
    """A suggestion as the kernel tells it."""
    made = {
        "id": number, "rule": "palettes", "title": "Store weights as 8-bit palettes",
        "why": "44 % of the time waits for weights; 102 MB do not fit the 32 MB cache.",
        "evidence": ["31 of 53 ops are bound by weights.", "The weights have 102 MB."],
        "gain": amount(76e6, "By", "estimated"), "confidence": "medium", "serves": "size",
        "target": "any", "risk": "results change a little", "advice": "", "can": True,
        "state": state, "done": 0, "of": 64, "reasons": [], "before": None, "after": None,
        "ratio": None, "size": None,
    }  # fmt: skip
    return made | extra


def measured(value, low, high):
    """What a trial adds to a card."""
    return {
        "before": amount(18.6e-3, "s"), "after": amount(18.6e-3 * value, "s"),
        "ratio": amount(value, "{ratio}", low=low, high=high, note="60 pairs"),
        "size": amount(26e6, "By"),
    }  # fmt: skip


CARDS = [
    card(1),
    card(2, "running", title="Compute in fp16", done=23),
    card(3, "awaits", title="Fold batch_norm into conv", **measured(0.63, 0.60, 0.66)),
    card(4, "rejected", title="Raise the batch", reasons=["The interval holds 1."],
         **measured(1.03, 0.97, 1.09)),
    card(5, "advice", title="Take x as a picture", can=False, advice="cl.edit(model).apply(…)"),
]  # fmt: skip
SUGGESTED = {
    "k": "suggestions", "v": 1, "name": "resnet50", "note": "Estimates are for M4.",
    "cards": CARDS,
}  # fmt: skip
PLACES = [
    {"device": "cpu", "title": "Intel Xeon", "engines": ["pytorch", "reference"],
     "available": True, "reason": ""},
    {"device": "coreml:0", "title": "Core ML programs, on the portable engine (CPU)",
     "engines": ["portable"], "available": True, "reason": ""},
    {"device": "cuda:0", "title": "CUDA", "engines": [], "available": False,
     "reason": "no NVIDIA driver is here"},
]  # fmt: skip
AIMS = {
    "k": "strategy", "v": 1, "current": "balanced", "plan": "CPU and GPU, split", "why": "",
    "choices": [{"name": str(s.name), "sentence": str(s)} for s in STRATEGIES.values()],
    "device": "coreml:0", "engine": "portable", "places": [], "error": "",
}  # fmt: skip


def _arm(name, title, ratio=None, *, base=18.6e-3):
    rng = np.random.default_rng(len(name))
    times = base * (ratio or 1) * (1 + 0.03 * rng.standard_normal(20))
    said = "" if ratio is None else "less time" if ratio < 0.9 else "no difference shown"
    even = "" if ratio is None else "no difference shown"
    rows = [
        _row(("latency.p50", "latency p50"), float(np.median(times)), ratio, said),
        _row(("cpu.time", "CPU time per inference"), 0.03, ratio and 1.01, even),
    ]
    return {"name": name, "title": title, "device": name, "times": times.tolist(), "rows": rows}


def _row(named, value, ratio, verdict):
    band = {"low": ratio * 0.97, "high": ratio * 1.03} if ratio else {"note": "it is the baseline"}
    how = "measured" if ratio else "unavailable"
    return {
        "metric": named[0], "label": named[1], "value": amount(value, "s"), "verdict": verdict,
        "ratio": amount(ratio, "{ratio}", how, **band),
    }  # fmt: skip


COMPARED = {
    "k": "compared", "v": 1, "id": 7, "name": "resnet50", "pairs": 20, "confidence": 0.9917,
    "reference": _arm("cpu", "PyTorch on the CPU"),
    "arms": [_arm("coreml", "Core ML program, portable engine (CPU)", 0.65),
             _arm("gpu", "PyTorch on cuda:0", 1.01)],
    "absent": [{"name": "metal", "reason": "this is no Mac"}],
}  # fmt: skip
COMPARING = {"k": "comparing", "v": 1, "stage": "", "done": 0.0, "error": ""}
TAPING = {"k": "recording", "v": 1, "on": False, "since": None, "saved": "", "error": ""}
