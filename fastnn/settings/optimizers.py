"""Optimizers: what a user configures. They are frozen; their state lives with the model.

A further fit with an equal optimizer goes on from that state. A fit with another optimizer starts afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from ..checks import scalars
from ..checks.scalars import shown
from . import learning_rates
from .each import Each, number_or_array
from .layers import TENSOR_NAMES
from .learning_rates import LearningRate

_Config = TypeVar("_Config")


@dataclass(frozen=True, repr=False)
class Optimizer:
    """An optimizer of batches: its learning rate, and the name of its kernel (see `kernels.update_rules`).

    clip_value limits each element of a batch's gradient, penalties included, to [-clip_value, clip_value]. clip_norm
    scales a gradient whose Euclidean norm is larger: gradient *= min(1, clip_norm / (norm + 1e-6)), as in PyTorch
    (Pascanu, Mikolov and Bengio 2013). This takes one extra pass over the gradient, on one thread. The two are mutually
    exclusive.

    learning_rate_factors multiplies the learning rate of kinds of tensors by numbers of at least 0: {"bias": 0.1} lets
    biases learn at a tenth of it, like a parameter group of PyTorch with an lr of its own, and 0 freezes them. Names
    are "weight", "bias" and "embedding", the tables of an `Embedding`. A name may have its kind of layer in front, and
    then comes before the plain one: "Dense.weight", "Dense.bias", "Scale.weight", "PReLU.weight", "LayerNorm.weight",
    "LayerNorm.bias", "BatchNorm.weight", "BatchNorm.bias", "Embedding.embedding". Names of layers that a model does not
    have are ignored.
    The step of a tensor is that by learning_rate times its factor, weight decay included; schedules, callbacks and
    `History` have the learning rate itself. The factors are kept as sorted pairs.

    For `Population.fit` each number, of a schedule its `learning_rate`, may be an array of one for each member. Factors
    may differ in a sequence of optimizers: members whose factors are equal are trained together.
    """

    learning_rate: float | LearningRate
    clip_value: float | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)
    learning_rate_factors: Mapping[str, float] | tuple[tuple[str, float], ...] | None = field(
        default=None, kw_only=True
    )

    decay_biases: ClassVar[bool] = True  # a field where there is a weight decay
    _rates: ClassVar[tuple[str, ...]] = ()  # fields in [0, 1)
    _kernel: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not self._kernel:
            raise TypeError(f"optimizer must be one such as SGD(0.1), got {type(self).__name__}, which has no rule")
        for each in fields(self):
            name, value = each.name, getattr(self, each.name)
            if name in self._rates:
                value = number_or_array(name, value, 0.0, 1.0)
            elif name == "epsilon":
                value = number_or_array(name, value, 1e-30)
            elif name == "momentum_decay":
                value = number_or_array(name, value, 0.0)
            elif name == "weight_decay":
                value = learning_rates.by_epoch(name, value, number_or_array)
            elif name in ("clip_value", "clip_norm") and value is not None:
                value = number_or_array(name, value, 0.0, open_low=True)
            elif name == "learning_rate":
                value = learning_rates.resolve(value)
            elif name == "learning_rate_factors":
                value = _checked_factors(value)
            elif name == "decay_biases":
                scalars.boolean(name, value)
            object.__setattr__(self, name, value)
        if self.clip_value is not None and self.clip_norm is not None:
            raise ValueError(f"clip_value and clip_norm exclude each other, got {self.clip_value} and {self.clip_norm}")

    def __repr__(self) -> str:
        shown = [each.name for each in fields(self) if not each.kw_only or getattr(self, each.name) != each.default]
        values = {name: getattr(self, name) for name in shown}
        if self.learning_rate_factors is not None:
            values["learning_rate_factors"] = self._factors
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    @property
    def _factors(self) -> dict[str, float]:
        """The factors of the learning rate by names, in their order."""
        return dict(self.learning_rate_factors or ())

    @property
    def _kinds_of_tensors(self) -> dict[str, Any]:
        """What the kind of a fit says of tensors that do not all follow alike, see `training_programs.Kind`."""
        return {"factors": tuple(self._factors), "decay_biases": self.decay_biases}


def _checked_factors(value: Any) -> tuple[tuple[str, float], ...] | None:
    """Factors of the learning rate by names of tensors, sorted; None where there are none."""
    if value is None:
        return None
    expected = f"learning_rate_factors must be factors by names, such as {{'bias': 0.1}}, got {shown(value)}"
    if not isinstance(value, (Mapping, list, tuple)):
        raise TypeError(expected)
    try:
        found = dict(value)
    except (TypeError, ValueError) as error:
        raise TypeError(expected) from error
    for name, factor in found.items():
        scalars.choice("names in learning_rate_factors", name, TENSOR_NAMES)
        found[name] = scalars.number(f"learning_rate_factors[{name!r}]", factor, 0.0)
    return tuple(sorted(found.items())) or None


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent: parameters -= learning_rate * gradient, the gradient averaged over the batch.

    Parameters
    ----------
    learning_rate : float, schedule or callable
        Step size, above 0. Or how it changes: a schedule such as `CosineDecay`, or a function of the epoch.
    clip_value, clip_norm : float or None
        Limit each element of the gradient, or its norm, see `Optimizer`.
    learning_rate_factors : mapping of str to float, or None
        Factors of the learning rate by kinds of tensors, such as {"bias": 0.1}, see `Optimizer`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.SGD(learning_rate=3.0)
    SGD(learning_rate=3.0)
    """

    learning_rate: float | LearningRate = 0.1

    @property
    def _kernel(self) -> str:  # type: ignore[override]
        options = self.clip_value, self.clip_norm, self.learning_rate_factors
        return "sgd" if all(each is None for each in options) else "sgd_with_gradient"


