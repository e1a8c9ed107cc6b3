"""The Core ML worker as it is, on the strict double: what tests start where there is no Mac."""

from __future__ import annotations

import sys

import coreml_lab as cl
from coreml_lab.run import worker
from tests.support import seam_double

if __name__ == "__main__":
    cl.configure(rivals=False)
    seam_double.install()
    worker.main(sys.argv[1:])
