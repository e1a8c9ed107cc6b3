"""A recording made ready for the page: with where a chip would run it, and the lines it is from."""

from __future__ import annotations

from coreml_lab.errors import LabError
from coreml_lab.explain.placement import CHIP, placement
from coreml_lab.explain.placing.page import why
from coreml_lab.records import Recording
from coreml_lab.widgets.cells import inputs_so_far
from coreml_lab.widgets.messages import Recorded
from coreml_lab.widgets.recorded import Places, recorded

TITLES = {"ne": "Neural Engine", "gpu": "GPU", "cpu": "CPU", "": "done before it runs"}


def told(recording: Recording, number: int) -> tuple[Recorded, list[bytes]]:
    """Header and buffer of the message about a recording; ``number`` is its own here."""
    places, chip = _places(recording)
    # Cells have numbers in this kernel: those of a recording from a file are another one's.
    cells = inputs_so_far() if recording.live is not None else ()
    return recorded(recording, number, places, chip, cells)


def _places(recording: Recording) -> tuple[Places, str]:
    """Where a chip would run each operation; nothing where the program cannot be placed."""
    source = recording.live[0] if recording.live is not None else recording.program.package
    try:
        found = placement(source, CHIP)
    # A path in a stranger's recording may be none: too long, or not of characters.
    except (LabError, OSError, UnicodeError):
        return {}, ""
    return {op.node: (TITLES[op.device], why(op)) for op in found.ops}, CHIP
