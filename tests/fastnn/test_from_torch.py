"""Modules of PyTorch as models, and models as modules: both compute the same, and train on."""

import copy
import doctest
import inspect
import io
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import SGD, BatchNorm, Dense, LayerNorm, Model, PReLU, Residual
from fastnn.settings.layers import HIDDEN

from . import exports

torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is in the extras torch and bench")
nn = torch.nn
pytestmark = pytest.mark.slow

rng = np.random.default_rng(0)
DTYPES = {"float32": 2e-6, "float64": 1e-12}
NETWORKS = [name for name in exports.EVERYTHING if name not in {*exports.POPULATIONS, "deviations"}]
ACTIVATIONS = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.SELU: "selu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Softplus: "softplus",
    nn.Hardsigmoid: "hard_sigmoid",
    nn.Identity: "identity",
}


def agree(model, module, X, tolerance):
    """The predictions of both are equal; gives them."""
    with torch.no_grad():
        want = module(torch.tensor(X, dtype=getattr(torch, model.dtype))).double().numpy()
    got = model.predict(X.astype(model.dtype))
    np.testing.assert_allclose(got, want, tolerance, tolerance)
    return got


def shaken(module):
    """The module, with other running statistics, slopes and gains than the first ones."""
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand_like(tensor)
            tensor.copy_(tensor + noise if "running" in name else tensor + 0.3 * (noise - 0.5))
    return module.eval()


# ---- from PyTorch ----


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations(kind, dtype):
    module = shaken(nn.Sequential(nn.Linear(5, 7), kind(), nn.Linear(7, 3)).to(getattr(torch, dtype)))
    model = fastnn.from_torch(module)
    assert model.layers == (Dense(7, ACTIVATIONS[kind]), Dense(3, "identity"))
    assert (model.dtype, model.loss_name) == (dtype, "quadratic")
    # PyTorch's softplus gives x above 20.
    agree(
        model,
        module,
        rng.normal(0, 9, (200, 5)),
        3e-9 if kind is nn.Softplus and dtype == "float64" else DTYPES[dtype] * 4,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_layers(dtype):
    inner = nn.Sequential(nn.Linear(6, 6, bias=False), nn.LayerNorm(6, 1e-3), nn.PReLU(), nn.Identity())
    module = nn.Sequential(
        nn.BatchNorm1d(5),
        nn.Flatten(),
        nn.Linear(5, 6),
        nn.Dropout(0.5),
        nn.BatchNorm1d(6, momentum=0.2, eps=1e-4),
        nn.SELU(),
        inner,
        nn.LayerNorm(6, elementwise_affine=False),
        nn.PReLU(6),
        nn.BatchNorm1d(6, affine=False),
        nn.Linear(6, 4),
        nn.Softmax(dim=-1),
    )
    module = shaken(module.to(getattr(torch, dtype)))
    before = copy.deepcopy(module.state_dict())
    model = fastnn.from_torch(module)
    assert model.layers == (
        BatchNorm(),
        Dense(6, "identity"),
        BatchNorm(0.2, 1e-4, "selu"),
        Dense(6, "identity"),
        LayerNorm(1e-3),
        PReLU(),
        LayerNorm(),
        PReLU(),
        BatchNorm(),
        Dense(4, "softmax"),
    )
    assert model.loss_name == "cross_entropy"
    assert not model.biases[3].any()
    assert len({*model.weights[5].tolist()}) == 1
    X = rng.normal(0, 2, (100, 5))
    agree(model, module, X, DTYPES[dtype])
    model.fit(X, rng.integers(0, 4, 100), epochs=2, batch_size=10)  # the module's memory is its own
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())


def test_a_last_batch_norm_is_folded():
    module = shaken(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)))
    model = fastnn.from_torch(module)
    assert model.layers == (Dense(3, "identity"),)
    agree(model, module, rng.normal(size=(50, 5)), 2e-6)
    assert fastnn.from_torch(module, output="softmax").layers == (Dense(3, "softmax"),)
    for activation, name in ((nn.Tanh(), "tanh"), (nn.Softmax(dim=1), "softmax")):
        with_it = nn.Sequential(module, activation, nn.Dropout())
        model = fastnn.from_torch(with_it)
        assert model.layers == (Dense(3, name),)
        agree(model, with_it.eval(), rng.normal(size=(50, 5)), 2e-6)


