"""Heads of every kind on one encoder pass, their weights files and their sizes."""

import json

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError
from emind.contract.vocabulary import MODULATIONS
from emind.contract.window import RADAR_PARAMETERS, HeadSpec, Parameter, WindowSpec
from emind.models.checkpoint import load_weights, read_header, save_weights
from emind.models.emind import SIZES, EncoderConfig, pooled
from emind.models.heads import (
    AnomalyHead,
    MultiHead,
    ReconstructionHead,
    denormalised,
    energy,
    energy_threshold,
    normalised,
    reconstruction_widths,
    shrunk_covariance,
    split_regression,
)
from sklearn.covariance import OAS

SMALL = EncoderConfig(width=32, depth=1, heads=1, patch=16, channels="iq_envelope_phase")
WAVEFORMS = ("LFM", "Barker", "Frank")
HEADS = {
    "modulation": HeadSpec("modulation", "classification", MODULATIONS),
    "interference": HeadSpec("interference", "classification", tuple(f"interferer {k}" for k in range(12))),
    "radar": HeadSpec("radar", "regression", WAVEFORMS, RADAR_PARAMETERS),
    "sensing": HeadSpec("sensing", "classification", ("noise", "signal")),
    "anomaly": HeadSpec("anomaly", "anomaly", ("normal", "anomalous"), centres=len(MODULATIONS)),
    "fingerprint": HeadSpec("fingerprint", "classification", tuple(f"device {k}" for k in range(128))),
    "denoise": HeadSpec("denoise", "reconstruction", sources=1, skip=True),
}
SEPARATE = HeadSpec("separate", "reconstruction", sources=2, skip=True)


def windows(count=3, length=256, seed=0):
    generator = torch.Generator().manual_seed(seed)
    iq = torch.randn(count, length, 2, generator=generator)
    return iq / iq.norm(dim=-1).amax(-1)[:, None, None], torch.full((count,), 1e6)


@pytest.fixture
def model():
    torch.manual_seed(1)
    return MultiHead(SMALL, HEADS | {"separate": SEPARATE}).eval()


def test_every_kind_of_head_answers_on_one_pass(model):
    passes = []
    model.encoder.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        answers = model(*windows())
    assert len(passes) == 1
    shapes = {name: tuple(answer.shape) for name, answer in answers.items()}
    assert shapes == {
        "modulation": (3, len(MODULATIONS)), "interference": (3, 12), "radar": (3, 3 + 4), "sensing": (3, 2),
        "anomaly": (3, 2), "fingerprint": (3, 128), "denoise": (3, 1, 256, 2), "separate": (3, 2, 256, 2),
    }  # fmt: skip
    assert all(torch.isfinite(answer).all() for answer in answers.values())


def test_a_pass_may_be_asked_for_some_heads_and_their_answers_are_the_same(model):
    with torch.no_grad():
        everything, some = model(*windows()), model(*windows(), names=["denoise", "modulation"])
    assert list(some) == ["denoise", "modulation"]
    assert all(torch.equal(some[name], everything[name]) for name in some)


def test_heads_that_are_not_asked_are_not_run(model):
    model.heads["denoise"].register_forward_hook(lambda *_: pytest.fail("the denoising head was run"))
    with torch.no_grad():
        model(*windows(), names=[name for name, spec in model.specs.items() if spec.kind == "classification"])


def test_classification_sees_the_pooled_features_as_before(model):
    iq, rate = windows()
    with torch.no_grad():
        expected = model.heads["modulation"](pooled(model.encoder(iq, rate)))
        assert torch.equal(model(iq, rate)["modulation"], expected)


def test_a_head_can_be_added_and_the_others_answer_as_before():
    torch.manual_seed(2)
    model = MultiHead(SMALL, {"modulation": HEADS["modulation"]}).eval()
    with torch.no_grad():
        before = model(*windows())["modulation"]
        model.add_head("denoise", HEADS["denoise"])
        after = model(*windows())
    assert torch.equal(before, after["modulation"]) and list(model.specs) == ["modulation", "denoise"]


# ------------------------------------------------------------------------------------------------ regression


def test_a_regression_head_starts_in_the_middle_of_every_range(model):
    logits, values = split_regression(model(*windows())["radar"], model.specs["radar"])
    assert logits.shape == (3, 3) and values.shape == (3, 4)
    middle = torch.tensor([4.0, 13e-6, 20e-6, 5.5e-6])
    torch.testing.assert_close(denormalised(values, HEADS["radar"]), middle.expand(3, 4))


def test_normalised_values_come_back_in_si_units():
    spec = HEADS["radar"]
    low, high = (torch.tensor([getattr(p, end) for p in RADAR_PARAMETERS]) for end in ("low", "high"))
    assert torch.equal(normalised(torch.stack([low, high]), spec), torch.stack([torch.zeros(4), torch.ones(4)]))
    values = torch.tensor([[3.0, 11e-6, 22e-6, 2e-6]])
    torch.testing.assert_close(denormalised(normalised(values, spec), spec), values)


