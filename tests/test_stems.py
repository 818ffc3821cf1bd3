"""What is made of each sample before the patches."""

import itertools

import numpy as np
import pytest
import torch
from emind.models.emind import Encoder, nano
from emind.models.packed_attention import encode_packed
from emind.models.stems import STEMS, Waves

from packed import packed_batch, signal

NAMES = [name for name in STEMS if name != "linear"]


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_a_sample_stem_adds_to_the_encoder_and_changes_no_other():
    plain = Encoder(nano(patch=8, channels="iq_envelope_phase"))
    stem = Encoder(nano(patch=8, channels="iq_envelope_phase", stem="sample"))
    extra = {name for name in stem.state_dict() if name not in plain.state_dict()}
    assert extra == {"stem.0.weight", "stem.0.bias", "stem.2.weight", "stem.2.bias"}
    assert count(stem) - count(plain) == (5 * 64 + 64) + (64 * 32 + 32) + 8 * (32 - 5) * 128


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_of_a_stem_follows_from_as_many_neighbours_as_it_says(name):
    torch.manual_seed(0)
    encoder = Encoder(nano(patch=8, stem=name))
    samples = torch.randn(2, 64, 2)
    other = samples.clone()
    other[1, 30] += 1.0
    row, place = torch.nonzero((encoder.stem(samples) - encoder.stem(other)).abs().amax(-1) > 0).unbind(1)
    reach = STEMS[name].kernel // 2 * len(STEMS[name].widths)
    assert row.tolist() == [1] * (2 * reach + 1) and place.tolist() == list(range(30 - reach, 31 + reach))


@pytest.mark.parametrize("name", NAMES)
def test_a_stem_learns_and_the_last_patch_may_be_short(name):
    encoder = Encoder(nano(patch=8, channels="iq_envelope_phase", stem=name))
    out = encoder(torch.randn(3, 61, 2), torch.full((3,), torch.nan))
    assert out.shape == (3, 2 + 8, 128)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.stem.parameters())


def test_sums_of_waves_tell_constellations_of_equal_mean_and_power_apart():
    """What a linear layer of samples, summed, cannot: the characteristic function of 16QAM is not that of 64QAM."""
    torch.manual_seed(1)
    rng, waves, sums = np.random.default_rng(1), Waves(48), []
    for side in (4, 8):
        levels = np.arange(1 - side, side, 2)
        points = np.array([a + 1j * b for a, b in itertools.product(levels, levels)])
        drawn = rng.choice(points / np.sqrt(np.mean(np.abs(points) ** 2)), (50, 4096))
        iq = torch.from_numpy(np.stack([drawn.real, drawn.imag], -1).astype(np.float32))
        sums.append(waves(iq).mean(1).detach())
    difference = (sums[0] - sums[1]).mean(0).abs() / torch.stack(sums).std(1).amax(0)
    assert difference[:2].max() < 1 and difference[2:].max() > 20


@torch.no_grad()
@pytest.mark.parametrize("name", ["sample", "waves"])
def test_packed_signals_go_through_a_stem_as_alone(name):
    torch.manual_seed(2)
    encoder, batch = Encoder(nano(patch=8, stem=name)).eval(), packed_batch([40, 64], patch=8)
    found = encode_packed(encoder, batch)
    for k in range(2):
        alone_TD = encoder(signal(batch, k)[None], batch.rate_S[k : k + 1])[0]
        first, size = int(found.first_S[k]), int(found.count_S[k])
        assert torch.allclose(found.tokens_TD[first : first + size], alone_TD, atol=1e-5)


def test_a_stem_that_looks_beyond_a_patch_is_refused_where_patches_are_masked():
    encoder = Encoder(nano(patch=8, stem="conv"))
    with pytest.raises(ValueError, match="'conv' looks beyond a patch"):
        encode_packed(encoder, packed_batch([40, 64], patch=8))