def test_a_single_module():
    module = nn.Linear(4, 2)
    agree(fastnn.from_torch(module), module, rng.normal(size=(9, 4)), 2e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to(getattr(torch, dtype))
    model = fastnn.from_torch(module)
    assert model.dtype == "float32"
    agree(model, module.float(), rng.normal(size=(9, 4)), 2e-6)


@pytest.mark.parametrize(
    ("output", "loss", "activation", "expected"),
    [
        (None, None, "identity", "quadratic"),
        ("softmax", None, "softmax", "cross_entropy"),
        ("sigmoid", None, "sigmoid", "cross_entropy"),
        ("sigmoid", "quadratic", "sigmoid", "quadratic"),
        ("tanh", None, "tanh", "quadratic"),
        (None, "huber", "identity", "huber"),
        ("exp", "poisson", "exp", "poisson"),
    ],
)
def test_outputs_and_losses(output, loss, activation, expected):
    model = fastnn.from_torch(nn.Linear(4, 3), output=output, loss=loss)
    assert (model.layers[-1].activation, model.loss_name) == (activation, expected)


def test_a_seed_gives_the_order_of_samples():
    module, X, y = nn.Linear(4, 1), rng.normal(size=(50, 4)), rng.normal(size=50)
    models = [fastnn.from_torch(module, rng=seed) for seed in (1, 1, 2)]
    losses = [model.fit(X, y, epochs=2, batch_size=7).loss for model in models]
    assert losses[0] == losses[1] != losses[2]


def test_training_goes_on_as_in_pytorch():
    module = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    model = fastnn.from_torch(module)
    X, y = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
    model = fastnn.from_torch(module, output="softmax")
    model.fit(X, y, epochs=1, batch_size=8, shuffle=False, optimizer=SGD(0.3))
    optimizer = torch.optim.SGD(module.parameters(), 0.3)
    for first in range(0, 40, 8):
        optimizer.zero_grad()
        rows = slice(first, first + 8)
        nn.functional.cross_entropy(module(torch.tensor(X[rows])), torch.tensor(y[rows])).backward()
        optimizer.step()
    agree(model, nn.Sequential(module, nn.Softmax(dim=1)), X, 1e-12)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Own(nn.Module):
    def forward(self, x):
        return x


def hooked():
    module = nn.Linear(4, 3)
    module.register_forward_hook(lambda *_: None)
    return module


REFUSED = {
    "tanh gelu": (nn.GELU("tanh"), "'1.0' \\(GELU\\): approximate must be 'none'.*got 'tanh'"),
    "slope": (nn.LeakyReLU(0.2), "'1.0' \\(LeakyReLU\\): negative_slope must be 0.01"),
    "elu": (nn.ELU(0.5), "ELU\\): alpha must be 1"),
    "softplus": (nn.Softplus(2), "Softplus\\): beta must be 1"),
    "softplus threshold": (nn.Softplus(1, 5), "threshold must be at least 20"),
    "softmax": (nn.Softmax(dim=1), "Linear\\): it follows a softmax, which must be the last one"),
    "hardtanh": (nn.Hardtanh(), "'1.0' \\(Hardtanh\\): fastnn has no such layer"),
    "relu6": (nn.ReLU6(), "ReLU6"),
    "log softmax": (nn.LogSoftmax(dim=1), "LogSoftmax"),
    "own": (Own(), "'1.0' \\(Own\\): fastnn has no such layer"),
    "subclass": (Doubled(3, 3), "Doubled"),
    "convolution": (nn.Conv1d(3, 3, 1), "Conv1d"),
    "embedding": (nn.Embedding(3, 3), "Embedding"),
    "width": (nn.Linear(4, 3), "'1.0' \\(Linear\\): it reads 4 numbers, where there are 3"),
    "slopes": (nn.PReLU(2), "it has 2 slopes, where there are 3"),
    "norm": (nn.LayerNorm((3, 3)), "normalized_shape"),
    "statistics": (nn.BatchNorm1d(3, track_running_stats=False), "track_running_stats must be True"),
    "average": (nn.BatchNorm1d(3, momentum=None), "momentum must be a number"),
    "epsilon": (nn.LayerNorm(3, eps=0), "LayerNorm\\): epsilon must be"),
    "flatten": (nn.Flatten(0), "Flatten\\): it must leave rows"),
    "hooks": (hooked(), "Linear\\): it has hooks"),
    "dtype": (nn.Linear(3, 3).double(), "of one dtype, got '0' \\(Linear\\) with float32 and '1.0' \\(Linear\\)"),
    "complex": (nn.Linear(3, 3, dtype=torch.complex64), "complex64"),
    "meta": (nn.Linear(3, 3, device="meta"), "meta"),
    "normed": (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "ParametrizedLinear"),
    "twice": (nn.Sequential(nn.ReLU(), nn.Tanh()), "'1.0.1' \\(Tanh\\): it follows another activation, relu"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_fastnn_has_not_is_named(name):
    module, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"module must be a network of layers that fastnn has.*{message}"):
        fastnn.from_torch(nn.Sequential(nn.Linear(4, 3), nn.Sequential(module), nn.Linear(3, 2)))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(), "it has no dense layer"),
        (nn.Sequential(nn.Linear(3, 2), nn.PReLU()), "the last layer must be a dense one"),
        (nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), "'0' \\(ReLU\\): fastnn has relu after"),
        (nn.Sequential(nn.Linear(3, 1), nn.Softmax(dim=1)), "at least two outputs"),
        (nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=0)), "dim must be 1 or -1"),
        (nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.BatchNorm1d(2)), "the last layer must be a dense one"),
    ],
)
def test_what_no_model_ends_or_begins_with(module, message):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1)
    with pytest.raises(ValueError, match=message):
        fastnn.from_torch(module)