@dataclass(frozen=True, repr=False)
class Momentum(Optimizer):
    """SGD with momentum: v = momentum * v - learning_rate * gradient; parameters += v.

    Parameters
    ----------
    learning_rate : float, schedule or callable
        Step size, above 0. Or how it changes: a schedule such as `CosineDecay`, or a function of the epoch.
    momentum : float
        In [0, 1).
    nesterov : bool
        Take the gradient's step from where v leads: parameters += momentum * v - learning_rate * gradient (Sutskever,
        Martens, Dahl and Hinton 2013). Both are scikit-learn's "sgd" solver.
    clip_value, clip_norm : float or None
        Limit each element of the gradient, or its norm, see `Optimizer`.
    learning_rate_factors : mapping of str to float, or None
        Factors of the learning rate by kinds of tensors, such as {"bias": 0.1}, see `Optimizer`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Momentum(0.1, nesterov=True)
    Momentum(learning_rate=0.1, momentum=0.9, nesterov=True)
    """

    learning_rate: float | LearningRate = 0.01
    momentum: float = 0.9
    nesterov: bool = False

    _rates: ClassVar[tuple[str, ...]] = ("momentum",)

    def __post_init__(self) -> None:
        scalars.boolean("nesterov", self.nesterov)
        super().__post_init__()

    @property
    def _kernel(self) -> str:  # type: ignore[override]
        return "nesterov" if self.nesterov else "momentum"


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): steps scaled by running means of the gradient and of its square.

    parameters -= learning_rate * m_hat / (sqrt(v_hat) + epsilon), with m_hat = m / (1 - beta1^t) and
    v_hat = v / (1 - beta2^t), as in PyTorch.

    Parameters
    ----------
    learning_rate : float, schedule or callable
        Step size, above 0. Or how it changes: a schedule such as `CosineDecay`, or a function of the epoch.
    beta1, beta2 : float
        Decay of the two means, in [0, 1).
    epsilon : float
        Above 0, at least 1e-30.
    epsilon_hat : bool
        Add epsilon to the root of v itself, before its bias is corrected: the paper's "epsilon hat" (the end of its
        section 2), as scikit-learn and Keras do.
    clip_value, clip_norm : float or None
        Limit each element of the gradient, or its norm, see `Optimizer`.
    learning_rate_factors : mapping of str to float, or None
        Factors of the learning rate by kinds of tensors, such as {"bias": 0.1}, see `Optimizer`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Adam()
    Adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08, epsilon_hat=False)
    """

    learning_rate: float | LearningRate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False

    _rates: ClassVar[tuple[str, ...]] = ("beta1", "beta2")

    @property
    def _kernel(self) -> str:  # type: ignore[override]
        return "adam_hat" if self.epsilon_hat else "adam"

    def __post_init__(self) -> None:
        scalars.boolean("epsilon_hat", self.epsilon_hat)
        super().__post_init__()


@dataclass(frozen=True, repr=False)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): parameters *= 1 - learning_rate * weight_decay.

    Then the parameters take Adam's step. As in PyTorch, biases shrink too, unless decay_biases is False.

    Parameters
    ----------
    learning_rate : float, schedule or callable
        Step size, above 0. Or how it changes: a schedule such as `CosineDecay`, or a function of the epoch.
    beta1, beta2 : float
        Decay of the two means, in [0, 1).
    epsilon : float
        Above 0, at least 1e-30.
    weight_decay : float, schedule or callable
        At least 0. Or how it changes with each epoch, as the learning rate does.
    clip_value, clip_norm : float or None
        Limit each element of the gradient, or its norm, see `Optimizer`.
    learning_rate_factors : mapping of str to float, or None
        Factors of the learning rate by kinds of tensors, such as {"bias": 0.1}, see `Optimizer`.
    decay_biases : bool
        Whether all parameters shrink, as in PyTorch. False lets the weights of dense layers alone shrink, which `l2`
        penalises too: no biases, no `Scale` or `PReLU`, no normalisation, no tables.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.AdamW(weight_decay=0.1)
    AdamW(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08, weight_decay=0.1)
    """

    learning_rate: float | LearningRate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float | LearningRate = 0.01
    decay_biases: bool = field(default=True, kw_only=True)  # type: ignore[misc]

    _rates: ClassVar[tuple[str, ...]] = ("beta1", "beta2")
    _kernel: ClassVar[str] = "adamw"


