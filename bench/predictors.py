"""The sides of the comparison in prediction: outputs for one row or many, from arrays of each package.

Large inputs go through a peer whole or some rows at a time, whichever is faster; fastnn gets them whole.
"""

from itertools import chain, repeat

import numpy as np

from . import cases
from .sides import fastest, sklearn_regressor, thread_count
from .timing import least_seconds

ROWS_A_CALL = (256, 1000, 5000)


class Predictor:
    """`_function(variant)` takes what `_array` makes of some rows, and returns outputs."""

    package = "numpy"
    options = {}  # noqa: RUF012

    def __init__(self, case, variant=None):
        self.case = case
        self.X = cases.data(case)[0]
        self.parameters = cases.initial(case)
        self._load()
        n = case.n_samples
        options = {"rows": (n, *(rows for rows in ROWS_A_CALL if rows < n)), **self.options}
        self.variant = fastest(options, self._trial) if variant is None else variant
        self._prepare(self.variant)

    def run(self, calls):
        """Outputs for all rows, several times."""
        call = self._call
        for rows in chain.from_iterable(repeat(self._parts, calls)):
            call(rows)

    def predict(self):
        """Outputs for all rows."""
        return np.concatenate([np.asarray(self._call(rows)).copy() for rows in self._parts])

    def _prepare(self, variant):
        rows = variant["rows"]
        self._call = self._function(variant)
        self._parts = [self._array(self.X[i : i + rows]) for i in range(0, len(self.X), rows)]

    def _trial(self, variant):
        self._prepare(variant)
        n = 1 if len(self.X) > 1 else 1000
        return least_seconds(lambda: self.run(n))

    def _load(self):
        pass

    def _array(self, rows):
        return rows


class Fastnn(Predictor):
    """fastnn through its public door, always whole."""

    def __init__(self, case, variant=None):
        super().__init__(case, variant or {"rows": case.n_samples})

    def _function(self, variant):
        import fastnn

        model = fastnn.Model(self.case.sizes, rng=0)
        for weights, biases, (W, b) in zip(model.weights, model.biases, self.parameters, strict=True):
            weights[...], biases[...] = W, b
        return model.predict


class Numpy(Predictor):
    """Plain NumPy in place."""

    def _function(self, variant):
        layers = [(np.ascontiguousarray(W.T), -b) for W, b in self.parameters]
        one, buffers = np.array(1, np.float32), {}

        def call(a):
            if len(a) not in buffers:
                buffers[len(a)] = [np.empty((len(a), W.shape[1]), np.float32) for W, _ in layers]
            for (W, minus_b), z in zip(layers, buffers[len(a)], strict=True):
                np.dot(a, W, out=z)
                np.subtract(minus_b, z, out=z)
                np.exp(z, out=z)
                np.add(z, one, out=z)
                a = np.reciprocal(z, out=z)
            return a

        return call


class Sklearn(Predictor):
    """MLPRegressor.predict, told to end with a sigmoid."""

    package = "sklearn"

    def _function(self, variant):
        model = sklearn_regressor(self.case)
        model.out_activation_ = "logistic"
        return model.predict


class Torch(Predictor):
    """PyTorch in inference mode."""

    package = "torch"
    options = {"how": ("eager", "compiled")}  # noqa: RUF012

    def _load(self):
        import torch
        from torch._inductor import config

        torch.set_num_threads(thread_count())
        config.compile_threads = 1
        self._torch, self._array = torch, torch.tensor

    def _function(self, variant):
        torch = self._torch
        layers = [(torch.tensor(W).T, torch.tensor(b)) for W, b in self.parameters]

        def call(a):
            for W, b in layers:
                a = torch.addmm(b, a, W).sigmoid_()
            return a

        torch.compiler.reset()
        if variant["how"] == "compiled":
            call = torch.compile(call, dynamic=False, fullgraph=True, options={"cpp_wrapper": True})
        return torch.inference_mode()(call)


class Jax(Predictor):
    """JAX, jitted."""

    package = "jax"
    options = {"weights": ("W", "W transposed"), "sigmoid": ("logistic", "tanh")}  # noqa: RUF012

    def _load(self):
        import jax

        jax.config.update("jax_platforms", "cpu")
        self._jax, self._array = jax, jax.numpy.array

    def _function(self, variant):
        jax = self._jax
        transposed = variant["weights"] == "W transposed"
        layers = [(self._array(W.T if transposed else W), self._array(b)) for W, b in self.parameters]
        tanh = lambda z: 0.5 * jax.numpy.tanh(0.5 * z) + 0.5  # noqa: E731
        sigmoid = jax.lax.logistic if variant["sigmoid"] == "logistic" else tanh

        @jax.jit
        def outputs(a):
            for W, b in layers:
                a = sigmoid(a @ (W if transposed else W.T) + b)
            return a

        return lambda rows: outputs(rows).block_until_ready()


class OnnxRuntime(Predictor):
    """ONNX Runtime: `run`, or inputs and outputs bound ahead."""

    package = "onnxruntime"
    options = {"call": ("run", "bound")}  # noqa: RUF012

    def _load(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = thread_count(), 1
        self._session = onnxruntime.InferenceSession(self._model(), options, providers=["CPUExecutionProvider"])

    def _model(self):
        from onnx import TensorProto, helper, numpy_helper

        nodes, arrays, last = [], [], len(self.parameters)
        for l, (W, b) in enumerate(self.parameters, 1):
            arrays += [numpy_helper.from_array(W, f"W{l}"), numpy_helper.from_array(b, f"b{l}")]
            nodes.append(helper.make_node("Gemm", [f"a{l - 1}", f"W{l}", f"b{l}"], [f"z{l}"], transB=1))
            nodes.append(helper.make_node("Sigmoid", [f"z{l}"], [f"a{l}"]))
        ends = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size])]
            for name, size in (("a0", self.case.sizes[0]), (f"a{last}", self.case.sizes[-1]))
        ]
        graph = helper.make_graph(nodes, "network", *ends, arrays)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        return model.SerializeToString()

    def _function(self, variant):
        session, names = self._session, [f"a{len(self.parameters)}"]
        if variant["call"] == "run":
            self._array = lambda rows: {"a0": rows}
            return lambda feed: session.run(names, feed)[0]

        def bound(rows):
            binding, out = session.io_binding(), np.empty((len(rows), self.case.sizes[-1]), np.float32)
            binding.bind_cpu_input("a0", rows)
            binding.bind_output(names[0], "cpu", 0, np.float32, out.shape, out.ctypes.data)
            return binding, out

        def call(pair):
            session.run_with_iobinding(pair[0])
            return pair[1]

        self._array = bound
        return call


SIDES = {
    "fastnn": Fastnn,
    "onnxruntime": OnnxRuntime,
    "jax": Jax,
    "torch": Torch,
    "sklearn": Sklearn,
    "numpy": Numpy,
}
