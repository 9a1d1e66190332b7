"""`export`, a method of all that is trained. What it calls is a wing, which is found by its public name."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any


class Exportable:
    """What has a method `export`."""

    def export(self, path: str | os.PathLike[str], **options: Any) -> Any:
        """Write the network to a file that other systems read, see `fastnn.export`, whose options these are.

        Examples
        --------
        >>> import fastnn, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "net.py")
        >>> fastnn.Model([2, 3, 1], rng=0).export(path)
        >>> os.listdir(os.path.dirname(path))
        ['net.py']
        """
        package = __package__.rpartition(".")[0]
        return import_module(package).export(self, path, **options)


class ConvertibleNetwork(Exportable):
    """A single network, which can become a model of another package too."""

    def to_torch(self) -> Any:
        """The network as a `torch.nn.Sequential` in evaluation mode, which computes what `predict` computes.

        Its parameters are copies, in the model's dtype; those of frozen layers do not require gradients. It can be
        trained further after `.train()`, and `fastnn.from_torch` makes a model of it. A `Residual`, a `Scale`, an
        `Embedding`, "exp", "step", and shifts and scales of inputs are modules of `fastnn.exchange.torch_modules`.
        Codes of an `Embedding` must be known ones. With the loss "gaussian" it gives all outputs, means and logarithms
        of variances.

        Raises ValueError for an activation of your own, and ModuleNotFoundError where PyTorch is not installed.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Model([4, fastnn.Dense(16, "relu"), 1], rng=0).to_torch()  # doctest: +SKIP
        Sequential(
          (0): Linear(in_features=4, out_features=16, bias=True)
          (1): ReLU()
          (2): Linear(in_features=16, out_features=1, bias=True)
          (3): Sigmoid()
        )
        """
        package = __package__.rpartition(".")[0]
        import_module(f"{package}.exchange.from_torch").torch()
        return import_module(f"{package}.exchange.torch_modules").module_of(self)

    def to_keras(self) -> Any:
        """A Sequential model of Keras 3 that predicts the same, with the numbers of this model as they are now.

        It is not compiled. Layers that are frozen here do not train there. Shifts and scales of inputs become a
        `Normalization` or a `Rescaling`, which compute in the model's dtype. Keras' `BatchNormalization` follows the
        biased variance of batches, fastnn's the unbiased one. `fastnn.from_keras` is the way back.

        Raises ModuleNotFoundError without Keras; ValueError, which names the layer, for what Keras has not: `Scale`,
        `Residual`, `Embedding`, "step" and an `Activation` of your own.

        Examples
        --------
        >>> import fastnn
        >>> model = fastnn.Model([2, fastnn.Scale(), 1])
        >>> model.to_keras()
        Traceback (most recent call last):
        ValueError: Keras has no layer such as layers[0], Scale
        """
        package = __package__.rpartition(".")[0]
        return import_module(f"{package}.exchange.keras_export").to_keras(self)
