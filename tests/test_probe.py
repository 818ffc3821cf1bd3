"""Features of a frozen encoder, and what a linear classifier reads out of them."""

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError, UsageError
from emind.contract.schema import Signal
from emind.dsp.normalise import max_abs
from emind.models.emind import Encoder, nano, pooled
from emind.storage.parquet import Writer
from emind_training.features import encoder_features
from emind_training.probe import ProbeSet, Windows, balanced, linear_answers, linear_probe
from emind_training.synthesis.sets import SETS

COUNTS = {"train": 60, "validation": 30, "test": 60}


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(1)
    return Encoder(nano(patch=16, channels="iq_envelope_phase", spectral=True))


def windows(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(n) + 1j * rng.standard_normal(n)).astype(np.complex64) for n in lengths]


# ---------------------------------------------------------------------------------------------------- features


def test_features_of_mixed_lengths_are_those_of_each_window_alone(encoder):
    iq = windows([128, 1024, 128, 974, 1, 128])
    rate = np.array([1e6, np.nan, 2e4, 1e6, 1e6, np.nan])
    together = encoder_features(encoder, iq, rate, batch_samples=300)
    for k, (one, hz) in enumerate(zip(iq, rate)):
        with torch.no_grad():
            alone = pooled(encoder.eval()(torch.from_numpy(max_abs(one[None])), torch.tensor([hz]).float()))[0]
        np.testing.assert_allclose(together[k], alone.numpy(), atol=1e-4)


def test_features_leave_the_encoder_as_it_was(encoder):
    encoder.train()
    encoder_features(encoder, windows([64]), np.array([1e6]))
    assert encoder.training and all(p.grad is None for p in encoder.parameters())


def test_features_in_bfloat16_are_near_those_in_float32(encoder):
    iq, rate = windows([512] * 4), np.full(4, 1e6)
    exact, near = (encoder_features(encoder, iq, rate, bfloat16) for bfloat16 in (False, True))
    assert 0 < np.abs(exact - near).max() < 0.1 * np.abs(exact).max()


# ---------------------------------------------------------------------------------------------------- probe sets


@pytest.fixture(scope="module", params=["RadChar-regen", "AWGN-7"])
def probe_set(request):
    return ProbeSet.generated(request.param, **COUNTS)


def test_every_class_has_as_many_windows_as_every_other(probe_set):
    for part, count in COUNTS.items():
        label = getattr(probe_set, part).label
        assert np.bincount(label, minlength=len(probe_set.classes)).tolist() == [
            count // len(probe_set.classes)
        ] * len(probe_set.classes)


def test_no_transmission_is_in_two_parts(probe_set):
    groups = [set(getattr(probe_set, part).group) for part in COUNTS]
    assert all(groups) and not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_windows_span_the_sets_range_of_snr(probe_set):
    assert probe_set.train.snr.min() < -10 and probe_set.train.snr.max() > 10


def test_the_same_description_gives_the_same_windows_and_another_seed_others():
    first, again, other = (ProbeSet.generated(train=20, test=20, seed=seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first.test.iq, again.test.iq, strict=True))
    assert np.array_equal(first.test.label, again.test.label)
    assert not np.array_equal(first.test.iq[0], other.test.iq[0])


def test_test_windows_do_not_depend_on_how_many_there_are_to_train_on():
    few, many = (ProbeSet.generated(train=count, test=40) for count in (20, 200))
    assert all(np.array_equal(a, b) for a, b in zip(few.test.iq, many.test.iq, strict=True))


def test_the_label_that_is_asked_can_be_named():
    assert ProbeSet.generated("EM-Radar", train=20, test=20).column == "radar_waveform"
    by_emitter = ProbeSet.generated("EM-Radar", train=20, test=20, column="device_id")
    assert len(by_emitter.classes) == 10


