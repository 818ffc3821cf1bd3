"""What a task makes of its windows: filled to a length, aligned with their noisy partner, told another rate."""

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError
from emind_training.alignment import aligned, offset
from emind_training.augment import augmented
from emind_training.synthesis import channels as ch
from emind_training.synthesis.comm_sets import MODULATIONS, modulated
from emind_training.task_config import AugmentConfig
from emind_training.task_data import ANY_RATE_HZ, UNKNOWN_RATE, Examples
from emind_training.task_files import drawn_set
from emind_training.tasks import TASKS

RADAR, DENOISE, SEPARATION = (TASKS[name] for name in ("radar", "denoise", "separation"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sets")


def examples(folder, task, items, **more):
    files, _ = drawn_set(task.sets[0], folder, "small", 0, items)
    return Examples.open(files["train"], task, classes=task.known_classes(task.sets[0]), **more)


def pairs(snr_db, count=56):
    """Clean rows, what the transmitter's faults and the offset make of them, and that with noise."""
    rng = np.random.default_rng(7)
    clean, impaired, noisy, offsets = [], [], [], []
    for k in range(count):
        clean.append(ch.scaled_to(modulated(rng, MODULATIONS[k % len(MODULATIONS)], 1024), 1.0))
        offsets.append(rng.uniform(-50e3, 50e3) / 20e6)
        x = ch.iq_imbalance(ch.shift(clean[-1], offsets[-1]), rng.uniform(-1, 1), np.radians(rng.uniform(-5, 5)))
        impaired.append(x)
        noisy.append(x + ch.noise_for(rng, x, snr_db))
    return (np.array(each) for each in (clean, impaired, noisy, offsets))


@pytest.mark.parametrize(("snr_db", "most_db"), [(-3, -17), (10, -28), (20, -34)])
def test_an_aligned_target_is_the_noisy_signal_without_its_noise(snr_db, most_db):
    clean, impaired, noisy, offsets = pairs(snr_db)
    assert np.abs(offset(noisy, clean) - offsets).max() < 1e-4
    error = np.sum(np.abs(aligned(noisy, clean) - impaired) ** 2, 1) / np.sum(np.abs(impaired) ** 2, 1)
    assert 10 * np.log10(error.max()) < most_db
    stored = np.sum(np.abs(clean - impaired) ** 2, 1) / np.sum(np.abs(impaired) ** 2, 1)
    assert 10 * np.log10(np.median(stored)) > -3  # as stored, the offset alone is as large as the signal


def test_denoising_examples_are_aligned_where_they_are_asked_to_be(folder):
    stored, own = examples(folder, DENOISE, 48), examples(folder, DENOISE, 48, align=True)
    index = np.arange(len(own))
    noisy, target = own.batch(index).iq_BL2.numpy(), own.batch(index).targets_BKL2[:, 0].numpy()
    assert np.array_equal(noisy, stored.batch(index).iq_BL2.numpy())
    power = (target**2).sum((1, 2))
    snr_db = 10 * np.log10(power / ((noisy - target) ** 2).sum((1, 2)))
    assert np.abs(snr_db - own.snr).max() < 1.0
    unaligned = stored.batch(index).targets_BKL2[:, 0].numpy()
    assert np.median(10 * np.log10((unaligned**2).sum((1, 2)) / ((noisy - unaligned) ** 2).sum((1, 2)))) < 0


def test_a_shorter_signal_is_continued_by_its_noise(folder):
    plain, filled = examples(folder, RADAR, 205), examples(folder, RADAR, 205, length=1024, fill=True)
    index = np.flatnonzero(filled.snr <= 0)
    short, long = plain.batch(index).iq_BL2.numpy(), filled.batch(index).iq_BL2.numpy()
    assert long.shape[1] == 1024 and filled.length == 1024
    scale = np.abs(short).max(axis=(1, 2), keepdims=True) / np.abs(long[:, :512]).max(axis=(1, 2), keepdims=True)
    assert np.allclose(long[:, :512] * scale, short, atol=1e-5)
    before, behind = ((part**2).sum(-1).mean(1) for part in (long[:, 480:512], long[:, 512:]))
    assert np.abs(10 * np.log10(before / behind)).max() < 1.0
    assert np.array_equal(long, filled.batch(index).iq_BL2.numpy())  # the same each time
    drawn = [filled.batch(index, np.random.default_rng(seed)).iq_BL2.numpy()[:, 512:] for seed in (1, 2)]
    assert not np.allclose(*drawn)  # in training another each time


def test_a_shorter_signal_is_refused_where_it_is_not_to_be_filled(folder):
    with pytest.raises(EMindError, match=r"512 samples, the task's length is 1024; .* fill = true"):
        examples(folder, RADAR, 205, length=1024)


def test_any_rate_is_any_of_the_range_or_unknown(folder):
    batch = examples(folder, RADAR, 205).batch(np.arange(100))
    rates = [batch.at_any_rate(torch.Generator().manual_seed(seed)).rate_B for seed in (1, 1, 2)]
    assert torch.equal(rates[0].nan_to_num(), rates[1].nan_to_num())
    both = torch.cat([rates[0], rates[2]])
    known = both[~both.isnan()]
    assert abs(both.isnan().float().mean() - UNKNOWN_RATE) < 0.1
    assert ANY_RATE_HZ[0] <= known.min() < 1e5 and 1e7 < known.max() <= ANY_RATE_HZ[1] * 1.001
    assert torch.equal(batch.rate_B, torch.full((100,), 3.2e6))


def test_remixed_windows_are_new_mixtures_that_keep_their_first_source_and_noise(folder):
    whole = examples(folder, SEPARATION, 88)
    batch = whole.batch(np.arange(16))
    before = torch.cat([batch.iq_BL2[:, None], batch.targets_BKL2], 1)
    config = AugmentConfig(phase=False, shift=False, remix=True)
    after, _ = augmented(before, config, torch.Generator().manual_seed(3))
    assert torch.allclose(after[:, 0].square().sum(-1).amax(-1), torch.ones(16), atol=1e-4)
    first = before[:, 1].square().sum((1, 2)).sqrt() / after[:, 1].square().sum((1, 2)).sqrt()
    assert torch.allclose(after[:, 1] * first[:, None, None], before[:, 1], atol=1e-5)

    def noise(iq_BKL2):
        return iq_BKL2[:, 0] - iq_BKL2[:, 1] - iq_BKL2[:, 2]

    assert torch.allclose(noise(after) * first[:, None, None], noise(before), atol=1e-4)
    energy = after[:, 2].square().sum((1, 2)).sqrt() * first
    own = before[:, 2].square().sum((1, 2)).sqrt()
    assert torch.allclose(energy.sort().values, own.sort().values, rtol=1e-3)  # each source once
    assert not torch.allclose(energy, own, rtol=1e-2)


def test_noise_has_the_asked_power_in_the_asked_share_of_windows_and_none_has_clean_sources():
    ramp = torch.arange(4096) / 9
    tone = torch.stack([torch.cos(ramp), torch.sin(ramp)], -1).expand(400, 1, 4096, 2).contiguous()
    plain = AugmentConfig(phase=False, shift=False)
    noisy = AugmentConfig(phase=False, shift=False, noise_share=0.25, noise_low_db=3.0, noise_high_db=3.0)
    after, _ = augmented(tone, noisy, torch.Generator().manual_seed(3))
    changed = (after != tone).flatten(1).any(1)
    assert 0.18 < changed.float().mean() < 0.32
    assert torch.allclose(after.square().sum(-1).amax(-1), torch.ones(400, 1), atol=1e-4)
    own = (after * tone).sum((1, 2, 3)) / tone.square().sum((1, 2, 3))  # the tone's amplitude in the noisy window
    rest = after - own[:, None, None, None] * tone
    ratio = own.square() * tone.square().mean((1, 2, 3)) / rest.square().mean((1, 2, 3))
    assert torch.allclose(10 * torch.log10(ratio[changed]), torch.tensor(3.0), atol=0.4)
    both = tone.expand(400, 2, 4096, 2)
    assert torch.equal(augmented(both, noisy, torch.Generator().manual_seed(3))[0],
                       augmented(both, plain, torch.Generator().manual_seed(3))[0])
