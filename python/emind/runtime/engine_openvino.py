"""The OpenVINO back end: one graph from samples to pooled features and waveforms, compiled for the processor, a stream
a core (`openvino_graph.py`).

The spectral features stay outside: transforms and ordering are three times as quick in numpy and torch. They, the rate
token and the heads on pooled features are float32, the latter a second graph: one by one, in torch, they would cost as
much as the encoder for a window or two. The first graph, with the heads that make waveforms, runs in bfloat16 where the
processor has it.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from ..contract.window import HeadSpec, WindowSpec
from ..models.emind import Encoder, positions, sample_channels
from ..models.heads import MultiHead, features_of
from ..models.stems import STEMS
from .engine_base import SMALLEST_SHARE, Engine, answered, corrections, prepared, said
from .openvino_graph import Graph


class OpenVINOEngine(Engine):
    """Infers with OpenVINO. ``weights_hash`` names the weights in the cache."""

    def __init__(
        self, model: MultiHead, spec: WindowSpec, header: dict, name: str, threads: int, half: bool, weights_hash: str
    ) -> None:
        super().__init__(model, spec, header, name, threads)
        half = half and not STEMS[model.encoder.config.stem].waves  # their angles need more than eight bits
        precision = "bf16" if half else "f32"
        self.backend = "openvino-bfloat16" if half else "openvino-float32"
        model = prepared(model)
        self._rate_token, self._spectral = model.encoder.rate_token, model.encoder.spectral_tokens
        self._rate: tuple[np.float32, Tensor] = np.float32(0), torch.zeros(1, 0)  # the newest, and its token
        encoder = _Encoder(model, spec)
        self._waves = list(encoder.corrections)
        self._words = {name: head for name, head in model.heads.items() if name not in encoder.corrections}
        speaking = [name for name in self._own if name in self._words]
        self._graphs = {"pass": Graph(encoder, _inputs(encoder, spec), precision, threads, (weights_hash, self._waves))}
        self._columns: dict[str, slice] = {}
        if speaking:
            words = _Words(model, {name: self._own[name] for name in speaking}, self._calibration)
            self._columns = words.columns(model)
            self._graphs["words"] = Graph(words, [(2 * model.encoder.config.width,)], "f32", threads, words.hash())

    def warm_up(self, batch: int) -> None:
        share = max(-(-batch // self.threads), min(batch, 2 * SMALLEST_SHARE - 1))  # of a stream, at most
        for graph in self._graphs.values():
            graph.prepare(share)
        super().warm_up(batch)

    def _answered(self, iq_BL2: Tensor, rates_hz: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Tensor]]:
        pooled_B2D, spectral_BSP, waves = self._pass(iq_BL2, rates_hz)
        rows = {}
        if self._columns:
            (whole,) = self._graphs["words"].run([pooled_B2D])
            whole = whole.copy()
            rows = {name: whole[:, columns] for name, columns in self._columns.items()}
        pooled_B2D = torch.from_numpy(pooled_B2D)
        return rows, {name: self._words[name](pooled_B2D, spectral_BSP) for name in self._enrolled} | waves

    def _outputs(self, iq_BL2: Tensor, rates_hz: np.ndarray) -> dict[str, Tensor]:
        pooled_B2D, spectral_BSP, waves = self._pass(iq_BL2, rates_hz)
        return said(self._words, self._enrolled, torch.from_numpy(pooled_B2D), spectral_BSP) | waves

    def _pass(self, iq_BL2: Tensor, rates_hz: np.ndarray) -> tuple[np.ndarray, Tensor | None, dict[str, Tensor]]:
        """Pooled features (B, 2 D), the spectral ones, and the corrections of the heads that make waveforms."""
        inputs, spectral_BSP = [iq_BL2, self._rate_tokens(rates_hz)], None
        if self._spectral is not None:
            spectral_BSP = self._spectral.features(iq_BL2)
            inputs.append(spectral_BSP)
        pooled_B2D, *waves = self._graphs["pass"].run([values.numpy() for values in inputs])
        return pooled_B2D, spectral_BSP, {name: torch.from_numpy(wave) for name, wave in zip(self._waves, waves)}

    def _rate_tokens(self, rates_hz: np.ndarray) -> Tensor:
        """(B,) Hz to (B, D); the windows of a batch mostly have one rate, and it is that of the batch before."""
        rate = rates_hz[0]
        if (rates_hz == rate).all() or np.isnan(rates_hz).all():
            known, token_1D = self._rate
            if not token_1D.numel() or (rate != known and not (np.isnan(rate) and np.isnan(known))):
                self._rate = rate, (token_1D := self._rate_token(torch.from_numpy(rates_hz[:1])))
            return token_1D.expand(len(rates_hz), -1)
        return self._rate_token(torch.from_numpy(rates_hz))


class _Encoder(nn.Module):
    """What runs in OpenVINO: the encoder with rate token and spectral features given, the pooling, and of each head that
    makes waveforms its correction."""

    def __init__(self, model: MultiHead, spec: WindowSpec) -> None:
        super().__init__()
        self.encoder: Encoder = model.encoder
        self.corrections = corrections(model)
        config = self.encoder.config
        self.register_buffer("positions_ND", positions(-(-spec.length // config.patch), config.width))

    def forward(self, iq_BL2: Tensor, rate_token_BD: Tensor, features_BSP: Tensor | None = None) -> tuple[Tensor, ...]:
        encoder = self.encoder
        config = encoder.config
        samples_BLC = sample_channels(iq_BL2, config.channels)
        samples_BLC = nn.functional.pad(samples_BLC, (0, 0, 0, -iq_BL2.shape[1] % config.patch))
        patches_BND = encoder.patch_tokens(samples_BLC) + self.positions_ND
        # Added to the rate token's zeros, the class token takes on the batch's size.
        class_BD = rate_token_BD * 0.0 + encoder.class_token
        tokens = [torch.stack([class_BD, rate_token_BD], dim=1), patches_BND]
        if features_BSP is not None:
            spectral = encoder.spectral_tokens
            tokens.append(torch.einsum("bsp,spd->bsd", features_BSP, spectral.weight) + spectral.bias)
        features = features_of(encoder.encode(torch.cat(tokens, dim=1)), iq_BL2, config.patch)
        waves = [head(features.patches_BND, iq_BL2) for head in self.corrections.values()]
        return features.pooled_BF, *waves


class _Words(nn.Module):
    """Pooled features (B, 2 D) to the rows of answers of all heads that speak, one behind the other."""

    def __init__(self, model: MultiHead, specs: dict[str, HeadSpec], calibration: dict[str, dict]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: model.heads[name] for name in specs})
        self.specs, self.calibration = specs, calibration

    def forward(self, pooled_BF: Tensor) -> Tensor:
        return torch.cat(self._rows(pooled_BF), -1)

    def columns(self, model: MultiHead) -> dict[str, slice]:
        """Where each head's answers stand."""
        with torch.no_grad():
            widths = [rows.shape[1] for rows in self._rows(torch.zeros(1, 2 * model.encoder.config.width))]
        ends = np.cumsum(widths).tolist()
        return {name: slice(end - width, end) for name, width, end in zip(self.specs, widths, ends)}

    def hash(self) -> str:
        """Of all that answers depend on."""
        found = hashlib.sha256(repr((self.specs, self.calibration)).encode())
        for name, tensor in self.state_dict().items():
            found.update(name.encode())
            found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()

    def _rows(self, pooled_BF: Tensor) -> list[Tensor]:
        return [answered(self.heads[name](pooled_BF), spec, self.calibration[name]) for name, spec in self.specs.items()]


def _inputs(graph: _Encoder, spec: WindowSpec) -> list[tuple[int, ...]]:
    """Shapes of the graph's inputs, without the batch."""
    shapes = [(spec.length, 2), (graph.encoder.config.width,)]
    if (spectral := graph.encoder.spectral_tokens) is not None:
        shapes.append((spectral.COUNT, spectral.weight.shape[1]))
    return shapes


