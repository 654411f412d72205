"""The web page and the JSON API of an index: ``relkt serve``. Needs the extra ``app``."""
