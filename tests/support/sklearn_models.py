"""Models of scikit-learn, converted by coremltools: ``python -m tests.support.sklearn_models DIR``.

coremltools 9.0 switches its converters off for scikit-learn after 1.5.1. They read attributes that
fitted models still have, so it is told that this is 1.5.1 while it is imported, in a process of its
own; a logistic regression is given the attribute that is gone. Each model is written as
``NAME.mlmodel``, with examples and scikit-learn's own answers in ``NAME.npz``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn import ensemble, linear_model, multiclass, neighbors, svm, tree

NEWEST = "1.5.1"
NAMES = ["a", "b", "c", "d"]
# Numbers of 32 bits: scikit-learn's trees round what they are given to those.
X = np.random.default_rng(0).standard_normal((240, 4)).astype(np.float32).astype(np.float64)
Y = X[:, 0] + np.sin(2 * X[:, 1]) - X[:, 2] * X[:, 3]
TWO = np.where(Y > 0, "high", "low")
THREE = np.digitize(Y, [-1, 1]) * 10
SEEN, FRESH = slice(0, 200), slice(200, None)


def _logistic(target: Any) -> Any:
    """Logistic regression with one row per class, as coremltools' converter asks."""
    if len(set(target)) == 2:
        found = linear_model.LogisticRegression().fit(X[SEEN], target[SEEN])
        found.multi_class = "ovr"
        return found
    each = multiclass.OneVsRestClassifier(linear_model.LogisticRegression())
    each.fit(X[SEEN], target[SEEN])
    found = linear_model.LogisticRegression().fit(X[SEEN], target[SEEN])
    found.coef_ = np.concatenate([e.coef_ for e in each.estimators_])
    found.intercept_ = np.concatenate([e.intercept_ for e in each.estimators_])
    found.multi_class, found.predict, found.predict_proba = "ovr", each.predict, each.predict_proba
    return found


def _fit(model: Any, target: Any) -> Callable[[], Any]:
    return lambda: model.fit(X[SEEN], target[SEEN])


MODELS: dict[str, Callable[[], Any]] = {
    "linear": _fit(linear_model.LinearRegression(), Y),
    "ridge": _fit(linear_model.Ridge(), Y),
    "linear_svr": _fit(svm.LinearSVR(random_state=0), Y),
    "svr": _fit(svm.SVR(), Y),
    "nu_svr_poly": _fit(svm.NuSVR(kernel="poly", coef0=1.0), Y),
    "tree": _fit(tree.DecisionTreeRegressor(max_depth=6, random_state=0), Y),
    "forest": _fit(ensemble.RandomForestRegressor(10, max_depth=6, random_state=0), Y),
    "boosted": _fit(ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0), Y),
    "logistic_2": lambda: _logistic(TWO),
    "logistic_3": lambda: _logistic(THREE),
    "linear_svc": _fit(svm.LinearSVC(random_state=0), TWO),
    "svc_2": _fit(svm.SVC(), TWO),
    "svc_3": _fit(svm.SVC(kernel="poly", coef0=0.5), THREE),
    "svc_3_sigmoid": _fit(svm.SVC(kernel="sigmoid"), THREE),
    "svc_3_probable": _fit(svm.SVC(probability=True, random_state=0), THREE),
    "nu_svc_2_probable": _fit(svm.NuSVC(probability=True, random_state=0), TWO),
    "tree_2": _fit(tree.DecisionTreeClassifier(max_depth=5, random_state=0), TWO),
    "tree_3": _fit(tree.DecisionTreeClassifier(max_depth=5, random_state=0), THREE),
    "forest_2": _fit(ensemble.RandomForestClassifier(10, max_depth=6, random_state=0), TWO),
    "forest_3": _fit(ensemble.RandomForestClassifier(10, max_depth=6, random_state=0), THREE),
    "boosted_2": _fit(ensemble.GradientBoostingClassifier(n_estimators=15, random_state=0), TWO),
    "boosted_3": _fit(ensemble.GradientBoostingClassifier(n_estimators=15, random_state=0), THREE),
    # Of neighbours' labels coremltools writes the places, so those are the labels.
    "neighbours": _fit(neighbors.KNeighborsClassifier(7), THREE // 10),
    "neighbours_kd": _fit(neighbors.KNeighborsClassifier(3, algorithm="kd_tree"), THREE // 10),
}


def answers(model: Any) -> dict[str, Any]:
    """What scikit-learn says of examples that the model has not seen."""
    found = {"x": X[FRESH], "y": model.predict(X[FRESH])}
    if hasattr(model, "predict_proba"):
        found["chances"] = model.predict_proba(X[FRESH])
        if isinstance(model, svm.SVC | svm.NuSVC):
            # LIBSVM's label is the most probable one where it has probabilities, not the voted one.
            found["y"] = model.classes_[found["chances"].argmax(axis=1)]
    return found


def main() -> None:
    """Write every model and its answers."""
    folder, version = Path(sys.argv[1]), sklearn.__version__
    sklearn.__version__ = NEWEST
    from coremltools.converters import sklearn as converters

    sklearn.__version__ = version
    for name, fit in MODELS.items():
        model = fit()
        names = "x" if name.startswith("neighbours") else NAMES
        converters.convert(model, names, "y").save(str(folder / f"{name}.mlmodel"))
        np.savez(folder / f"{name}.npz", **answers(model))


if __name__ == "__main__":
    main()
