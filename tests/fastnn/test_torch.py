"""Formulas and defaults against PyTorch's, in float64, where it is installed (the extra `bench`)."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fastnn import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    BatchNorm,
    CosineDecay,
    Dense,
    ExponentialDecay,
    Huber,
    LayerNorm,
    Lion,
    Model,
    Momentum,
    Nadam,
    OneCycle,
    PReLU,
    Residual,
    RMSprop,
    Rprop,
    Scale,
    StepDecay,
)
from fastnn.kernels.formulas import loss_functions

from .. import cases

torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is in the extra bench")
F, optim = torch.nn.functional, torch.optim
pytestmark = pytest.mark.slow

ACTIVATIONS = {
    **{name: getattr(F, name) for name in ("relu", "leaky_relu", "elu", "selu", "silu", "mish", "softplus", "gelu")},
    **{name: getattr(torch, name) for name in ("sigmoid", "tanh")},
    "hard_sigmoid": F.hardsigmoid,
}
LOSSES = {
    "quadratic": lambda a, y: ((a - y) ** 2).sum() / 2 / len(a),
    "absolute_error": lambda a, y: F.l1_loss(a, y, reduction="sum") / len(a),
    "huber": lambda a, y: F.huber_loss(a, y, reduction="sum") / len(a),
    Huber(0.4): lambda a, y: F.huber_loss(a, y, reduction="sum", delta=0.4) / len(a),
    "hinge": lambda a, y: F.hinge_embedding_loss(a * y, -torch.ones_like(a), reduction="sum") / len(a),
}
OPTIMIZERS = {
    "sgd": (SGD(0.1), lambda p: optim.SGD(p, 0.1)),
    "adam": (Adam(), optim.Adam),
    "adamw": (AdamW(), optim.AdamW),
    "nadam": (Nadam(), optim.NAdam),
    "rmsprop": (RMSprop(), optim.RMSprop),
    "adagrad": (Adagrad(), optim.Adagrad),
}
SCHEDULES = {
    "step": (StepDecay(0.3, 4, 0.7), lambda o: optim.lr_scheduler.StepLR(o, 4, 0.7)),
    "exponential": (ExponentialDecay(0.3, 0.9), lambda o: optim.lr_scheduler.ExponentialLR(o, 0.9)),
    "cosine": (CosineDecay(0.3, 40, final=0.05), lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 40, 0.05)),
    "one cycle": (OneCycle(0.3, 41), lambda o: optim.lr_scheduler.OneCycleLR(o, 0.3, total_steps=41)),
}


def test_what_pytorch_has_is_compared():
    """It has no activation of the name identity, exp or step, and no loss like those that are left out."""
    assert ACTIVATIONS.keys() == {*cases.ACTIVATIONS} - {"identity", "exp", "step"}
    without = {"log_cosh", "quantile"} | {name for name in cases.LOSSES if "arctanh" in name or "clipped" in name}
    compared = {loss_functions.kernel_name(str(loss), output) for loss, output in OF_LOGITS if isinstance(loss, str)}
    assert compared == cases.LOSSES.keys() - without
    kinds = {type(optimizer) for optimizer in cases.OPTIMIZERS.values()} - {Momentum, Lion, Rprop}
    assert {type(optimizer) for optimizer, _ in OPTIMIZERS.values()} == kinds


@pytest.fixture
def pair():
    """A function of the loss: (a model, its parameters in PyTorch, its forward pass there, X, y)."""
    rng = np.random.default_rng(0)

    def make(loss="quadratic"):
        model = Model([5, Dense(7, "tanh"), Dense(3, "identity")], loss=loss, dtype="float64", init="normal", rng=0)
        arrays = [a for pair in zip(model.weights, model.biases, strict=True) for a in pair]
        w0, b0, w1, b1 = parameters = [torch.tensor(np.array(a), requires_grad=True) for a in arrays]
        X, y = rng.standard_normal((60, 5)), rng.standard_normal((60, 3))
        return model, parameters, lambda x: torch.tanh(x @ w0.T + b0) @ w1.T + b1, X, y

    return make


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    z = np.linspace(-8, 8, 400)
    model = Model([1, Dense(1, name)], dtype="float64", init="zeros", rng=0)
    model.weights[0][...] = 1
    given = torch.tensor(z, requires_grad=True)
    a = ACTIVATIONS[name](given)
    a.sum().backward()
    a = a.detach().numpy()
    np.testing.assert_allclose(model.predict(z[:, None])[:, 0], a, atol=1e-13)
    for i in (3, 150, 260, 399):  # dC/db = (a - y) da/dz
        ((_, db),) = model.gradients(z[i : i + 1, None], np.array([[a[i] - 1.0]]))
        assert db[0] == pytest.approx(float(given.grad[i]), abs=1e-8)  # PyTorch takes 1 / 6 in float32


@pytest.mark.parametrize("name", LOSSES, ids=str)
def test_losses(name, pair):
    model, parameters, forward, X, y = pair(name)
    y = np.sign(y) if name == "hinge" else y
    value = LOSSES[name](forward(torch.tensor(X)), torch.tensor(y))
    value.backward()
    assert model.loss(X, y) == pytest.approx(value.item(), rel=1e-12)
    got = [a for pair in model.gradients(X, y) for a in pair]
    for a, p in zip(got, parameters, strict=True):
        np.testing.assert_allclose(a, p.grad, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_dozen_steps(name, pair):
    model, parameters, forward, X, y = pair()
    mine, theirs = OPTIMIZERS[name][0], OPTIMIZERS[name][1](parameters)
    model.fit(X, y, epochs=1, batch_size=5, shuffle=False, optimizer=mine)
    for first in range(0, 60, 5):
        rows = slice(first, first + 5)
        theirs.zero_grad()
        LOSSES["quadratic"](forward(torch.tensor(X[rows])), torch.tensor(y[rows])).backward()
        theirs.step()
    got = [a for pair in zip(model.weights, model.biases, strict=True) for a in pair]
    for a, p in zip(got, parameters, strict=True):
        np.testing.assert_allclose(a, p.detach(), atol=1e-9)


def gaussian(z, y):
    """PyTorch's counts a variance below eps as eps; here as much is added."""
    means, logs = z.chunk(2, dim=1)
    return F.gaussian_nll_loss(means, y, logs.exp() + loss_functions.LEAST_VARIANCE, eps=0, reduction="sum") / len(z)


