"""fastnn: train and run small neural networks on a CPU, fast.

>>> import fastnn
>>> X, y = fastnn.load_digits()
>>> model = fastnn.Model([64, 32, 10], rng=0)
>>> history = model.fit(X, y, epochs=20, batch_size=10, optimizer=fastnn.SGD(3.0))
>>> bool(model.evaluate(X, y)["accuracy"] > 0.95)
True

Public names are loaded when first used: `import fastnn` itself imports nothing heavy.
"""

import os as _os
from importlib import import_module

__version__ = "0.2.0"

# Where each public name is. `__init__.pyi` says the same to type checkers.
_HOME = {
    "Activation": "settings.custom",
    "Adagrad": "settings.optimizers",
    "Adam": "settings.optimizers",
    "AdamW": "settings.optimizers",
    "BatchNorm": "settings.layers",
    "CSVLogger": "reports.callbacks",
    "CosineDecay": "settings.learning_rates",
    "Dense": "settings.layers",
    "DivergenceError": "reports.history",
    "EarlyStopping": "reports.callbacks",
    "Embedding": "settings.layers",
    "ExponentialDecay": "settings.learning_rates",
    "GroupModel": "group_models",
    "GroupModels": "group_models",
    "Halving": "settings.stopping",
    "History": "reports.history",
    "Huber": "settings.losses",
    "InverseScaling": "settings.learning_rates",
    "LBFGS": "settings.optimizers",
    "LayerNorm": "settings.layers",
    "LevenbergMarquardt": "settings.optimizers",
    "Lion": "settings.optimizers",
    "Loss": "settings.custom",
    "MLPClassifier": "estimators.estimators",
    "MLPEnsembleClassifier": "estimators.ensembles",
    "MLPEnsembleRegressor": "estimators.ensembles",
    "MLPRegressor": "estimators.estimators",
    "Metric": "reports.metrics",
    "Model": "model",
    "ModelCheckpoint": "reports.callbacks",
    "Momentum": "settings.optimizers",
    "Nadam": "settings.optimizers",
    "OneCycle": "settings.learning_rates",
    "PReLU": "settings.layers",
    "Patience": "settings.stopping",
    "Population": "population",
    "PopulationHistory": "reports.population_history",
    "Predictor": "predictor",
    "Processes": "distributed.processes",
    "Quantile": "settings.losses",
    "RMSprop": "settings.optimizers",
    "Ray": "distributed.ray_cluster",
    "RateFunction": "settings.learning_rates",
    "ReduceOnPlateau": "reports.callbacks",
    "Residual": "settings.layers",
    "Rprop": "settings.optimizers",
    "SGD": "settings.optimizers",
    "Scale": "settings.layers",
    "StepDecay": "settings.learning_rates",
    "Stream": "data.streams",
    "TabularClassifier": "estimators.tabular",
    "TabularRegressor": "estimators.tabular",
    "TargetReached": "reports.callbacks",
    "TimeLimit": "reports.callbacks",
    "export": "exchange.exporting",
    "find_learning_rate": "rate_search",
    "fit_groups": "group_models",
    "from_keras": "exchange.keras_import",
    "from_onnx": "exchange.onnx_reading",
    "from_sklearn": "exchange.from_sklearn",
    "from_torch": "exchange.from_torch",
    "load": "loading",
    "load_digits": "data.idx",
    "load_idx": "data.idx",
    "one_hot": "data.idx",
    "plot_confusion_matrix": "plots",
    "plot_wrong": "plots",
    "standardize": "data.standardize",
    "verify": "exchange.verifying",
    "windows": "data.windows",
}
_MODULES = {"plots": "plots", "optimizers": "settings.optimizers", "search": "search"}
__all__ = [*_HOME]


def _refuse_the_other_fastnn() -> None:
    """Raise ImportError where PyPI's project `fastnn` is installed in the same folder: the two replace files of each
    other. Where this package is imported from another folder, the other one changes nothing."""
    try:
        names = _os.listdir(_os.path.dirname(__path__[0]))
    except OSError:  # a zip file, a bundle
        return
    for name in names:
        if name.startswith("fastnn-") and name.endswith((".dist-info", ".egg-info")):
            raise ImportError(
                f"another package with the same folder is installed, PyPI's project fastnn "
                f"({name.rpartition('.')[0].removeprefix('fastnn-')}), and the two replace files of each other: "
                "pip uninstall -y fastnn && pip install --force-reinstall --no-deps fastnn-numba"
            )


_refuse_the_other_fastnn()


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"fastnn.{_MODULES[name]}")
    if name not in _HOME:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    value = getattr(import_module(f"fastnn.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
