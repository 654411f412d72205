"""An embedding table that trains all rows, some rows or no row."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PieceEmbedding(nn.Module):
    """Embedding lookup whose training cost can be limited to the rows that a training set uses.

    The dense gradient of a large table, and the optimiser's update of it, cost more than everything else in a training
    step. Rows whose token never occurs have a zero gradient, and Adam does not change a parameter whose gradients were
    always zero (except by weight decay). So training only the rows that occur gives the same model.
    :meth:`limit_training` copies these rows into a small parameter, ``active``. The state dict always has only the full
    table, ``weight``.

    Args:
        num_rows: Number of rows of the table.
        dim: Width of a row.
    """

    weight: nn.Parameter
    active: nn.Parameter | None
    active_rows: Tensor | None
    slots: Tensor | None

    def __init__(self, num_rows: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_rows, dim))
        self.register_parameter("active", None)
        # Two maps: from each row of `active` to its row of `weight`, and from each row of `weight` to its row of
        # `active` (-1 if the row is not in `active`).
        self.register_buffer("active_rows", None, persistent=False)
        self.register_buffer("slots", None, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Looks up rows of the table.

        Args:
            ids: int64, any shape.

        Returns:
            Shape ``(*ids.shape, dim)``.
        """
        rows = F.embedding(ids, self.weight)
        if self.active is None or self.slots is None:
            return rows
        slots = self.slots[ids]
        trained = F.embedding(slots.clamp(min=0), self.active)
        return torch.where((slots >= 0).unsqueeze(-1), trained, rows)

    def train_all(self) -> None:
        """Trains every row, which is the state of a new module."""
        self._drop_active()
        self.weight.requires_grad_(True)

    def freeze(self) -> None:
        """Trains no row."""
        self._drop_active()
        self.weight.requires_grad_(False)

    def limit_training(self, rows: Tensor) -> None:
        """Trains only some rows; call it before creating the optimiser.

        Args:
            rows: int64, shape ``(n,)``, n > 0, row numbers in any order; repeats count once.

        Raises:
            ValueError: If ``rows`` is empty, or a row is out of range.
        """
        rows = torch.unique(rows.to(device=self.weight.device, dtype=torch.int64))
        if rows.numel() == 0:
            raise ValueError("rows: expected at least one row to train, got none; to train no row, call freeze()")
        lowest, highest = int(rows[0]), int(rows[-1])
        if lowest < 0 or highest >= self.weight.shape[0]:
            outside = lowest if lowest < 0 else highest
            raise ValueError(f"rows: expected row numbers from 0 to {self.weight.shape[0] - 1}, got {outside}")
        self.freeze()
        slots = torch.full((self.weight.shape[0],), -1, dtype=torch.int64, device=rows.device)
        slots[rows] = torch.arange(rows.numel(), device=rows.device)
        self.active_rows, self.slots = rows, slots
        self.active = nn.Parameter(self.weight.detach()[rows])

    def _write_back(self) -> None:
        """Copies the trained rows into the table."""
        if self.active is not None and self.active_rows is not None:
            with torch.no_grad():
                self.weight[self.active_rows] = self.active.to(self.weight.dtype)

    def _drop_active(self) -> None:
        self._write_back()
        self.active, self.active_rows, self.slots = None, None, None

    # The two hooks below keep `active` out of the state dict, so that a checkpoint does not depend on which rows are
    # trained, and loads into every module.

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        self._write_back()
        destination[prefix + "weight"] = self.weight if keep_vars else self.weight.detach()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        active = self._parameters.pop("active")
        try:
            super()._load_from_state_dict(*args, **kwargs)
        finally:
            self._parameters["active"] = active
        if active is not None and self.active_rows is not None:
            with torch.no_grad():
                active.copy_(self.weight[self.active_rows])

    def extra_repr(self) -> str:
        """Size of the table and number of trained rows."""
        rows, dim = self.weight.shape
        trained = rows if self.weight.requires_grad else 0 if self.active is None else self.active.shape[0]
        return f"{rows}, {dim}, trained rows: {trained}"
