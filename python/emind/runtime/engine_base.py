"""What all back ends share: the pool of streams, normalisation, spectral features, and what heads put out as answers.

A batch is split over streams of one thread each: on processors that beats one batch over many OpenMP threads.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from ..contract.window import PROTOTYPES, RECONSTRUCTION, REGRESSION, Domain, HeadSpec, WindowSpec
from ..dsp.normalise import NORMALISE, SCALE
from ..models.emind import PIECE, Ordering
from ..models.heads import MultiHead, ReconstructionHead, denormalised, split_regression
from .enrolled import enrolled, joined, visible

SMALLEST_SHARE = 8  # windows for which starting another stream pays


class Engine(ABC):
    """Infers batches of raw windows with the heads of ``model``. A back end says in ``_outputs`` how.

    ``spec``, ``header`` are those of the weights file, ``heads`` those of the model and ``domains`` what each of them
    was trained on; ``name`` the file's name, ``weights`` the name or path that it was loaded by, else "", ``backend`` what
    runs and ``threads`` on how many streams.
    """

    backend: str

    def __init__(self, model: MultiHead, spec: WindowSpec, header: dict, name: str, threads: int) -> None:
        self.spec = spec
        self.heads: dict[str, HeadSpec] = visible(model.specs)
        self._enrolled = enrolled(model.specs)
        self._own = {name: head for name, head in model.specs.items() if head.kind != PROTOTYPES}
        self.domains = Domain.of_heads(self.heads, spec, header["training"])
        self.header = header
        self.name = name
        self.weights = ""
        self.threads = threads
        self._normalise, self._scale = NORMALISE[spec.normalisation], SCALE[spec.normalisation]
        self._waveforms = [name for name, head in self.heads.items() if head.kind == RECONSTRUCTION]
        self._calibration = {name: header["calibration"].get(name, {}) for name in self.heads}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="emind", initializer=torch.set_num_threads,
                                        initargs=(1,))  # fmt: skip

    def infer(self, windows: np.ndarray, rates_hz: np.ndarray) -> dict[str, np.ndarray]:
        """What each head answers, one row a window; `contract.answers` says what stands in them.

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
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.heads}

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
        iq_BL2 = torch.from_numpy(self._normalise(windows))
        answers, outputs = self._answered(iq_BL2, np.asarray(rates_hz, np.float32))
        if self._waveforms:
            scale_B = torch.from_numpy(self._scale(windows))
        for name in self._waveforms:
            answers[name] = waveforms(outputs[name], iq_BL2, scale_B, self.heads[name])
        for name, head in self._enrolled.items():
            own = len(self._own[head.extends].labels) if head.extends in self._own else 0
            answers[head.extends] = joined(answers.get(head.extends), outputs[name].cpu(), own)
        return answers

    def _answered(self, iq_BL2: Tensor, rates_hz: np.ndarray) -> tuple[dict[str, np.ndarray], Mapping[str, Tensor]]:
        """Rows of answers of the heads that speak, and what all others put out, of normalised windows."""
        outputs = self._outputs(iq_BL2, rates_hz)
        speaking = ((name, head) for name, head in self._own.items() if head.kind != RECONSTRUCTION)
        rows = {name: answered(outputs[name], head, self._calibration[name]).numpy() for name, head in speaking}
        return rows, outputs

    @abstractmethod
    def _outputs(self, iq_BL2: Tensor, rates_hz: np.ndarray) -> Mapping[str, Tensor]:
        """What each head puts out, float32, of normalised windows; called on the streams, in inference mode.

        Of a reconstruction head: its `Correction`, (B, K, L, 2).
        """


def answered(outputs: Tensor, head: HeadSpec, calibration: dict) -> Tensor:
    """Logits, and values of a regression, as rows of answers, float32; see `contract.answers`.

    The probability of `unknown` is that of a class beside the others whose logit is always the threshold: above one
    half where the energy of the others is below it.
    """
    logits, parts = outputs, []
    if head.kind == REGRESSION:
        logits, values = split_regression(outputs, head)
        parts = [denormalised(values, head)]
    if head.labels:
        logits = logits / float(calibration.get("temperature", 1.0))
        if "unknown" in calibration:
            threshold = float(calibration["unknown"]["threshold"])
            parts.insert(0, torch.sigmoid(threshold - torch.logsumexp(logits, -1, keepdim=True)))
        parts.insert(0, torch.softmax(logits, -1))
    return torch.cat(parts, -1)


def waveforms(correction_BKL2: Tensor, iq_BL2: Tensor, scale_B: Tensor, head: HeadSpec) -> np.ndarray:
    """What a reconstruction head says of normalised windows on the scale of the raw ones, (B, K, L) complex64."""
    if head.skip:
        correction_BKL2 = correction_BKL2 + iq_BL2.unsqueeze(1) / head.sources
    return torch.view_as_complex((correction_BKL2 * scale_B[:, None, None, None]).contiguous()).numpy()


class Correction(nn.Module):
    """What a reconstruction head puts out before it adds its input, (B, N, D) and (B, L, 2) to (B, K, L, 2).

    All but the sum may run in bfloat16: the head is as heavy as a layer of the encoder or two. The sum would round the
    input itself, 50 dB below it.
    """

    def __init__(self, head: ReconstructionHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, patches_BND: Tensor, iq_BL2: Tensor) -> Tensor:
        return self.head.correction(self.head.latent(patches_BND, iq_BL2), iq_BL2.shape[1])


class NumpyOrdering(Ordering):
    """Lets numpy sort: many times as fast as torch on a processor, which tracks the indices as well."""

    @staticmethod
    def ascending(values: Tensor) -> Tensor:
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))

    @staticmethod
    def strongest(values: Tensor) -> Tensor:
        return torch.from_numpy(np.sort(values.numpy(), axis=-1)[..., : -PIECE - 1 : -1].copy())


def said(
    heads: Mapping[str, nn.Module], enrolled: Mapping[str, HeadSpec], pooled_B2D: Tensor, spectral_BSP: Tensor | None
) -> dict[str, Tensor]:
    """What heads put out of pooled features; those with enrolled classes see the spectral ones too."""
    return {name: head(pooled_B2D, spectral_BSP) if name in enrolled else head(pooled_B2D)
            for name, head in heads.items()}


def prepared(model: MultiHead) -> MultiHead:
    """A copy of the model in evaluation mode whose spectral features, on a processor, are quicker to compute."""
    model = copy.deepcopy(model).eval()
    if model.encoder.spectral_tokens is not None:
        model.encoder.spectral_tokens.ordering = NumpyOrdering
    return model


def corrections(model: MultiHead) -> nn.ModuleDict:
    """The heavy part of its reconstruction heads, by name."""
    return nn.ModuleDict({
        name: Correction(model.heads[name]) for name, head in model.specs.items() if head.kind == RECONSTRUCTION
    })  # fmt: skip


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
