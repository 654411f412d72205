"""Fine-tune an encoder with sentence-transformers' trainer and hard negatives that are mined before each epoch.

    python docs/examples/remine.py

It trains mUSE on relkt-mini: questions in a few languages about English passages. It needs no network and takes about a
minute on two cores. ``--encoder`` selects another encoder, by its name on the Hub (``intfloat/multilingual-e5-small``)
or by its folder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

import relkt
from relkt.data import RetrievalData


def pairs_of(data: RetrievalData) -> Dataset:
    """Return a row for each training question and each passage that answers it, with the passage's document."""
    passages = {passage.id: passage for passage in data.passages}
    return Dataset.from_list(
        [
            {"anchor": query.text, "positive": passages[p].text, "document": passages[p].document}
            for query in data.select(split="train").queries
            for p in data.positives(query.id)
        ]
    )


def fine_tune(
    model: SentenceTransformer, data: RetrievalData, *, output_dir: str | Path, epochs: int, learning_rate: float
) -> SentenceTransformerTrainer:
    """Train on the training questions; changes the model in place."""
    # Re-mining takes two more statements than training without it: this one, and the callback below.
    remine = relkt.RemineCallback(
        pairs_of(data), model, num_negatives=2, relative_margin=0.05, document_column="document"
    )
    # Train with the prompts that the model uses for queries and passages.
    prompts = {"anchor": model.prompts.get("query") or ""}
    prompts |= dict.fromkeys(["positive", *remine.columns], model.prompts.get("document") or "")
    trainer = SentenceTransformerTrainer(
        model,
        SentenceTransformerTrainingArguments(
            output_dir=str(output_dir),
            num_train_epochs=epochs,
            per_device_train_batch_size=32,
            learning_rate=learning_rate,
            warmup_steps=0.1,
            batch_sampler="no_duplicates",
            prompts=prompts,
            save_strategy="no",
            logging_steps=5,
            report_to="none",
        ),
        train_dataset=remine.dataset,
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[remine],
    )
    trainer.train()
    return trainer


def main(arguments: Sequence[str] | None = None) -> tuple[float, float]:
    """Print and return P@1 on the development questions before and after training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--encoder", default="muse", help="muse, or a model's folder or Hub name (default: %(default)s)"
    )
    parser.add_argument(
        "--languages", default="de,es,th", help="languages of the questions, comma-separated (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--output", type=Path, help="folder to save the model to (default: do not save it)")
    options = parser.parse_args(arguments)

    data = relkt.load_data("relkt-mini", languages=options.languages.split(","))
    model = relkt.load_encoder(options.encoder)
    before = relkt.evaluate(model, data, split="dev", level="passage").average("P@1").value
    with tempfile.TemporaryDirectory() as folder:
        trainer = fine_tune(model, data, output_dir=folder, epochs=options.epochs, learning_rate=options.learning_rate)
    after = relkt.evaluate(model, data, split="dev", level="passage").average("P@1").value
    for entry in trainer.state.log_history:
        if "remine_negatives" in entry:
            print(
                f"epoch {entry['epoch'] + 1:.0f}: {entry['remine_negatives']} negatives, mean score "
                f"{entry['remine_score']:.3f}, {entry['remine_changed']:.0%} of them new"
            )
    print(f"P@1 of the development questions: {before:.3f} before, {after:.3f} after")
    if options.output is not None:
        model.save_pretrained(str(options.output))
    return before, after


if __name__ == "__main__":
    main()
