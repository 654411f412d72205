"""Checks of the trainer's samplers, settings and prompts."""

from __future__ import annotations

import logging
from functools import partial

import pytest
from datasets import Dataset
from remine_cases import CONDITIONS, train
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

from relkt.training.remine import RemineCallback


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "warned"),
    [
        ({"mined": "query : "}, False),
        ({"mined": dict.fromkeys(("anchor", "positive", "negative_1", "negative_2"), "query : ")}, False),
        ({"mined": "text : "}, True),
        ({"mined": {"anchor": "query : "}}, True),
        ({"other": {"anchor": "query : "}}, True),
        ("query : ", False),
    ],
)
def test_prompts_by_data_set(tmp_path, model_of, pairs, caplog, prompts, warned):
    model = model_of(prompts={"query": "query : ", "document": "query : "})
    remine = RemineCallback(pairs, model, **CONDITIONS)
    with caplog.at_level(logging.WARNING, "relkt"):
        train(tmp_path, model, remine, {"mined": remine.dataset}, prompts=prompts, max_steps=1)
    assert ("puts the prompt" in caplog.text) is warned


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_a_sampler_with_hashes_is_rejected(tmp_path, tiny_model, pairs, several):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    sampler = partial(NoDuplicatesBatchSampler, precompute_hashes=True)
    plain = Dataset.from_list(list(remine.dataset))
    dataset = {"plain": plain, "mined": remine.dataset} if several else remine.dataset
    with pytest.raises(ValueError, match="batch_sampler: expected another sampler"):
        train(tmp_path, tiny_model, remine, dataset, batch_sampler=sampler)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataloader_num_workers": 1, "dataloader_persistent_workers": True}, "dataloader_persistent_workers: exp"),
        ({"batch_sampler": "no_duplicates_hashed"}, "batch_sampler: expected another sampler"),
    ],
)
def test_settings_that_would_keep_old_negatives_are_rejected(tmp_path, tiny_model, pairs, arguments, message):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    with pytest.raises(ValueError, match=message):
        train(tmp_path, tiny_model, remine, **arguments)
