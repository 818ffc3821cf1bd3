"""A small untrained weights file with a head of every kind, whose answers differ from window to window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from emind.contract.window import RADAR_PARAMETERS, HeadSpec, WindowSpec
from emind.models.checkpoint import save_weights
from emind.models.emind import EncoderConfig
from emind.models.heads import MultiHead, energy

LENGTH = 200  # no whole number of patches
PATCH = 16
HEADS = {
    head.name: head
    for head in (
        HeadSpec("modulation", "classification", ("noise", "BPSK", "QPSK", "2FSK")),
        HeadSpec("technology", "classification", ("LoRa", "WiFi", "FM"), linear=True),
        HeadSpec("radar", "regression", ("LFM", "Barker", "Frank"), RADAR_PARAMETERS),
        HeadSpec("rate", "regression", (), RADAR_PARAMETERS[1:3]),
        HeadSpec("anomaly", "anomaly", ("normal", "anomalous"), centres=2),
        HeadSpec("denoise", "reconstruction", sources=1, skip=True),
        HeadSpec("separation", "reconstruction", sources=2, skip=False),
    )
}
TEMPERATURES = {"modulation": 1.5, "technology": 0.7, "radar": 2.0, "anomaly": 1.0}


def raw(count: int, seed: int = 0, length: int = LENGTH) -> np.ndarray:
    """Windows (count, length): tones in noise, of levels that differ by powers of ten."""
    rng = np.random.default_rng(seed)
    tones = np.exp(2j * np.pi * np.outer(rng.uniform(-0.4, 0.4, count), np.arange(length)))
    noise = rng.standard_normal((count, length)) + 1j * rng.standard_normal((count, length))
    mixed = tones * rng.uniform(0, 2, (count, 1)) + 0.5 * noise
    return (mixed * 10 ** rng.uniform(-3, 3, (count, 1))).astype(np.complex64)


@torch.no_grad()
def make_model(seed: int = 3, heads: dict[str, HeadSpec] | None = None, length: int = LENGTH) -> MultiHead:
    """Random; outputs of heads are shifted and spread so that `raw` windows differ in their answers."""
    torch.manual_seed(seed)
    config = EncoderConfig(width=32, depth=1, heads=2, patch=PATCH, channels="iq_envelope_phase", spectral=True)
    model = MultiHead(config, heads or HEADS).eval()
    windows, rates = raw(64, seed=9, length=length), np.full(64, 1e6)
    for name, module in model.heads.items():
        last = getattr(module, "logits", None) or getattr(module, "outputs", None)
        if last is not None:
            torch.nn.init.normal_(last.weight)
            out = bare(model, windows, rates)[name]
            values = torch.arange(out.shape[1]) >= len(model.specs[name].labels)
            gain = torch.where(values, 0.2, 1.5) / out.std(0)
            last.weight.mul_(gain[:, None])
            last.bias.copy_((last.bias - out.mean(0)) * gain + torch.where(values, 0.5, 0.0))
    for name, module in model.heads.items():
        if name == "anomaly":
            distance = module.distance(model.features(*_inputs(windows, rates)).pooled_BF)
            module.threshold.copy_(distance.median())
            module.scale.copy_(distance.std())
        if name == "denoise":
            module.values.weight.mul_(10)
    return model


def save(path: Path, seed: int = 3, names: tuple[str, ...] = tuple(HEADS), unknown: tuple[str, ...] = (),
         training: dict | None = None, length: int = LENGTH) -> Path:
    """The file. ``unknown``: heads that may say so, with a threshold that about half of `raw` windows do not reach."""
    heads = {name: HEADS[name] for name in names}
    model = make_model(seed, heads, length)
    calibration = {name: {"temperature": TEMPERATURES[name]} for name in names if name in TEMPERATURES}
    for name in unknown:
        logits = bare(model, raw(64, seed=9, length=length), np.full(64, 1e6))[name][:, : len(HEADS[name].labels)]
        threshold = energy(logits, TEMPERATURES[name]).median().item()
        calibration[name]["unknown"] = {"threshold": threshold}
    window = WindowSpec(length=length, hop=length, patch=PATCH, rate_min_hz=1e4, rate_max_hz=1e7)
    save_weights(path, model, window, calibration, training or {}, {})
    return path


@torch.no_grad()
def bare(model: MultiHead, windows: np.ndarray, rates_hz: np.ndarray) -> dict[str, torch.Tensor]:
    """What the model puts out for windows divided by their largest magnitude, written without the engine."""
    return model(*_inputs(windows, rates_hz))


def _inputs(windows: np.ndarray, rates_hz: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    unit = windows / np.abs(windows).max(axis=1, keepdims=True)
    iq_BL2 = torch.from_numpy(np.stack([unit.real, unit.imag], -1).astype(np.float32))
    return iq_BL2, torch.from_numpy(rates_hz.astype(np.float32))
