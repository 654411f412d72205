"""The conditions of mining: declared once, for every function that takes them."""

import inspect
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

import relkt
from relkt.mining import MiningConditions, Strategy
from relkt.mining.conditions import ConditionArgs

NAMES = [field.name for field in fields(MiningConditions)]
ROWS = np.eye(3, dtype=np.float32)


def test_fields_and_arguments_have_the_same_names():
    assert list(ConditionArgs.__annotations__) == NAMES


@pytest.mark.parametrize("name", ["mine", "RemineCallback"])
def test_signatures_list_every_condition_with_its_default(name):
    parameters = inspect.signature(getattr(relkt, name)).parameters
    assert {field.name: field.default for field in fields(MiningConditions)}.items() <= {
        parameter.name: parameter.default for parameter in parameters.values()
    }.items()
    assert all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


def test_conditions_are_checked_when_made_and_do_not_change():
    conditions = MiningConditions(strategy="random", num_hard=2, num_negatives=1)
    assert conditions.strategy is Strategy.RANDOM
    assert MiningConditions(num_hard=2).num_negatives == 0
    assert MiningConditions().num_negatives == 3
    assert replace(conditions, seed=5) == MiningConditions(strategy="random", num_hard=2, num_negatives=1, seed=5)
    with pytest.raises(FrozenInstanceError):
        conditions.seed = 1
    with pytest.raises(ValueError, match="relative_margin: expected a number from -2 to 2, got 95"):
        replace(conditions, relative_margin=95)


def test_an_unknown_condition_is_a_type_error():
    for function in (MiningConditions, lambda **conditions: relkt.mine(ROWS, ROWS, **conditions)):
        with pytest.raises(TypeError, match="unexpected keyword argument 'num_negative'; the conditions are num_neg"):
            function(num_negative=3)


@pytest.mark.parametrize("name", ["positives", "exclude", "groups"])
def test_masks_of_any_byte_are_rejected(name):
    for byte in range(256):
        mask = np.full(3 if name == "groups" else (3, 3), byte, dtype=np.uint8).view(bool)
        with pytest.raises(TypeError, match=f"{name}: expected"):
            relkt.mine(ROWS, ROWS, **{"positives": [0, 1, 2], name: mask})
