"""The torch back end: eager or compiled, on the processor's streams or on a CUDA device.

Where the processor multiplies bfloat16, the products of the transformer layers run in it; the tokenizer with its
transforms, the sums between the layers and the heads stay in float32.
"""

from __future__ import annotations

import shutil

import numpy as np
import torch
from torch import Tensor

from ..contract.errors import EMindError
from ..contract.window import WindowSpec
from ..models.emind import Ordering, pooled
from ..models.heads import MultiHead
from .engine_base import Engine, prepared


class TorchEngine(Engine):
    """Infers with torch, ``half`` of the layers' numbers in bfloat16 (or float16 on a CUDA device without it)."""

    def __init__(
        self, model: MultiHead, spec: WindowSpec, header: dict, name: str, threads: int, half: bool, device: str = "cpu"
    ) -> None:
        self._device = torch.device(device)
        on_cpu = self._device.type == "cpu"
        # A CUDA device takes a batch whole; its host side is one stream.
        super().__init__(model, spec, header, name, threads if on_cpu else 1)
        short = torch.bfloat16 if on_cpu or torch.cuda.is_bf16_supported() else torch.float16
        self._dtype = short if half else torch.float32
        self.backend = f"torch-{str(self._dtype).removeprefix('torch.')}" + ("" if on_cpu else f"-{device}")
        self._model = prepared(model).to(self._device)
        if not on_cpu and self._model.encoder.spectral_tokens is not None:
            self._model.encoder.spectral_tokens.ordering = Ordering
        for block in self._model.encoder.blocks:
            block.attention.to(self._dtype)
            block.mlp.to(self._dtype)

    def _probabilities(self, iq_BL2: Tensor, rates_hz: np.ndarray) -> dict[str, np.ndarray]:
        iq_BL2, rate_B = iq_BL2.to(self._device), torch.from_numpy(rates_hz).to(self._device)
        tokens_BTD = self._model.encoder.tokenize(iq_BL2, rate_B)
        features_B2D = self._features(tokens_BTD)
        return {
            name: self.calibrated(name, head(features_B2D).cpu().numpy()) for name, head in self._model.heads.items()
        }

    def _features(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens through the layers, pooled: (B, T, D) to (B, 2 D) float32.

        What the layers add up stays in float32: rounded in each, confidences would be twice as far off.
        """
        for block in self._model.encoder.blocks:
            tokens_BTD = tokens_BTD + block.attention(block.norm_attention(tokens_BTD).to(self._dtype))
            tokens_BTD = tokens_BTD + block.mlp(block.norm_mlp(tokens_BTD).to(self._dtype))
        return pooled(self._model.encoder.norm(tokens_BTD))


class CompiledEngine(TorchEngine):
    """The torch back end on the processor, its layers compiled by TorchInductor with the weights frozen in.

    Raises EMindError where there is no C++ compiler or it fails.
    """

    def __init__(
        self, model: MultiHead, spec: WindowSpec, header: dict, name: str, threads: int, half: bool
    ) -> None:
        if not any(map(shutil.which, ("g++", "c++", "clang++"))):
            raise EMindError("back end torch-compiled: there is no C++ compiler (g++)")
        super().__init__(model, spec, header, name, threads, half)
        self.backend = self.backend.replace("torch", "torch-compiled")
        import torch._inductor.config as inductor

        eager = super()._features
        compiled = torch.compile(eager, dynamic=True)

        def build() -> None:
            # On a stream: what is compiled there is compiled for one thread.
            silence = torch.zeros(2, self.spec.length, 2)
            example = self._model.encoder.tokenize(silence, torch.full((2,), torch.nan))
            torch._dynamo.mark_dynamic(example, 0)
            with inductor.patch(freezing=True), torch.no_grad():
                compiled(example)

        try:
            self._pool.submit(build).result()
        except Exception as error:  # whatever the compiler's fault
            self.close()
            first = str(error).strip().partition("\n")[0]
            raise EMindError(f"back end torch-compiled: {type(error).__name__}: {first}") from None
        self._features = compiled  # type: ignore[method-assign]
