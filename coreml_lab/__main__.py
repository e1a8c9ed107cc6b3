"""``python -m coreml_lab``: the command line."""

from __future__ import annotations

import sys

from coreml_lab.cli import run

if __name__ == "__main__":
    sys.exit(run())