# The losses of logits z, or of an identity output, by fastnn's names of loss and output.
OF_LOGITS = {
    ("cross_entropy", "softmax"): lambda z, y: F.cross_entropy(z, y),
    ("cross_entropy", "sigmoid"): lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="sum") / len(z),
    ("poisson", "exp"): lambda z, y: F.poisson_nll_loss(z, y, reduction="sum") / len(z),  # without a constant
    ("gaussian", "identity"): gaussian,
    **{(name, "identity"): loss for name, loss in LOSSES.items()},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_activation_and_loss(name):
    """Four steps each."""
    rng = np.random.default_rng(4)
    X, probabilities = 0.3 * rng.standard_normal((8, 4)), rng.uniform(0.05, 0.95, (8, 3))
    softmax = probabilities / probabilities.sum(axis=1, keepdims=True)
    for (loss, output), hidden in itertools.product(OF_LOGITS, ACTIVATIONS):
        y = {"cross_entropy softmax": softmax, "hinge identity": 2 * np.round(probabilities) - 1}.get(
            f"{loss} {output}", probabilities
        )
        units = 6 if loss == "gaussian" else 3
        model = Model([4, Dense(5, hidden), Dense(units, output)], loss=loss, dtype="float64", rng=1)
        arrays = [a for pair in zip(model.weights, model.biases, strict=True) for a in pair]
        w0, b0, w1, b1 = parameters = [torch.tensor(np.array(a), requires_grad=True) for a in arrays]
        optimizer, theirs = OPTIMIZERS[name][0], OPTIMIZERS[name][1](parameters)
        model.fit(X, y, epochs=2, batch_size=4, shuffle=False, optimizer=optimizer)
        for first in (0, 4, 0, 4):
            rows = slice(first, first + 4)
            theirs.zero_grad()
            z = ACTIVATIONS[hidden](torch.tensor(X[rows]) @ w0.T + b0) @ w1.T + b1
            OF_LOGITS[loss, output](z, torch.tensor(y[rows])).backward()
            theirs.step()
        for a, p in zip(arrays, parameters, strict=True):
            atol = 1e-6 if hidden == "hard_sigmoid" else 1e-9  # whose 1 / 6 is one of float32 in PyTorch
            np.testing.assert_allclose(a, p.detach(), atol=atol, err_msg=f"{hidden}, {output}, {loss}")


