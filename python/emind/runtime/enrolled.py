"""Enrolled classes in an engine's answers, and weights with more or fewer of them.

A head of kind `prototypes` (`models/prototypes.py`) is not seen by whoever calls an engine. Its classes are further
labels of the head that it ``extends``; where the file has no head of that name, the enrolled classes are a head by
themselves, which answers `unknown` for everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..contract.vocabulary import UNKNOWN
from ..contract.window import CLASSIFICATION, PROTOTYPES, HeadSpec


def visible(specs: Mapping[str, HeadSpec]) -> dict[str, HeadSpec]:
    """Heads as callers see them: those with enrolled classes have these behind their own."""
    heads = {name: spec for name, spec in specs.items() if spec.kind != PROTOTYPES}
    for spec in enrolled(specs).values():
        own = heads.get(spec.extends)
        heads[spec.extends] = (
            HeadSpec(spec.extends, CLASSIFICATION, (*spec.labels, UNKNOWN)) if own is None
            else replace(own, labels=(*own.labels, *spec.labels)))
    return heads


def enrolled(specs: Mapping[str, HeadSpec]) -> dict[str, HeadSpec]:
    """The heads of prototypes that have a class."""
    return {name: spec for name, spec in specs.items() if spec.kind == PROTOTYPES and spec.labels}


def joined(rows: np.ndarray | None, logit_BC: Tensor, own: int) -> np.ndarray:
    """Rows of answers with those of enrolled classes behind the ``own`` classes, before the probability of `unknown`.

    ``logit_BC``: what a head of prototypes puts out. Where it accepts a window, that class gets its probability, above
    one half, and the others share the rest as before; elsewhere the old row stays as it is, with zeros. Without
    ``rows`` the enrolled classes stand alone, and the rest is `unknown`.
    """
    accepted_BC = torch.where(logit_BC > 0, torch.sigmoid(logit_BC), 0.0).numpy()
    if rows is None:
        unknown = 1.0 - torch.sigmoid(logit_BC.amax(-1)).numpy()
        taken = torch.sigmoid(logit_BC).numpy()
        return np.concatenate([taken, unknown[:, None]], axis=1).astype(np.float32)
    rest = 1.0 - accepted_BC.sum(axis=1, keepdims=True)
    old = np.where(rest < 1.0, rows * rest, rows)
    return np.concatenate([old[:, :own], accepted_BC, old[:, own:]], axis=1).astype(np.float32)
