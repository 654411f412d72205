"""The JSON API: models and routes."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from relkt import __version__
from relkt.app.languages import language_name
from relkt.app.limits import BusyError
from relkt.app.run_folder import RunFolder
from relkt.app.service import DEFAULT_RESULTS, Answer, SearchService

Scalar: TypeAlias = str | int | float | bool | None
"""A value to filter passages by."""


class _Model(BaseModel):
    # Strict: "10" is not a number, and a misspelt key is an error.
    model_config = ConfigDict(extra="forbid", strict=True)


class SearchRequest(_Model):
    """A question."""

    question: str = Field(description="In any language.", examples=["¿Por qué flota el hielo?"])
    k: int = Field(DEFAULT_RESULTS, ge=1, description="Number of passages; fewer if fewer match the filter.")
    where: dict[str, Scalar | list[Scalar]] = Field(
        default_factory=dict,
        description="Filter: for each column a value, or a list of accepted values; null matches passages without a "
        "value. /api/info lists the columns.",
        examples=[{"language": ["en", "de"]}],
    )
    highlight: bool = Field(True, description="If true, find the best sentence of each passage, which takes longer.")


class Language(_Model):
    """The detected language of the question."""

    code: str | None = Field(description="ISO 639 code of the most likely language; null for a text without words.")
    name: str | None = Field(description="Its English name.")
    probability: float
    sure: bool = Field(description="True if the detected language is reliable.")


class Sentence(_Model):
    """The highest-scoring sentence of a passage."""

    start: int = Field(description="Index of its first character in the passage's text, in Unicode code points.")
    end: int = Field(description="Index after its last character.")
    text: str
    score: float = Field(description="Cosine of question and sentence.")


class RankedPassage(_Model):
    """A ranked passage."""

    rank: int = Field(description="From 1, the best.")
    score: float = Field(description="Cosine of question and passage, in [-1, 1].")
    id: str
    text: str
    title: str | None
    document: str | None
    language: str | None
    fields: dict[str, Any] = Field(description="All other columns of the source.")
    best_sentence: Sentence | None = Field(
        description="null if highlight is false, the server is busy, or the passage has one sentence or very many."
    )


class Timing(_Model):
    """Seconds that each part of an answer took; the wait for earlier questions is not counted."""

    encoding: float
    search: float
    highlighting: float | None


class SearchResponse(_Model):
    """The ranked passages of a question."""

    question: str
    language: Language
    passages: list[RankedPassage] = Field(description="Best first.")
    seconds: Timing


class FilterValue(_Model):
    """A value of a column."""

    value: Any
    count: int = Field(description="Number of passages with this value.")


class Info(_Model):
    """The index and the limits of a request."""

    relkt: str = Field(description="The version of relkt.")
    index: str = Field(description="The name of the index.")
    passages: int
    dimension: int
    encoder: str | None = Field(description="The name of the encoder that built the index.")
    columns: list[str] = Field(description="Columns of the passages, for the where filter.")
    filters: dict[str, list[FilterValue]] = Field(
        description="Values of the columns with few distinct values, most frequent first."
    )
    max_question_characters: int
    max_k: int


class Problem(_Model):
    """An error."""

    detail: str


class Health(_Model):
    """Liveness."""

    status: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "A question or filter that this index cannot answer."},
    413: {"model": Problem, "description": "The request body is too large."},
    503: {"model": Problem, "description": "Too many questions are waiting."},
}


def api_router(service: SearchService, run: RunFolder | None = None) -> APIRouter:
    """The routes of the API.

    Args:
        service: The service that answers questions.
        run: Training run whose plots are served.
    """
    router = APIRouter()

    # The route is not async, because a search is CPU-bound and would block the event loop.
    @router.post("/api/search", responses=_PROBLEMS, summary="Search", tags=["search"])
    def search(request: SearchRequest) -> SearchResponse:
        """The passages with the highest scores, best first."""
        try:
            answer = service.search(request.question, request.k, where=request.where)
            if request.highlight:
                with suppress(BusyError):  # best sentences are optional
                    answer = service.highlight(answer)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        except BusyError as error:
            raise HTTPException(503, str(error), headers={"Retry-After": "1"}) from error
        return _response(answer)

    @router.get("/api/info", summary="Index and limits", tags=["search"])
    def info() -> Info:
        """The index, its columns and their values, and the limits of a request."""
        retriever = service.retriever
        return Info(
            relkt=__version__,
            index=service.name,
            passages=len(retriever),
            dimension=retriever.index.dim,
            encoder=service.encoder_name,
            columns=list(retriever.passages.columns),
            filters={
                filter_.column: [FilterValue(value=_json(value), count=n) for value, n in filter_.values.items()]
                for filter_ in service.filters
            },
            max_question_characters=service.limits.question_characters,
            max_k=service.limits.results,
        )

    @router.get("/api/health", summary="Health", tags=["server"])
    def health() -> Health:
        """Liveness check, e.g. for load balancers; needs no token."""
        return Health(status="ok")

    if run is not None:

        @router.get("/run/plots/{name}", include_in_schema=False)
        def plot(name: str) -> FileResponse:
            if (file := run.plot_file(name)) is None:
                raise HTTPException(404, f"no plot {name!r}")
            return FileResponse(file, media_type="image/png")

    return router


def _response(answer: Answer) -> SearchResponse:
    guess = answer.language
    best = answer.best or [None] * len(answer.results)
    return SearchResponse(
        question=answer.question,
        language=Language(
            code=guess.code,
            name=None if guess.code is None else language_name(guess.code),
            probability=guess.probability,
            sure=guess.is_sure,
        ),
        passages=[
            RankedPassage(
                **{**result.to_dict(), "fields": _json(result.passage.fields)},
                best_sentence=None
                if sentence is None
                else Sentence(
                    start=sentence.start,
                    end=sentence.end,
                    text=result.passage.text[sentence.start : sentence.end],
                    score=sentence.score,
                ),
            )
            for result, sentence in zip(answer.results, best, strict=True)
        ],
        seconds=Timing(
            encoding=answer.seconds.encoding,
            search=answer.seconds.search,
            highlighting=answer.seconds.highlighting,
        ),
    )


def _json(value: Any) -> Any:
    """A value in JSON's types: bytes in base 64, dates and times in ISO 8601, NaN and infinity as text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_json(inner) for inner in value]
    return value
