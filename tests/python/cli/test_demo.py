"""``relkt demo``: the questions that it refuses."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--ask", " "], "--ask: expected a question, got an empty text"),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    refused(arguments, message)
