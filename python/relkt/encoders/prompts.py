"""Prompts of a model, and passages that it truncates."""

from __future__ import annotations

from collections.abc import Sequence

from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerBase

PASSAGE_PROMPTS = ("document", "passage", "corpus")
"""Names of the passages' prompt, in order of precedence."""


def prompt_of(model: SentenceTransformer, *names: str) -> str:
    """Returns the prompt of the first of ``names`` that a model has.

    Without such a prompt, returns the model's default prompt; without a default, an empty string.
    """
    # As in encode_query and encode_document, an empty prompt of a name overrides the default prompt.
    for name in (*names, model.default_prompt_name):
        if name is not None and name in model.prompts:
            return str(model.prompts[name] or "")
    return ""


def num_truncated(model: SentenceTransformer, passages: Sequence[str], *, prompt: str | None = None) -> int:
    """Counts the passages that are longer than a model's ``max_seq_length``; the model ignores what exceeds it.

    Args:
        model: Any sentence-transformers model. The count is 0 if the model has no limit, such as mUSE, or if its
            tokenizer is not from transformers.
        passages: The passages.
        prompt: Text put before each passage. Default: the model's prompt.
    """
    limit, tokenizer = model.max_seq_length, getattr(model, "tokenizer", None)
    if limit is None or not isinstance(tokenizer, PreTrainedTokenizerBase):
        return 0
    before = prompt_of(model, *PASSAGE_PROMPTS) if prompt is None else prompt
    longer = 0
    for start in range(0, len(passages), 512):
        chunk = [before + text for text in passages[start : start + 512]]
        tokens = tokenizer(chunk, truncation=False, verbose=False, return_attention_mask=False)["input_ids"]
        longer += sum(len(row) > limit for row in tokens)
    return longer
