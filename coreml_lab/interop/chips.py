"""Which Apple chip compute plans are estimated for: that of the runtime installed last."""

from __future__ import annotations

from typing import Protocol

from coreml_lab.explain.placing import tables
from coreml_lab.explain.placing.tables import Chip

# Whose plan is estimated where nothing is said.
CHIP = "M4"


class Installation(Protocol):
    """An installed runtime."""

    chip: Chip


INSTALLED: list[Installation] = []


def chip() -> Chip:
    """The chip that compute plans are estimated for."""
    return INSTALLED[-1].chip if INSTALLED else tables.chip(CHIP)
