"""check(): models measured and compared, each row decided; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coreml_lab import config
from coreml_lab.clock import SYSTEM, Clock
from coreml_lab.errors import InputError, LabError, UnknownParameter
from coreml_lab.improve import numbers
from coreml_lab.improve.actions import size
from coreml_lab.improve.gate import Checked, Gate, Row, refused
from coreml_lab.improve.limits import Decision, Limits, limits
from coreml_lab.improve.mapping import matched, read, tensors
from coreml_lab.improve.reference import (
    Checkable,
    Load,
    Ready,
    Reference,
    arrays,
    inference,
    opened,
)
from coreml_lab.improve.timing import measure
from coreml_lab.measure.recorder import environment
from coreml_lab.metrics import Provenance, Quantity
from coreml_lab.run.simulated import noise, usual

RUNS = 20
SECONDS = 60.0


def check(
    model: str | Path | Checkable | Sequence[str | Path | Checkable],
    inputs: str | Path | Mapping[str, Any] | None = None,
    *,
    reference: Any = None,
    min_snr: float | None = None,
    max_abs: float | None = None,
    max_latency: float | str | None = None,
    max_latency_ratio: float | None = None,
    max_size: float | str | None = None,
    runs: int = RUNS,
    seconds: float = SECONDS,
    names: Mapping[str, str] | str | None = None,
    seed: int = 0,
    strict: bool = False,
    device: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    function: str | None = None,
) -> Gate:
    """Check models against limits: results, time, size. ``.passed`` tells; it prints as a table.

    What is wrong with the arguments raises; what is wrong with one model becomes its row.

    Args:
        model: a file, a model, or several of them.
        inputs: values by name or an ``.npz`` file of them; else seeded noise that fits the model.
        reference: an ONNX file, a Core ML model, or expected outputs (``.npz``, or by name).
        min_snr: signal to noise that every output must reach against the reference, in dB.
        max_abs: the largest difference that a value may have from the reference's.
        max_latency: the most time one inference may take: seconds, or ``"20ms"``.
        max_latency_ratio: the same, divided by the reference's time, measured in turns.
        max_size: the most a package may take on disk: bytes, or ``"10MB"``.
        runs: how many blocks of runs are timed at first; up to four times as many where noise
            leaves a limit open.
        seconds: the most time to spend on timing one model.
        names: the model's inputs and outputs -> the reference's, where names and order differ
            (also as text: ``"y=Identity,z=Identity_1"``).
        seed: of the noise.
        strict: whether a limit fails that noise leaves open to the end.
        device: where models that are files run.
        engine: on which engine.
        precision: ``widened`` or ``faithful``, of the models, not of the reference.
        function: which function of a file that has several.

    Raises:
        UnknownParameter: for limits that are not numbers, none at all, or that lack a reference.
        InputError: where the inputs cannot be read.
        ModelError: where the reference cannot be opened.
    """
    asked = limits(
        min_snr=min_snr,
        max_abs=max_abs,
        max_latency=max_latency,
        max_latency_ratio=max_latency_ratio,
        max_size=max_size,
    )
    if runs < 1 or seconds <= 0:
        raise UnknownParameter(f"runs={runs}, seconds={seconds}: nothing to time", hint="runs=20")

    def load(path: Path, how: str | None = precision) -> Checkable:
        # A size is checked without an engine.
        from coreml_lab.run import compiler  # noqa: PLC0415
        from coreml_lab.run.coreml import CoreMLEngine  # noqa: PLC0415

        settings = config.current()

        def loaded(*, recover: bool) -> Any:
            with config.configure(recover=recover):
                return compiler.load(
                    path, device=device, engine=engine, precision=how, function=function
                )

        # What overflows must be seen, not computed in fp32.
        faithful = (how or settings.precision) == compiler.FAITHFUL
        model = loaded(recover=settings.recover and not faithful)
        native = settings.recover and model.plan.engine == CoreMLEngine.name
        found: Checkable = loaded(recover=False) if native else model  # now from the cache
        return found

    # A reference is not made worse with the model: faithful rounding is checked against none.
    found = _reference(reference, lambda path: load(path, None), asked)
    given = arrays(Path(inputs)) if isinstance(inputs, str | Path) else inputs
    called = read(names)
    checking = Checking(asked, found, given, runs, seconds, seed, strict, SYSTEM, load, called)
    return checking.gate([model] if isinstance(model, str | Path) else _several(model))


def _several(model: Any) -> list[Any]:
    several = list(model) if isinstance(model, Sequence) else [model]
    if not several:
        raise UnknownParameter("no model is given", hint="cl.check('model.mlpackage', …)")
    return several


def _reference(source: Any, load: Load, asked: Limits) -> Reference | None:
    """The reference, where one is given; limits that need one say so."""
    if source is not None:
        found = opened(source, load, threads=config.current().threads)
        if asked.max_latency_ratio is not None and not found.timed:
            raise UnknownParameter(
                f"max_latency_ratio: {found.title} take no time",
                hint="give a reference that runs: an ONNX file or a Core ML model",
            )
        return found
    if asked.numbers or asked.max_latency_ratio is not None:
        raise UnknownParameter(
            "min_snr, max_abs and max_latency_ratio compare with a reference, and none is given",
            hint="reference='model.onnx', a .mlpackage, or expected outputs (.npz)",
        )
    return None


@dataclass(frozen=True)
class Checking:
    """How models are checked; ``load`` opens a file."""

    asked: Limits
    reference: Reference | None
    inputs: Mapping[str, Any] | None
    runs: int
    seconds: float
    seed: int
    strict: bool
    clock: Clock
    load: Load
    names: Mapping[str, str] = field(default_factory=dict)

    def gate(self, models: Sequence[Any]) -> Gate:
        """All of them."""
        return Gate(
            tuple(self._checked(model) for model in models),
            f"Inputs: seeded noise (seed {self.seed}) that fits the model, so results are "
            "simulated: on real data they may be nearer or farther."
            if self.inputs is None
            else "Inputs: the given ones.",
            "" if self.reference is None else self.reference.title,
            self.strict,
            environment(),
        )

    def _checked(self, source: Any) -> Checked:
        is_file = isinstance(source, str | Path)
        name, path = (Path(source).name, source) if is_file else (source.info.name, "")
        try:
            model: Checkable = self.load(Path(source).expanduser()) if is_file else source
            rows = self._rows(model, Path(path or model.info.package).expanduser())
        except LabError as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return refused(name, path, str(error).replace("\n", "; "))
        return Checked(name, str(path), model.plan.title, tuple(rows), self.strict)

    def _rows(self, model: Checkable, path: Path) -> list[Row]:
        provenance = Provenance.SIMULATED if self.inputs is None else Provenance.MEASURED
        inputs = self.inputs
        if inputs is None:
            inputs = noise(usual(model.inputs, model.info), self.seed)
        got = tensors(inference(model, inputs)(), model.info)
        strange = [name for name in self.names if name not in {*model.inputs, *got}]
        if strange:
            raise InputError(
                f"names: {model.info.name} has no input or output {strange[0]!r}",
                hint="one of " + ", ".join((*model.inputs, *got)),
            )
        rows, ready = [], None
        if self.reference is None:
            rows += numbers.alone(got, provenance)
        else:
            ready = self.reference.ready(model, inputs, self.names)
            pairs = matched(got, ready.results, self.reference.title, self.names)
            rows += numbers.compared(got, ready.results, pairs, self.asked, provenance)
        rows += self._times(model, inputs, ready) if self.asked.times else []
        return rows + self._size(path)

    def _times(self, model: Checkable, inputs: Mapping[str, Any], ready: Ready | None) -> list[Row]:
        found = measure(
            inference(model, inputs),
            ready.work if ready is not None else None,
            self.asked,
            rounds=self.runs,
            seconds=self.seconds,
            clock=self.clock,
        )
        named = [("time per inference", found.latency, self.asked.max_latency)]
        if found.ratio is not None:
            named.append(("time ÷ reference's", found.ratio, self.asked.max_latency_ratio))
        return [
            Row(what, "", timed.value, limit, timed.decision, note=timed.value.note)
            for what, timed, limit in named
        ]

    def _size(self, path: Path) -> list[Row]:
        limit = self.asked.max_size
        if limit is None:
            return []
        if not path.exists():
            raise InputError(f"{path} is not there: its size cannot be read", hint="give the file")
        value = Quantity(size(path), "By", Provenance.MEASURED)
        verdict = Decision.PASS if value.value <= limit else Decision.FAIL
        return [Row("size on disk", "", value, limit, verdict)]
