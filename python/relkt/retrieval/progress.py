"""Progress of an index build."""


class IndexProgress:
    """Receives the progress of a build. The methods do nothing; override those you need."""

    def activity(self, name: str) -> None:
        """Called when a step of unknown length begins."""

    def encoding(self, total: int, done: int) -> None:
        """Called when encoding begins; an earlier call encoded ``done`` of the ``total`` passages."""

    def encoded(self, passages: int) -> None:
        """Called when ``passages`` more passages are encoded."""

    def truncated(self, passages: int, limit: int) -> None:
        """Called if ``passages`` passages exceed the encoder's ``limit`` of tokens and are truncated."""
