"""Several models as one."""

from __future__ import annotations

from collections.abc import Iterable

from ..nn import Module, ModuleList
from ..tensor import Tensor


class Ensemble(Module):
    """The sum of the outputs of ``models``, which are trained separately.

    Sum probabilities by giving the members a softmax, logits by leaving it out. Raises ValueError
    when there is no model.
    """

    def __init__(self, models: Iterable[Module]) -> None:
        super().__init__()
        self.models = ModuleList(models)
        if not len(self.models):
            raise ValueError("Ensemble: expected at least one model, received none")

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.models
        total = first(x)
        for model in others:
            total = total + model(x)
        return total  # type: ignore[no-any-return]