@dataclass(frozen=True, repr=False)
class Nadam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2016), as PyTorch's NAdam.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2) takes the place of beta1 in the corrections, and the step is
    mu_(t+1) m / (1 - mu_1 .. mu_(t+1)) + (1 - mu_t) gradient / (1 - mu_1 .. mu_t), in place of Adam's m_hat.

    Parameters
    ----------
    learning_rate : float, schedule or callable
        Step size, above 0. Or how it changes: a schedule such as `CosineDecay`, or a function of the epoch.
    beta1, beta2 : float
        Decay of the two means, in [0, 1).
    epsilon : float
        Above 0, at least 1e-30.
    momentum_decay : float
        At least 0.
    clip_value, clip_norm : float or None
        Limit each element of the gradient, or its norm, see `Optimizer`.
    learning_rate_factors : mapping of str to float, or None
        Factors of the learning rate by kinds of tensors, such as {"bias": 0.1}, see `Optimizer`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Nadam()
    Nadam(learning_rate=0.002, beta1=0.9, beta2=0.999, epsilon=1e-08, momentum_decay=0.004)
    """

    learning_rate: float | LearningRate = 0.002
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum_decay: float = 0.004

    _rates: ClassVar[tuple[str, ...]] = ("beta1", "beta2")
    _kernel: ClassVar[str] = "nadam"

    @property
    def _shrink(self) -> float:
        return float(0.96**self.momentum_decay)


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """Steps scaled by a running mean of the gradient's square (Tieleman and Hinton 2012), as in PyTorch.

    v = alpha * v + (1 - alpha) * gradient^2; parameters -= learning_rate * gradient / (sqrt(v) + epsilon).

    Parameters
    ----------
    learning_rate : float, schedule or callable
        Step size, above 0. Or how it changes: a schedule such as `CosineDecay`, or a function of the epoch.
    alpha : float
        Decay of the mean, in [0, 1).
    epsilon : float
        Above 0, at least 1e-30.
    clip_value, clip_norm : float or None
        Limit each element of the gradient, or its norm, see `Optimizer`.
    learning_rate_factors : mapping of str to float, or None
        Factors of the learning rate by kinds of tensors, such as {"bias": 0.1}, see `Optimizer`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.RMSprop()
    RMSprop(learning_rate=0.01, alpha=0.99, epsilon=1e-08)
    """

    learning_rate: float | LearningRate = 0.01
    alpha: float = 0.99
    epsilon: float = 1e-8

    _rates: ClassVar[tuple[str, ...]] = ("alpha",)
    _kernel: ClassVar[str] = "rmsprop"


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """Steps scaled by the sum of all squares of the gradient (Duchi, Hazan and Singer 2011), as in PyTorch.

    v += gradient^2; parameters -= learning_rate * gradient / (sqrt(v) + epsilon).

    Parameters
    ----------
    learning_rate : float, schedule or callable
        Step size, above 0. Or how it changes: a schedule such as `CosineDecay`, or a function of the epoch.
    epsilon : float
        Above 0, at least 1e-30.
    clip_value, clip_norm : float or None
        Limit each element of the gradient, or its norm, see `Optimizer`.
    learning_rate_factors : mapping of str to float, or None
        Factors of the learning rate by kinds of tensors, such as {"bias": 0.1}, see `Optimizer`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Adagrad()
    Adagrad(learning_rate=0.01, epsilon=1e-10)
    """

    learning_rate: float | LearningRate = 0.01
    epsilon: float = 1e-10

    _kernel: ClassVar[str] = "adagrad"


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Steps of one size in the direction of a mean's sign (Chen et al. 2023, "Symbolic discovery").

    parameters -= learning_rate * (sign(beta1 * m + (1 - beta1) * gradient) + weight_decay * parameters); then
    m = beta2 * m + (1 - beta2) * gradient.

    Parameters
    ----------
    learning_rate : float, schedule or callable
        Step size, above 0. Or how it changes: a schedule such as `CosineDecay`, or a function of the epoch.
    beta1, beta2 : float
        Decay of the means, in [0, 1).
    weight_decay : float, schedule or callable
        At least 0. Or how it changes with each epoch, as the learning rate does.
    clip_value, clip_norm : float or None
        Limit each element of the gradient, or its norm, see `Optimizer`.
    learning_rate_factors : mapping of str to float, or None
        Factors of the learning rate by kinds of tensors, such as {"bias": 0.1}, see `Optimizer`.
    decay_biases : bool
        Whether all parameters shrink, as in PyTorch. False lets the weights of dense layers alone shrink, which `l2`
        penalises too: no biases, no `Scale` or `PReLU`, no normalisation, no tables.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Lion()
    Lion(learning_rate=0.0001, beta1=0.9, beta2=0.99, weight_decay=0.0)
    """

    learning_rate: float | LearningRate = 0.0001
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float | LearningRate = 0.0
    decay_biases: bool = field(default=True, kw_only=True)  # type: ignore[misc]

    _rates: ClassVar[tuple[str, ...]] = ("beta1", "beta2")
    _kernel: ClassVar[str] = "lion"


