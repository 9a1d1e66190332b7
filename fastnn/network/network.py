"""Network: a layout, the parameters in it, and what belongs to them: views, an optimizer's state, programs."""

from __future__ import annotations

import functools
import math
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from ..kernels.formulas.loss_functions import LOSSES
from ..kernels.formulas.update_rules import OPTIMIZERS
from ..kernels.programs import strategy
from ..kernels.programs.memory import STATE, Layout, aligned_zeros
from ..kernels.running.python_api import address_of
from ..settings.layers import Architecture, Dense
from ..settings.losses import kernel_name, parameter_of
from ..settings.optimizers import Optimizer
from .inference import Inference, SmallPredictions
from .input_loading import Loading, scale_of
from .threads import available_threads

OTHER = 0xD1B54A32D192ED03  # makes a generator another one
MAX_PARAMETER_BYTES = 2**46  # what a CPU of today can address
MAX_PLANS = 3  # how many plans of training are kept for an architecture
MAX_ARCHITECTURES = 8  # whose programs are kept
ORIENTATION = ""  # how new networks compute blocks: "row-major", "feature-major", or "" for what `strategy` chooses
SHARED_BYTES = 2**20  # programs may outlive a network whose parameters and buffers have at most so many bytes


def layout_of(architecture: Architecture) -> Layout:
    """Where the parameters lie; raises MemoryError where no memory could hold them."""
    nodes = architecture.nodes
    names, sizes = [node.layer._kernel for node in nodes], (architecture.n_inputs, *(node.units for node in nodes))
    loss, kinds = kernel_name(architecture.loss, names[-1]), [node.kind for node in nodes]
    frozen = {i for i, node in enumerate(nodes) if node.number in architecture.frozen}
    layout = Layout(sizes, names, loss, architecture.dtype, frozen, kinds=kinds, orientation=ORIENTATION)
    if layout.n_bytes > MAX_PARAMETER_BYTES:
        what = f"{list(sizes)}, whose parameters take {layout.n_bytes} bytes"
        raise MemoryError(f"sizes must fit into memory, got {what}")
    return layout


@dataclass(frozen=True)
class Programs:
    """What was written for a layout, and its memory, while no call uses it: a call takes it out, and puts it back.

    It knows a network only while it is in use, so that other networks of the layout can go on with it.
    """

    layout: Layout
    blocks: SmallPredictions
    sweeps: list[Any] = field(default_factory=list)
    plans: deque[Any] = field(default_factory=lambda: deque(maxlen=MAX_PLANS))  # the latest at the end

    @functools.cached_property
    def outside(self) -> Programs:
        """The programs of `Layout.outside`, for populations: each thread of a step needs a plan."""
        layout = self.layout.outside
        plans = deque[Any](maxlen=MAX_PLANS * available_threads())
        return Programs(layout, SmallPredictions(layout, self.blocks.scale), plans=plans)


@functools.lru_cache(MAX_ARCHITECTURES)
def _shared_programs(architecture: Architecture) -> Programs:
    layout = layout_of(architecture)
    return Programs(layout, SmallPredictions(layout, scale_of(architecture)))


def without_parameter(architecture: Architecture) -> Architecture:
    """The architecture with the default of the loss's parameter, and without numbers that shift inputs.

    That is what programs depend on.
    """
    if parameter_of(architecture.loss) is not None:
        architecture = replace(architecture, loss=architecture.loss_name)
    if architecture.shifted:
        architecture = replace(architecture, input_shift=None, input_scale=None, own_inputs=True)
    return architecture


def programs_of(architecture: Architecture) -> Programs:
    """The programs of all networks of a small architecture, or new ones."""
    programs = _shared_programs(without_parameter(architecture))
    if programs.layout.n_bytes + programs.layout.block_bytes > SHARED_BYTES:
        return Programs(programs.layout, SmallPredictions(programs.layout, programs.blocks.scale))
    return programs