def test_a_value_beyond_the_range_is_held_to_it_and_an_unknown_one_stays_unknown():
    spec = HEADS["radar"]
    assert denormalised(torch.tensor([[1.7, -0.4, 0.0, 1.0]]), spec)[0, :2].tolist() == pytest.approx([6.0, 10e-6])
    assert torch.isnan(normalised(torch.tensor([[3.0, torch.nan, 2e-5, 2e-6]]), spec)).tolist() == [
        [False, True, False, False]
    ]


@pytest.mark.parametrize("spec", [HEADS["modulation"], HEADS["radar"]])
def test_a_probes_head_is_one_linear_layer_with_the_same_outputs(spec):
    model = MultiHead(SMALL, {"probe": HeadSpec(spec.name, spec.kind, spec.labels, spec.parameters, linear=True)})
    outputs = len(spec.labels) + len(spec.parameters)
    assert model(*windows())["probe"].shape == (3, outputs)
    assert sum(p.numel() for p in model.heads.parameters()) == (2 * SMALL.width + 1) * outputs


# ------------------------------------------------------------------------------------------------ reconstruction


def test_the_widths_of_base_are_those_of_table_vii():
    assert reconstruction_widths(768) == (4096, 2048, 1536, 1024)
    head = ReconstructionHead(768, patch=8, sources=2, skip=False)
    linear = [m for m in head.modules() if isinstance(m, torch.nn.Linear)]
    assert [m.out_features for m in linear] == [4096, 2048, 1536, 1024, 16 * 2]
    assert linear[0].in_features == 768


@pytest.mark.parametrize("size", SIZES)
def test_smaller_widths_keep_the_proportion_to_a_sixteenth_step(size):
    width = SIZES[size]().width
    for ours, table in zip(reconstruction_widths(width), (4096, 2048, 1536, 1024)):
        assert ours % 16 == 0 and abs(ours - table * width / 768) <= 8


@pytest.mark.parametrize("skip", [False, True])
def test_a_reconstruction_puts_every_sample_back_in_its_place(skip):
    """The last layer copies its input: what comes out is the samples in order, whatever the length."""
    torch.manual_seed(3)
    head = ReconstructionHead(8, patch=8, sources=2, skip=skip)
    iq, _ = windows(2, length=30)
    latent = torch.arange(2 * 4 * 16.0).reshape(2, 4, 16)  # 4 patches of 8 samples, I and Q
    head.values = torch.nn.Linear(16, 32, bias=False)
    torch.nn.init.zeros_(head.values.weight)
    head.values.weight.data[:16] = torch.eye(16)  # the first source; the second stays zero
    out = head.waveforms(latent, iq)
    share = iq / 2 if skip else torch.zeros_like(iq)
    assert out.shape == (2, 2, 30, 2)
    assert torch.equal(out[:, 0], latent.reshape(2, 32, 2)[:, :30] + share) and torch.equal(out[:, 1], share)


def test_with_a_skip_the_head_starts_near_the_input_and_its_sources_differ(model):
    iq, rate = windows()
    with torch.no_grad():
        both = model(iq, rate, names=["denoise", "separate"])
    assert (both["denoise"][:, 0] - iq).norm() < 0.2 * iq.norm()
    assert (both["separate"].sum(1) - iq).norm() < 0.2 * iq.norm()
    assert (both["separate"][:, 0] - both["separate"][:, 1]).abs().max() > 1e-4


def test_a_skip_head_sees_its_patch_and_the_two_beside_it_only():
    torch.manual_seed(4)
    head = ReconstructionHead(8, patch=4, sources=1, skip=True)
    iq, tokens = torch.randn(1, 40, 2, requires_grad=True), torch.randn(1, 10, 8)
    head.latent(tokens, iq)[0, 5].sum().backward()
    seen = iq.grad[0].abs().sum(-1) > 0
    assert seen.nonzero().flatten().tolist() == list(range(16, 28))


# ------------------------------------------------------------------------------------------------ anomaly, unknown


def test_shrinkage_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((40, 12)) @ rng.standard_normal((12, 12))
    centred = samples - samples.mean(0)
    ours = shrunk_covariance(torch.from_numpy(centred)).numpy()
    np.testing.assert_allclose(ours, OAS(assume_centered=True).fit(centred).covariance_, rtol=1e-10)


