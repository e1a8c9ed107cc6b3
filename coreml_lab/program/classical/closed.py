"""Model types that need Apple's frameworks, or what is not in the file: why each cannot run."""

from __future__ import annotations

APPLE = "Apple's closed framework is needed: {}"

CLOSED: dict[str, str] = {
    "visionFeaturePrint": APPLE.format("Vision computes its feature print"),
    "audioFeaturePrint": APPLE.format("Sound Analysis computes its feature print"),
    "soundAnalysisPreprocessing": APPLE.format("Sound Analysis prepares its sounds"),
    "textClassifier": APPLE.format("Natural Language classifies its texts"),
    "wordTagger": APPLE.format("Natural Language tags its words"),
    "gazetteer": APPLE.format("Natural Language looks its words up"),
    "wordEmbedding": APPLE.format("Natural Language embeds its words"),
    "serializedModel": APPLE.format("the file holds what only that framework reads"),
    "customModel": "the app that brings its code is needed: the file holds a class's name alone",
    "bayesianProbitRegressor": "its format leaves out how steep the link function is: the file "
    "does not say what its probabilities are",
    "classConfidenceThresholding": "its format holds curves of precision and recall, and does not "
    "say what a model with them gives",
}
