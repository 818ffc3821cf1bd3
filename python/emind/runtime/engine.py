"""From a weights file to a callable on numpy windows, by whichever back end is asked for or fastest."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..contract.errors import EMindError
from ..dsp.normalise import NORMALISE
from ..models.checkpoint import load_weights
from .engine_base import Engine, available_threads, has_bfloat16
from .engine_torch import CompiledEngine, TorchEngine
from .weights import resolve

AUTO, OPENVINO, COMPILED = "auto", "openvino", "torch-compiled"
BACKENDS = (AUTO, OPENVINO, "openvino-float32", "torch", "torch-float32", "torch-bfloat16", COMPILED)

_log = logging.getLogger("emind")


def load_engine(weights: str | Path = "emind-nano", backend: str = AUTO, threads: int = 0) -> Engine:
    """Engine of a released name or a weights path. ``threads`` 0: all of the machine's, and never more than those.

    ``auto`` is CUDA where there is a device, else OpenVINO where it is installed, else torch. Without a suffix the
    layers run in bfloat16 where the processor multiplies it. ``engine.backend`` says what it came to.

    Raises EMindError for weights that cannot be used, and a back end that is not known or not installed.
    """
    if backend not in BACKENDS:
        raise EMindError(f"back end {backend!r} is not known; known: {', '.join(BACKENDS)}")
    path = resolve(weights)
    model, spec, header = load_weights(path)
    most = available_threads()
    threads = min(threads, most) if threads > 0 else most
    parts = model, spec, header, path.stem, threads
    half = backend == "torch-bfloat16" or (has_bfloat16() and not backend.endswith("float32"))
    cuda = torch.cuda.is_available()
    if backend in (OPENVINO, "openvino-float32") or (backend == AUTO and not cuda and _has_openvino()):
        if not _has_openvino():
            raise EMindError(f"back end {backend}: openvino is not installed; pip install 'gr-emind[openvino]'")
        from .engine_openvino import OpenVINOEngine

        return OpenVINOEngine(*parts, half, hashlib.sha256(path.read_bytes()).hexdigest())
    if backend == COMPILED:
        try:
            return CompiledEngine(*parts, half)
        except EMindError as error:
            _log.warning("%s; the eager torch back end runs instead", error)
    if cuda and backend in (AUTO, "torch"):
        return TorchEngine(*parts, True, "cuda")
    return TorchEngine(*parts, half)


def ready_engine(weights: str | Path, backend: str, threads: int, batch: int) -> Engine:
    """As :func:`load_engine`, and warmed up for batches of that size."""
    engine = load_engine(weights, backend=backend, threads=threads)
    engine.warm_up(batch)
    return engine


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def load_naive(weights: str | Path = "emind-nano") -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The model as one would obviously call it: eager, float32, one raw window (L,) at a time. For comparison."""
    model, spec, header = load_weights(resolve(weights))
    normalise = NORMALISE[spec.normalisation]

    @torch.inference_mode()
    def call(window: np.ndarray) -> dict[str, np.ndarray]:
        logits = model(torch.from_numpy(normalise(window[None])), torch.full((1,), torch.nan))
        return {name: torch.softmax(value[0], dim=-1).numpy() for name, value in logits.items()}

    return call
