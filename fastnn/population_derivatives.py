"""Derivatives of all members of a population, and training by gradients that the user computed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import scalars
from .data import arrays
from .network import curvature
from .network import threads as _threads
from .network.claims import Claims
from .network.inference import TRAINING_OUTPUTS
from .network.input_loading import Loading
from .network.network import Network, Programs, settings_of
from .settings.each import is_array, numbers
from .settings.layers import Architecture
from .settings.optimizers import SGD, Optimizer
from .training.arguments import check_rows, check_trainable
from .training.member_arguments import Crew
from .training.member_data import MemberData, equal_rows, values_of
from .training.member_passes import MemberPasses
from .training.member_steps import MemberSteps
from .training.members import Members, MemberSamples, Rows


def member_architecture(architecture: Architecture, affines: NDArray[np.float64] | None, i: int) -> Architecture:
    """The architecture of a member of a population."""
    if affines is None:
        return architecture
    shift, scale = affines[i].tolist()
    return replace(architecture, input_shift=shift, input_scale=scale, own_inputs=False)


class PopulationDerivatives:
    """What `Population` has of derivatives. `Population` sets the attributes."""

    _architecture: Architecture
    _members: Members
    _programs: Programs
    _split_seeds: NDArray[np.int64]
    _feature_names: tuple[str, ...] | None
    _claims: Claims
    _steps: MemberSteps | None  # the latest, where there were some
    _kept_loading: tuple[Any, Loading] | None  # and the shifts and scales that it is made of

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Hold the claim of a change, while no other is held."""
        claim = threading.Lock()
        with claim:
            self._claims.take(claim)
            yield
            self._claims.give_back(claim)

    def _passes(self, outside: bool = False) -> MemberPasses:
        """What takes passes of all members; `outside` by the programs that take gradients of the outputs."""
        programs = self._programs.outside if outside else self._programs
        settings = settings_of(programs.layout, self._architecture.loss)
        return MemberPasses(programs, self._loading(), settings, self._members)

    def _loading(self) -> Loading:
        """How the members' inputs are loaded; kept, because operands take as long as a copy of them."""
        affines = self._members.affines
        if self._kept_loading is None or self._kept_loading[0] is not affines:
            loading = Loading.of(self._architecture, self._programs.layout, affines)
            self._kept_loading = affines, loading
        return self._kept_loading[1]

    def _threads(self, threads: int | None, rows: int) -> int:
        """How many threads a pass over so many rows of all members takes."""
        if threads is not None:
            scalars.integer("threads", threads, 1)
        few = rows * self._programs.layout.multiply_adds <= _threads.PARALLEL_MULTIPLY_ADDS
        return 1 if few else min(_threads.resolve_threads(threads), len(self._members))

    def _inputs(self, X: Any, finite: bool = True) -> tuple[Rows, int, NDArray[np.int64]]:
        """(inputs, how many rows each member has, the numbers of all members)."""
        n = len(self._members)
        inputs = equal_rows(self._architecture, self._feature_names, n, X, finite)
        return inputs, int(inputs.counts[0]), np.arange(n)

    # ---- by the inputs ----

    def jacobian(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The derivatives of each member's outputs by its inputs, (n, rows, n_out, n_inputs) in the members' dtype.

        X is (rows, n_inputs) for all members, or (n, rows, n_inputs). Each member's part has the bits of
        `Model.jacobian`, which says what they mean. NaN in gives NaN out. `threads` is as in `predict`. Raises
        ValueError or TypeError for X of another shape, or that holds no numbers.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> population = fastnn.Population([3, 2], 4, output="identity", rng=0)
        >>> found = population.jacobian([[1, 2, 3]])
        >>> found.shape, np.array_equal(found[1, 0], population[1].weights[0])
        ((4, 1, 2, 3), True)
        """
        inputs, rows, which = self._inputs(X, finite=False)
        used = self._threads(threads, (1 + self._architecture.sizes[-1]) * rows * len(which))
        return self._passes().jacobians_on(which, MemberSamples.of(inputs), rows, used)

    def jvp(self, X: ArrayLike, V: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The derivatives of each member's outputs along a direction for each row, (n, rows, n_out).

        X and V are (rows, n_inputs) for all members, or (n, rows, n_inputs). Each member's part has the bits of
        `Model.jvp`, which says what they mean. NaN in X gives NaN out. `threads` is as in `predict`. Raises ValueError
        or TypeError for X or V of another shape, or where V holds anything but finite numbers.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> population = fastnn.Population([3, 2], 4, output="identity", rng=0)
        >>> np.allclose(population.jvp([[1, 2, 3]], [[1, 0, 0]])[1, 0], population[1].weights[0][:, 0])
        True
        """
        inputs, rows, which = self._inputs(X, finite=False)
        directions = values_of("V", V, inputs, self._architecture.n_inputs, self._architecture.dtype)
        used = self._threads(threads, 2 * rows * len(which))
        return self._passes().tangents_on(which, inputs, directions, rows, used)

    def hessian(self, X: ArrayLike, *, output: int = 0, diagonal: bool = False) -> NDArray[Any]:
        """The second derivatives of an output of each member by the inputs, (n, rows, n_inputs, n_inputs).

        With `diagonal` those of an input with itself alone, (n, rows, n_inputs). X is (rows, n_inputs) for all members,
        or (n, rows, n_inputs). The members come one after another; each one's part has the bits of `Model.hessian`,
        which says what they mean. Raises ValueError or TypeError for an argument that cannot be used; ValueError for
        members with "step" or an `Activation` of your own.

        Examples
        --------
        >>> import fastnn
        >>> population = fastnn.Population([2, 1], 3, output="exp", init="zeros")
        >>> population.hessian([[0, 0]]).shape, population.hessian([[0, 0]], diagonal=True).shape
        ((3, 1, 2, 2), (3, 1, 2))
        """
        output = scalars.integer("output", output, 0, self._architecture.sizes[-1] - 1)
        diagonal = scalars.boolean("diagonal", diagonal)
        members = self._members
        network = Network(member_architecture(self._architecture, members.affines, 0))
        curvature.check_twice(network)
        if arrays.is_sparse(X):
            X = X.toarray()  # type: ignore[union-attr]
        inputs, rows, _ = self._inputs(X, finite=False)
        n_in = self._architecture.n_inputs
        found = np.empty((len(members), rows, *[n_in] * (1 if diagonal else 2)), self._architecture.dtype)
        for i, (of_member, vector, first) in enumerate(
            zip(found, members.vectors, inputs.starts.tolist(), strict=True)
        ):
            if members.affines is not None:
                network = Network(member_architecture(self._architecture, members.affines, i))
            network.parameters[network.layout.elements] = vector
            of_member[...] = curvature.hessian(network, inputs.array[first : first + rows], output, diagonal)
        return found

    # ---- gradients from outside ----

    def forward(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The outputs of all members, (n, rows, n_out) in the members' dtype, each with the bits of `Model.forward`.

        They are those of `predict` up to rounding, but that BatchNorm takes the mean and variance of X, as in training,
        and so needs two rows or more. X is (rows, n_inputs) for all members, or (n, rows, n_inputs). There is no
        dropout. Nothing is kept: `backward` and `step` go forward again. `threads` is as in `predict`. Raises
        ValueError or TypeError for X of another shape, or that holds no numbers.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> population = fastnn.Population([3, 4, 2], 5, rng=0)
        >>> X = np.ones((6, 3))
        >>> outputs = population.forward(X)
        >>> outputs.shape, np.allclose(outputs, population.predict(X)), population.backward(X, outputs - 1).shape
        ((5, 6, 2), True, (5, 26))
        """
        inputs, rows, which = self._inputs(X, finite=False)
        check_rows(self._programs.layout, rows)
        used = self._threads(threads, rows * len(which))
        passes = self._passes(outside=True)
        return passes.outputs_on(which, MemberSamples.of(inputs), rows, used, TRAINING_OUTPUTS)

    @overload
    def backward(
        self, X: ArrayLike, dA: ArrayLike, *, inputs: Literal[False] = ..., threads: int | None = ...
    ) -> NDArray[Any]: ...

    @overload
    def backward(
        self, X: ArrayLike, dA: ArrayLike, *, inputs: Literal[True], threads: int | None = ...
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...

    def backward(
        self, X: ArrayLike, dA: ArrayLike, *, inputs: bool = False, threads: int | None = None
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """The gradient of a function of each member's outputs, from its derivative dA by them, by backpropagation.

        Parameters
        ----------
        X : array (rows, n_inputs), or array (n, rows, n_inputs)
            Rows that all members share, or a set for each.
        dA : array (n, rows, n_out), or (n, rows) with one output
            `dA[m, i, k]` is dC/da_k for row i of member m, by the outputs as `forward` gives them. C is a sum over the
            rows: for a mean, divide by their number. An array (rows, n_out) is for all members.
        inputs : bool
            Whether to give dC/dX too.
        threads : int or None
            As in `predict`.

        Returns
        -------
        gradients, or (gradients, dX) with `inputs`
            In the members' dtype. The gradients are (n, P) in the order of `vectors`, zeros for frozen layers and for
            running statistics; dX is (n, rows, n_inputs). Each member's part has the bits of `Model.backward`.

        Raises ValueError or TypeError for X or dA that cannot be used, or are not finite.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> population = fastnn.Population([3, 2], 4, output="identity", rng=0)
        >>> X, y = np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([[1, 0], [0, 1]])
        >>> gradients, dX = population.backward(X, (population.forward(X) - y) / len(X), inputs=True)
        >>> gradients.shape, dX.shape
        ((4, 8), (4, 2, 3))
        """
        inputs = scalars.boolean("inputs", inputs)
        if not inputs:
            check_trainable(self._architecture)
        data, rows, which = self._outside(X, dA)
        used = self._threads(threads, 3 * rows * len(which))
        gradients, d_x = self._passes(outside=True).gradients_on(which, data.samples(), rows, used, inputs)
        return (gradients, d_x) if inputs else gradients

    def _outside(self, X: Any, dA: Any) -> tuple[MemberData, int, NDArray[np.int64]]:
        """(X with dA as its targets, how many rows each member has, the numbers of all members)."""
        inputs, rows, which = self._inputs(X)
        check_rows(self._programs.layout, rows)
        targets = values_of("dA", dA, inputs, self._architecture.sizes[-1], self._architecture.dtype)
        return MemberData(inputs, targets), rows, which

    def step(
        self,
        X: ArrayLike,
        dA: ArrayLike,
        *,
        optimizer: Optimizer | str | Sequence[Optimizer | str] = SGD(0.1),
        threads: int | None = None,
    ) -> NDArray[np.bool_]:
        """One step of an optimizer for each member on the gradient that `backward` gives.

        A member's step agrees with that of `Model.step` up to rounding. `history` stays as it is. The running
        statistics of BatchNorm follow those of X.

        Parameters
        ----------
        X, dA
            As in `backward`. Programs are written anew for another number of rows than in the last few calls.
        optimizer : optimizer, str, or sequence of n of these
            As in `fit`: its numbers may be arrays (n,). A further step or fit goes on from the state of those whose
            optimizer is equal to their last one.
        threads : int or None
            As in `fit`.

        Returns
        -------
        bool array (n,)
            Whether the step of each member was taken. One whose outputs or parameters would not be finite keeps its
            parameters and its optimizer's state. The others do not notice.

        Raises
        ------
        ValueError, TypeError
            For an argument that cannot be used; the population is unchanged.
        RuntimeError
            While the population is being trained.

        After an exception such as KeyboardInterrupt each member has taken its step, or is as it was.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> population = fastnn.Population([2, 8, 1], 3, output="identity", rng=0)
        >>> X, y = np.array([[0, 1], [1, 0], [1, 1]], np.float32), np.array([[1], [2], [3]])
        >>> adam = fastnn.Adam(np.array([0.01, 0.02, 0.03]), clip_norm=1.0)
        >>> for _ in range(300):
        ...     taken = population.step(X, (population.forward(X) - y) / len(X), optimizer=adam)
        >>> taken, population.predict(X).round(1)[1].ravel().tolist()
        (array([ True,  True,  True]), [1.0, 2.0, 3.0])
        """
        data, _, which = self._outside(X, dA)
        with self._change():
            if self._steps is None:
                layout = self._programs.layout
                crew = Crew(self._architecture, layout, len(which), self._feature_names, self._split_seeds)
                self._steps = MemberSteps(crew, self._programs.outside)
            return self._steps.step(self._members, data, optimizer, threads)

    def blend(self, others: PopulationDerivatives, tau: ArrayLike) -> None:
        """Move each member towards that of another population: self += tau * (others - self) (Polyak averaging).

        `others` has as many members, of the same layers and dtype; tau is a number in [0, 1], or an array (n,). Running
        statistics move too. The optimizers' states stay. Raises TypeError or ValueError for another kind of population
        or another tau; RuntimeError while the population is being trained.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> targets, population = (fastnn.Population([2, 1], 3, init=init) for init in ("zeros", "normal"))
        >>> targets.blend(population, 0.5)
        >>> np.array_equal(targets.vectors, 0.5 * population.vectors)
        True
        """
        if not isinstance(others, PopulationDerivatives):
            raise TypeError(f"others must be a Population, got {scalars.shown(others)}")
        most, n = float(np.nextafter(1.0, 2.0)), len(self._members)
        share = numbers("tau", tau, 0.0, most, n=n) if is_array(tau) else scalars.number("tau", tau, 0.0, most)
        both = self._architecture, others._architecture
        here, there = ((each.n_inputs, each.layers, each.dtype) for each in both)
        if here != there or n != len(others._members):
            raise ValueError(f"others must have the layers, dtype and number of members of {self!r}, got {others!r}")
        with self._change():
            mine, theirs = self._members.vectors, others._members.vectors
            mine += np.asarray(share, mine.dtype).reshape(-1, 1) * (theirs - mine)
