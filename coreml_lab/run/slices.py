"""Long batches run in slices: what an engine holds meanwhile is that of a slice, not of all.

Only where rows are known to be independent, which is tried once (see ``rows``).
"""

from __future__ import annotations

from typing import Any

from coreml_lab.program.graph import Array
from coreml_lab.run.call import Call
from coreml_lab.run.cutting import cut, joined
from coreml_lab.run.engine import Loaded
from coreml_lab.run.executor import Executor


class Slices(Executor):
    """An executor whose runs take ``most`` rows at a time; one inference is still one run."""

    def __init__(self, most: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._most = most

    def _run(self, loaded: Loaded, call: Call) -> dict[str, Array]:
        parts = [] if self.sizes is None else cut(call.inputs, self._most, self.sizes)
        if call.state is not None or not parts or not self.batched_within(call.limit):
            return super()._run(loaded, call)
        run = super()._run
        return joined([(run(loaded, call._replace(inputs=part)), kept) for part, kept in parts])