@dataclass(frozen=True, repr=False)
class Rprop(Optimizer):
    """Steps whose sizes follow the signs of the gradient (Riedmiller and Braun 1993), as in PyTorch.

    Each parameter has a step size: parameters -= sign(gradient) * step size. The size is multiplied by eta_plus where
    the gradient keeps its sign. Where it changes its sign, the size is multiplied by eta_minus, and the parameter takes
    no step. The signs of a mini-batch's gradient are too random, so batch_size must be the number of samples, or more.

    Parameters
    ----------
    learning_rate : float
        The first step size, above 0.
    eta_minus, eta_plus : float
        In (0, 1), and above 1.
    smallest, largest : float
        Limits of the step sizes, above 0.
    clip_value, clip_norm : float or None
        Limit each element of the gradient, or its norm, see `Optimizer`.
    learning_rate_factors : None
        It takes none, because its learning rate is only where the step sizes begin.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Rprop()
    Rprop(learning_rate=0.01, eta_minus=0.5, eta_plus=1.2, smallest=1e-06, largest=50.0)
    """

    learning_rate: float | LearningRate = 0.01
    eta_minus: float = 0.5
    eta_plus: float = 1.2
    smallest: float = 1e-6
    largest: float = 50.0

    _rates: ClassVar[tuple[str, ...]] = ("eta_minus",)
    _kernel: ClassVar[str] = "rprop"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.learning_rate, LearningRate):
            raise TypeError(f"learning_rate of Rprop must be a number, got {shown(self.learning_rate)}")
        if self.learning_rate_factors is not None:
            what = f"{self._factors}, but its learning rate is only where the step sizes begin"
            raise ValueError(f"learning_rate_factors of Rprop must be None, got {what}")
        for name, low in (("eta_plus", 1.0), ("smallest", 0.0), ("largest", 0.0)):
            value = number_or_array(name, getattr(self, name), low, open_low=True)
            object.__setattr__(self, name, value)


