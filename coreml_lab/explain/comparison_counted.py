"""Rows of a comparison besides its times: per batch, memory, size, loading and energy. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from coreml_lab.explain.comparison_arms import Candidate
from coreml_lab.explain.comparison_rows import Row, apart, exact, no_ratio, once, throughput
from coreml_lab.explain.comparison_study import Joules, Study
from coreml_lab.measure.alone import Alone
from coreml_lab.measure.rounds import shared_confidence
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.program.liveness import ActivationPlan

Value = Callable[[Study, Candidate], Quantity]
SEPARATE = "in a process of its own, above the imported libraries"
READ = "; the package was read anew, which takes coremltools"
ON_CPU = "it works in the process's own memory"


def throughputs(study: Study, name: str, confidence: float) -> Iterator[Row]:
    """One row per batch size."""
    base = study.baseline.name
    for size in study.sizes if "batches" in study.stages else ():
        arms, found = study.batches.get(size, ((), []))
        if name in arms and found:
            other = arms.index(base) if base in arms else None
            yield throughput(found, size, arms.index(name), other, confidence)
        else:
            why = study.refused.get(name, {}).get(size) or _why(study, "batches", name)
            missing = Quantity.unavailable("Hz", study.unfinished.get(f"batch {size}", why))
            key = (f"throughput.{size}", f"throughput, batch {size}")
            yield Row(*key, missing, no_ratio(missing.note), "not ranked" * (name != base))


def counted(study: Study, arm: Candidate, confidence: float) -> Iterator[Row]:
    """What was counted, estimated or measured once; and energy, with that confidence."""
    base = None if arm is study.baseline else study.baseline

    def row(make: Callable[..., Row], key: str, label: str, of: Value, *words: Any) -> Row:
        return make((key, label), of(study, arm), None if base is None else of(study, base), *words)

    yield row(exact, "memory.weights", "weights, as held", weights, ("less memory", "more memory"))
    if "memory" in study.stages:
        yield row(once, "memory.activations", "activations, at the most", activations)
        yield row(once, "memory.peak", "peak memory, running", _seen("run_peak"))
        yield row(once, "memory.load", "peak memory, loading", _seen("load_peak"))
        if any(math.isfinite(a.device_peak) for seen in study.alone.values() for a in seen):
            yield row(once, "memory.device", "peak memory on the device", _seen("device_peak"))
    yield row(exact, "size", "size on disk", size, ("smaller", "larger"))
    if "memory" in study.stages:
        yield row(once, "load.cold", "load, cold", _loaded(0))
        yield row(once, "load.warm", "load, warm", _loaded(1))
        yield row(once, "load.first", "first inference", _first)
    if "energy" in study.stages:
        yield _energy(study, arm, shared_confidence(2, confidence))


def weights(study: Study, arm: Candidate) -> Quantity:
    """Bytes of the weights, in the engine's form where it tells."""
    del study
    held = getattr(arm.model, "weight_bytes", None)
    stored = sum(op.weight_bytes for op in arm.model.info.ops)
    note = "as the engine holds them" if held is not None else "as stored in the program"
    return Quantity(float(stored if held is None else held), "By", Provenance.MEASURED, note=note)


def size(study: Study, arm: Candidate) -> Quantity:
    """Bytes of the file or folder."""
    del study
    return Quantity(float(arm.model.info.size_bytes), "By", Provenance.MEASURED)


def activations(study: Study, arm: Candidate) -> Quantity:
    """The most that values take at once, by their types and who reads them."""
    plan = study.plans.get(arm.name) or _why(study, "memory", arm.name)
    if not isinstance(plan, ActivationPlan):
        return Quantity.unavailable("By", plan)
    note = f"at {plan.at}, by liveness of the values" if plan.at else "by liveness of the values"
    return Quantity(float(plan.peak), "By", Provenance.ESTIMATED, note=note)


