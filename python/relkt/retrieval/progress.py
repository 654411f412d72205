"""What a build of an index tells."""


class IndexProgress:
    """What a build tells whoever watches; does nothing by itself."""

    def activity(self, name: str) -> None:
        """Something without a known length began."""

    def encoding(self, total: int, done: int) -> None:
        """Encoding begins; ``done`` of ``total`` passages were encoded before."""

    def encoded(self, passages: int) -> None:
        """So many more passages are encoded."""

    def truncated(self, passages: int, limit: int) -> None:
        """So many passages are longer than the encoder's ``limit`` of tokens, which sees their start only."""
