"""The encoder over packed signals: each as if it were alone, whatever lies beside it."""

from dataclasses import replace

import pytest
import torch
from emind.models import packed_attention
from emind.models.emind import Encoder, SpectralTokens, nano
from emind.models.masking import Selection, random_selection
from emind.models.packed_attention import ATTENTION, attention_over, encode_packed, visible_channels
from emind.models.packed_batch import Patches
from packed import packed_batch, signal

LENGTHS = [128, 6000, 1, 974, 8, 1024, 974, 976, 128]
TOKENIZERS = [
    {"patch": 8},
    {"patch": 16, "channels": "iq_envelope_phase"},
    {"patch": 8, "channels": "iq_envelope_phase", "spectral": True},
    {"patch": 8, "channels": "iq_envelope_phase", "stem": "sample"},
]
ON_PROCESSORS = ["grouped", "masked", "flex"]
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def encoder_of(seed=0, **tokenizer) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(nano(**tokenizer)).eval()


def worst_difference(packed, alone) -> float:
    return max(float((packed.of(number) - one).abs().max()) for number, one in enumerate(alone))


def one_by_one(encoder, batch):
    return [encoder(signal(batch, s)[None], batch.rate_S[s : s + 1])[0] for s in range(batch.signals)]


def with_another(batch, number):
    """The batch with one signal changed."""
    changed = replace(batch, iq_RC2=batch.iq_RC2.clone())
    samples = signal(changed, number)
    samples.copy_(samples.flip(0) * 0.7 + 0.1)
    return changed


