"""`from_sklearn`: a Pipeline of scikit-learn that ends in an MLP, or an MLP alone, as a model."""

from __future__ import annotations

from typing import Any

from ..checks import scalars
from ..checks.scalars import shown
from ..model import Model
from ..settings.losses import AnyLoss
from . import pipelines
from .describing import OF_SKLEARN, OURS, PIPELINES, networks_of, ours
from .imported import Imported, Unfit

MLPS = (*OF_SKLEARN, f"{OURS}.MLPClassifier", f"{OURS}.MLPRegressor")
LOSSES = {"clipped_cross_entropy": "cross_entropy"}  # what a model has for the same outputs


def from_sklearn(fitted: Any, *, loss: AnyLoss | None = None, rng: Any = None) -> Model:
    """A `Model` with the parameters of a fitted MLP of scikit-learn, which can be trained further.

    A Pipeline may have scalers before it: StandardScaler, MinMaxScaler, MaxAbsScaler and RobustScaler, one or several.
    They become `input_shift` and `input_scale`, so the model takes the rows that the Pipeline takes. It predicts what
    the Pipeline's `predict_proba` gives, of two classes the probability of the second one alone, or its `predict` of
    numbers, one column each. A model has no labels: `classify` gives places in `classes_`. The scaler of a
    TransformedTargetRegressor becomes part of the last layer, so the model's loss is in the units of the targets.

    Parameters
    ----------
    fitted : Pipeline, TransformedTargetRegressor, MLPClassifier or MLPRegressor
        The MLP is scikit-learn's or fastnn's. It is not changed, and shares no memory with the model.
    loss : str, Huber, Quantile or Loss
        As of `Model`. None is that of the MLP. The quadratic one is a sum over the outputs, where scikit-learn's is a
        mean over them. Penalties are arguments of `Model.fit`.
    rng : None, int or numpy.random.Generator
        Seeds the order of samples, as of `Model`.

    The dtype is that of the MLP: float32 where it was fitted to float32 rows, else float64. Names of columns stay.
    Raises ValueError for another step, which it names by its path and its class with the reason, and for what is not
    fitted; TypeError for what is neither. `fastnn.export` takes more steps, and `TabularClassifier` reads tables.

    Examples
    --------
    >>> import fastnn
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_wine(return_X_y=True)
    >>> fitted = make_pipeline(StandardScaler(), MLPClassifier(8, max_iter=1000, random_state=0)).fit(X, y)
    >>> model = fastnn.from_sklearn(fitted)
    >>> bool(abs(model.predict(X) - fitted.predict_proba(X)).max() < 1e-12)
    True
    """
    rng = scalars.generator(rng)
    if pipelines.kind_of(fitted) not in (*PIPELINES, *MLPS):
        expected = "a Pipeline, a TransformedTargetRegressor or an MLP of scikit-learn"
        raise TypeError(f"fitted must be {expected}, got {shown(fitted)}")
    steps, of_targets = pipelines.parted(fitted)
    path, last = steps[-1]
    if pipelines.kind_of(last) not in MLPS:
        raise pipelines.refused(path, last, "the last step must be an MLPClassifier or an MLPRegressor")
    for each in steps:
        pipelines.check_fitted(*each)
    network = Imported(last.n_features_in_)
    for inner, step in steps[:-1]:
        try:
            _add_scaler(network, step)
        except Unfit as error:
            raise pipelines.refused(inner, step, error) from None
    ((architecture, tensors),) = networks_of(ours(last))
    loss = LOSSES.get(architecture.loss_name, architecture.loss) if loss is None else loss
    try:
        for layer, found in zip(architecture.layers, tensors, strict=True):
            network.add(layer, **found)
        if of_targets and (architecture.loss_name == "gaussian" or architecture.head.activation != "identity"):
            raise Unfit("its outputs must be numbers of any size, because a model has no scaler of targets")
        for each in of_targets:
            _add_targets(network, *each)
        model = network.model(None, loss, architecture.dtype, rng)
    except Unfit as error:
        raise pipelines.refused(path, last, error) from None
    model._feature_names = pipelines.names_of(steps[0][1])
    return model


def _add_scaler(network: Imported, step: Any) -> None:
    """Let a network read what a scaler gives."""
    if pipelines.kind_of(step) not in pipelines.SCALERS:
        raise Unfit("a model has scalers alone; fastnn.export takes a pipeline, fastnn.TabularClassifier reads tables")
    if pipelines.limits(step) is not None:
        raise Unfit("clip must be False, because a model does not clip its inputs")
    shift, scale = pipelines.shift_and_scale(step)
    network.reads(len(shift))
    network.shift = network.shift + shift / network.scale
    network.scale = network.scale * scale


def _add_targets(network: Imported, path: str, step: Any) -> None:
    """Let the last layer do what a TransformedTargetRegressor does with its outputs."""
    for change in pipelines.of_predictions(path, step):
        if change is None:
            raise pipelines.refused(path, step, "a model has no exponential of its outputs; fastnn.export takes it")
        network.affine(*change)
