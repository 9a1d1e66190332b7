"""Metrics: how well a model does, for a person to read."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import shown
from ..data.arrays import Targets
from ..kernels.formulas.activations import ROW_WISE
from ..settings.layers import Dense

TAKES = ("classes", "outputs")
TOP = re.compile(r"top_([1-9][0-9]{0,6})")
NOT_NAMES = ("loss", "epoch", "seconds", "learning_rate")  # columns of a History
# Functions of scikit-learn that need scores or probabilities, not classes.
SCIKIT_OUTPUTS = (
    *("average_precision_score", "brier_score_loss", "d2_brier_score", "d2_log_loss_score", "hinge_loss", "log_loss"),
    *("roc_auc_score", "top_k_accuracy_score"),
)


@dataclass(frozen=True)
class Metric:
    """A function that says how well a model does, and what it takes: for `metric` of `Model.fit` and `Model.evaluate`.

    Parameters
    ----------
    function : callable
        function(y_true, y_pred) gives a number. It gets copies.
    name : str or None
        What it is called in the result of `evaluate` and in a History. None is the function's own name.
    takes : str
        What y_pred is where y holds class indices. "classes": class indices, (n,). "outputs": the outputs, (n, n_out);
        of two classes those of class 1 alone, (n,). Where y holds numeric targets, y_true and y_pred are (n, n_out);
        with "outputs" and a single output (n,). With the loss "gaussian" and "outputs", y_pred has the means and then
        what gives the variances; else the means alone.
    weighted : bool
        Whether the function takes sample_weight, (n,), as a keyword too. It then gets the weights where there are any.

    Examples
    --------
    >>> import fastnn
    >>> from sklearn.metrics import fbeta_score
    >>> f2 = fastnn.Metric(lambda y, a: fbeta_score(y, a, beta=2), name="f2")
    >>> fastnn.Model([2, 1], init="zeros").evaluate([[0, 1], [1, 0]], [0, 1], metric=["accuracy", f2])
    {'loss': 0.125, 'accuracy': 0.5, 'f2': 0.0}
    """

    function: Callable[..., Any]
    name: str | None = None
    takes: str = "classes"
    weighted: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be callable, got {shown(self.function)}")
        name = getattr(self.function, "__name__", None) if self.name is None else self.name
        if self.name is None and not isinstance(name, str):
            name = "metric"
        if not isinstance(name, str):
            raise TypeError(f"name must be a string or None, got {shown(name)}")
        if name in NOT_NAMES or name.startswith("val_"):
            raise ValueError(f"name of a metric must be none of {NOT_NAMES} and not begin with 'val_', got {name!r}")
        object.__setattr__(self, "name", name)
        scalars.choice("takes", self.takes, TAKES)
        scalars.boolean("weighted", self.weighted)

    def score(
        self,
        targets: Targets,
        outputs: NDArray[Any],
        decide: Callable[[NDArray[Any]], NDArray[Any]],
        weights: NDArray[Any] | None,
    ) -> float:
        """Its value for outputs (n, n_out); decide gives their class indices."""
        truth = targets.truth
        if self.takes == "outputs" and outputs.shape[1] <= 1 + (targets.classes is not None):
            truth, outputs = truth.reshape(len(outputs)), outputs[:, -1]
        elif self.takes == "classes":  # of several outputs a target the first is what is predicted
            outputs = outputs[:, : truth.shape[1]] if targets.classes is None else decide(outputs)
        more = {} if weights is None or not self.weighted else {"sample_weight": weights.copy()}
        value = self.function(truth.copy(), outputs.copy(), **more)  # the kernels go on reading the originals
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"metric {self.name!r} must give a number, got {shown(value)}") from None


@np.errstate(all="ignore")
def accuracy(y_true: NDArray[Any], y_pred: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """The share of class indices, (n,), that agree; each sample counts by its weight, (n,)."""
    return float(np.average(y_true == y_pred, weights=sample_weight))


@np.errstate(all="ignore")
def top_k(y_true: NDArray[Any], outputs: NDArray[Any], sample_weight: NDArray[Any] | None = None, *, k: int) -> float:
    """The share of samples whose class has one of the k largest outputs; of equal ones the lower index counts more."""
    right = np.take_along_axis(outputs, y_true[:, None], axis=1)
    lower = np.arange(outputs.shape[1]) < y_true[:, None]
    rank = (outputs > right).sum(axis=1) + ((outputs == right) & lower).sum(axis=1)
    return float(np.average(rank < k, weights=sample_weight))


@np.errstate(all="ignore")
def log_loss(y_true: NDArray[Any], p: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """The mean of -log of the class's probability, which is taken as at least the dtype's epsilon, as scikit-learn's.

    p is (n, n_out), or (n,) of class 1.
    """
    if p.ndim == 1:
        p = np.where(y_true == 1, p, 1 - p)
    else:
        p = np.take_along_axis(p, y_true[:, None], axis=1)[:, 0]
    epsilon = np.finfo(p.dtype).eps
    return float(np.average(-np.log(np.clip(p, epsilon, 1 - epsilon), dtype=np.float64), weights=sample_weight))


@np.errstate(all="ignore")
def auc(y_true: NDArray[Any], scores: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """The area under the ROC curve, by scikit-learn: of scores (n,) for class 1.

    Of scores (n, n_out) the mean over the classes that occur, each against the rest. NaN where one class alone occurs.
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        raise ImportError("metric 'auc' needs scikit-learn: pip install scikit-learn") from None
    if sample_weight is not None:
        some = sample_weight > 0
        y_true, scores, sample_weight = y_true[some], scores[some], sample_weight[some]
    found = np.unique(y_true)
    if len(found) < 2:
        return np.nan
    if scores.ndim == 1:
        return float(roc_auc_score(y_true == 1, scores, sample_weight=sample_weight))
    return float(np.mean([roc_auc_score(y_true == k, scores[:, k], sample_weight=sample_weight) for k in found]))


