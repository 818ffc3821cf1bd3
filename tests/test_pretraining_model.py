"""The masked autoencoder: what it must reconstruct, what counts, and that all of it learns."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from emind.models.emind import SpectralTokens, spectral_features
from emind.models.masking import random_selection
from emind.models.packed_batch import Patches
from emind.models.pretraining import (
    AUTOENCODERS,
    AutoencoderConfig,
    MaskedAutoencoder,
    Reconstruction,
    normalised,
    spectral_targets,
)
from packed import packed_batch, signal

LENGTHS = [128, 1, 974, 8, 1024, 128, 6000]
OURS = {"patch": 16, "channels": "iq_envelope_phase", "spectral": True}


def autoencoder(size="nano", tokenizer=None, seed=0, **options) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    return MaskedAutoencoder(replace(AUTOENCODERS[size](**(tokenizer or {"patch": 8})), **options))


def test_base_is_the_papers_110_million_parameters():
    with torch.device("meta"):
        model = MaskedAutoencoder(AUTOENCODERS["base"](patch=8, channels="iq"))
    config = model.config
    assert (config.encoder.depth, config.decoder_depth, config.encoder.patch, config.mask_share) == (12, 8, 8, 0.75)
    assert config.spectral_weight == 0.0 and model.spectral_head is None

    def layers(width, depth):
        return depth * (12 * width**2 + 13 * width) + 2 * width  # with the norm behind them

    tokens = 16 * 768 + 768 + 768 + 768 + (16 * 768 + 768) + (768**2 + 768)  # patches, class, rate unknown and known
    decoder = (768 * 512 + 512) + 512 + layers(512, 8) + (512 * 16 + 16)
    assert sum(p.numel() for p in model.parameters()) == layers(768, 12) + tokens + decoder == 111_296_784


@pytest.mark.parametrize(("size", "decoder"), [("nano", (64, 2, 1)), ("tiny", (128, 3, 2)), ("small", (256, 4, 4))])
def test_the_family_has_its_decoders(size, decoder):
    config = AUTOENCODERS[size](**OURS)
    assert (config.decoder_width, config.decoder_depth, config.decoder_heads) == decoder
    assert config.encoder.patch == 16
    assert AutoencoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("wrong", [{"mask_share": 1.0}, {"mask_share": 0.0}, {"spectral_weight": -1.0},
                                   {"decoder_heads": 3}])
def test_a_configuration_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError):
        replace(AUTOENCODERS["nano"](), **wrong)


@pytest.mark.parametrize("tokenizer", [{"patch": 8}, OURS])
def test_every_parameter_learns(tokenizer):
    model = autoencoder(tokenizer=tokenizer, spectral_weight=0.1)
    model(packed_batch(LENGTHS, tokenizer["patch"])).loss.backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_falls_by_training(dtype):
    model = autoencoder(tokenizer=OURS, spectral_weight=0.1, normalise_targets=False)
    time = torch.arange(1024) * 0.05
    batch = packed_batch([1024] * 5, patch=16)
    for number in range(5):
        signal(batch, number).copy_(torch.stack([torch.cos(time + number), torch.sin(time + number)], dim=-1))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_every_signal_is_asked_for_its_masked_values_and_fill_for_none():
    batch = packed_batch(LENGTHS)
    patches = Patches.of(batch)
    kept = random_selection(batch, patches, 0.75)
    masked = [0] * batch.signals
    for patch in kept.index_M.tolist():
        place = int(patches.place_N[patch])
        inside = min(8, int(patches.length_S[place]) - 8 * int(patches.number_N[patch]))
        masked[int(patches.order_S[place])] += 2 * inside
    out = autoencoder()(batch)
    assert out.count_S.tolist() == masked
    assert masked[1] == masked[3] == 0  # signals of one patch
    assert out.error_S[out.count_S == 0].abs().sum() == 0 and (out.error_S[out.count_S > 0] > 0).all()
    assert out.loss == out.error_S.sum() / sum(masked)


def test_fill_is_in_no_loss():
    """974 samples end 2 short of a patch: whatever the decoder says there, the error is the same."""
    model = autoencoder()
    batch = packed_batch([974])
    patches = Patches.of(batch)
    last_masked = replace(batch, noise_RN=torch.linspace(0, 0.99, 750).unsqueeze(0))  # first patches kept
    kept = random_selection(last_masked, patches, 0.75)
    assert not kept.kept_N[-1]
    seen = torch.nn.Module()
    values = torch.zeros(kept.index_M.shape[0], 16)
    plain = model.loss(last_masked, patches, kept, seen, values)
    values[-1, 12:] = 1e3
    assert torch.equal(model.loss(last_masked, patches, kept, seen, values).error_S, plain.error_S)
    values[-1, 11] = 1e3
    assert model.loss(last_masked, patches, kept, seen, values).error_S > 9e5
    # Nor does it shift the targets of the samples beside it.
    target, counts = torch.randn(1, 16), torch.ones(1, 16)
    counts[0, 12:] = 0
    target[0, 12:] = 0
    assert torch.allclose(normalised(target, counts)[:, :12], normalised(target[:, :12], counts[:, :12]))


def test_normalised_targets_have_mean_zero_and_deviation_one_and_silence_stays_zero():
    target = torch.randn(4, 16) * torch.tensor([[1.0], [0.1], [10.0], [0.0]])
    target += torch.tensor([[1.0], [0.0], [3.0], [0.0]])
    out = normalised(target, torch.ones(4, 16))
    assert torch.allclose(out.mean(dim=1), torch.zeros(4), atol=1e-5)
    assert torch.allclose(out.std(dim=1, unbiased=False), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-3)


def test_errors_of_a_perfect_and_of_a_silent_decoder():
    model = autoencoder(normalise_targets=False)
    batch = packed_batch([128, 974])
    patches = Patches.of(batch)
    kept = random_selection(batch, patches, 0.75)
    truth = patches.iq(batch)[kept.index_M].flatten(1)
    assert model.loss(batch, patches, kept, None, truth).error_S.sum() == 0
    silent = model.loss(batch, patches, kept, None, torch.zeros_like(truth))
    assert torch.allclose(silent.error_S.sum(), truth.square().sum())


@torch.no_grad()
def test_a_signals_error_does_not_depend_on_what_it_is_packed_with():
    model = autoencoder(tokenizer=OURS, spectral_weight=0.1)
    batch = packed_batch(LENGTHS, 16)
    together = model(batch)
    for number in range(batch.signals):
        alone = model(replace(batch, **{name: getattr(batch, name)[number : number + 1]
                                        for name in ("row_S", "start_S", "length_S", "rate_S", "source_S")}))
        assert alone.count_S == together.count_S[number]
        assert torch.allclose(alone.error_S, together.error_S[number], rtol=1e-4, atol=1e-4)
        assert torch.allclose(alone.spectral_error_S, together.spectral_error_S[number], rtol=1e-4)


@torch.no_grad()
def test_the_decoder_gets_masked_patches_from_nowhere():
    """Changed masked samples change the error and no predicted value."""
    model = autoencoder(tokenizer=OURS)
    batch = packed_batch(LENGTHS, 16)
    patches = Patches.of(batch)
    kept = random_selection(batch, patches, 0.75)
    changed = replace(batch, iq_RC2=batch.iq_RC2.clone())
    changed.iq_RC2.view(-1, 16, 2)[patches.slot_N[kept.index_M]] *= -0.5
    values = []
    hook = model.decoder.register_forward_hook(lambda module, inputs, output: values.append(output))
    before, after = model(batch), model(changed)
    hook.remove()
    assert torch.equal(*values)
    assert not torch.equal(before.error_S, after.error_S)


def test_the_spectral_target_is_that_of_the_whole_signal_on_one_scale():
    batch = packed_batch([1024, 128, 974, 1024])
    target = spectral_targets(batch, Patches.of(batch))
    for number in range(batch.signals):
        features = spectral_features(signal(batch, number)[None], torch.hann_window(1024))[0]
        features[-3:] *= 0.5
        assert torch.allclose(target[number], features.flatten().clamp(-1.5, 1.5), atol=1e-5)
    out = autoencoder(spectral_weight=0.5)(batch)
    assert out.spectral_count_S.tolist() == [SpectralTokens.COUNT * 64] * 4
    plain = Reconstruction(out.error_S, out.count_S).loss
    assert torch.allclose(out.loss, plain + 0.5 * out.spectral_error_S.sum() / out.spectral_count_S.sum())


def test_checkpointing_changes_neither_loss_nor_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = autoencoder(tokenizer=OURS)
        model.checkpointing = checkpointing
        loss = model(packed_batch(LENGTHS, 16)).loss
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_bfloat16_is_close_to_float32_and_parameters_stay_float32():
    model = autoencoder(tokenizer=OURS, spectral_weight=0.1)
    batch = packed_batch(LENGTHS, 16)
    exact = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(batch)
    rough.loss.backward()
    assert rough.error_S.dtype == torch.float32
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    assert abs(rough.loss.item() / exact.loss.item() - 1) < 0.02


@pytest.mark.parametrize("lengths", [[1], [8, 5, 1], [6000], [974]])
def test_odd_batches_have_a_finite_loss_and_gradients(lengths):
    model = autoencoder(spectral_weight=0.1)
    loss = model(packed_batch(lengths)).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


STEP = """
import json, resource, sys
sys.path.insert(0, "tests")
import torch
from emind.models.pretraining import AUTOENCODERS, MaskedAutoencoder
from packed import packed_batch
torch.manual_seed(0)
model = MaskedAutoencoder(AUTOENCODERS["base"](patch=8, channels="iq"), checkpointing=True)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
before = model.encoder.patch_layer.weight.detach().clone()
lengths = [6000] * 20 + [4096, 1024, 512, 256, 112] * 20
batch = packed_batch(lengths)
with torch.autocast("cpu", torch.bfloat16):
    loss = model(batch).loss
loss.backward()
norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
optimiser.step()
print(json.dumps({
    "rows": batch.iq_RC2.shape[0], "fill": batch.fill, "loss": float(loss.detach()), "norm": float(norm),
    "moved": float((model.encoder.patch_layer.weight - before).abs().max()),
    "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
}))
"""


@pytest.mark.slow
def test_base_does_a_full_step_of_the_papers_batch_within_16_gib():
    done = subprocess.run([sys.executable, "-c", STEP], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    print(figures)
    assert figures["rows"] == 40 and figures["fill"] > 0.99
    assert 0.5 < figures["loss"] < 3.0 and figures["norm"] > 0.0
    assert 0.0 < figures["moved"] < 1e-3
    assert figures["peak_gib"] < 16.0
