"""fastnn: train and run small neural networks on a CPU, fast.

>>> import fastnn
>>> X, y = fastnn.load_digits()
>>> model = fastnn.Model([64, 32, 10], rng=0)
>>> history = model.fit(X, y, epochs=20, batch_size=10, optimizer=fastnn.SGD(3.0))
>>> bool(model.evaluate(X, y)["accuracy"] > 0.95)
True

Public names are loaded when first used: `import fastnn` itself imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .callbacks import CSVLogger, EarlyStopping, ModelCheckpoint, ReduceOnPlateau, TargetReached, TimeLimit
    from .custom import Activation, Loss
    from .data import load_digits, load_idx, one_hot
    from .estimators import MLPClassifier, MLPRegressor
    from .history import DivergenceError, History
    from .layers import BatchNorm, Dense, LayerNorm, Residual, Scale
    from .learning_rates import CosineDecay, ExponentialDecay, InverseScaling, OneCycle, StepDecay
    from .loading import load
    from .losses import Huber, Quantile
    from .metrics import Metric
    from .model import Model
    from .optimizers import LBFGS, SGD, Adagrad, Adam, AdamW, LevenbergMarquardt, Lion, Momentum, Nadam, RMSprop, Rprop
    from .plots import plot_confusion_matrix, plot_wrong
    from .rates import find_learning_rate
    from .streams import Stream

__version__ = "0.1.0"

_HOME = {
    "Activation": "custom",
    "Adagrad": "optimizers",
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "BatchNorm": "layers",
    "CSVLogger": "callbacks",
    "CosineDecay": "learning_rates",
    "Dense": "layers",
    "DivergenceError": "history",
    "EarlyStopping": "callbacks",
    "ExponentialDecay": "learning_rates",
    "History": "history",
    "Huber": "losses",
    "InverseScaling": "learning_rates",
    "LBFGS": "optimizers",
    "LayerNorm": "layers",
    "LevenbergMarquardt": "optimizers",
    "Lion": "optimizers",
    "Loss": "custom",
    "MLPClassifier": "estimators",
    "MLPRegressor": "estimators",
    "Metric": "metrics",
    "Model": "model",
    "ModelCheckpoint": "callbacks",
    "Momentum": "optimizers",
    "Nadam": "optimizers",
    "OneCycle": "learning_rates",
    "Quantile": "losses",
    "RMSprop": "optimizers",
    "ReduceOnPlateau": "callbacks",
    "Residual": "layers",
    "Rprop": "optimizers",
    "SGD": "optimizers",
    "Scale": "layers",
    "StepDecay": "learning_rates",
    "Stream": "streams",
    "TargetReached": "callbacks",
    "TimeLimit": "callbacks",
    "find_learning_rate": "rates",
    "load": "loading",
    "load_digits": "data",
    "load_idx": "data",
    "one_hot": "data",
    "plot_confusion_matrix": "plots",
    "plot_wrong": "plots",
}
__all__ = [
    "LBFGS",
    "SGD",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "CSVLogger",
    "CosineDecay",
    "Dense",
    "DivergenceError",
    "EarlyStopping",
    "ExponentialDecay",
    "History",
    "Huber",
    "InverseScaling",
    "LayerNorm",
    "LevenbergMarquardt",
    "Lion",
    "Loss",
    "MLPClassifier",
    "MLPRegressor",
    "Metric",
    "Model",
    "ModelCheckpoint",
    "Momentum",
    "Nadam",
    "OneCycle",
    "Quantile",
    "RMSprop",
    "ReduceOnPlateau",
    "Residual",
    "Rprop",
    "Scale",
    "StepDecay",
    "Stream",
    "TargetReached",
    "TimeLimit",
    "find_learning_rate",
    "load",
    "load_digits",
    "load_idx",
    "one_hot",
    "plot_confusion_matrix",
    "plot_wrong",
]


def __getattr__(name: str) -> object:
    if name == "plots":
        return import_module("fastnn.plots")
    if name not in _HOME:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    value = getattr(import_module(f"fastnn.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
