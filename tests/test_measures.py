"""Measures of the papers' tables, against closed forms and against the libraries that know real signals."""

import fast_bss_eval
import numpy as np
import pytest
import torch
from emind_training.measures import (
    as_complex,
    best_order,
    bss_eval,
    by_snr,
    classification_scores,
    denoising_scores,
    detection_scores,
    fitted_snr_db,
    mean_absolute_errors,
    mse_db,
    separation_scores,
    si_sdr_db,
    snr_db,
)
from sklearn import metrics


def noise(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def orthonormal(count, length, seed=0):
    """Rows of unit energy, each orthogonal to the others."""
    return np.linalg.qr(noise(length, count, seed=seed))[0].T.conj()


# ------------------------------------------------------------------------------------------------ classes


def test_class_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 500)
    probability = rng.dirichlet(np.ones(4), 500)
    probability[np.arange(500), label] += 0.4
    probability /= probability.sum(-1, keepdims=True)
    scores = classification_scores(torch.from_numpy(probability), torch.from_numpy(label))
    picked = probability.argmax(-1)
    expected = {
        "accuracy": metrics.accuracy_score(label, picked),
        "kappa": metrics.cohen_kappa_score(label, picked),
        "precision": metrics.precision_score(label, picked, average="macro"),
        "recall": metrics.recall_score(label, picked, average="macro"),
        "f1": metrics.f1_score(label, picked, average="macro"),
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert scores["windows"] == 500 and 0.4 < scores["accuracy"] < 0.9


def test_calibration_error_is_the_distance_of_confidence_to_accuracy():
    probability = torch.tensor([[0.7, 0.3]]).expand(100, 2)
    label = torch.cat([torch.zeros(50, dtype=torch.long), torch.ones(50, dtype=torch.long)])
    assert classification_scores(probability, label)["expected_calibration_error"] == pytest.approx(0.2, abs=1e-6)


def test_detection_of_two_normal_distributions_has_the_area_of_theory():
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    score = np.concatenate([rng.standard_normal(20_000), rng.standard_normal(20_000) + 2.0])
    scores = detection_scores(score, np.arange(40_000) >= 20_000)
    assert scores["auc"] == pytest.approx(norm.cdf(2.0 / np.sqrt(2.0)), abs=0.005)
    assert scores["detected_at_10_percent"] == pytest.approx(norm.sf(norm.isf(0.10) - 2.0), abs=0.02)
    assert scores["detected_at_1_percent"] == pytest.approx(norm.sf(norm.isf(0.01) - 2.0), abs=0.03)


def test_detection_without_a_negative_has_no_area():
    scores = detection_scores(np.ones(3), np.ones(3, bool))
    assert np.isnan(scores["auc"]) and scores["positives"] == 3 and scores["negatives"] == 0


def test_absolute_errors_leave_unknown_truth_out():
    value = np.array([[3.0, 12e-6], [4.0, 13e-6], [6.0, 1.0]])
    truth = np.array([[2.0, 12e-6], [4.0, 11e-6], [4.0, np.nan]])
    errors = mean_absolute_errors(value, truth, ["num_pulses", "pulse_width"])
    assert errors == pytest.approx({"num_pulses": 1.0, "pulse_width": 1e-6})


def test_rows_by_snr_hold_every_window_of_known_snr_once():
    snr = np.array([-4.0, 2.0, -4.0, np.nan, 3.9, 4.0])
    right = np.array([1, 0, 0, 1, 1, 1])
    rows = by_snr(snr, lambda mask: {"accuracy": right[mask].mean()})
    assert [(r["snr_db"], r["windows"], r["accuracy"]) for r in rows] == [
        (-4, 2, 0.5), (2, 1, 0), (3.9, 1, 1), (4, 1, 1)
    ]  # fmt: skip
    rows = by_snr(snr, lambda mask: {"accuracy": right[mask].mean()}, step_db=4.0)
    assert [(r["snr_db"], r["windows"], r["accuracy"]) for r in rows] == [(-2, 2, 0.5), (2, 2, 0.5), (6, 1, 1)]


# ------------------------------------------------------------------------------------------------ waveforms


def test_one_tap_gives_the_ratios_of_orthogonal_parts():
    """Estimate = source + 0.1 of the other + 0.01 of something else: every ratio is known."""
    own, other, foreign = orthonormal(3, 200)
    scores = bss_eval(np.stack([own + 0.1 * other + 0.01 * foreign, other]), np.stack([own, other]), taps=1)
    assert scores["sir"][0] == pytest.approx(20.0, abs=1e-6)
    assert scores["sdr"][0] == pytest.approx(-10 * np.log10(0.01 + 0.0001), abs=1e-6)
    assert scores["sar"][0] == pytest.approx(10 * np.log10(1.01 / 0.0001), abs=1e-6)


def test_a_complex_gain_costs_nothing_at_one_tap_and_a_channel_nothing_at_enough():
    sources = noise(2, 400)
    turned = sources * np.array([[0.2 * np.exp(1.1j)], [-3j]])
    assert all((scores > 80).all() for scores in bss_eval(turned, sources, taps=1).values())
    channel = np.array([1.0, 0.5j, 0, 0, -0.4 + 0.2j])
    padded = np.pad(sources, ((0, 0), (0, 8)))  # so that the channel's tail is not cut off
    through = np.stack([np.convolve(row, channel)[: padded.shape[1]] for row in padded])
    assert bss_eval(through, padded, taps=5)["sdr"].min() > 80
    assert bss_eval(through, padded, taps=1)["sdr"].max() < 6


@pytest.mark.parametrize("taps", [1, 7, 64])
def test_on_real_signals_the_ratios_are_those_of_fast_bss_eval(taps):
    rng = np.random.default_rng(2)
    references = rng.standard_normal((2, 600))
    references[0] = np.convolve(references[0], [1, 0.9, 0.5, 0.2])[:600]
    estimates = references + 0.4 * references[::-1] + 0.3 * rng.standard_normal((2, 600))
    sdr, sir, sar = fast_bss_eval.bss_eval_sources(references, estimates, filter_length=taps, compute_permutation=False)
    ours = bss_eval(estimates.astype(complex), references.astype(complex), taps)
    for name, expected in (("sdr", sdr), ("sir", sir), ("sar", sar)):
        np.testing.assert_allclose(ours[name], expected, atol=1e-4)


def test_si_sdr_is_that_of_fast_bss_eval_with_i_and_q_in_one_row():
    references = noise(4, 300)
    estimates = 0.7 * references + 0.3 * noise(4, 300, seed=1)

    def in_a_row(x):
        return np.concatenate([x.real, x.imag], axis=-1)

    for k in range(4):
        expected = fast_bss_eval.si_sdr(in_a_row(references[k])[None], in_a_row(estimates[k])[None])
        assert si_sdr_db(estimates[k], references[k]) == pytest.approx(expected.item(), abs=1e-6)


def test_si_sdr_forgives_a_gain_and_no_phase():
    source = noise(300)
    estimate = source + 0.1 * noise(300, seed=1)
    assert si_sdr_db(5 * estimate, source) == pytest.approx(si_sdr_db(estimate, source))
    assert si_sdr_db(1j * source, source) < -20
    assert si_sdr_db(np.exp(0.1j) * source, source) == pytest.approx(-20 * np.log10(np.tan(0.1)), abs=1e-6)


def test_snr_and_mean_square_are_their_definitions():
    clean = np.full((2, 50), 1 + 1j)
    assert snr_db(clean + 0.1 * (1 + 1j), clean) == pytest.approx([20.0, 20.0])
    assert mse_db(clean + 0.1 * (1 + 1j), clean) == pytest.approx(-20.0)  # 0.1 off in I and in Q


def test_noise_scores_at_many_taps_what_the_page_says():
    """Two sources delayed by 0 to 511 samples span 1,024 of the 1,535 dimensions: half of those are the own source's.

    Noise of 1,024 samples lies in them a little more than by their number, since the delays reach past its end.
    """
    ratios = bss_eval(noise(2, 1024, seed=1), noise(2, 1024, seed=2), taps=512)
    assert ratios["sdr"] == pytest.approx(10 * np.log10(512 / 1023), abs=1.0)
    assert ratios["sir"] == pytest.approx(0.0, abs=1.0)
    assert ratios["sar"] == pytest.approx(10 * np.log10(1024 / 511), abs=1.2)


def test_a_narrow_band_source_at_many_taps_stays_finite():
    tones = np.exp(2j * np.pi * np.outer([0.1, 0.23], np.arange(512)))
    ratios = bss_eval(tones + 0.1 * noise(2, 512), tones, taps=64)
    assert all(np.isfinite(values).all() for values in ratios.values())
    assert ratios["sdr"].min() > 10


# ------------------------------------------------------------------------------------------------ tables


def test_the_untouched_mixture_of_two_equal_signals_scores_zero_and_separation_is_told_beside_it():
    own, other = orthonormal(2, 300)
    references = np.stack([np.stack([own, other]), np.stack([other, own])])
    mixture = references.sum(1)
    estimates = (references + 0.1 * references[:, ::-1])[:, ::-1]  # in the wrong order
    scores = separation_scores(estimates, references, mixture, taps=(1,))
    assert scores["windows"] == 2 and scores["sources"] == 4
    assert scores["mixture"]["si_sdr"] == pytest.approx(0.0, abs=1e-9)
    assert scores["mixture"]["sir"] == pytest.approx(0.0, abs=1e-6)
    assert scores["estimate"]["si_sdr"] == pytest.approx(20.0, abs=1e-6)
    assert scores["gain"]["sir"] == pytest.approx(20.0, abs=1e-5)
    assert scores["mixture"]["mse_db"] == pytest.approx(10 * np.log10(1 / 600))


def test_one_signal_alone_counts_without_its_silent_partner():
    reference = np.stack([noise(100), np.zeros(100)])
    estimate = np.stack([0.01 * noise(100, seed=1), reference[0] + 0.1 * noise(100, seed=2)])
    assert best_order(estimate, reference) == [1, 0]
    scores = separation_scores(estimate[None], reference[None], reference.sum(0)[None], taps=(1, 8))
    assert scores["sources"] == 1
    assert scores["estimate"]["sdr"] == pytest.approx(20, abs=1.0)
    assert scores["estimate"]["sdr_8"] >= scores["estimate"]["sdr"]
    assert all(np.isfinite(value) for part in ("estimate", "mixture", "gain") for value in scores[part].values())


def test_denoising_is_told_against_the_noisy_window():
    clean = np.concatenate([noise(3, 4000), np.zeros((1, 4000))])
    hiss = noise(4, 4000, seed=1)
    scores = denoising_scores(clean + 0.1 * hiss, clean, clean + 0.5 * hiss)
    assert scores["windows"] == 3
    assert scores["input_snr_db"] == pytest.approx(6.02, abs=0.1)
    assert scores["gain_db"] == pytest.approx(20 * np.log10(5), abs=1e-6)
    assert scores["output_si_sdr"] == pytest.approx(20, abs=0.3)
    assert scores["output_mse_db"] - scores["input_mse_db"] == pytest.approx(-13.98, abs=0.01)


def test_heads_put_out_what_the_measures_take():
    waveforms = torch.tensor([[[1.0, 2.0], [3.0, -4.0]]], dtype=torch.bfloat16).float().requires_grad_(True)
    assert as_complex(waveforms).tolist() == [[1 + 2j, 3 - 4j]]


# ------------------------------------------------------------------------------------------------ a carrier offset


@pytest.mark.parametrize("offset", [0.0, 1 / 5000, -50e3 / 20e6])
def test_fitted_the_untouched_input_scores_its_noise_alone_whatever_its_carrier_offset(offset):
    clean = noise(40, 1024)
    turned = 0.5j * clean * np.exp(2j * np.pi * offset * np.arange(1024))
    for level in (0.0, 20.0):
        hiss = noise(40, 1024, seed=1) * 0.5 * 10 ** (-level / 20)
        fitted = fitted_snr_db(turned + hiss, clean)
        assert fitted.mean() == pytest.approx(level, abs=0.3) and fitted.std() < 0.6
    if abs(offset) > 1e-3:  # a turn and more in the window: compared as stored, the noise hardly matters
        assert snr_db(2 * turned / 1j, clean).mean() < 0
    assert np.isnan(fitted_snr_db(clean, 0 * clean)).all()


def test_denoising_is_told_as_stored_and_with_the_offset_fitted():
    clean = noise(20, 1024)
    turn = np.exp(2j * np.pi * 0.002 * np.arange(1024))
    noisy, better = clean * turn + noise(20, 1024, seed=1), clean * turn + 0.1 * noise(20, 1024, seed=1)
    scores = denoising_scores(better, clean, noisy)
    assert scores["fitted_gain_db"] == pytest.approx(20, abs=0.5) and abs(scores["input_snr_db"] + 4) < 2
    assert scores["gain_db"] < 4
