"""The encoder and its weights files."""

import json
import struct

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError
from emind.contract.vocabulary import MODULATIONS
from emind.contract.window import HeadSpec, WindowSpec
from emind.models.checkpoint import REQUIRED, load_weights, read_header, save_weights
from emind.models.emind import (
    SIZES, SPECTRUM, Encoder, EncoderConfig, Ordering, SpectralTokens, envelope_and_step_quantiles, nano, positions, sums,
)  # fmt: skip
from emind.models.heads import MultiHead
from safetensors.torch import load_file, save_file

TOKENIZERS = [
    {"patch": 8},
    {"patch": 16, "channels": "iq_envelope_phase"},
    {"patch": 16, "channels": "iq_envelope_phase", "spectral": True},
]


def windows(count=3, length=1024, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, length, 2, generator=generator), torch.tensor([1e6, torch.nan, 2e4])[:count]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("size", ["nano", "tiny"])
def test_every_size_and_tokenizer_gives_a_token_a_patch_and_the_prefix(size, tokenizer):
    encoder = Encoder(SIZES[size](**tokenizer)).eval()
    with torch.no_grad():
        features = encoder(*windows())
    spectral = SpectralTokens.COUNT if tokenizer.get("spectral") else 0
    assert features.shape == (3, 2 + 1024 // tokenizer["patch"] + spectral, encoder.config.width)
    assert torch.isfinite(features).all()


def test_the_papers_encoder_of_base_size_has_85_million_parameters():
    with torch.device("meta"):
        encoder = Encoder(SIZES["base"]())
    layers = sum(p.numel() for p in encoder.blocks.parameters())
    # 12 layers of 12 D^2 weights and 13 D biases and norms.
    assert layers == 12 * (12 * 768**2 + 13 * 768)


@pytest.mark.parametrize("length", [1, 8, 974, 1024, 3000])
def test_any_length_is_tokenized_and_the_last_patch_is_filled(length):
    encoder = Encoder(nano(patch=16, channels="iq_envelope_phase", spectral=True)).eval()
    with torch.no_grad():
        features = encoder(*windows(2, length))
    assert features.shape[1] == 2 + -(-length // 16) + SpectralTokens.COUNT
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_windows_features_do_not_depend_on_its_batch(tokenizer):
    encoder = Encoder(nano(**tokenizer)).eval()
    iq, rate = windows()
    with torch.no_grad():
        together = encoder(iq, rate)
        alone = torch.cat([encoder(iq[k : k + 1], rate[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_attention_is_that_of_the_fused_kernel():
    attention = Encoder(nano()).blocks[0].attention
    x = torch.randn(2, 9, 128, generator=torch.Generator().manual_seed(3))
    q, k, v = attention.qkv(x).reshape(2, 9, 3, 2, 64).permute(2, 0, 3, 1, 4)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(attention(x), attention.out(fused.transpose(1, 2).reshape(2, 9, 128)))


def test_the_rate_changes_the_features_and_an_unknown_rate_has_a_token_of_its_own():
    encoder = Encoder(nano()).eval()
    iq, _ = windows(1)
    with torch.no_grad():
        a, b, unknown = (encoder(iq, torch.tensor([rate]))[0, 0] for rate in (1e4, 1e7, torch.nan))
    assert (a - b).abs().max() > 1e-4
    assert (a - unknown).abs().max() > 1e-4


def test_a_tone_stands_in_the_power_spectrum_where_its_frequency_is():
    tone = torch.exp(2j * torch.pi * 0.25 * torch.arange(SPECTRUM))
    features = SpectralTokens(8).features(torch.view_as_real(tone).unsqueeze(0))[0]
    density = features[:8].flatten()
    assert density.argmax().item() == pytest.approx(0.75 * 512, abs=1)


def test_a_cyclic_prefix_stands_in_the_autocorrelation_at_the_symbol_length():
    generator = torch.Generator().manual_seed(1)
    useful, prefix = 200, 50
    symbols = torch.randn(5, useful, dtype=torch.complex64, generator=generator)
    signal = torch.cat([symbols[:, -prefix:], symbols], dim=1).flatten()[:SPECTRUM]
    correlation = SpectralTokens(8).features(torch.view_as_real(signal).unsqueeze(0))[0][8:16].flatten()
    assert correlation.argmax().item() + 1 == useful


def test_positions_restart_at_the_same_value():
    assert torch.equal(positions(4, 16), positions(9, 16)[:4])


@pytest.mark.parametrize("fields", [
    {"width": 130, "heads": 4}, {"width": 128, "heads": 2, "channels": "polar"},
    {"width": 128, "heads": 2, "stem": "wavelet"}])
def test_a_configuration_that_cannot_be_built_is_refused(fields):
    with pytest.raises(ValueError):
        EncoderConfig(depth=1, **fields)


# ------------------------------------------------------------------------------------------------ weights files


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    heads = {"modulation": HeadSpec("modulation", "classification", MODULATIONS)}
    model = MultiHead(nano(patch=16), heads)
    path = tmp_path / "w.safetensors"
    window = WindowSpec(patch=16, rate_min_hz=1e3, rate_max_hz=1e6)
    save_weights(path, model, window, {"modulation": {"temperature": 1.5}}, {"seed": 7}, {"accuracy": 0.5})
    return path, model.eval(), window


def test_a_weights_file_brings_back_model_window_and_header(weights):
    path, model, window = weights
    loaded, loaded_window, header = load_weights(path)
    assert loaded_window == window
    assert header["calibration"]["modulation"]["temperature"] == 1.5 and header["training"]["seed"] == 7
    assert loaded.specs["modulation"].labels == MODULATIONS
    with torch.no_grad():
        assert torch.equal(model(*windows())["modulation"], loaded(*windows())["modulation"])


def test_reading_the_header_needs_no_tensors(weights):
    assert set(read_header(weights[0])) == set(REQUIRED)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EMindError, match="none.safetensors: no such file"):
        load_weights(tmp_path / "none.safetensors")


def test_a_truncated_file_is_named(weights):
    path, *_ = weights
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(EMindError, match="w.safetensors: not a whole safetensors file"):
        load_weights(path)


def test_garbage_is_named(weights):
    path, *_ = weights
    path.write_bytes(b"\x80\x04garbage, or a pickle")
    with pytest.raises(EMindError, match="not a whole safetensors file"):
        load_weights(path)


def test_a_foreign_safetensors_file_is_refused(weights):
    path, *_ = weights
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(EMindError, match="not one of gr-emind"):
        load_weights(path)


def rewritten(path, change_metadata=lambda m: m, change_tensors=lambda t: t):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(size))["__metadata__"]
    save_file(change_tensors(load_file(path)), path, metadata=change_metadata(metadata))


def test_another_version_is_refused(weights):
    path, *_ = weights
    rewritten(path, change_metadata=lambda m: m | {"version": "99"})
    with pytest.raises(EMindError, match="version 99"):
        load_weights(path)


def test_a_missing_tensor_is_named(weights):
    path, *_ = weights
    rewritten(path, change_tensors=lambda t: {k: v for k, v in t.items() if k != "encoder.class_token"})
    with pytest.raises(EMindError, match="encoder.class_token"):
        load_weights(path)


def test_a_tensor_of_another_shape_is_named(weights):
    path, *_ = weights
    rewritten(path, change_tensors=lambda t: t | {"encoder.class_token": torch.zeros(3)})
    with pytest.raises(EMindError, match=r"encoder.class_token has shape \(3,\)"):
        load_weights(path)


def test_a_damaged_header_is_an_error_and_not_a_traceback(weights):
    path, *_ = weights
    rewritten(path, change_metadata=lambda m: m | {"architecture": '{"width": 128}'})
    with pytest.raises(EMindError, match="does not describe a model"):
        load_weights(path)


def test_saving_leaves_no_temporary_file(weights):
    path, *_ = weights
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]
    assert np.isfinite(path.stat().st_size)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 33])
def test_sums_of_neighbours_are_those_of_each_run(count):
    values = torch.randn(3, 2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    torch.testing.assert_close(sums(values, count), values.unfold(-1, count, 1).sum(-1))


def test_phase_steps_are_smoothed_over_2_8_and_32_samples_around_every_fourth():
    iq = torch.randn(2, 1024, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = envelope_and_step_quantiles(iq, Ordering).unflatten(-1, (4, 64))
    x = torch.view_as_complex(iq)
    steps = torch.cat([torch.zeros(2, 1, dtype=x.dtype), x[:, 1:] * x[:, :-1].conj()], 1)
    rows = [x.abs().unflatten(-1, (-1, 4)).mean(-1)]
    for smooth in (2, 8, 32):
        rows.append(torch.stack([steps[:, max(0, at - smooth // 2) : at + smooth // 2].sum(-1).angle()
                                 for at in range(0, 1024, 4)], -1))
    expected = torch.stack(rows, 1).sort(-1).values.unflatten(-1, (64, 4)).mean(-1)
    torch.testing.assert_close(found, expected)
