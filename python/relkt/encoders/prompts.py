"""What a model puts before a text, and how much of the text it then sees."""

from __future__ import annotations

from collections.abc import Sequence

from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerBase

PASSAGE_PROMPTS = ("document", "passage", "corpus")
"""Names of the prompt that passages have; the first one that a model knows counts."""


def prompt_of(model: SentenceTransformer, *names: str) -> str:
    """The prompt of the first of some names that a model knows, its default one otherwise; empty if it has none."""
    # The same choice as encode_query and encode_document make: an empty prompt of a name keeps the default one away.
    for name in (*names, model.default_prompt_name):
        if name is not None and name in model.prompts:
            return str(model.prompts[name] or "")
    return ""


def num_truncated(model: SentenceTransformer, passages: Sequence[str], *, prompt: str | None = None) -> int:
    """How many passages are longer than a model's ``max_seq_length``, so that it sees their start only.

    Args:
        model: Any sentence-transformers model. None is too long for one without a limit, such as mUSE, and none is
            counted for one whose tokenizer is not of transformers.
        passages: The passages.
        prompt: Put before each of them; default: the model's.
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