@functools.lru_cache
def _settings(dtype: Any, loss_parameter: float) -> NDArray[Any]:
    """The record of settings of programs that do not train. All networks alike share it."""
    settings = aligned_zeros(dtype.itemsize, dtype)
    settings["loss_parameter"] = loss_parameter
    settings.flags.writeable = False
    return settings


def loss_parameter(layout: Layout, loss: Any) -> float:
    """The number that a loss's programs read: its parameter, the default one, or 0 where it has none."""
    parameter = parameter_of(loss)
    return LOSSES[layout.loss].parameter or 0.0 if parameter is None else parameter


def settings_of(layout: Layout, loss: Any) -> NDArray[Any]:
    """The record of settings of programs that do not train, which nobody can write to."""
    return _settings(layout.settings_dtype, loss_parameter(layout, loss))


class Tapes(threading.local):
    """Each thread's tapes of a network, see `training.tape`: those that are idle, and that of its last `forward`."""

    def __init__(self) -> None:
        self.idle: list[Any] = []
        self.latest: Any = None


class Network:
    """An architecture and its parameters. A model replaces it as a whole: a call sees one or the other, never a mix.

    The parameters, the optimizer's vectors and `state`, one record of STATE, are what the last finished epoch left.
    Training works in memory of its own and copies to these in the compiled call that ends an epoch, so that an
    exception cannot leave half of them. `parameters` may be the memory of another network of the same layout.
    """

    def __init__(
        self,
        architecture: Architecture,
        random: int = 0,
        noise: int | None = None,
        parameters: NDArray[Any] | None = None,
    ):
        """`random` and `noise` are the states of the generators that draw orders, and the keys of dropout."""
        self.architecture = architecture
        programs = programs_of(architecture)
        self.layout, self.plans = programs.layout, programs.plans
        layout = self.layout
        self.loading = Loading.of(architecture, layout)
        self.state = aligned_zeros(STATE.itemsize, STATE)
        self.seed(random)
        if noise is not None:
            self.state["noise"] = noise
        self.parameters = aligned_zeros(layout.n_bytes, layout.dtype) if parameters is None else parameters
        self.tensors = self.tensors_of(self.parameters)
        self.weights, self.biases = zip(*self.pairs_of(self.parameters), strict=True)
        self.vectors: dict[str, NDArray[Any]] = {}  # optimizers', by their kernels: laid out like the parameters
        self._places = address_of(self.parameters), address_of(self.state)
        self._optimizers: dict[int, Optimizer] = {}  # by their numbers in `state`
        self.settings = settings_of(layout, architecture.loss)
        self.inference = Inference(
            layout, self.parameters, self.settings, self.loading, programs.sweeps, programs.blocks
        )
        self._max_threads: dict[int, int] = {}  # by batch size
        self.stepper: Any = None  # the last call's of partial_fit, if no plan was taken since
        self.tapes = Tapes()
        self.stepping: Any = None  # the tape of the last call of step, if no plan was taken since

    def with_head(self, head: Dense) -> Network:
        """A network with another last layer, whose parameters are zero, and a fresh optimizer; the rest is copied."""
        old, last = self.architecture, len(self.tensors) - 1
        architecture = replace(old, layers=(*old.layers[:-1], head), frozen=old.frozen - {last})
        new = Network(architecture, self.random, self.noise)
        for tensors, others in zip(new.tensors[:last], self.tensors, strict=False):
            for name, tensor in tensors.items():
                tensor[...] = others[name]
        return new

    def tensors_of(self, vector: NDArray[Any]) -> tuple[dict[str, NDArray[Any]], ...]:
        """The tensors of each layer that has some, by name: views of a vector laid out like the parameters."""
        return tuple(tensors for tensors in self.layout.tensors(vector) if tensors)

    def pairs_of(self, vector: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """(weight, bias) of each such layer, as `Model.weights` and `Model.biases` have them; a bias may be empty."""
        pairs = []
        for i, tensors in enumerate(self.layout.tensors(vector)):
            if tensors:
                weight = tensors.get("weight")
                weight = self.layout.rows(vector, i) if weight is None else weight
                pairs.append((weight, tensors.get("bias", weight[0, :0] if weight.ndim == 2 else weight[:0])))
        return pairs

    def check_least(self, vector: NDArray[Any]) -> None:
        """Raise where an element of a vector like the parameters is less than one of its tensor can be."""
        for node, tensors in zip(self.architecture.nodes, self.layout.tensors(vector), strict=True):
            for tensor in node.tensors:
                if tensor.least > -math.inf and (found := tensors[tensor.name].min()) < tensor.least:
                    name = f"layers.{node.number}.{tensor.name}"
                    raise ValueError(f"{name} must be at least {tensor.least:g}, got {found:g}")

    def max_threads(self, batch_size: int) -> int:
        """How many threads make a step of training faster."""
        if batch_size not in self._max_threads:
            self._max_threads[batch_size] = strategy.max_threads(self.layout, batch_size, 2**30)
        return self._max_threads[batch_size]

    def forget_stepper(self) -> None:
        """Give back the plan of the last call of `partial_fit` or `step`, because others train from now on."""
        self.stepping = None
        stepper, self.stepper = self.stepper, None
        if stepper is not None:
            stepper.plan.release(self)

    def seed(self, random: int) -> None:
        """Start both generators afresh."""
        self.state["random"], self.state["noise"] = random, random ^ OTHER

    @property
    def random(self) -> int:
        """The state of the generator that draws the orders."""
        return int(self.state["random"][0])

    @property
    def noise(self) -> int:
        """The state of the generator that draws the keys of dropout and noise."""
        return int(self.state["noise"][0])

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer that trained last, from whose state an equal one goes on."""
        return self._optimizers.get(int(self.state["optimizer"][0]))

    def vectors_for(self, optimizer: Optimizer) -> NDArray[Any]:
        """The optimizer's own vectors, those of the last one of its kind."""
        kernel, vectors = optimizer._kernel, self.vectors  # another thread may replace the dict, or save this network
        if (found := vectors.get(kernel)) is None:
            n_bytes = len(OPTIMIZERS[kernel].vectors) * self.layout.n_bytes
            found = vectors.setdefault(kernel, aligned_zeros(n_bytes, self.layout.dtype))
        return found

    def addresses(self, vectors: NDArray[Any]) -> tuple[int, int, int]:
        """Where the parameters, an optimizer's vectors and the state lie."""
        parameters, state = self._places
        return parameters, address_of(vectors), state

    def start(self, optimizer: Optimizer, vectors: NDArray[Any], state: NDArray[Any]) -> None:
        """Make vectors and state, copies of the network's, those of a fresh optimizer."""
        current, kernel = int(self.state["optimizer"][0]), OPTIMIZERS[optimizer._kernel]
        number = max(self._optimizers, default=0) + 1
        known = self._optimizers.get(current)
        self._optimizers = {number: optimizer} if known is None else {current: known, number: optimizer}
        kinds = {each._kernel for each in self._optimizers.values()}
        self.vectors = {kernel: kept for kernel, kept in list(self.vectors.items()) if kernel in kinds}
        vectors[...] = 0
        state["optimizer"], state["numbers"] = number, 0
        state["numbers"][0, : len(kernel.state)] = list(kernel.state.values())

    def optimizer_state(self) -> tuple[Optimizer, NDArray[Any], NDArray[Any]] | None:
        """Copies of what an optimizer knows: itself, its vectors, its numbers."""
        optimizer = self.optimizer
        if optimizer is None:
            return None
        return optimizer, self.vectors_for(optimizer).copy(), self.state["numbers"].copy()

    def restore_optimizer(self, optimizer: Optimizer, vectors: NDArray[Any], numbers: NDArray[Any]) -> None:
        """Go on from what `optimizer_state` gave."""
        kept = self.vectors_for(optimizer)
        self.start(optimizer, kept, self.state)
        kept[...], self.state["numbers"] = vectors, numbers
