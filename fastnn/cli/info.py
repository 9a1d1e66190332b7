"""`fastnn info`."""

from __future__ import annotations

from typing import Any

from .. import GroupModels, Model, Population, Predictor
from . import answers, writing


def run(options: Any) -> int:
    """Tell what a file holds; gives the exit code."""
    found = facts(answers.loaded(options.model))
    if options.json:
        writing.write(writing.as_json(found))
        return 0
    rows = [(name, each) for name, value in found.items() for each in _lines(value)]
    writing.write(writing.as_csv({"property": [name for name, _ in rows], "value": [value for _, value in rows]}))
    return 0


def _lines(value: Any) -> list[Any]:
    """The values of a property: one a row of CSV."""
    if isinstance(value, dict):
        return [f"{name}: {each}" for name, each in value.items()]
    return value if isinstance(value, list) else [value]


def facts(model: Any) -> dict[str, Any]:
    """What is known of a model, by name."""
    found: dict[str, Any] = {"kind": type(model).__name__}
    networks = model.population if isinstance(model, GroupModels) else getattr(model, "population_", model)
    if isinstance(model, GroupModels):
        found |= {"groups": len(model), "by": model.by, "target": model.targets}
    columns = Predictor(model).columns
    if columns is not None:
        found["column"] = [str(each) for each in columns]
    if hasattr(model, "table_"):
        found["column"] = {row.name: row.becomes for row in model.table_.summary}
    if hasattr(model, "classes_"):
        found["class"] = [writing.plain(each) for each in model.classes_]
    if hasattr(model, "validation_score_"):
        found["validation score"] = model.validation_score_
    return found | _of_networks(networks)


def _of_networks(networks: Any) -> dict[str, Any]:
    """What is known of the networks: sizes, activations, the number of parameters."""
    if isinstance(networks, (Model, Population)):
        found: dict[str, Any] = {"networks": len(networks)} if isinstance(networks, Population) else {}
        found |= {"sizes": "-".join(map(str, networks.sizes)), "layer": [repr(each) for each in networks.layers]}
        if isinstance(networks, Model):
            found["loss"] = networks.loss_name
        return found | {"dtype": networks.dtype, "parameters": networks.n_parameters}
    if not hasattr(networks, "coefs_"):
        return {}
    weights, biases = networks.coefs_, networks.intercepts_
    sizes = [len(weights[0]), *(len(each) for each in biases)]
    return {
        "sizes": "-".join(map(str, sizes)),
        "activation": str(networks.activation),
        "output": networks.out_activation_,
        "dtype": str(weights[0].dtype),
        "parameters": sum(each.size for each in [*weights, *biases]),
        "epochs": int(networks.n_iter_),
    }
