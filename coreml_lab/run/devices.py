"""Where programs can run, and why not elsewhere."""

from __future__ import annotations


def resolve(device: str) -> str:
    """The full name of a device: ``coreml`` is ``coreml:0``."""
    return device if ":" in device or device == "cpu" else f"{device}:0"