@torch.no_grad()
@pytest.mark.parametrize("attention", ON_PROCESSORS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_packed_signals_have_the_features_that_each_has_alone(tokenizer, attention):
    encoder = encoder_of(**tokenizer)
    batch = packed_batch(LENGTHS, tokenizer["patch"])
    packed = encode_packed(encoder, batch, attention=attention)
    alone = one_by_one(encoder, batch)
    assert [packed.of(s).shape for s in range(batch.signals)] == [one.shape for one in alone]
    assert worst_difference(packed, alone) < 1e-4
    assert (packed.class_SD() - torch.stack([one[0] for one in alone])).abs().max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("company", [[8], [6000, 6000, 1], [974] * 5, [128, 1024, 4096, 17]])
@pytest.mark.parametrize("length", [1, 8, 128, 974, 1024, 6000])
def test_a_signals_features_do_not_depend_on_what_it_is_packed_with(length, company):
    encoder = encoder_of(patch=8, channels="iq_envelope_phase")
    batch = packed_batch([*company, length])
    last = batch.signals - 1
    alone = encoder(signal(batch, last)[None], batch.rate_S[last:])[0]
    assert (encode_packed(encoder, batch).of(last) - alone).abs().max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("masking", [False, True], ids=["all seen", "masked"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_changing_a_signal_changes_no_bit_of_another(tokenizer, masking):
    encoder = encoder_of(**tokenizer)
    batch = packed_batch([974, 128, 974, 1024, 128, 8, 1], tokenizer["patch"])
    patches = Patches.of(batch)
    kept = random_selection(batch, patches, 0.75) if masking else None
    before = encode_packed(encoder, batch, kept)
    for number in range(batch.signals):
        after = encode_packed(encoder, with_another(batch, number), kept)
        same = [torch.equal(before.of(s), after.of(s)) for s in range(batch.signals)]
        assert same == [s != number for s in range(batch.signals)]


@torch.no_grad()
def test_without_the_block_mask_signals_would_leak_and_these_tests_would_see_it(monkeypatch):
    encoder = encoder_of(patch=8)
    batch = packed_batch([974, 128, 1024])
    alone = one_by_one(encoder, batch)
    assert worst_difference(encode_packed(encoder, batch, attention="masked"), alone) < 1e-4
    monkeypatch.setattr(packed_attention, "same_signal",
                        lambda counts, device: torch.ones(sum(counts), sum(counts), dtype=torch.bool))
    leaking = encode_packed(encoder, batch, attention="masked")
    assert worst_difference(leaking, alone) > 1e-2
    changed = encode_packed(encoder, with_another(batch, 0), attention="masked")
    assert not torch.equal(leaking.of(1), changed.of(1))
    # The same of groups: as one signal of all tokens together.
    monkeypatch.setitem(ATTENTION, "grouped", lambda counts, device: packed_attention.grouped([sum(counts)], device))
    assert worst_difference(encode_packed(encoder, batch, attention="grouped"), alone) > 1e-2


def test_grouped_and_masked_attention_have_the_same_gradients():
    gradients = []
    for attention in ("grouped", "masked"):
        encoder = encoder_of(patch=8)
        tokens = encode_packed(encoder, packed_batch([128, 974, 8, 128, 1]), attention=attention).tokens_TD
        (tokens * torch.linspace(-1, 1, tokens.numel()).reshape(tokens.shape)).sum().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(encoder_of(patch=8).parameters()))
    for one, other in zip(*gradients, strict=True):
        assert (one - other).abs().max() <= 1e-4 * (1 + other.abs().max())


def test_on_a_processor_auto_is_grouped_and_an_unknown_kind_names_the_known():
    tokens = torch.zeros(5, 8)
    assert attention_over([2, 3], tokens).__qualname__ == packed_attention.grouped([2, 3], tokens.device).__qualname__
    with pytest.raises(ValueError, match="unknown attention 'fast'; known: auto, grouped, varlen, flex, masked"):
        attention_over([2, 3], tokens, "fast")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("attention", ["varlen", "flex"])
def test_on_cuda_the_kernels_agree_with_the_dense_mask(attention):
    encoder, batch = encoder_of(patch=8).cuda(), packed_batch(LENGTHS).to("cuda")
    limit = 5e-2 if attention == "varlen" else 1e-4  # half precision
    with torch.no_grad():
        reference = encode_packed(encoder, batch, attention="masked").tokens_TD
        assert (encode_packed(encoder, batch, attention=attention).tokens_TD - reference).abs().max() < limit


@torch.no_grad()
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_masked_samples_change_no_bit_of_what_the_encoder_says(tokenizer):
    """Neither through the phase step of the patch behind nor through the spectral tokens."""
    encoder = encoder_of(**tokenizer)
    batch = packed_batch(LENGTHS, tokenizer["patch"])
    patches = Patches.of(batch)
    kept = random_selection(batch, patches, 0.75)
    other = replace(batch, iq_RC2=batch.iq_RC2.clone())
    rows = other.iq_RC2.view(-1, batch.patch, 2)
    masked_slots = patches.slot_N[kept.index_M]
    rows[masked_slots] = rows[masked_slots] * -0.5 + 0.3
    before, after = encode_packed(encoder, batch, kept), encode_packed(encoder, other, kept)
    assert torch.equal(before.tokens_TD, after.tokens_TD)
    seen = patches.slot_N[kept.index_K[:1]]
    rows[seen] = rows[seen] * -0.5 + 0.3  # and a seen patch does
    assert not torch.equal(before.tokens_TD, encode_packed(encoder, other, kept).tokens_TD)


def test_the_phase_step_behind_a_masked_patch_is_zero_and_behind_a_seen_one_is_not():
    batch = packed_batch([32, 24])  # patches: 0 to 2 of the shorter signal, 3 to 6 of the longer
    patches = Patches.of(batch)
    kept = Selection.of(patches, torch.tensor([True, True, False, True, False, True, True]))
    channels = visible_channels(patches.iq(batch), kept, patches.number_N[kept.index_K], "iq_envelope_phase")
    first_steps = channels[:, 0, 3:].norm(dim=-1)
    # Kept: 0 (start), 1 (behind 0), 3 (start, behind a masked patch of another signal), 5 (behind masked 4), 6.
    assert (first_steps > 0.99).tolist() == [False, True, False, False, True]
    assert first_steps[[0, 2, 3]].tolist() == [0.0, 0.0, 0.0]
    assert (channels[:, 1:, 3:].norm(dim=-1) > 0.99).all()


@torch.no_grad()
def test_a_patch_has_the_same_position_whether_those_before_it_are_masked_or_not():
    encoder = encoder_of(patch=8)
    batch = packed_batch([64])
    patches = Patches.of(batch)
    kept = Selection.of(patches, torch.arange(8) % 3 == 2)
    some, _ = packed_attention.packed_tokens(encoder, batch, patches, kept)
    every, _ = packed_attention.packed_tokens(encoder, batch, patches, Selection.everything(patches))
    assert torch.allclose(some, every[[0, 1, 4, 7]], atol=1e-6)


@torch.no_grad()
def test_tokens_of_a_masked_signal_are_prefix_kept_patches_and_spectral_tokens():
    encoder = encoder_of(**TOKENIZERS[2])
    batch = packed_batch([974, 128])
    kept = random_selection(batch, Patches.of(batch), 0.75)
    packed = encode_packed(encoder, batch, kept)
    assert packed.count_S.tolist() == [2 + 31 + SpectralTokens.COUNT, 2 + 4 + SpectralTokens.COUNT]


def test_a_batch_packed_for_another_patch_is_refused():
    with pytest.raises(ValueError, match="packed in patches of 16, the encoder's are 8"):
        encode_packed(encoder_of(patch=8), packed_batch([128], patch=16))
