"""The web page and the JSON API of an index: ``relkt serve``. Needs the extra ``app``."""

from importlib.util import find_spec

_PACKAGES = (
    *("gradio", "fastapi", "fastapi_offline", "uvicorn", "python_multipart"),
    *("jinja2", "markdown_it", "sentencex", "py3langid", "babel"),
)

for _package in _PACKAGES:
    if find_spec(_package) is None:
        raise ImportError(f"relkt serve needs {_package}: pip install 'relkt[app]'")
