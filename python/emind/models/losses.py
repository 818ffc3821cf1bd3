"""Losses of the heads. Each is a mean over windows; rows without a label or a target do not count.

    classification   cross-entropy, and that of the family
    regression       Huber, mean square or mean absolute error of normalised values
    reconstruction   error against the source, in dB below it; for several sources in the best order

Luo et al., section VI-C.3: "permutation invariant training", and the L2 norm of the latent.

Shapes, by letter: B windows, C classes, Q parameters, K sources, L samples, N patches, X values of a latent.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional

LIMIT_DB = 30.0  # an error this far below its source is small enough: windows already solved drive nothing
ACTIVE = 1e-6  # share of the mixture's energy from which a source counts as there
SMALLEST_ENERGY = 1e-8  # of a window; normalised ones that are not silent have at least 1


def classification_loss(
    logits_BC: Tensor,
    label_B: Tensor,
    family_of_C: Tensor | None = None,
    family_weight: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the class plus ``family_weight`` times that of its family: a miss inside the family costs less.

    ``label_B`` below zero: not labelled. ``family_of_C``: each class's family, 0 to families - 1. Zero, with a zero
    gradient, where nothing is labelled.
    """
    known_B = label_B >= 0
    if not known_B.all():
        logits_BC, label_B = logits_BC[known_B], label_B[known_B]
    if not len(label_B):
        return logits_BC.sum()
    loss = functional.cross_entropy(logits_BC, label_B, label_smoothing=label_smoothing)
    if family_of_C is None or not family_weight:
        return loss
    return loss + family_weight * functional.nll_loss(family_scores(logits_BC, family_of_C), family_of_C[label_B])


def family_scores(logits_BC: Tensor, family_of_C: Tensor) -> Tensor:
    """Log-probabilities of the families, (B, families): classes of one family add up."""
    log_p = functional.log_softmax(logits_BC, dim=-1)
    members = [log_p[:, family_of_C == k].logsumexp(-1) for k in range(int(family_of_C.max()) + 1)]
    return torch.stack(members, dim=-1)


REGRESSION_LOSSES = ("huber", "mse", "mae")


def regression_loss(values_BQ: Tensor, target_BQ: Tensor, kind: str = "huber", delta: float = 0.05) -> Tensor:
    """Of normalised values; a target that is NaN is unknown. Zero, with a zero gradient, where none is known.

    ``huber`` is a square up to ``delta`` and straight beyond, over delta, so that it is nearly the ``mae`` that is
    measured in the end and yet has a smooth bottom; ``mse`` is the square.
    """
    known_BQ = torch.isfinite(target_BQ)
    miss = values_BQ[known_BQ] - target_BQ[known_BQ]
    if not miss.numel():
        return values_BQ.sum() * 0.0
    zero = torch.zeros_like(miss)
    if kind == "huber":
        return functional.huber_loss(miss, zero, delta=delta) / delta
    if kind == "mse":
        return functional.mse_loss(miss, zero)
    if kind == "mae":
        return functional.l1_loss(miss, zero)
    raise ValueError(f"unknown regression loss {kind!r}; known: {', '.join(REGRESSION_LOSSES)}")


# ------------------------------------------------------------------------------------------------ waveforms


def _energy(iq: Tensor) -> Tensor:
    """Over samples and I, Q: (..., L, 2) to (...)."""
    return iq.square().sum(dim=(-2, -1))


def _ratio_db(error: Tensor, reference: Tensor, limit_db: float) -> Tensor:
    """Error over the reference, dB; levels off ``limit_db`` below it. Finite, and so is its gradient, at no error."""
    return 10.0 * torch.log10(error / reference + 10.0 ** (-limit_db / 10.0))


def error_db(estimate: Tensor, target: Tensor, scale_energy: Tensor, limit_db: float = LIMIT_DB) -> Tensor:
    """Energy of estimate - target over ``scale_energy``, in dB: (..., L, 2) and (...) to (...).

    With the target's energy for scale this is the negative SNR. Gain and phase count; a common factor of all does not.
    """
    return _ratio_db(_energy(estimate - target), scale_energy.clamp_min(SMALLEST_ENERGY), limit_db)


def si_error_db(estimate: Tensor, target: Tensor, scale_energy: Tensor, limit_db: float = LIMIT_DB) -> Tensor:
    """Negative SI-SDR in dB, (..., L, 2) to (...): what of the estimate is no real gain times the target, over what is.

    The estimate's gain does not count (Le Roux et al., 2019), its phase does. A millionth of ``scale_energy`` on both
    sides of the ratio keeps an estimate of nothing at 0 dB.
    """
    floor = 1e-6 * scale_energy.clamp_min(SMALLEST_ENERGY)
    gain = (estimate * target).sum(dim=(-2, -1)) / (_energy(target) + floor)
    wanted = gain[..., None, None] * target
    return _ratio_db(_energy(estimate - wanted) + floor, _energy(wanted) + floor, limit_db)