def written(path, groups=40, each=3, classes=("LFM", "Barker Code")):
    """Rows that belong together in threes, both classes at SNR 0, 2, 4, 6 dB, and a row without a class."""
    rng = np.random.default_rng(3)
    with Writer(path, origin="test", seed=3) as writer:
        for group in range(groups):
            for k in range(each):
                iq = (rng.standard_normal(64) + 1j * rng.standard_normal(64)).astype(np.complex64)
                writer.write(Signal(iq, "made-up", 1e6, transmission_id=f"{group}:{k}", snr=float(2 * (group // 2 % 4)),
                                    radar_waveform=classes[group % 2]))
        writer.write(Signal(np.ones(64, np.complex64), "made-up", 1e6))
    return path


def test_a_parquet_file_is_dealt_by_transmission(tmp_path):
    found = ProbeSet.from_file(written(tmp_path / "a.parquet"), train=48, validation=6, test=12)
    assert found.name == "made-up" and found.column == "radar_waveform" and found.classes == ("Barker Code", "LFM")
    parts = [found.train, found.validation, found.test]
    assert [len(part) for part in parts] == [48, 6, 12]
    groups = [set(part.group) for part in parts]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_a_file_with_too_few_windows_says_so(tmp_path):
    with pytest.raises(EMindError, match=r"a.parquet: class number \d of 2 has \d+ windows, 100 are asked for"):
        ProbeSet.from_file(written(tmp_path / "a.parquet"), train=200, test=12)


def test_an_unknown_set_and_a_label_without_classes_are_named():
    with pytest.raises(UsageError, match="unknown set 'RadChar'"):
        ProbeSet.generated("RadChar")
    with pytest.raises(UsageError, match="modulation"):
        ProbeSet.generated("RadChar-regen", train=20, test=20, column="modulation")


def test_balanced_takes_each_snr_as_often_as_it_can():
    label = np.repeat([0, 1], 30)
    snr = np.tile(np.repeat([0.0, 4.0, np.nan], [24, 4, 2]), 2)
    chosen = balanced(label, snr, 20, 2, np.random.default_rng(0), "made up")
    for k in (0, 1):
        own = snr[chosen[label[chosen] == k]]
        assert [np.sum(own == 0.0), np.sum(own == 4.0), np.isnan(own).sum()] == [4, 4, 2]


# ---------------------------------------------------------------------------------------------------- the probe


def test_linear_answers_separate_what_is_linear_and_guess_what_is_not():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((400, 2)), rng.standard_normal((400, 2))
    halves = [(x[:, 0] > 0).astype(int), (x[:, 0] * x[:, 1] > 0).astype(int)]
    linear, crossed = (np.mean(linear_answers(x, label, y) == (y[:, 0] > 0 if k == 0 else y[:, 0] * y[:, 1] > 0))
                       for k, label in enumerate(halves))
    assert linear > 0.95 and 0.3 < crossed < 0.7


def tones(count, seed):
    """Windows of one of two tones at a random phase: a class that spectral tokens hold and raw samples do not."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    phase = rng.uniform(0, 2 * np.pi, count)
    iq = [np.exp(1j * (2 * np.pi * (0.05 + 0.2 * k) * np.arange(256) + p)).astype(np.complex64)
          for k, p in zip(label, phase)]
    return Windows(iq, np.full(count, 1e6), label, np.full(count, np.nan), np.arange(count))


def test_the_probe_reads_out_what_the_features_hold(encoder):
    known = ProbeSet("tones", "modulation", ("a", "b"), tones(40, 0), tones(0, 1), tones(40, 2), "made up")
    assert linear_probe(encoder, known) == 1.0


def test_the_probe_is_at_chance_where_the_labels_say_nothing(encoder):
    rng = np.random.default_rng(4)
    blind = Windows(windows([256] * 200, 5), np.full(200, 1e6), rng.integers(0, 2, 200), np.full(200, np.nan),
                    np.arange(200))
    unknown = ProbeSet("blind", "modulation", ("a", "b"), blind.take(np.arange(100)), blind.take(np.arange(0)),
                       blind.take(np.arange(100, 200)), "made up")
    assert 0.3 < linear_probe(encoder, unknown) < 0.7


def test_the_probe_gives_the_same_figure_again(encoder):
    small = ProbeSet.generated(train=50, test=50)
    assert linear_probe(encoder, small, seed=3) == linear_probe(encoder, small, seed=3)
    assert "RadChar-regen" in SETS and small.to_dict()["test"] == 50
