"""The web page: a question, its answers, and a training run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr
from fastapi import FastAPI
from pydantic import BaseModel, ValidationError

from relkt.app.filters import Filter
from relkt.app.languages import language_name
from relkt.app.limits import BusyError
from relkt.app.rendering import (
    answer_results,
    answer_status,
    error_status,
    page_footer,
    page_header,
    run_report,
    stylesheet,
    value_text,
)
from relkt.app.run_folder import RunFolder
from relkt.app.service import SearchService

SHOWN_RESULTS = 5
"""Default number of results."""

# Attributes for which Gradio's components have no option.
_ON_LOAD = """() => {
  const box = document.querySelector('#relkt-question textarea');
  box.dir = 'auto';
  document.querySelector('#relkt-status').setAttribute('aria-live', 'polite');
  document.querySelector('#relkt-answer').setAttribute('aria-label', 'Passages');
  document.querySelector('#relkt-answer').setAttribute('role', 'region');
}"""
# The page sends plain requests. It does not use Gradio's queue, which answers through a stream that proxies may delay;
# SearchService has its own queue.
_EVENT: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
# Fonts of the device, because Gradio downloads other fonts.
_FONTS = ("system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")


def mount_page(
    app: FastAPI,
    service: SearchService,
    *,
    examples: Sequence[str] = (),
    run: RunFolder | None = None,
    has_login: bool = False,
) -> None:
    """Serve the page at the root of an app, below its other routes.

    Args:
        app: The app.
        service: The service that answers questions.
        examples: Example questions, shown as buttons.
        run: A training run to show in a second tab.
        has_login: True shows a button to log out.
    """
    gr.mount_gradio_app(
        app,
        build_page(service, examples=examples, run=run, has_login=has_login),
        path="/",
        theme=_theme(),
        css=stylesheet(),
        js=_ON_LOAD,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        max_file_size=1,
    )


def build_page(
    service: SearchService, *, examples: Sequence[str] = (), run: RunFolder | None = None, has_login: bool = False
) -> gr.Blocks:
    """The page; arguments as for :func:`mount_page`."""
    with gr.Blocks(title=f"{service.name}: relkt", analytics_enabled=False) as blocks:
        gr.HTML(page_header(service.name, len(service.retriever), service.encoder_name), elem_id="relkt-header")
        if run is None:
            _build_search(service, examples)
        else:
            with gr.Tabs():
                with gr.Tab("Search"):
                    _build_search(service, examples)
                with gr.Tab("Training run"):
                    report = gr.HTML(elem_id="relkt-run", apply_default_css=False)
            # Rendered on every visit: the run may be in progress.
            blocks.load(partial(run_report, run), outputs=report, **_EVENT)
        gr.HTML(page_footer(has_login=has_login))
    return blocks


def _theme() -> gr.themes.Base:
    theme = gr.themes.Default(primary_hue="blue", font=_FONTS, font_mono=_MONO)
    # Text has a contrast of at least 4.5 with the background.
    return theme.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def _build_search(service: SearchService, examples: Sequence[str]) -> None:
    with gr.Row(equal_height=False, elem_classes="relkt-ask"):
        question = gr.Textbox(
            label="Question",
            info=f"In any language, up to {service.limits.question_characters:,} characters. Press Enter to search.",
            lines=1,
            max_lines=6,
            max_length=service.limits.question_characters,
            scale=6,
            min_width=300,
            autofocus=True,
            elem_id="relkt-question",
            html_attributes=gr.InputHTMLAttributes(
                enterkeyhint="search", autocomplete="off", autocapitalize="off", spellcheck=False
            ),
        )
        button = gr.Button("Search", variant="primary", scale=1, min_width=110, elem_id="relkt-search")
    most = min(service.limits.results, len(service.retriever))
    with gr.Accordion("Options", open=False, elem_classes="relkt-filters"):
        number = gr.Slider(
            1,
            max(most, 2),
            value=min(SHOWN_RESULTS, most),
            step=1,
            label="Number of results",
            elem_id="relkt-k",
            buttons=[],
        )
        with gr.Row():
            choices = [_filter_choice(filter_) for filter_ in service.filters]
    example_buttons = []
    if examples:
        with gr.Row(elem_id="relkt-examples"):
            example_buttons = [
                gr.Button(text, size="sm", min_width=120, elem_classes="relkt-example") for text in examples
            ]
    status = gr.HTML(elem_id="relkt-status", apply_default_css=False)
    results = gr.HTML(elem_id="relkt-answer", apply_default_css=False)

    # Stores the question that the shown results answer, because the user may already type the next question while
    # sentences are highlighted. It is stored in the browser, because state on the server needs an open connection per
    # page.
    asked = gr.JSON(visible=False)
    search = partial(_search, service)
    mark = partial(_mark, service)
    searching: dict[str, Any] = {"inputs": [question, number, *choices], "outputs": [asked, status, results]}
    marking: dict[str, Any] = {"inputs": asked, "outputs": [status, results]}
    gr.on([question.submit, button.click], search, **searching, **_EVENT).then(mark, **marking, **_EVENT)
    for text, example in zip(examples, example_buttons, strict=True):
        filled = example.click(partial(str, text), outputs=question, **_EVENT)
        filled.then(search, **searching, **_EVENT).then(mark, **marking, **_EVENT)


def _filter_choice(filter_: Filter) -> gr.Dropdown:
    """A dropdown that returns the position of a value, because a value may have any type."""
    name = language_name if filter_.column == "language" else value_text
    labels = [
        f"{value_text(value) if value is None else name(value)} ({count:,})" for value, count in filter_.values.items()
    ]
    return gr.Dropdown(
        list(zip(labels, range(len(labels)), strict=True)),
        value=[],
        multiselect=True,
        label=f"Filter by {filter_.column}",
        min_width=200,
    )


class _Asked(BaseModel):
    """A request: the question, the number of results, and the positions of the values chosen in each filter."""

    question: str
    number: int
    chosen: list[list[int]]


def _search(
    service: SearchService, question: str, number: float, *chosen: Sequence[int]
) -> tuple[dict[str, Any], str, str]:
    """The request, its status, and its passages without marked sentences."""
    asked = _Asked(question=question, number=int(number), chosen=[list(positions) for positions in chosen])
    return (asked.model_dump(), *_answer(service, asked, highlight=False))


def _mark(service: SearchService, asked: object) -> tuple[Any, Any]:
    """The status and passages with best sentences marked."""
    # This function searches again instead of storing each visitor's passages: a search is fast compared with encoding
    # sentences.
    try:
        return _answer(service, _Asked.model_validate(asked), highlight=True)
    except BusyError:
        # Keep the passages shown, without best sentences.
        return gr.skip(), gr.skip()
    except ValidationError:
        return error_status("question: expected a request of this page, got other data"), ""


def _answer(service: SearchService, asked: _Asked, *, highlight: bool) -> tuple[str, str]:
    """Status and passages as HTML."""
    try:
        answer = service.search(asked.question, asked.number, where=_where(service.filters, asked.chosen))
        if highlight:
            answer = service.highlight(answer)
    except BusyError as error:
        if highlight:
            raise
        return error_status(str(error)), ""
    except ValueError as error:
        return error_status(str(error)), ""
    return answer_status(answer), answer_results(answer)


def _where(filters: Sequence[Filter], chosen: Sequence[Sequence[int]]) -> dict[str, list[Any]]:
    """The chosen values of each filter."""
    if len(chosen) != len(filters):
        raise ValueError(f"filters: expected {len(filters)} lists, got {len(chosen)}")
    where = {}
    for filter_, positions in zip(filters, chosen, strict=True):
        values = list(filter_.values)
        if not set(positions) <= set(range(len(values))):
            raise ValueError(f"filters: expected positions from 0 to {len(values) - 1}, got {positions}")
        if positions:
            where[filter_.column] = [values[position] for position in positions]
    return where
