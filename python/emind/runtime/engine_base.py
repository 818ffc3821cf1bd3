"""What all back ends share: the pool of streams, normalisation, spectral features and calibration.

A batch is split over streams of one thread each: on processors that beats one batch over many OpenMP threads.
"""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..contract.window import HeadSpec, WindowSpec
from ..dsp.normalise import NORMALISE
from ..models.emind import PIECE, Ordering
from ..models.heads import MultiHead

SMALLEST_SHARE = 8  # windows for which starting another stream pays


class Engine(ABC):
    """Infers batches of raw windows. A back end says in ``_probabilities`` how.

    ``spec``, ``heads``, ``header`` are those of the weights file; ``name`` its name, ``backend`` what runs and
    ``threads`` on how many streams.
    """

    backend: str

    def __init__(self, model: MultiHead, spec: WindowSpec, header: dict, name: str, threads: int) -> None:
        self.spec = spec
        self.heads: dict[str, HeadSpec] = model.specs
        self.header = header
        self.name = name
        self.threads = threads
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
            self._pool.submit(self._stream, windows[lo:hi], rates_hz[lo:hi]) for lo, hi in zip(edges, edges[1:])
        ]
        parts = [job.result() for job in jobs]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.heads}

    def calibrated(self, head: str, logits: np.ndarray) -> np.ndarray:
        """Logits (B, classes) of a head to probabilities."""
        scaled = logits / self._temperature[head]
        odds = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)

    def warm_up(self, batch: int) -> None:
        """Infer ``batch`` windows on every stream, so that the first real ones wait for no compiler or allocator."""
        rng = np.random.default_rng(0)
        windows = rng.standard_normal((batch, 2 * self.spec.length), np.float32).view(np.complex64)
        self.infer(windows, np.full(batch, np.nan))
        self.infer(windows[:1], np.full(1, np.nan))

    def close(self) -> None:
        """End the streams. An engine that is closed infers no more."""
        self._pool.shutdown(wait=True)

    @torch.inference_mode()
    def _stream(self, windows: np.ndarray, rates_hz: np.ndarray) -> dict[str, np.ndarray]:
        return self._probabilities(torch.from_numpy(self._normalise(windows)), np.asarray(rates_hz, np.float32))

    @abstractmethod
    def _probabilities(self, iq_BL2: Tensor, rates_hz: np.ndarray) -> dict[str, np.ndarray]:
        """Calibrated probabilities (B, classes) of normalised windows; called on the streams, in inference mode."""


class NumpyOrdering(Ordering):
    """Lets numpy sort: many times as fast as torch on a processor, which tracks the indices as well."""

    @staticmethod
    def ascending(values: Tensor) -> Tensor:
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))

    @staticmethod
    def strongest(values: Tensor) -> Tensor:
        return torch.from_numpy(np.sort(values.numpy(), axis=-1)[..., : -PIECE - 1 : -1].copy())


def prepared(model: MultiHead) -> MultiHead:
    """A copy of the model in evaluation mode whose spectral features, on a processor, are quicker to compute."""
    model = copy.deepcopy(model).eval()
    if model.encoder.spectral_tokens is not None:
        model.encoder.spectral_tokens.ordering = NumpyOrdering
    return model


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def available_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