def test_rprop(pair):
    model, parameters, forward, X, y = pair()
    theirs = optim.Rprop(parameters)
    model.fit(X, y, epochs=12, batch_size=60, shuffle=False, optimizer=Rprop())
    for _ in range(12):
        theirs.zero_grad()
        LOSSES["quadratic"](forward(torch.tensor(X)), torch.tensor(y)).backward()
        theirs.step()
    got = [a for pair in zip(model.weights, model.biases, strict=True) for a in pair]
    for a, p in zip(got, parameters, strict=True):
        np.testing.assert_allclose(a, p.detach(), atol=1e-9)


CLIPS = {
    "norm": ({"clip_norm": 0.05}, lambda p: torch.nn.utils.clip_grad_norm_(p, 0.05)),
    "large norm": ({"clip_norm": 1e3}, lambda p: torch.nn.utils.clip_grad_norm_(p, 1e3)),
    "value": ({"clip_value": 0.02}, lambda p: torch.nn.utils.clip_grad_value_(p, 0.02)),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clipping(name, pair):
    model, parameters, forward, X, y = pair()
    options, clip = CLIPS[name]
    theirs = optim.SGD(parameters, 0.1)
    model.fit(X, y, epochs=1, batch_size=5, shuffle=False, optimizer=SGD(0.1, **options))
    for first in range(0, 60, 5):
        rows = slice(first, first + 5)
        theirs.zero_grad()
        LOSSES["quadratic"](forward(torch.tensor(X[rows])), torch.tensor(y[rows])).backward()
        clip(parameters)
        theirs.step()
    got = [a for pair in zip(model.weights, model.biases, strict=True) for a in pair]
    for a, p in zip(got, parameters, strict=True):
        np.testing.assert_allclose(a, p.detach(), atol=1e-12)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_hidden_activations_and_input_gradients(hidden, output):
    """By automatic differentiation."""
    loss = "cross_entropy" if output == "softmax" else "quadratic"
    sizes = [6, Dense(9, hidden), Dense(7, "tanh"), Dense(4, output)]
    model = Model(sizes, loss=loss, input_scale=0.5, dtype="float64", init="normal", rng=0)
    X = np.random.default_rng(0).standard_normal((20, 6))
    finish = {"softmax": lambda z: F.softmax(z, -1), "sigmoid": torch.sigmoid, "identity": lambda z: z}[output]
    layers = [torch.tensor(np.array(a)) for pair in zip(model.weights, model.biases, strict=True) for a in pair]
    w0, b0, w1, b1, w2, b2 = layers
    inside = []

    def forward(x):
        inside.append(ACTIVATIONS[hidden](0.5 * x @ w0.T + b0))
        inside.append(torch.tanh(inside[-1] @ w1.T + b1))
        return finish(inside[-1] @ w2.T + b2)

    atol = 1e-6 if hidden == "hard_sigmoid" else 1e-12  # whose 1 / 6 is one of float32 in PyTorch
    want = [torch.autograd.functional.jacobian(forward, torch.tensor(x)) for x in X]
    np.testing.assert_allclose(model.input_gradients(X), torch.stack(want), atol=atol)
    inside.clear()
    forward(torch.tensor(X))
    for a, b in zip(model.hidden_activations(X), inside, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def test_label_smoothing():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 4)), rng.integers(0, 5, 30)
    model = Model([4, Dense(5, "softmax")], loss="cross_entropy", dtype="float64", rng=0)
    logits = torch.tensor(X) @ torch.tensor(np.array(model.weights[0]).T)
    want = F.cross_entropy(logits, torch.tensor(y), label_smoothing=0.2).item()
    history = model.fit(X, y, epochs=1, batch_size=30, label_smoothing=0.2)
    assert history.loss == pytest.approx([want], rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates(name):
    schedule, make = SCHEDULES[name]
    optimizer = optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    theirs, rates = make(optimizer), []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    np.testing.assert_allclose(schedule.rates(0, 40), rates, atol=1e-15)


# ---- kinds of layers ----


class Sum(torch.nn.Module):
    """f(what some layers give + what they take)."""

    def __init__(self, layers, activation):
        super().__init__()
        self.layers, self.activation = layers, activation

    def forward(self, x):
        return self.activation(self.layers(x) + x)


def module_of(layer, tensors, width):
    """(the same layer in PyTorch with the same parameters, how wide its output is)."""
    activation = IDENTITY if layer.activation in ("identity", "softmax") else ACTIVATIONS[layer.activation]
    if isinstance(layer, Residual):
        return Sum(modules_of(layer.layers, tensors, width), activation), width
    kept = next(tensors)
    if isinstance(layer, Dense):
        made, width = torch.nn.Linear(width, layer.units), layer.units
    elif isinstance(layer, PReLU):
        made = torch.nn.PReLU(width, layer.init)
    elif isinstance(layer, LayerNorm):
        made = torch.nn.LayerNorm(width, eps=layer.epsilon)
    elif isinstance(layer, BatchNorm):
        made = torch.nn.BatchNorm1d(width, eps=layer.epsilon, momentum=layer.momentum)
    else:
        made = Factor(width)
    made.double()
    made.load_state_dict({THEIR_NAMES.get(name, name): torch.tensor(np.array(t)) for name, t in kept.items()}, False)
    return torch.nn.Sequential(made, Function(activation)), width


def modules_of(layers, tensors, width):
    found = []
    for layer in layers:
        module, width = module_of(layer, tensors, width)
        found.append(module)
    return torch.nn.Sequential(*found)


class Factor(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.weight


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


IDENTITY = lambda z: z  # noqa: E731
THEIR_NAMES = {"running_variance": "running_var"}
KINDS = {
    "residual": [Dense(8, "tanh"), Residual(Dense(5, "sigmoid"), Dense(8, "silu"), activation="relu")],
    "nested": [Residual(Scale(), Residual(Dense(6, "gelu")), activation="softplus"), Dense(9, "tanh")],
    "scale": [Scale(), Dense(17, "tanh"), Scale()],
    "prelu": [PReLU(), Dense(17, "identity"), PReLU(0.1), Residual(Dense(17, "tanh"), PReLU())],
    "layer norm": [LayerNorm(), Dense(17, "identity"), LayerNorm(0.1, "gelu")],
    "batch norm": [BatchNorm(), Dense(17, "identity"), BatchNorm(0.3, 0.1, "tanh")],
    "all": [
        Dense(9, "identity"),
        BatchNorm(momentum=1.0, activation="softplus"),
        Residual(LayerNorm(), Dense(33, "sigmoid"), Residual(Scale(), BatchNorm()), Dense(9, "identity")),
    ],
}


@pytest.fixture(params=KINDS)
def kinds(request):
    """A function: (a model with such layers and any parameters, the same network in PyTorch, X, y)."""
    rng = np.random.default_rng(3)

    def make():
        layers = [*KINDS[request.param], Dense(3, "softmax")]
        model = Model([6, *layers], loss="cross_entropy", dtype="float64", rng=1)
        for tensors in model.tensors:
            for tensor in tensors.values():
                tensor[...] = rng.uniform(0.4, 1.6, tensor.shape) * (1 if tensor.ndim == 1 else 1 / len(tensor))
        return (
            model,
            modules_of(model.layers, iter(model.tensors), 6),
            2 * rng.normal(size=(60, 6)) + 1,
            rng.integers(0, 3, 60),
        )

    return make


def states_equal(model, network):
    """Whether all tensors are those of PyTorch, which has them in the same order."""
    theirs = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    ours = [tensor for tensors in model.tensors for tensor in tensors.values()]
    for tensor, (name, value) in zip(ours, theirs.items(), strict=True):
        np.testing.assert_allclose(tensor, value.numpy(), atol=1e-9, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_outputs_and_gradients_of_kinds_of_layers(kinds, how, orientation):
    orientation(how)
    model, network, X, y = kinds()
    network.train()
    for module in network.modules():
        module.momentum = 0.0  # `gradients` follows nothing
    F.cross_entropy(network(torch.tensor(X)), torch.tensor(y)).backward()
    ours = [g for pair in model.gradients(X, y) for g in pair if g.size]
    for got, parameter in zip(ours, network.parameters(), strict=True):
        np.testing.assert_allclose(got, parameter.grad, atol=1e-9)
    states_equal(model, network)
    network.eval()
    x = torch.tensor(X, requires_grad=True)
    outputs = torch.softmax(network(x), dim=1)
    np.testing.assert_allclose(model.predict(X), outputs.detach(), atol=1e-9)
    got = model.input_gradients(X)
    for k in range(3):
        (want,) = torch.autograd.grad(outputs[:, k].sum(), x, retain_graph=True)
        np.testing.assert_allclose(got[:, k], want, atol=1e-9)


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_slopes_at_zero(how, orientation):
    """Where PyTorch's derivative is the slope too; of slopes of any sign, and one that is zero."""
    orientation(how)
    model = Model([4, PReLU(), Dense(3, "softmax")], loss="cross_entropy", dtype="float64", rng=1)
    model.weights[0][...] = -0.7, 0, 0.3, 2
    network = modules_of(model.layers, iter(model.tensors), 4)
    X, y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 3
    X[::2], X[1::4] = 0.0, -0.0
    x = torch.tensor(X, requires_grad=True)
    loss = F.cross_entropy(network(x), torch.tensor(y))
    loss.backward()
    assert model.loss(X, y) == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(model.gradients(X, y)[0][0], network[0][0].weight.grad, atol=1e-14)
    outputs = torch.softmax(network(x), dim=1)
    got = model.input_gradients(X)
    for k in range(3):
        (want,) = torch.autograd.grad(outputs[:, k].sum(), x, retain_graph=True)
        np.testing.assert_allclose(got[:, k], want, atol=1e-14)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_steps_of_kinds_of_layers(kinds, name, how, orientation):
    """Running statistics too: PyTorch's momentum, epsilon and unbiased variance, and a smaller last batch."""
    orientation(how)
    model, network, X, y = kinds()
    ours, theirs = OPTIMIZERS[name][0], OPTIMIZERS[name][1](list(network.parameters()))
    model.fit(X, y, epochs=2, batch_size=16, shuffle=False, optimizer=ours)
    network.train()
    for first in (0, 16, 32, 48) * 2:
        rows = slice(first, first + 16)
        theirs.zero_grad()
        F.cross_entropy(network(torch.tensor(X[rows])), torch.tensor(y[rows])).backward()
        theirs.step()
    states_equal(model, network)
    network.eval()
    outputs = torch.softmax(network(torch.tensor(X)), dim=1).detach()
    np.testing.assert_allclose(model.predict(X), outputs, atol=1e-9)


# Adagrad's steps follow signs where a gradient is only rounding, as of a bias in front of a normalisation.
BY_GROUPS = {
    **{name: mine for name, (mine, _) in OPTIMIZERS.items() if name != "adagrad"},
    "adamw without biases": AdamW(0.003, weight_decay=0.2, decay_biases=False),
    "momentum": Momentum(0.01, 0.6),
}
GROUPS = {"bias": 0.1, "Scale.weight": 6.0, "BatchNorm.weight": 0.5, "LayerNorm.weight": 0.0, "PReLU.weight": 3.0}


def in_groups(network, optimizer):
    """PyTorch's optimizer with a parameter group of its own for each parameter."""
    groups, rate = [], optimizer.learning_rate
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            kind = {"Linear": "Dense", "Factor": "Scale", "BatchNorm1d": "BatchNorm"}.get(type(module).__name__)
            kind = kind or ("PReLU" if isinstance(module, torch.nn.PReLU) else "LayerNorm")
            factor = GROUPS.get(f"{kind}.{name}", GROUPS.get(name, 1.0))
            groups.append({"params": [parameter], "lr": rate * factor})
            if not optimizer.decay_biases and (kind, name) != ("Dense", "weight"):
                groups[-1]["weight_decay"] = 0.0
    made = {"AdamW": lambda: optim.AdamW(groups, weight_decay=optimizer.weight_decay)}
    made["Momentum"] = lambda: optim.SGD(groups, momentum=optimizer.momentum)
    kind = type(optimizer).__name__
    return made[kind]() if kind in made else getattr(optim, {"Nadam": "NAdam"}.get(kind, kind))(groups)


@pytest.mark.parametrize("name", BY_GROUPS)
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_factors_are_parameter_groups(kinds, name, how, orientation):
    """Each with a rate of its own, and with no weight decay where only weights of dense layers decay."""
    orientation(how)
    model, network, X, y = kinds()
    ours, theirs = replace(BY_GROUPS[name], learning_rate_factors=GROUPS), in_groups(network, BY_GROUPS[name])
    model.fit(X, y, epochs=2, batch_size=16, shuffle=False, optimizer=ours)
    network.train()
    for first in (0, 16, 32, 48) * 2:
        rows = slice(first, first + 16)
        theirs.zero_grad()
        F.cross_entropy(network(torch.tensor(X[rows])), torch.tensor(y[rows])).backward()
        theirs.step()
    states_equal(model, network)


# ---- gradients from outside, derivatives by the inputs ----

FUNCTORCH_WARNS = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def mlp_of(model):
    """The same layers in PyTorch, tanh but for the last one."""
    layers = []
    for w, b in zip(model.weights, model.biases, strict=True):
        layer = torch.nn.Linear(w.shape[1], w.shape[0], dtype=getattr(torch, model.dtype))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(np.array(w)))
            layer.bias.copy_(torch.tensor(np.array(b)))
        layers += [layer, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


@FUNCTORCH_WARNS
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("float64", 1e-9)])
@pytest.mark.parametrize("sizes", [[8, 64, 64, 4], [6, 256, 256, 1], [3, 5]])
@pytest.mark.parametrize("rows", [1, 64, 300])
def test_gradients_from_outside_and_derivatives_by_the_inputs(rows, sizes, dtype, atol):
    """dQ/da of a critic is one of them: the derivative of its output by some inputs."""
    model = Model(sizes, activation="tanh", output="identity", dtype=dtype, rng=0)
    rng = np.random.default_rng(0)
    X, V, dA = (rng.standard_normal((rows, n)).astype(dtype) for n in (sizes[0], sizes[0], sizes[-1]))
    net, x = mlp_of(model), torch.tensor(X, requires_grad=True)
    outputs = net(x)
    outputs.backward(torch.tensor(dA))
    np.testing.assert_allclose(model.forward(X), outputs.detach(), atol=atol)
    gradient, dX = model.backward(X, dA, inputs=True)
    want = np.concatenate([parameter.grad.numpy().ravel() for parameter in net.parameters()])
    np.testing.assert_allclose(gradient, want, atol=atol * max(1, np.abs(want).max()))
    np.testing.assert_allclose(dX, x.grad, atol=atol)
    functions = torch.func
    want = functions.vmap(functions.jacrev(net))(torch.tensor(X)).detach()
    np.testing.assert_allclose(model.jacobian(X), want, atol=atol)
    want = functions.jvp(net, (torch.tensor(X),), (torch.tensor(V),))[1].detach()
    np.testing.assert_allclose(model.jvp(X, V), want, atol=atol)
    k = sizes[-1] - 1
    want = functions.vmap(functions.hessian(lambda row: net(row)[k]))(torch.tensor(X[:20])).detach().numpy()
    np.testing.assert_allclose(model.hessian(X[:20], output=k), want, atol=atol)
    got = model.hessian(X[:20], output=k, diagonal=True)
    np.testing.assert_allclose(got, np.einsum("nii->ni", want), atol=atol)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_steps_on_a_loss_of_probabilities(output):
    """A policy gradient with an entropy bonus, by the probabilities, with the norm clipped: Adam in both."""
    model = Model([5, 16, 3], activation="tanh", output=output, loss="cross_entropy", dtype="float64", rng=0)
    net, finish = mlp_of(model), {"softmax": lambda z: F.softmax(z, -1), "sigmoid": torch.sigmoid}[output]
    rng = np.random.default_rng(0)
    adam, theirs = Adam(0.01, clip_norm=0.1), optim.Adam(net.parameters(), 0.01)
    for _ in range(10):
        X, rewards, taken = rng.standard_normal((64, 5)), rng.standard_normal(64), np.eye(3)[rng.integers(0, 3, 64)]
        p = model.forward(X)
        entropy_slope = -0.01 * (-np.log(p) - 1)
        model.step(X, (-taken / p * rewards[:, None] + entropy_slope) / 64, optimizer=adam)
        q = finish(net(torch.tensor(X)))
        gain = (torch.log(q) * torch.tensor(taken)).sum(1) * torch.tensor(rewards)
        loss = -gain.sum() / 64 - 0.01 * -(q * torch.log(q)).sum() / 64
        theirs.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        theirs.step()
        want = np.concatenate([parameter.detach().numpy().ravel() for parameter in net.parameters()])
        np.testing.assert_allclose(model.vector, want, atol=1e-9)


@FUNCTORCH_WARNS
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_second_derivatives_and_tangents_of_kinds_of_layers(kinds, how, orientation):
    orientation(how)
    model, network, X, _ = kinds()
    network.eval()

    def outputs(x):
        return torch.softmax(network(x), dim=-1)

    X = X[:12]
    V = np.random.default_rng(1).standard_normal(X.shape)
    want = torch.func.jvp(outputs, (torch.tensor(X),), (torch.tensor(V),))[1].detach()
    np.testing.assert_allclose(model.jvp(X, V), want, atol=1e-9)
    for k in range(3):
        rows = [torch.autograd.functional.hessian(lambda x, k=k: outputs(x[None])[0, k], torch.tensor(x)) for x in X]
        np.testing.assert_allclose(model.hessian(X, output=k), torch.stack(rows), atol=1e-9)