def test_numbers_must_be_finite():
    module = nn.Linear(3, 2)
    module.weight.data[0, 1] = np.nan
    with pytest.raises(ValueError, match="its parameters must be finite"):
        fastnn.from_torch(module)


def test_arguments():
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, got 3"):
        fastnn.from_torch(3)
    with pytest.raises(ValueError, match="output must be one of"):
        fastnn.from_torch(nn.Linear(3, 2), output="logits")
    with pytest.raises(ValueError, match="loss 'poisson' does not go with the output activation 'identity'"):
        fastnn.from_torch(nn.Linear(3, 2), loss="poisson")


# ---- to PyTorch, and back ----


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trips(name, dtype):
    model, X = exports.network(name, dtype), exports.ordinary(name)
    module = model.to_torch()
    assert not module.training
    got = agree(model, module, X, DTYPES[dtype] * 2)
    back = fastnn.from_torch(module, loss=model.loss_name)
    np.testing.assert_array_equal(back.parameters, model.parameters)
    np.testing.assert_array_equal(back.predict(X.astype(dtype)), got)
    assert back.sizes == model.sizes
    again = pickle.loads(pickle.dumps(module))
    agree(model, again, X, DTYPES[dtype] * 2)


@pytest.mark.parametrize("activation", HIDDEN)
def test_activations_to_pytorch(activation):
    model = Model([4, Dense(6, activation), Dense(2, activation)], dtype="float64", rng=0)
    module = model.to_torch()
    agree(model, module, rng.normal(0, 3, (300, 4)), 1e-11)
    assert fastnn.from_torch(module, loss=model.loss_name).layers == model.layers


def test_inputs_far_from_zero_keep_their_precision():
    X = rng.normal(1e6, 1, (100, 4)).astype(np.float32)
    shift, scale = fastnn.standardize(X)
    model = Model([4, Dense(8, "tanh"), 1], input_shift=shift, input_scale=scale, rng=0)
    module = model.to_torch()
    agree(model, module, X, 2e-6)
    assert agree(fastnn.from_torch(module, loss="quadratic"), module, X, 2e-6).std() > 0.01


def test_gradients():
    model = exports.network("residual", "float64")
    X, y = rng.normal(size=(30, exports.N)), rng.integers(0, 3, 30)
    module = model.to_torch()
    loss = -torch.log(module(torch.tensor(X))[torch.arange(30), torch.tensor(y)]).mean()
    loss.backward()
    theirs = [each.grad.numpy() for each in module.parameters()]
    ours = [each for pair in model.gradients(X, y) for each in pair]
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_frozen_layers_do_not_require_gradients():
    model = Model([3, 4, 2], rng=0)
    model.freeze([0])
    assert [each.requires_grad for each in model.to_torch().parameters()] == [False, False, True, True]


def test_a_module_is_a_copy():
    model = Model([3, 4, 2], rng=0)
    before, module = model.parameters.copy(), model.to_torch()
    for parameter in module.parameters():
        parameter.data.zero_()
    np.testing.assert_array_equal(model.parameters, before)


def test_state_dicts_of_plain_networks_have_pytorchs_names():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    theirs = fastnn.from_torch(module).to_torch().state_dict()
    assert [*theirs] == [*module.state_dict()]
    buffer = io.BytesIO()
    torch.save(theirs, buffer)
    buffer.seek(0)
    module.load_state_dict(torch.load(buffer, weights_only=True))


def test_transposed_weights_survive_a_file(tmp_path):
    """Of views that are not in C order, safetensors may write other numbers."""
    module = nn.Linear(5, 3)
    module.weight = nn.Parameter(torch.randn(5, 3).t())
    model = fastnn.from_torch(module)
    model.save(tmp_path / "net.safetensors")
    agree(fastnn.load(tmp_path / "net.safetensors"), module, rng.normal(size=(9, 5)), 2e-6)


def test_own_activations_are_refused():
    def bent(x):
        return x * x

    def slope(x):
        return 2 * x

    own = fastnn.Activation(bent, slope, name="bent")
    with pytest.raises(ValueError, match="no activation of your own, got 'bent'"):
        Model([2, Dense(3, own), 1]).to_torch()


@pytest.mark.parametrize("function", [fastnn.from_torch, Model.to_torch])
def test_examples(function):
    text = inspect.getdoc(function).replace("# doctest: +SKIP", "")
    test = doctest.DocTestParser().get_doctest(text, {}, function.__name__, None, None)
    outcome = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert (outcome.attempted > 1, outcome.failed) == (True, 0)


def test_residuals_nest():
    model = Model([4, Residual(Dense(4, "relu"), Residual(Dense(4, "tanh"), activation="elu")), 2], rng=3)
    module = model.to_torch()
    agree(model, module, rng.normal(size=(20, 4)), 2e-6)
    assert fastnn.from_torch(module).layers == model.layers
