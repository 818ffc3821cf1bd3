"""The model of a fine-tuning run: an encoder, the heads that learn, and the heads that are kept as they are.

    full      encoder and heads learn                    probe     the encoder is frozen, a linear layer learns
    scratch   the same from random first weights         lora      adapters in the encoder learn, merged at the end
    few-shot  as full, on few examples a class           --freeze-encoder: heads are added to an encoder that stays
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from emind.contract.errors import EMindError, UsageError
from emind.contract.window import HeadSpec, WindowSpec
from emind.models import lora
from emind.models.checkpoint import AUTOENCODER, load_encoder, load_weights, read_header
from emind.models.heads import MultiHead, ReconstructionHead
from torch import Tensor, nn

from .config import ModelConfig
from .finetune import start_from
from .lineage import refuse_grown
from .task_config import LoRAConfig
from .task_names import FULL, LORA, PROBE, SCRATCH


@dataclass
class Prepared:
    """``model`` with all heads; those in ``learning`` learn. ``window`` and ``header``: of the file it started from."""

    model: MultiHead
    learning: tuple[str, ...]
    frozen: bool
    init: dict | None = None
    window: WindowSpec | None = None
    header: dict | None = None
    adapted: bool = False
    kept: tuple[str, ...] = field(default=())

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def modes(self) -> None:
        """Training mode for what learns, evaluation mode for what does not."""
        self.model.eval()
        self.model.encoder.train(not self.frozen)
        for name in self.learning:
            self.model.heads[name].train()

    def answer(self, iq_BL2: Tensor, rate_B: Tensor, head: str) -> tuple[Tensor, Tensor | None]:
        """What a head puts out, and the latent of a reconstruction; nothing is kept of a frozen encoder's pass for
        gradients."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.model.features(iq_BL2, rate_B)
        module = self.model.heads[head]
        if isinstance(module, ReconstructionHead):
            latent_BNX = module.latent(features.patches_BND, iq_BL2)
            return module.waveforms(latent_BNX, iq_BL2), latent_BNX
        return module.answer(features), None


def check_track(track: str, init: Path | None, freeze: bool) -> None:
    """UsageError where the options contradict each other."""
    if track == SCRATCH and init is not None:
        raise UsageError("--track scratch starts from random weights: leave --init out, or take --track full")
    if track in (PROBE, LORA) and init is None:
        raise UsageError(f"--track {track} leaves the encoder's weights as they are: give a file with --init")
    if freeze and init is None:
        raise UsageError("--freeze-encoder needs the encoder of a file: give it with --init")
    if freeze and track in (LORA, SCRATCH):
        raise UsageError(f"--freeze-encoder and --track {track} contradict each other")


def prepared(
    specs: Mapping[str, HeadSpec], model: ModelConfig | None, track: str = FULL, init: Path | None = None,
    freeze: bool = False, adapters: LoRAConfig = LoRAConfig(),
) -> Prepared:
    """The model that a run trains. Heads of ``init`` are kept with a frozen encoder; else those that are trained again
    start from their weights and the others are left out, since their encoder will not be theirs any more.

    Errors: see :func:`check_track`; EMindError for a file that cannot be used or has another architecture than
    ``model``, and for a head that a frozen encoder's file has already.
    """
    check_track(track, init, freeze)
    frozen = freeze or track == PROBE
    if init is None:
        out = Prepared(MultiHead((model or ModelConfig()).encoder(), specs), tuple(specs), False)
        return _with_gradients(out)
    header = read_header(init)
    found, window, _ = load_encoder(init)
    whole = MultiHead(found.config if model is None else model.encoder(), {})
    source = start_from(init, whole.encoder)
    theirs = load_weights(init)[0] if AUTOENCODER not in header else None
    if frozen:
        refuse_grown(header)
    kept = tuple(theirs.specs) if frozen and theirs is not None else ()
    taken = sorted(set(kept) & set(specs))
    if taken and freeze:
        raise EMindError(f"weights {init}: has a head {taken[0]} already, and a frozen encoder's heads are kept as "
                         "they are; name other tasks, or leave --freeze-encoder out")
    kept = tuple(name for name in kept if name not in specs)
    for name in kept:
        whole.add_head(name, theirs.specs[name]).load_state_dict(theirs.heads[name].state_dict())
    for name, spec in specs.items():
        head = whole.add_head(name, spec)
        if theirs is not None and theirs.specs.get(name) == spec:
            head.load_state_dict(theirs.heads[name].state_dict())
            source["heads"] = [*source.get("heads", []), name]
    out = Prepared(whole, tuple(specs), frozen, source, window, header, kept=kept)
    if track == LORA:
        lora.inject(whole.encoder, adapters.rank, adapters.alpha)
        out.adapted = True
    return _with_gradients(out)


def finished(own: Prepared) -> Prepared:
    """With adapters merged into the encoder, in evaluation mode."""
    if own.adapted:
        lora.merge(own.model.encoder)
        own.adapted = False
    own.model.eval()
    return own


def parameter_groups(own: Prepared, weight_decay: float) -> list[dict]:
    """Heads and encoder, matrices with weight decay and the rest without; ``encoder`` says whose rate a group has."""
    groups = []
    for encoder in (False, True):
        mine = [p for name, p in own.trained().items() if name.startswith("encoder.") == encoder]
        groups += [{"params": [p for p in mine if p.ndim >= 2], "weight_decay": weight_decay, "encoder": encoder},
                   {"params": [p for p in mine if p.ndim < 2], "weight_decay": 0.0, "encoder": encoder}]
    return [group for group in groups if group["params"]]


def _with_gradients(own: Prepared) -> Prepared:
    if own.frozen:
        own.model.encoder.requires_grad_(False)
    for name in own.kept:
        own.model.heads[name].requires_grad_(False)
    return own
