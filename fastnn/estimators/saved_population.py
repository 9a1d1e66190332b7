"""`save` of the estimators whose networks are a population. Apart from `saving`: others load nothing of populations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..files import history_file, population_file
from ..files.model_file import Tensors
from ..population import Population
from ..reports.population_history import PopulationHistory
from ..settings.layers import Architecture
from . import saving


class SavedPopulation(saving.Saved):
    """What estimators have whose networks are a population."""

    _trained = "population_"

    population_: Population
    history_: PopulationHistory | None

    def _written(self, optimizer: bool) -> tuple[dict[str, Any], Tensors, Architecture]:
        contents = self.population_._contents()._replace(feature_names=self._input_names())
        description, tensors = population_file.written(contents, optimizer)
        if self.history_ is not None:
            tensors |= history_file.tensors_of(self.history_)
        return description, tensors, contents.architecture

    def _input_names(self) -> tuple[str, ...] | None:
        """The names of the networks' inputs, where the file has them."""
        return saving.names_of(self)

    def _take(self, solver: dict[str, Any], d: dict[str, Any], tensors: Tensors, custom: Mapping[str, Any]) -> None:
        if solver:
            raise ValueError(f"an ensemble must have no solver of a last fit, got {sorted(solver)}")
        history = {name: tensor for name, tensor in tensors.items() if name.startswith("history.")}
        rest = {name: tensor for name, tensor in tensors.items() if name not in history}
        contents = population_file.read(d, rest, custom)
        saving.named(self, contents.architecture.n_inputs, contents.feature_names)
        self.population_ = Population._of(contents._replace(feature_names=None))
        self.history_ = history_file.history_of(history) if history else None
        self._check_outputs(contents.architecture)

    def _check_outputs(self, architecture: Architecture) -> None:
        """Raise where the outputs are not those of the targets."""
        raise NotImplementedError
