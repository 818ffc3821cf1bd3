"""What an encoder makes of windows, as numpy: one pooled vector a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from emind.dsp.normalise import NORMALISE
from emind.models.emind import Encoder, pooled

BATCH_SAMPLES = 1 << 14  # of a forward pass: what a core keeps in its cache; four times as many took 1.3 times as long


def encoder_features(
    encoder: Encoder, iq: Sequence[np.ndarray], rate_hz: np.ndarray, bfloat16: bool = False,
    normalisation: str = "max_abs", batch_samples: int = BATCH_SAMPLES,
) -> np.ndarray:
    """Class token beside the mean of the others (`models.emind.pooled`) of every window, (N, 2 D) float32.

    ``iq``: raw complex64 windows of any lengths; those of one length go through the encoder together. ``rate_hz``
    (N,), NaN where unknown. No gradient; the encoder's mode is as before afterwards.
    """
    lengths = np.array([len(one) for one in iq], np.int64)
    out = np.empty((len(iq), 2 * encoder.config.width), np.float32)
    training = encoder.training
    encoder.eval()
    try:
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            each = max(1, batch_samples // int(length))
            for part in np.split(rows, range(each, len(rows), each)):
                out[part] = _features(encoder, [iq[row] for row in part], rate_hz[part], bfloat16, normalisation)
    finally:
        encoder.train(training)
    return out


@torch.inference_mode()
def _features(encoder: Encoder, iq: list[np.ndarray], rate_hz: np.ndarray, bfloat16: bool, how: str) -> np.ndarray:
    iq_BL2 = torch.from_numpy(NORMALISE[how](np.stack(iq)))
    rate_B = torch.from_numpy(np.asarray(rate_hz, np.float32))
    device = encoder.class_token.device
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        return pooled(encoder(iq_BL2.to(device), rate_B.to(device)).float()).cpu().numpy()