class FullBatch:
    """An optimizer that takes all samples in each step."""


@dataclass(frozen=True)
class LevenbergMarquardt(FullBatch):
    """Damped Gauss-Newton steps (Levenberg 1944, Marquardt 1963), for regression with few parameters.

    (J'J / n + l2 + damping) step = gradient, with the derivatives J of all outputs by all parameters. The loss must be
    quadratic. After a step that lowers the loss, the damping is divided by `factor`. A step that does not is taken
    back, and the damping is multiplied by `factor` (Hagan and Menhaj 1994). An epoch of `fit` is a step that was kept.
    batch_size must be the number of samples, or more. The time of an epoch grows with the number of samples times the
    square of the number of parameters, and with the cube of the number of parameters. A fit ends before its last epoch
    when it has converged. dtype="float64" is recommended. Only NumPy's products use several threads.

    Parameters
    ----------
    damping : float
        The damping of the first step, above 0.
    factor : float
        By which the damping changes, above 1.
    tolerance : float
        A fit has converged when no element of the gradient is larger, at least 0; or when no step lowers the loss.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> model = fastnn.Model([1, fastnn.Dense(8, "tanh"), 1], output="identity", dtype="float64", rng=0)
    >>> history = model.fit(X, X**2, epochs=50, batch_size=50, optimizer=fastnn.LevenbergMarquardt())
    >>> model.loss(X, X**2) < 1e-8
    True
    """

    damping: float = 1e-3
    factor: float = 10.0
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        for name, low, is_open in (("damping", 0.0, True), ("factor", 1.0, True), ("tolerance", 0.0, False)):
            value = scalars.number(name, getattr(self, name), low, open_low=is_open)
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class LBFGS(FullBatch):
    """L-BFGS on the whole set (Liu and Nocedal 1989), by SciPy: few parameters, few samples, a smooth loss.

    An epoch of `fit` is an iteration, which takes one or more passes over the samples. batch_size must be the number of
    samples, or more. `history.loss` is the loss before each iteration. A fit ends before its last epoch when it has
    converged. The estimate of the curvature ends with the fit, so two fits do not give the bits of a longer one. It
    needs SciPy, and uses one thread.

    Parameters
    ----------
    memory : int
        From how many of the last steps the curvature is estimated, at least 1.
    tolerance : float
        A fit has converged when no element of the gradient is larger, at least 0.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> model = fastnn.Model([1, fastnn.Dense(8, "tanh"), 1], output="identity", dtype="float64", rng=0)
    >>> history = model.fit(X, X**2, epochs=200, batch_size=50, optimizer=fastnn.LBFGS())
    >>> model.loss(X, X**2) < 1e-5
    True
    """

    memory: int = 10
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", scalars.integer("memory", self.memory, 1, 1000))
        object.__setattr__(self, "tolerance", scalars.number("tolerance", self.tolerance, 0.0))