def si_sdr_db(estimate: Tensor, target: Tensor) -> Tensor:
    """SI-SDR with a real gain, dB, exact: (..., L, 2) to (...). For measuring; NaN where the target is silent."""
    gain = (estimate * target).sum(dim=(-2, -1)) / _energy(target)
    wanted = gain[..., None, None] * target
    return 10.0 * torch.log10(_energy(wanted) / _energy(estimate - wanted))


WAVEFORM_LOSSES = ("snr", "si_sdr", "mse")


def pair_losses(estimate_BKL2: Tensor, source_BKL2: Tensor, kind: str = "snr", limit_db: float = LIMIT_DB) -> Tensor:
    """Loss of every estimate (first K) against every source (second K), (B, K, K).

    ``snr``: error over the source's energy, dB. ``si_sdr``: the same without regard to gain. ``mse``: error over the
    sources' energy together, no logarithm. A source that is not there (one signal alone) has no energy to compare with:
    what is answered for it is compared with that of the mixture, by ``snr``'s rule, since silence has no SI-SDR.
    """
    if kind not in WAVEFORM_LOSSES:
        raise ValueError(f"unknown waveform loss {kind!r}; known: {', '.join(WAVEFORM_LOSSES)}")
    estimate, source = estimate_BKL2.unsqueeze(2), source_BKL2.unsqueeze(1)
    energy_B1K = _energy(source)
    whole_B11 = energy_B1K.sum(dim=-1, keepdim=True).clamp_min(SMALLEST_ENERGY)
    if kind == "mse":
        return _energy(estimate - source) / whole_B11
    there_B1K = energy_B1K > ACTIVE * whole_B11
    loss_BKK = error_db(estimate, source, torch.where(there_B1K, energy_B1K, whole_B11), limit_db)
    if kind == "snr":
        return loss_BKK
    return torch.where(there_B1K, si_error_db(estimate, source, whole_B11, limit_db), loss_BKK)


def best_order(loss_BKK: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest assignment of estimates to sources: its mean loss (B,), and the estimate of each source, (B, K)."""
    sources = loss_BKK.shape[-1]
    orders = torch.tensor(list(permutations(range(sources))), device=loss_BKK.device)
    each = torch.stack([loss_BKK[:, order, torch.arange(sources)].mean(-1) for order in orders], dim=-1)
    best_B = each.argmin(-1)
    return each.gather(-1, best_B.unsqueeze(-1)).squeeze(-1), orders[best_B]


def reordered(estimate_BKL2: Tensor, order_BK: Tensor) -> Tensor:
    """Estimates in the order of the sources that `best_order` gave them."""
    return estimate_BKL2[torch.arange(len(order_BK)).unsqueeze(-1), order_BK]


def separation_loss(
    estimate_BKL2: Tensor,
    source_BKL2: Tensor,
    latent_BNX: Tensor | None = None,
    latent_weight: float = 1e-4,
    kind: str = "snr",
) -> Tensor:
    """Mean loss of the sources in whatever order suits best, plus ``latent_weight`` times the latent's mean square.

    The sources are on the scale of the normalised mixture: as mixed, over the mixture's max|IQ|. K = 1 is denoising.
    """
    loss = best_order(pair_losses(estimate_BKL2, source_BKL2, kind))[0].mean()
    return loss if latent_BNX is None else loss + latent_weight * latent_BNX.square().mean()


def denoising_loss(denoised_BL2: Tensor, clean_BL2: Tensor, kind: str = "snr") -> Tensor:
    """Error of the denoised window over its clean partner's energy, dB.

    Gain counts by default, since the denoised stream goes on air's scale behind the head; ``clean_BL2`` is on the scale
    of the normalised noisy window: over its max|IQ|. A silent partner asks for silence and is compared with a window of
    mean power one.
    """
    energy_B = _energy(clean_BL2)
    if kind == "mse":
        return (_energy(denoised_BL2 - clean_BL2) / energy_B.clamp_min(SMALLEST_ENERGY)).mean()
    there_B = energy_B > SMALLEST_ENERGY
    scale_B = torch.where(there_B, energy_B, torch.full_like(energy_B, clean_BL2.shape[-2]))
    loss_B = error_db(denoised_BL2, clean_BL2, scale_B)
    if kind == "si_sdr":
        loss_B = torch.where(there_B, si_error_db(denoised_BL2, clean_BL2, scale_B), loss_B)
    elif kind != "snr":
        raise ValueError(f"unknown waveform loss {kind!r}; known: {', '.join(WAVEFORM_LOSSES)}")
    return loss_B.mean()
