"""Classic neural networks (``neuralNetwork`` and its classifier and regressor) as ML Programs.

``translate`` writes the same model as a package that holds an ML Program; everything behind it
(engines, profiler, placement, optimizer) knows ML Programs only. One declaration per layer type
says what becomes of it, in files by family; what they mean is in NeuralNetwork.proto's comments.
"""

from __future__ import annotations

from coreml_lab.program.mil.neural_network.registry import LAYERS
from coreml_lab.program.mil.neural_network.translation import is_classic, translate

__all__ = ["LAYERS", "is_classic", "translate"]
