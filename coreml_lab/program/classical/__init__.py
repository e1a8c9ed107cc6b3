"""Models that are no tensor programs: trees, linear models, recommenders, tables of strings.

One declaration per model type (``registry``): a frozen dataclass that reads its part of the file
and evaluates itself in NumPy and Python, in doubles, as the format defines it.
"""

from __future__ import annotations
