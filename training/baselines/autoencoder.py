"""An autoencoder for anomalies: it learns to repeat normal windows, and repeats others worse.

Zhang, Song, Yang, Gao, "Adversarial autoencoder empowered joint anomaly detection and signal reconstruction from
sub-Nyquist samples", IEEE TCCN, 2023, is SpectrumFM's baseline (section IV-E). Its layer sizes are not given there, and
the discriminator shapes the code only, so this is the autoencoder alone: convolutions that halve the time, a narrow
code, the mirror image of it. The score is the mean squared error of a window, which has unit power.

Shapes, by letter:
    B  windows    L  samples    F  filters    Z  values of the code
"""

from __future__ import annotations

import numpy as np
import torch
from emind.contract.errors import EMindError
from torch import Tensor, nn

from .energy import auc

FILTERS = (16, 32, 64, 64)
CODE = 64
HALVINGS = len(FILTERS)


class Autoencoder(nn.Module):
    """(B, L, 2) to (B, L, 2) through a code of 64 values; L is a multiple of 16."""

    def __init__(self, length: int) -> None:
        super().__init__()
        if length % 2**HALVINGS or length < 2**HALVINGS:
            raise ValueError(f"windows of {length} samples cannot be halved {HALVINGS} times")
        wide = [2, *FILTERS]
        down, up = [], []
        for a, b in zip(wide, wide[1:], strict=False):
            down += [nn.Conv1d(a, b, 8, stride=2, padding=3), nn.GELU()]
        for a, b in zip(wide[::-1], wide[-2::-1], strict=False):
            up += [nn.GELU(), nn.ConvTranspose1d(a, b, 8, stride=2, padding=3)]
        left = FILTERS[-1] * (length >> HALVINGS)
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(left, CODE))
        self.decoder = nn.Sequential(nn.Linear(CODE, left), nn.Unflatten(1, (FILTERS[-1], -1)), *up)

    def forward(self, iq_BL2: Tensor) -> Tensor:
        return self.decoder(self.encoder(iq_BL2.transpose(1, 2))).transpose(1, 2)


def unit_power(iq_BL: np.ndarray) -> Tensor:
    """(B, L) complex to (B, L, 2) of unit mean power."""
    scale_B1 = np.sqrt(np.mean(np.abs(iq_BL) ** 2, axis=1, keepdims=True)) + 1e-12
    return torch.view_as_real(torch.from_numpy((iq_BL / scale_B1).astype(np.complex64)))


def train_on_normal(
    normal_BL: np.ndarray, epochs: int = 20, batch: int = 128, learning_rate: float = 1e-3, seed: int = 0
) -> Autoencoder:
    """An autoencoder that has seen normal windows (N, L) only. The same seed gives the same weights."""
    iq_NL2 = unit_power(normal_BL)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Autoencoder(normal_BL.shape[1])
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for epoch in range(epochs):
        for index in torch.randperm(len(iq_NL2), generator=generator).split(batch):
            loss = (model(iq_NL2[index]) - iq_NL2[index]).square().mean()
            if not torch.isfinite(loss):
                raise EMindError(f"autoencoder: the loss is not finite in epoch {epoch}; lower the learning rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.inference_mode()
def reconstruction_error(model: Autoencoder, iq_BL: np.ndarray, batch: int = 512) -> np.ndarray:
    """Mean squared error of each window at unit power, (B,): the higher, the less normal."""
    parts = unit_power(iq_BL).split(batch)
    return torch.cat([(model(part) - part).square().mean(dim=(1, 2)) for part in parts]).numpy()


def auc_by_interferer(model: Autoencoder, normal_BL: np.ndarray, abnormal: dict[str, np.ndarray]) -> dict[str, float]:
    """Interferer -> area under the ROC of the error, against normal windows that were not trained on."""
    usual = reconstruction_error(model, normal_BL)
    return {name: auc(usual, reconstruction_error(model, windows)) for name, windows in abnormal.items()}
