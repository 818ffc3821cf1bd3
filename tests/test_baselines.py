"""Published networks and detectors."""

import numpy as np
import pytest
import torch
from emind.models.emind import Encoder, nano
from emind_training.baselines import NETWORKS
from emind_training.baselines.autoencoder import Autoencoder, auc_by_interferer, train_on_normal
from emind_training.baselines.energy import auc, auc_by_snr, blind, known_noise, measured_noise
from scipy.stats import norm


def count(model) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("network", "length", "classes", "published"), [
    ("petcgdnn", 128, 11, 71_871),
    ("mcldnn", 128, 11, 406_199),
])
def test_a_network_has_as_many_parameters_as_published(network, length, classes, published):
    assert count(NETWORKS[network](length, classes)) == published


def test_the_residual_network_has_the_parameters_of_its_description():
    unit = 2 * (3 * 32 * 32 + 32)
    stacks = (2 * 32 + 32) + 5 * (32 * 32 + 32) + 6 * 2 * unit
    dense = (16 * 32 * 128 + 128) + (128 * 128 + 128) + (128 * 24 + 24)
    assert count(NETWORKS["resnet"](1024, 24)) == stacks + dense == 165_144


def test_the_plain_transformer_is_as_large_as_the_encoder_it_is_compared_with():
    plain, encoder = count(NETWORKS["transformer"](128, 11)), count(Encoder(nano(patch=8)))
    assert 0.9 < plain / encoder < 1.1


@pytest.mark.parametrize("length", [128, 512, 130])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_answers_each_window_by_itself_and_learns_in_every_parameter(network, length):
    torch.manual_seed(0)
    model = NETWORKS[network](length, 5).eval()
    iq = torch.randn(4, length, 2)
    logits = model(iq)
    assert logits.shape == (4, 5) and torch.isfinite(logits).all()
    assert torch.allclose(model(iq[1:2])[0], logits[1], atol=1e-5)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


@pytest.mark.parametrize(("network", "length"), [("resnet", 63), ("mcldnn", 4)])
def test_windows_too_short_for_a_network_are_refused(network, length):
    with pytest.raises(ValueError, match=f"not {length}"):
        NETWORKS[network](length, 5)


def test_pet_cgdnn_turns_windows_by_the_angle_it_reads():
    model = NETWORKS["petcgdnn"](16, 3)
    torch.nn.init.zeros_(model.phase.weight)
    torch.nn.init.constant_(model.phase.bias, 0.7)
    iq = torch.randn(2, 16, 2)
    turned = torch.view_as_complex(iq) * np.exp(-0.7j)
    assert torch.allclose(torch.view_as_complex(model.turned(iq).contiguous()), turned, atol=1e-6)


# ---------------------------------------------------------------------------------------------- energy detection


def gaussian(rng, rows, length, power):
    parts = rng.standard_normal((rows, length, 2)) * np.sqrt(power / 2)[:, None, None]
    return parts[..., 0] + 1j * parts[..., 1]


def test_energy_over_a_known_noise_has_the_area_that_theory_gives():
    rng = np.random.default_rng(0)
    length, snr = 64, 10 ** (-6 / 10)
    noise = rng.uniform(0.01, 100, 4000)
    empty = known_noise(gaussian(rng, 4000, length, noise), noise)
    occupied = known_noise(gaussian(rng, 4000, length, noise * (1 + snr)), noise)
    # Means of 64 squared magnitudes: nearly normal, deviation of the mean over sqrt(64).
    theory = norm.cdf(snr / np.sqrt((1 + (1 + snr) ** 2) / length))
    assert auc(empty, occupied) == pytest.approx(theory, abs=0.012)


def test_a_noise_power_measured_from_few_samples_costs_area_and_from_many_nearly_none():
    rng = np.random.default_rng(1)
    one = np.ones(3000)
    empty, occupied = gaussian(rng, 3000, 64, one), gaussian(rng, 3000, 64, one * 1.25)
    ideal = auc(known_noise(empty, 1.0), known_noise(occupied, 1.0))
    found = {samples: auc(measured_noise(empty, gaussian(rng, 3000, samples, one)),
                          measured_noise(occupied, gaussian(rng, 3000, samples, one))) for samples in (16, 4096)}
    assert found[16] < ideal - 0.05 and abs(found[4096] - ideal) < 0.02


def test_the_blind_detector_finds_a_narrow_signal_at_any_gain_and_no_signal_in_noise():
    rng = np.random.default_rng(2)
    gain = rng.uniform(1e-3, 1e3, 400)
    tone = np.exp(2j * np.pi * 0.2 * np.arange(256)) * np.sqrt(gain)[:, None]
    empty, again = (blind(gaussian(rng, 400, 256, gain)) for _ in range(2))
    assert auc(empty, blind(gaussian(rng, 400, 256, gain) + 0.75 * tone)) > 0.95
    assert auc(empty, again) == pytest.approx(0.5, abs=0.06)
    with pytest.raises(ValueError, match="63 samples"):
        blind(np.zeros((1, 63), complex))


def test_area_by_snr_takes_each_label_against_all_empty_windows():
    empty, occupied = np.array([1.0, 2.0]), np.array([0.0, 3.0, 1.5])
    assert auc_by_snr(empty, occupied, np.array([-4, 6, -4])) == {-4.0: 0.25, 6.0: 1.0}


# ------------------------------------------------------------------------------------------------ autoencoder


def tones(rng, rows, low, high, length=64):
    frequency, phase = rng.uniform(low, high, (rows, 1)), rng.uniform(0, 2 * np.pi, (rows, 1))
    x = np.exp(1j * (2 * np.pi * frequency * np.arange(length) + phase))
    return x + gaussian(rng, rows, length, np.full(rows, 0.01))


@pytest.fixture(scope="module")
def trained():
    return train_on_normal(tones(np.random.default_rng(0), 512, 0.04, 0.06), epochs=15, batch=64)


def test_an_autoencoder_of_normal_windows_tells_the_others_by_their_error(trained):
    rng = np.random.default_rng(1)
    normal = tones(rng, 200, 0.04, 0.06)
    found = auc_by_interferer(trained, normal, {
        "tone beside it": normal + tones(rng, 200, 0.2, 0.4), "more of the same": tones(rng, 200, 0.04, 0.06)})
    assert found["tone beside it"] > 0.95
    assert found["more of the same"] == pytest.approx(0.5, abs=0.1)


def test_the_same_seed_gives_the_same_autoencoder():
    windows = tones(np.random.default_rng(0), 64, 0.04, 0.06)
    one, two, other = (train_on_normal(windows, epochs=1, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_an_autoencoder_refuses_windows_it_cannot_halve():
    with pytest.raises(ValueError, match="100 samples"):
        Autoencoder(100)
