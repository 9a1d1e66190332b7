"""What the tests take their cases from: the table has every row, and the chosen cases every pair of values."""

import itertools

import pytest

from fastnn.kernels import reference
from fastnn.kernels.formulas.loss_functions import OUTSIDE

from .. import cases, covering


def test_the_table_has_every_row_of_the_kernels():
    assert cases.missing() == set()


def test_a_row_that_is_missing_would_be_found(monkeypatch):
    monkeypatch.delitem(cases.OPTIMIZERS, "lion")
    monkeypatch.setattr(cases, "SMOOTH", ())
    monkeypatch.setattr(cases, "ACTIVATIONS", tuple(name for name in cases.ACTIVATIONS if name != "elu"))
    monkeypatch.setitem(cases.LOSSES, "no loss", ("identity", None))
    assert cases.missing() == {"lion", "elu", "no loss"}


def test_the_reference_has_every_row():
    assert reference.OPTIMIZERS.keys() == cases.OPTIMIZERS.keys()
    assert reference.ACTIVATIONS.keys() == set(cases.ACTIVATIONS)
    assert reference.LOSSES.keys() | reference.LOGIT_LOSSES.keys() == cases.LOSSES.keys() | {OUTSIDE}


def test_each_optimizer_belongs_to_the_row_that_it_is_called_by():
    assert {name: optimizer._kernel for name, optimizer in cases.OPTIMIZERS.items()} == {
        name: name for name in cases.OPTIMIZERS
    }
    assert all(len(set(settings)) == len(settings) for settings in cases.SETTINGS.values())  # so that none is mistaken


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_some_cases_hold_every_combination_of_values(strength):
    every = [case for case in itertools.product("ab", "abcde", range(4), range(3)) if case[:2] != ("a", "c")]
    chosen = covering.covering(every, strength)
    for at in itertools.combinations(range(4), strength):
        assert {tuple(every[i][j] for j in at) for i in chosen} == {tuple(case[j] for j in at) for case in every}
    assert len(chosen) < {1: 8, 2: 28, 3: 90}[strength]
