"""Per-sample masking: an exact share of every signal, decided by the batch's noise alone."""

from dataclasses import fields, replace

import pytest
import torch
from emind.models.masking import by_one_key, kept_count, random_selection, random_selection_by_loop, shuffled
from emind.models.packed_batch import Patches
from packed import packed_batch

LENGTHS = [128, 6000, 1, 974, 8, 1024, 9, 974, 976, 128, 17, 4096]


def kept_of_each(patches, selection):
    return torch.zeros_like(patches.count_S).index_add_(0, patches.place_N, selection.kept_N.long())


@pytest.mark.parametrize("share", [0.75, 0.5, 0.7, 0.1, 0.95])
def test_every_signal_keeps_exactly_its_share_rounded_and_at_least_one_patch(share):
    patches = Patches.of(batch := packed_batch(LENGTHS))
    selection = random_selection(batch, patches, share)
    expected = [max(1, int((1 - share) * count + 0.5)) for count in patches.count_S.tolist()]
    assert kept_of_each(patches, selection).tolist() == expected == selection.count_S.tolist()


def test_kept_counts_by_hand():
    counts = torch.tensor([1, 2, 3, 4, 6, 16, 122, 128, 750])
    assert kept_count(counts, 0.75).tolist() == [1, 1, 1, 1, 2, 4, 31, 32, 188]


def test_a_signal_of_one_patch_is_seen_whole():
    patches = Patches.of(batch := packed_batch([1, 8, 5]))
    assert random_selection(batch, patches, 0.75).kept_N.tolist() == [True] * 3


@pytest.mark.parametrize("lengths", [LENGTHS, [128] * 64, [6000], [1]])
def test_the_vectorised_selection_is_that_of_the_loop(lengths):
    patches = Patches.of(batch := packed_batch(lengths))
    one, other = random_selection(batch, patches, 0.75), random_selection_by_loop(batch, patches, 0.75)
    for field in fields(one):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_the_sort_by_digits_is_that_of_signal_number_plus_noise():
    patches = Patches.of(batch := packed_batch(LENGTHS))
    noise = batch.noise_RN.reshape(-1)[patches.slot_N]
    noise[5:40] = noise[5]  # equal ones stay in their order
    noise[50:53] = torch.tensor([0.0, 1e-40, 1 - 2**-24])
    assert torch.equal(shuffled(noise, patches.place_N, batch.signals), by_one_key(noise, patches.place_N))


def test_kept_patches_are_those_of_least_noise_and_equal_noise_keeps_the_share():
    patches = Patches.of(batch := packed_batch([64, 32]))
    order = torch.tensor([0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.5])
    noise = torch.zeros_like(batch.noise_RN)
    noise[0, :8] = order  # the signal of 64 samples; all patches of the other have the same noise
    batch = replace(batch, noise_RN=noise)
    selection = random_selection(batch, patches, 0.75)
    assert kept_of_each(patches, selection).tolist() == [1, 2]
    assert selection.kept_N[4:].tolist() == [False, True, False, True, False, False, False, False]


def test_what_a_signal_is_packed_with_does_not_change_its_mask():
    batch = packed_batch([1024, 974, 128])
    patches = Patches.of(batch)
    kept = random_selection(batch, patches, 0.75).kept_N.split(patches.count_S.tolist())
    for number in range(3):
        one = replace(batch, **{name: getattr(batch, name)[number : number + 1]
                                for name in ("row_S", "start_S", "length_S", "rate_S", "source_S")})
        alone = random_selection(one, Patches.of(one), 0.75).kept_N
        assert torch.equal(alone, kept[patches.order_S.tolist().index(number)])


def test_masks_are_uniform_over_the_places_of_a_signal():
    patches = Patches.of(batch := packed_batch([128] * 2000, seed=3))
    share = random_selection(batch, patches, 0.75).kept_N.reshape(-1, 16).float().mean(dim=0)
    # 2,000 draws of a quarter: deviation 0.0097.
    assert (share - 0.25).abs().max() < 5 * 0.0097


def test_patches_of_a_batch_cover_every_signal_and_nothing_else():
    batch = packed_batch(LENGTHS)
    patches = Patches.of(batch)
    inside = patches.holds_signal(batch.patch)
    assert int(inside.sum()) == sum(LENGTHS)
    assert torch.equal(patches.length_S, torch.tensor(sorted(LENGTHS)))
    samples = patches.iq(batch)
    assert (samples[~inside] == 0).all()
    for place, number in enumerate(patches.order_S.tolist()):
        first, count = int(patches.first_S[place]), int(patches.count_S[place])
        whole = samples[first : first + count].reshape(-1, 2)[: LENGTHS[number]]
        row, start = int(batch.row_S[number]), int(batch.start_S[number])
        assert torch.equal(whole, batch.iq_RC2[row, start : start + LENGTHS[number]])


def test_a_row_that_is_no_whole_number_of_patches_is_refused():
    with pytest.raises(ValueError, match="no whole number of patches"):
        Patches.of(packed_batch([64], patch=16, capacity=100))
