"""From a weights file to a callable on numpy windows.

The torch back end splits a batch over streams of one thread each: on processors that beats one batch over many
OpenMP threads, and it leaves the interpreter lock inside its kernels. Where the processor multiplies bfloat16, the
transformer layers run in it; the tokenizer with its transforms, and the heads, stay in float32.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..contract.errors import EMindError
from ..contract.window import HeadSpec, WindowSpec
from ..dsp.normalise import NORMALISE
from ..models.checkpoint import load_weights
from ..models.emind import pooled
from ..models.heads import MultiHead
from .weights import resolve

BACKENDS = ("auto", "torch", "torch-float32", "torch-bfloat16")
SMALLEST_SHARE = 8  # windows for which starting another stream pays


class TorchEngine:
    """Infers batches of raw windows with the torch back end.

    ``spec``, ``heads``, ``header`` are those of the weights file; ``name`` its name and ``backend`` what runs.
    """

    def __init__(
        self, model: MultiHead, spec: WindowSpec, header: dict, name: str, threads: int, bfloat16: bool
    ) -> None:
        self.spec = spec
        self.heads: dict[str, HeadSpec] = model.specs
        self.header = header
        self.name = name
        self.backend = "torch-bfloat16" if bfloat16 else "torch-float32"
        self.threads = threads
        self._dtype = torch.bfloat16 if bfloat16 else torch.float32
        self._model = copy.deepcopy(model).eval()
        self._model.encoder.blocks.to(self._dtype)
        self._normalise = NORMALISE[spec.normalisation]
        self._temperature = {
            name: float(header["calibration"].get(name, {}).get("temperature", 1.0)) for name in self.heads
        }
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="emind", initializer=torch.set_num_threads,
                                        initargs=(1,))  # fmt: skip

    def infer(self, windows: np.ndarray, rates_hz: np.ndarray) -> dict[str, np.ndarray]:
        """Calibrated probabilities of each head, (N, classes) float32.

        ``windows`` (N, L) complex64 as received, finite; ``rates_hz`` (N,) in Hz, NaN where unknown.
        """
        if windows.ndim != 2 or windows.shape[1] != self.spec.length:
            raise ValueError(f"windows of shape {windows.shape}; the weights ask for (N, {self.spec.length})")
        count = len(windows)
        streams = max(1, min(self.threads, count // SMALLEST_SHARE))
        edges = [count * k // streams for k in range(streams + 1)]
        jobs = [
            self._pool.submit(self._forward, windows[lo:hi], rates_hz[lo:hi]) for lo, hi in zip(edges, edges[1:])
        ]
        parts = [job.result() for job in jobs]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.heads}

    @torch.inference_mode()
    def _forward(self, windows: np.ndarray, rates_hz: np.ndarray) -> dict[str, np.ndarray]:
        iq_BL2 = torch.from_numpy(self._normalise(windows))
        rate_B = torch.from_numpy(np.asarray(rates_hz, np.float32))
        encoder = self._model.encoder
        tokens_BTD: Tensor = encoder.tokenize(iq_BL2, rate_B).to(self._dtype)
        for block in encoder.blocks:
            tokens_BTD = block(tokens_BTD)
        features_B2D = pooled(encoder.norm(tokens_BTD.float()))
        return {
            name: torch.softmax(head(features_B2D) / self._temperature[name], dim=-1).numpy()
            for name, head in self._model.heads.items()
        }

    def close(self) -> None:
        """End the streams. An engine that is closed infers no more."""
        self._pool.shutdown(wait=True)


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def available_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def load_engine(weights: str | Path = "emind-nano", backend: str = "auto", threads: int = 0) -> TorchEngine:
    """Engine of a released name or a weights path. ``threads`` 0: all of the machine's, and never more than those.

    Raises EMindError for weights that cannot be used or a back end that is not known.
    """
    if backend not in BACKENDS:
        raise EMindError(f"back end {backend!r} is not known; known: {', '.join(BACKENDS)}")
    path = resolve(weights)
    model, spec, header = load_weights(path)
    most = available_threads()
    bfloat16 = has_bfloat16() if backend in ("auto", "torch") else backend == "torch-bfloat16"
    return TorchEngine(model, spec, header, path.stem, min(threads, most) if threads > 0 else most, bfloat16)


def load_naive(weights: str | Path = "emind-nano") -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The model as one would obviously call it: eager, float32, one raw window (L,) at a time. For comparison."""
    model, spec, header = load_weights(resolve(weights))
    normalise = NORMALISE[spec.normalisation]

    @torch.inference_mode()
    def call(window: np.ndarray) -> dict[str, np.ndarray]:
        logits = model(torch.from_numpy(normalise(window[None])), torch.full((1,), torch.nan))
        return {name: torch.softmax(value[0], dim=-1).numpy() for name, value in logits.items()}

    return call
