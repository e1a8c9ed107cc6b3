"""Long batches run in slices: what an engine holds meanwhile is that of a slice, not of all.

Only where rows are known to be independent, which is tried once (see ``rows``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.run.call import Call
from coreml_lab.run.engine import Loaded
from coreml_lab.run.executor import Executor


class Slices(Executor):
    """An executor whose runs take ``most`` rows at a time; one inference is still one run."""

    def __init__(self, most: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._most = most

    def _run(self, loaded: Loaded, call: Call) -> dict[str, Array]:
        size = min((a.shape[0] if a.ndim else 0 for a in call.inputs.values()), default=0)
        if call.state is not None or size <= self._most or not self.batched:
            return super()._run(loaded, call)
        parts = (
            {k: a[low : low + self._most] for k, a in call.inputs.items()}
            for low in range(0, size, self._most)
        )
        run = super()._run
        results = [run(loaded, call._replace(inputs=part)) for part in parts]
        return {name: np.concatenate([r[name] for r in results]) for name in results[0]}
