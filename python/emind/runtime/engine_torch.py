"""The torch back end: eager or compiled, on the processor's streams or on a CUDA device.

Where the processor multiplies bfloat16, the products of the transformer layers and of the heads that make waveforms run
in it; the tokenizer with its transforms, the sums between the layers and the other heads stay in float32.
"""

from __future__ import annotations

import shutil

import numpy as np
import torch
from torch import Tensor

from ..contract.errors import EMindError
from ..contract.window import WindowSpec
from ..models.emind import Ordering
from ..models.heads import MultiHead, features_of
from .engine_base import Engine, corrections, prepared, said


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
        self._corrections = corrections(self._model).to(self._dtype)
        self._words = {name: head for name, head in self._model.heads.items() if name not in self._corrections}

    def _outputs(self, iq_BL2: Tensor, rates_hz: np.ndarray) -> dict[str, Tensor]:
        iq_BL2, rate_B = iq_BL2.to(self._device), torch.from_numpy(rates_hz).to(self._device)
        pooled_BF, *waves = self._pass(self._model.encoder.tokenize(iq_BL2, rate_B), iq_BL2)
        spectral = self._model.encoder.spectral_tokens
        spectral_BSP = spectral.features(iq_BL2) if self._enrolled and spectral is not None else None
        out = said(self._words, self._enrolled, pooled_BF, spectral_BSP) | dict(zip(self._corrections, waves))
        return {name: values.float().cpu() for name, values in out.items()}

    def _pass(self, tokens_BTD: Tensor, iq_BL2: Tensor) -> tuple[Tensor, ...]:
        """Tokens (B, T, D) through the layers: pooled (B, 2 D), and the corrections of the heads that make waveforms.

        What the layers add up stays in float32: rounded in each, confidences would be twice as far off.
        """
        encoder = self._model.encoder
        for block in encoder.blocks:
            tokens_BTD = tokens_BTD + block.attention(block.norm_attention(tokens_BTD).to(self._dtype))
            tokens_BTD = tokens_BTD + block.mlp(block.norm_mlp(tokens_BTD).to(self._dtype))
        features = features_of(encoder.norm(tokens_BTD), iq_BL2, encoder.config.patch)
        short = features.patches_BND.to(self._dtype), iq_BL2.to(self._dtype)
        return features.pooled_BF, *(head(*short) for head in self._corrections.values())


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

        eager = super()._pass
        compiled = torch.compile(eager, dynamic=True)

        def build() -> None:
            # On a stream: what is compiled there is compiled for one thread.
            silence = torch.zeros(2, self.spec.length, 2)
            example = self._model.encoder.tokenize(silence, torch.full((2,), torch.nan))
            torch._dynamo.mark_dynamic(example, 0)
            torch._dynamo.mark_dynamic(silence, 0)
            with inductor.patch(freezing=True), torch.no_grad():
                compiled(example, silence)

        try:
            self._pool.submit(build).result()
        except Exception as error:  # whatever the compiler's fault
            self.close()
            first = str(error).strip().partition("\n")[0]
            raise EMindError(f"back end torch-compiled: {type(error).__name__}: {first}") from None
        self._pass = compiled  # type: ignore[method-assign]