@np.errstate(all="ignore")
def mae(y_true: NDArray[Any], y_pred: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """The mean absolute error, averaged over the outputs."""
    return float(np.mean(np.average(np.abs(y_true - y_pred.astype(np.float64)), axis=0, weights=sample_weight)))


@np.errstate(all="ignore")
def rmse(y_true: NDArray[Any], y_pred: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """The root of the mean squared error of each output, averaged over the outputs, as in scikit-learn."""
    squares = (y_true - y_pred.astype(np.float64)) ** 2
    return float(np.mean(np.sqrt(np.average(squares, axis=0, weights=sample_weight))))


@np.errstate(all="ignore")
def r2(y_true: NDArray[Any], y_pred: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """The coefficient of determination, 1 - sum (y - a)^2 / sum (y - mean y)^2, averaged over the outputs.

    As in scikit-learn, an output whose targets are all equal scores 1 where it is met exactly, else 0.
    """
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight / sample_weight.max().astype(np.float64)
    y_true, y_pred, weights = (array[weights > 0] for array in (y_true, y_pred, weights))
    size = np.abs(y_true, dtype=np.float64).max(axis=0)
    size = np.where(size == 0, 1, size)  # the score does not depend on it, but the squares of large targets would
    y_true = y_true / size
    residual = weights @ (y_true - y_pred / size) ** 2  # a model about to diverge scores -inf, as it should
    spread = weights @ (y_true - np.average(y_true, axis=0, weights=weights)) ** 2
    constant = (y_true == y_true[0]).all(axis=0) | (spread == 0)
    scores = 1 - residual / np.where(constant, 1, spread)
    return float(np.mean(np.where(constant, residual == 0, scores)))


METRICS = {
    **{f.__name__: Metric(f, weighted=True) for f in (accuracy, r2, mae, rmse)},
    **{f.__name__: Metric(f, takes="outputs", weighted=True) for f in (log_loss, auc)},
}
OF_CLASSES = ("accuracy", "log_loss", "auc")


def resolve(
    metric: str | Callable[..., Any] | Metric | Iterable[str | Callable[..., Any] | Metric] | None,
    targets: Targets,
    head: Dense,
) -> list[Metric]:
    """The metrics of an argument, one or several, for a model whose last layer is head.

    None means accuracy for class indices, else r2.
    """
    if metric is None:
        metric = "r2" if targets.classes is None else "accuracy"
    single = isinstance(metric, (str, Metric)) or callable(metric)
    given = [metric] if single else scalars.items("metric", metric, "a name, a callable or a list of these")
    found = [_resolve_one(each, targets, head) for each in given]
    names = [each.name for each in found]
    if not found or len(set(names)) < len(names):
        raise ValueError(f"metric must hold one or more metrics of different names (see fastnn.Metric), got {names}")
    return found


def _resolve_one(metric: Any, targets: Targets, head: Dense) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        function = metric.func if isinstance(metric, functools.partial) else metric
        module, name = (str(getattr(function, key, "")) for key in ("__module__", "__name__"))
        needs = module.startswith("sklearn.metrics") and name in SCIKIT_OUTPUTS
        return Metric(metric, name if needs else None, "outputs" if needs else "classes")
    top = TOP.fullmatch(metric) if isinstance(metric, str) else None
    name = metric if top else scalars.choice("metric", metric, [*METRICS, "top_3"])
    if targets.classes is None and (top or name in OF_CLASSES):
        raise ValueError(f"metric {name!r} needs class indices in y, got numeric targets")
    single = head.units == 1
    if name == "log_loss" and not (head._formula.gives_probabilities if single else head.activation in ROW_WISE):
        raise ValueError(
            "metric 'log_loss' needs the probabilities of a softmax, or of one output with the range (0, 1), such as "
            f"a sigmoid's, got {head}"
        )
    if not top:
        return METRICS[name]
    if head.units < 3:
        raise ValueError(f"metric {name!r} needs three outputs or more, got {head.units}")
    return Metric(functools.partial(top_k, k=int(top[1])), name, "outputs", weighted=True)
