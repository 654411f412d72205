"""Errors about an argument: their text, other spellings of their parameters, their kinds."""

import copy
import pickle

import pytest

from relkt.errors import (
    ArgumentError,
    ArgumentExistsError,
    ArgumentMessage,
    ArgumentNotFoundError,
    ArgumentTypeError,
    Parameter,
)


def spell(parameter):
    return f"<{parameter.name}|{parameter.value}>"


def test_message_names_the_argument_and_both_values():
    error = ArgumentError("k", "an integer of at least 1", 0)
    assert str(error) == "k: expected an integer of at least 1, got 0"
    assert error.name == "k"


def test_render_spells_every_parameter():
    error = ArgumentExistsError(
        "path", problem="wiki.relkt exists", hint=("choose another name, or pass ", Parameter("overwrite", "True"))
    )
    assert str(error) == "path: wiki.relkt exists; choose another name, or pass overwrite=True"
    assert error.render(spell) == "<path|>: wiki.relkt exists; choose another name, or pass <overwrite|True>"


def test_several_parameters_are_spelt_each():
    error = ArgumentError("preset, config", "one of them", "both")
    assert str(error) == "preset, config: expected one of them, got both"
    assert error.render(spell) == "<preset|>, <config|>: expected one of them, got both"


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ArgumentError, ValueError),
        (ArgumentTypeError, TypeError),
        (ArgumentExistsError, FileExistsError),
        (ArgumentNotFoundError, FileNotFoundError),
    ],
)
def test_kinds_are_built_in_errors_and_survive_pickle(kind, builtin):
    error = kind("columns.query", ("a column other than ", Parameter("columns.positive")), "'text'")
    assert isinstance(error, builtin)
    assert isinstance(error, ArgumentMessage)
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(same) is kind
        assert str(same) == str(error) == "columns.query: expected a column other than columns.positive, got 'text'"
        assert same.render(spell) == error.render(spell)


def test_a_class_may_add_another_base():
    class DataError(ValueError):
        pass

    class ArgumentDataError(ArgumentMessage, DataError):
        pass

    assert isinstance(ArgumentDataError("path", "a folder", "none"), DataError)
