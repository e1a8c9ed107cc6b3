"""plan(): what the hybrid engine would do with a model at this moment."""

from __future__ import annotations

from coreml_lab.run import hybrid
from coreml_lab.run.compiler import cache, engines
from coreml_lab.run.model import Model
from coreml_lab.run.planner import Plan
from coreml_lab.run.selection import everywhere, informed
from coreml_lab.run.split.strategy import Strategy, current, found


def plan(model: Model, aim: str | Strategy | None = None) -> Plan:
    """How ``engine="hybrid"`` would split a model now; printed, a sentence for each segment.

    Nothing is run. Times of operations come from earlier recordings of this machine
    (``cl.profile`` keeps them), and are rules of thumb where there are none.

    Args:
        model: the model.
        aim: as in ``cl.strategy`` (default: the strategy in force).

    Raises:
        UnknownParameter: for a strategy that there is not.
    """
    chosen = current() if aim is None else found(aim)
    engine = informed(everywhere(engines()), cache(), chosen)
    assert isinstance(engine, hybrid.HybridEngine)  # noqa: S101 - informed keeps the kind
    return engine.plan(model.program, model.options)