# Fields that files of before do not have, and what they are there. A file has one only where it is something else.
_LATER: dict[str, Any] = {"learning_rate_factors": None, "decay_biases": True}


def described(config: Optimizer | LearningRate) -> dict[str, Any] | None:
    """What a file holds of an optimizer or a schedule; None where it contains a function or a class of the user."""
    if type(config) not in _KNOWN.values():
        return None
    settings = {name: value for name, value in vars(config).items() if name not in _LATER or value != _LATER[name]}
    if isinstance(config, Optimizer) and config._factors:
        settings["learning_rate_factors"] = config._factors
    changing = {name: described(schedule) for name, schedule in schedules(config).items()}
    if None in changing.values():
        return None
    return {"name": type(config).__name__, "settings": settings | changing}


def restored(description: dict[str, Any]) -> Any:
    """The optimizer or schedule that `described` describes."""
    made, settings = _KNOWN[scalars.choice("name", description["name"], _KNOWN)], dict(description["settings"])
    for name, value in settings.items():
        if isinstance(value, dict) and name != "learning_rate_factors":
            settings[name] = restored(value)
    return made(**settings)


def arrays_of(config: Optimizer | LearningRate) -> list[str]:
    """The names of the numbers that are arrays of one for each member of a population."""
    found = [name for name, value in vars(config).items() if type(value) is Each]
    return found + [name for schedule in schedules(config).values() for name in arrays_of(schedule)]


def check_no_arrays(config: Optimizer | LearningRate) -> None:
    """Raise where one of the numbers is an array of one for each member."""
    if found := arrays_of(config):
        what = f"{found[0]} of {type(config).__name__}"
        raise ValueError(f"{what} must be a number here, got an array; Population.fit takes arrays")


def schedules(config: Optimizer | LearningRate) -> dict[str, LearningRate]:
    """The numbers that change, by their names."""
    return {name: value for name, value in vars(config).items() if isinstance(value, LearningRate)}


def per_of(optimizer: Optimizer) -> str:
    """What the numbers of an optimizer change with: "step" where one does, else "epoch"; "" where none changes."""
    return learning_rates.per_of(optimizer.learning_rate) or ("epoch" if decay_schedule(optimizer) else "")


def decay_schedule(optimizer: Optimizer) -> LearningRate | None:
    """The schedule of the weight decay; None where it is constant, or there is none."""
    decay = getattr(optimizer, "weight_decay", None)
    return decay if isinstance(decay, LearningRate) else None


def as_it_is(optimizer: _Config) -> _Config:
    """A copy, which nobody else can change. `copy.copy` makes the same and takes three times as long."""
    made = object.__new__(type(optimizer))
    vars(made).update(vars(optimizer))
    return made


BY_NAME: dict[str, Callable[[], Optimizer]] = {
    each.__name__.lower(): each for each in (SGD, Momentum, Adam, AdamW, Nadam, RMSprop, Adagrad, Lion, Rprop)
}

_CLASSES: tuple[Any, ...] = (*BY_NAME.values(), *learning_rates.NAMED)
_KNOWN: dict[str, Any] = {each.__name__: each for each in _CLASSES}


def resolve(optimizer: Optimizer | str) -> Optimizer:
    """The optimizer object for a name or an object; it must take steps by batches, and hold no arrays."""
    if isinstance(optimizer, Optimizer):
        check_no_arrays(optimizer)
        return optimizer
    if isinstance(optimizer, LBFGS):
        raise ValueError("optimizer LBFGS takes no steps by batches: use it in fit")
    if isinstance(optimizer, str):
        return BY_NAME[scalars.choice("optimizer", optimizer, BY_NAME)]()
    raise TypeError(
        f"optimizer must be an optimizer such as SGD(0.1) or one of {list(BY_NAME)}, got {shown(optimizer)}"
    )
