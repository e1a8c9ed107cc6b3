"""Model packages written anew with one thing changed, each an ordinary package that Core ML takes.

``methods`` is the table of them; ``package`` opens and writes; the others change: ``weights`` how
weights are stored, ``precision`` in what type is computed, ``layout`` the form of layers,
``interface`` shapes and kinds of inputs, ``functions`` what a file holds.
"""

from coreml_lab.program.mil import tools as tools