def _seen(name: str) -> Value:
    """A number of bytes of the warm process; of the cold one where that is all there is."""

    def of(study: Study, arm: Candidate) -> Quantity:
        seen = study.alone.get(arm.name, ())
        if not seen:
            return Quantity.unavailable("By", _why(study, "memory", arm.name))
        value = getattr(seen[-1], name)
        if math.isnan(value):
            return Quantity.unavailable("By", ON_CPU)
        note = f"{seen[-1].what}, {SEPARATE}" + READ * (len(seen) == 1)
        refused = seen[-1].refused
        if refused and name == "run_peak":
            note += f"; loading included: {refused}"
        return Quantity(float(value), "By", Provenance.MEASURED, note=note)

    return of


def _loaded(place: int) -> Value:
    """Seconds of loading: cold is 0, warm is 1."""

    def of(study: Study, arm: Candidate) -> Quantity:
        seen = study.alone.get(arm.name, ())
        if len(seen) <= place:
            return Quantity.unavailable("s", _why(study, "memory", arm.name))
        how = "compile cache empty" if place == 0 else "from the compile cache"
        note = f"in a process of its own, {how}, libraries imported before"
        return Quantity(seen[place].load_s, "s", Provenance.MEASURED, note=note)

    return of


def _first(study: Study, arm: Candidate) -> Quantity:
    seen: tuple[Alone, ...] = study.alone.get(arm.name, ())
    if not seen:
        return Quantity.unavailable("s", _why(study, "memory", arm.name))
    return Quantity(seen[-1].first_s, "s", Provenance.MEASURED, note="after loading")


def energies(study: Study) -> int:
    """How many ratios of energy have an interval: those of arms that were counted as the base."""
    base = study.joules.get(study.baseline.name)
    others = [j for name, j in study.joules.items() if name != study.baseline.name]
    pairs = [found.beside(base) for found in others] if base is not None else []
    return sum(all(j.degrees for j in pair) for pair in pairs if pair is not None)


def _energy(study: Study, arm: Candidate, confidence: float) -> Row:
    """Joules; ranked only where both were counted by one counter, and intervals lie apart."""
    name = ("energy", "energy above idle")
    mine, base = (_joules(study, a) for a in (arm, study.baseline))
    measured = {mine.value.provenance, base.value.provenance} == {Provenance.MEASURED}
    pair = mine.beside(base) if measured else (mine, base)
    value, other = (j.within(confidence) for j in pair or (mine, base))
    if arm is study.baseline or not measured:
        return _uncounted(name, value, None if arm is study.baseline else other)
    if pair is None:
        why = f"counted by different counters ({mine.title}; {base.title})"
        return Row(*name, value, no_ratio(why), f"not ranked: {why}")
    ratio = apart(value, other)
    if math.isfinite(value.value) and pair[0] is mine.total:
        value = replace(value, note=f"added up: {pair[0].title}")
    if ratio.low is None or ratio.high is None:
        return Row(*name, value, ratio, "not ranked: below resolution")
    words = "no difference shown" if ratio.low <= 1 <= ratio.high else None
    return Row(*name, value, ratio, words or ("more energy" if ratio.value > 1 else "less energy"))


def _uncounted(name: tuple[str, str], value: Quantity, other: Quantity | None) -> Row:
    """The baseline itself, or what is estimated or unavailable on a side: no verdict."""
    row = once(name, value, other)
    if other is not None and value.provenance is Provenance.ESTIMATED is other.provenance:
        return Row(*name, value, row.ratio, "not ranked: see CPU time")
    return row


def _joules(study: Study, arm: Candidate) -> Joules:
    found = study.joules.get(arm.name)
    return found or Joules(Quantity.unavailable("J", _why(study, "energy", arm.name)))


def _why(study: Study, stage: str, name: str) -> str:
    """Why something was not measured."""
    return study.reasons.get((stage, name)) or study.unfinished.get(stage) or "it was not measured"