def two_clouds(count, seed):
    """Features of two normal classes: long and thin, at (±10, 0, ...)."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([1.0, 5.0] + [0.5] * 6)
    centre = torch.arange(count) % 2
    features = torch.randn(count, 8, generator=generator) * spread
    features[:, 0] += torch.where(centre == 0, -10.0, 10.0)
    return features, centre


def test_distance_is_mahalanobis_to_the_nearest_centre():
    head = AnomalyHead(4, centres=2)
    features, centre = two_clouds(4000, 0)
    head.fit(features, centre)
    seen = head.distance(two_clouds(1000, 1)[0])
    assert seen.square().mean().item() == pytest.approx(1.0, abs=0.05)
    far_along, off_axis, between = torch.zeros(3, 8)
    far_along[:2] = torch.tensor([10.0, 10.0])  # two spreads along the long axis
    off_axis[:3] = torch.tensor([10.0, 0.0, 5.0])  # ten spreads along a thin one
    distances = head.distance(torch.stack([far_along, off_axis, between])).tolist()
    expected = [np.sqrt(4 / 8), np.sqrt(100 / 8), np.sqrt(100 / 8)]
    assert distances == pytest.approx(expected, rel=0.08)


def test_the_threshold_lets_the_chosen_share_of_normal_windows_pass_and_is_even_odds():
    head = AnomalyHead(4, centres=2)
    head.fit(*two_clouds(4000, 0))
    normal, _ = two_clouds(2000, 1)
    head.set_threshold(normal, false_alarms=0.05)
    probability = head(normal).softmax(-1)[:, 1]
    assert (probability > 0.5).float().mean().item() == pytest.approx(0.05, abs=0.002)
    strange = normal + torch.tensor([0.0, 0.0, 15.0] + [0.0] * 5)
    assert head(strange).softmax(-1)[:, 1].min() > 0.99


def test_a_centre_without_windows_is_refused():
    features, centre = two_clouds(100, 0)
    with pytest.raises(ValueError, match="2 classes for 3 centres"):
        AnomalyHead(4, centres=3).fit(features, centre)


def test_two_likely_classes_are_not_unknown_and_none_likely_is():
    sure, two, none = torch.tensor([[9.0, 0.0, 0.0], [8.6, 8.6, 0.0], [0.3, 0.1, 0.2]])
    energies = energy(torch.stack([sure, two, none]), 1.0)
    assert energies[1] > energies[0] > energies[2] + 5
    assert two.softmax(-1).max() < 0.51  # where the highest probability would have called it unknown


def test_the_energy_threshold_keeps_the_chosen_share():
    logits = torch.randn(5000, 7, generator=torch.Generator().manual_seed(5)) * 4
    threshold = energy_threshold(logits, 1.7, kept=0.98)
    assert (energy(logits, 1.7) >= threshold).float().mean().item() == pytest.approx(0.98, abs=0.001)


# ------------------------------------------------------------------------------------------------ files, sizes


@pytest.fixture
def saved(tmp_path, model):
    features, centre = torch.randn(200, 64), torch.arange(200) % len(MODULATIONS)
    model.heads["anomaly"].fit(features, centre)
    path = tmp_path / "all.safetensors"
    calibration = {"modulation": {"temperature": 1.2, "unknown": {"threshold": 3.5}}}
    save_weights(path, model, WindowSpec(256, 256, 16), calibration, {}, {})
    return path


def test_a_weights_file_brings_back_heads_of_every_kind(saved, model):
    loaded, _, header = load_weights(saved)
    assert loaded.specs == model.specs
    assert header["calibration"]["modulation"]["unknown"]["threshold"] == 3.5
    with torch.no_grad():
        expected, found = model(*windows()), loaded(*windows())
    assert all(torch.equal(expected[name], found[name]) for name in expected) and set(expected) == set(found)


def test_the_header_of_a_classification_is_as_it_was(saved):
    heads = {head["name"]: head for head in read_header(saved)["heads"]}
    assert heads["modulation"] == {"name": "modulation", "kind": "classification", "labels": list(MODULATIONS)}
    assert heads["denoise"] == {"name": "denoise", "kind": "reconstruction", "labels": [], "sources": 1, "skip": True}
    assert heads["radar"]["parameters"][2] == {"name": "pri", "unit": "s", "low": 17e-6, "high": 23e-6}


@pytest.mark.parametrize("change, message", [
    ({"kind": "oracle"}, "unknown head kind 'oracle'"),
    ({"kind": "regression"}, "kind regression needs parameters"),
    ({"kind": "reconstruction"}, "kind reconstruction needs a source"),
    ({"labels": []}, "kind classification needs labels"),
    ({"parameters": [{"name": "pri", "unit": "s", "low": 2.0, "high": 2.0}]}, "the range 2.0 to 2.0 is empty"),
    ({"labels": ["QPSK", "QPSK"]}, "a name stands twice"),
    ({"colour": "red"}, "does not describe a model of this version"),
])  # fmt: skip
def test_a_head_that_cannot_be_is_an_error_and_not_a_traceback(saved, change, message):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(str(saved), framework="pt") as file:
        metadata = file.metadata()
    heads = json.loads(metadata["heads"])
    heads[0] |= change
    save_file(load_file(saved), saved, metadata=metadata | {"heads": json.dumps(heads)})
    with pytest.raises(EMindError, match=message):
        load_weights(saved)


@pytest.mark.parametrize("low, high", [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_parameter_needs_a_range(low, high):
    with pytest.raises(ValueError, match="empty or not finite"):
        Parameter("pri", "s", low, high)


@pytest.mark.parametrize("size, limit", [("nano", 12e6), ("tiny", 25e6)])
def test_all_heads_together_stay_within_the_files_size(size, limit):
    config = SIZES[size](patch=16, channels="iq_envelope_phase", spectral=True)
    with torch.device("meta"):
        model = MultiHead(config, HEADS | {"separate": SEPARATE})
    size_bytes = 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    assert size_bytes < limit - 3e5  # the header, with figures and history, takes some ten kilobytes
