"""What a model's answers are worth: measures of the papers' tables.

Classes by torchmetrics, detection by scikit-learn. Separation by BSS Eval version 3 (Vincent et al., 2006), written out
here because what is separated is complex: libraries know real signals, and on those `tests/test_measures.py` holds ours
to fast-bss-eval's figures.

How complex signals are treated:
    SDR, SIR, SAR   an estimate is projected on its source, and on all sources, delayed by 0 to taps - 1 samples, with a
                    complex coefficient a delay: gain, phase and short channels do not count against it. ``taps`` 512 is
                    what the toolkit takes for audio; on windows of 1,024 samples two sources then span two thirds of
                    all signals there are, and noise that has nothing to do with them has an SDR around -3 dB, an SIR of
                    0 and an SAR of +3. ``taps`` 1 allows one complex gain. Both are told.
    SI-SDR          one real gain, as on I and Q in one row: phase counts. The strictest of the ratios.
    MSE             mean square of I and Q on the scale of the normalised window, in dB: gain counts too.
    Order           estimates take the order of best mean SI-SDR, once for all measures.
    Fitted SNR      a carrier offset and one complex gain are fitted to each signal before it is compared, so neither
                    counts. EM-Denoise-Signal's noisy rows have an offset of up to 50 kHz that their clean rows lack:
                    it turns a window of 1,024 samples by up to 2.6 turns, and the plain SNR of the untouched input is
                    then near -3 dB whatever its noise. Fitted, the input scores its noise (and its image) alone.
    Silence         a source that is silent has no ratios; it counts in the MSE only.

Shapes, by letter: N windows, C classes, Q parameters, K sources, L samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import scipy.fft
import scipy.linalg
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_cohen_kappa,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from .alignment import offset

TAPS = 512  # the BSS Eval toolkit's
RATIOS = ("sdr", "sir", "sar")
CALIBRATION_BINS = 15


# ------------------------------------------------------------------------------------------------ classes, detection


def classification_scores(probability_NC: Tensor, label_N: Tensor) -> dict[str, float | int]:
    """Accuracy over all windows, Cohen's kappa, macro precision, recall and F1 over the classes that occur, and the
    expected calibration error."""
    picked_N, classes = probability_NC.argmax(-1), probability_NC.shape[-1]
    pair = picked_N, label_N, classes
    return {
        "windows": len(label_N),
        "accuracy": multiclass_accuracy(*pair, average="micro").item(),
        "kappa": multiclass_cohen_kappa(*pair).item(),
        "precision": multiclass_precision(*pair, average="macro").item(),
        "recall": multiclass_recall(*pair, average="macro").item(),
        "f1": multiclass_f1_score(*pair, average="macro").item(),
        "expected_calibration_error": expected_calibration_error(probability_NC, label_N),
    }


def expected_calibration_error(probability_NC: Tensor, label_N: Tensor) -> float:
    """Mean distance of confidence to accuracy over 15 bins of confidence."""
    classes = probability_NC.shape[-1]
    return multiclass_calibration_error(probability_NC, label_N, classes, n_bins=CALIBRATION_BINS).item()


def detection_scores(score_N: np.ndarray, positive_N: np.ndarray) -> dict[str, float | int]:
    """Area under the curve of detections over false alarms, and detections at two rates of false alarms.

    ``score_N`` grows with what is to be found. NaN where there is only one kind of window.
    """
    counts = {"positives": int(np.sum(positive_N)), "negatives": int(np.sum(~np.asarray(positive_N, bool)))}
    if not all(counts.values()):
        return counts | {"auc": np.nan, "detected_at_1_percent": np.nan, "detected_at_10_percent": np.nan}
    alarms, detected, _ = roc_curve(positive_N, score_N)
    return counts | {
        "auc": float(roc_auc_score(positive_N, score_N)),
        "detected_at_1_percent": float(detected[alarms <= 0.01].max()),
        "detected_at_10_percent": float(detected[alarms <= 0.10].max()),
    }


def mean_absolute_errors(value_NQ: np.ndarray, truth_NQ: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Of each parameter, in its own unit; NaN in the truth (unknown) does not count."""
    miss_NQ = np.abs(np.asarray(value_NQ, float) - np.asarray(truth_NQ, float))
    return {
        name: float(column.mean()) if len(column) else np.nan
        for name, column in ((name, miss_NQ[~np.isnan(miss_NQ[:, k]), k]) for k, name in enumerate(names))
    }


def by_snr(snr_N: np.ndarray, measure: Callable[[np.ndarray], dict], step_db: float | None = None) -> list[dict]:
    """A row for each SNR: ``snr_db``, ``windows``, and what ``measure`` says of the windows, given their mask (N,).

    Without ``step_db`` a row for each value that occurs; with it, values from a multiple of the step to the next share
    a row named by its middle. Windows of unknown SNR are in none.
    """
    snr_N = np.asarray(snr_N, float)
    place_N = snr_N if step_db is None else (np.floor(snr_N / step_db) + 0.5) * step_db
    rows = []
    for place in np.unique(place_N[np.isfinite(place_N)]):
        mask_N = place_N == place
        rows.append({"snr_db": float(place), "windows": int(mask_N.sum()), **measure(mask_N)})
    return rows


# ------------------------------------------------------------------------------------------------ waveforms


def as_complex(iq: Tensor | np.ndarray) -> np.ndarray:
    """(..., L, 2) of any float to (..., L) complex128."""
    iq = np.asarray(iq.detach().cpu() if isinstance(iq, Tensor) else iq, np.float64)
    return iq[..., 0] + 1j * iq[..., 1]


def snr_db(estimate: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Power of the reference over that of the difference, dB, (..., L) to (...). Gain and phase count."""
    return _db(_energy(reference), _energy(estimate - reference))


def fitted_snr_db(estimate_NL: np.ndarray, reference_NL: np.ndarray) -> np.ndarray:
    """SNR after the carrier offset and the complex gain that bring the reference nearest to the estimate, dB, (N,);
    NaN where the reference is silent. The offset is sought within `alignment.LARGEST_OFFSET` of the sampling rate."""
    turns = np.exp(2j * np.pi * offset(estimate_NL, reference_NL)[:, None] * np.arange(reference_NL.shape[1]))
    moved_NL, energy_N = reference_NL * turns, _energy(reference_NL)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain_N = (estimate_NL * moved_NL.conj()).sum(-1) / energy_N
    wanted_NL = gain_N[:, None] * moved_NL
    return np.where(energy_N > 0, _db(_energy(wanted_NL), _energy(estimate_NL - wanted_NL)), np.nan)


def si_sdr_db(estimate: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """SI-SDR with one real gain, dB, (..., L) complex to (...); NaN where the reference is silent."""
    energy = _energy(reference)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = (estimate * reference.conj()).real.sum(-1) / energy
    wanted = gain[..., None] * reference
    return np.where(energy > 0, _db(_energy(wanted), _energy(estimate - wanted)), np.nan)


def mse_db(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Mean square of I and Q over everything given, dB."""
    return float(_db(_energy(estimate - reference).mean() / (2 * reference.shape[-1]), np.array(1.0)))


def bss_eval(estimate_KL: np.ndarray, reference_KL: np.ndarray, taps: int = TAPS) -> dict[str, np.ndarray]:
    """SDR, SIR and SAR of one window in dB, (K,) each: estimate k against reference k, the others being interference.

    NaN for a reference that is silent. The projections' normal equations get 1e-12 of their mean diagonal added, since
    delays of a signal that does not fill its band are hardly independent; so a perfect estimate has a ratio of about
    100 dB, not of infinity.
    """
    there = [k for k in range(len(reference_KL)) if _energy(reference_KL[k]) > 0]
    scores = {name: np.full(len(reference_KL), np.nan) for name in RATIOS}
    if not there:
        return scores
    references, estimates = reference_KL[there], estimate_KL[there]
    size = scipy.fft.next_fast_len(references.shape[-1] + taps)
    spectra = scipy.fft.fft(references, size)
    gram = _gram(spectra, taps)
    cross = scipy.fft.ifft(spectra.conj()[:, None] * scipy.fft.fft(estimates, size))[..., :taps]  # source, estimate
    everything = _projected_energy(gram, cross.transpose(0, 2, 1).reshape(-1, len(there)))
    for place, k in enumerate(there):
        own = slice(place * taps, (place + 1) * taps)
        target = _projected_energy(gram[own, own], cross[place, place][:, None])[0]
        whole = _energy(estimates[place])
        # Energies subtract, since each projection's space lies in the next one's.
        scores["sdr"][k] = _db(target, whole - target)
        scores["sir"][k] = _db(target, everything[place] - target)
        scores["sar"][k] = _db(everything[place], whole - everything[place])
    return scores


def _gram(spectra: np.ndarray, taps: int) -> np.ndarray:
    """Inner products of all delayed sources, (K taps, K taps), from their spectra (K, size)."""
    size = spectra.shape[-1]
    lags = scipy.fft.ifft(spectra.conj()[:, None] * spectra[None])  # [k, l, m]: sum of conj(r_k[n]) r_l[n + m]
    ahead, behind = lags[..., :taps], lags[..., -np.arange(taps) % size]
    sources = range(len(spectra))
    return np.block([[scipy.linalg.toeplitz(ahead[k, j], behind[k, j]) for j in sources] for k in sources])


def _projected_energy(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Energy of projections: gram (M, M) of a basis, inner products (M, E) of it with E signals, to (E,)."""
    loaded = gram + np.eye(len(gram)) * (1e-12 * gram.diagonal().real.mean())
    solution = scipy.linalg.solve(loaded, cross, assume_a="her")
    return (cross.conj() * solution).real.sum(0)


def best_order(estimate_KL: np.ndarray, reference_KL: np.ndarray) -> list[int]:
    """Estimate of each reference, by the best mean SI-SDR over the references that are not silent."""
    pairs = si_sdr_db(estimate_KL[:, None], reference_KL[None])

    def quality(order: tuple[int, ...]) -> float:
        own = np.array([pairs[order[k], k] for k in range(len(order))])
        own = own[~np.isnan(own)]
        return own.mean() if len(own) else 0.0

    return list(max(permutations(range(len(reference_KL))), key=quality))


def separation_scores(
    estimate_NKL: np.ndarray, reference_NKL: np.ndarray, mixture_NL: np.ndarray, taps: Sequence[int] = (1, TAPS)
) -> dict:
    """Means over windows and sources of what the estimates score, and beside it of what the untouched mixture scores.

    Complex arrays on the normalised mixture's scale. Returns ``windows``, ``sources`` (those not silent) and, under
    ``estimate``, ``mixture`` and ``gain`` (the difference, only of ratios): ``si_sdr``, ``mse_db``, and ``sdr``,
    ``sir``, ``sar`` for one tap, ``sdr_512`` and so on for more. Half a second a window at 512 taps: the paper takes
    100 windows.
    """
    aligned_NKL = np.stack([e[best_order(e, r)] for e, r in zip(estimate_NKL, reference_NKL)])
    untouched_NKL = np.broadcast_to(mixture_NL[:, None], reference_NKL.shape)
    scores: dict = {"windows": len(reference_NKL), "sources": int((_energy(reference_NKL) > 0).sum())}
    for name, answer_NKL in (("estimate", aligned_NKL), ("mixture", untouched_NKL)):
        scores[name] = {"si_sdr": _mean(si_sdr_db(answer_NKL, reference_NKL))}
        for count in taps:
            rows = [bss_eval(answer, reference, count) for answer, reference in zip(answer_NKL, reference_NKL)]
            suffix = "" if count == 1 else f"_{count}"
            scores[name] |= {ratio + suffix: _mean(np.array([row[ratio] for row in rows])) for ratio in RATIOS}
        scores[name]["mse_db"] = mse_db(answer_NKL, reference_NKL)
    scores["gain"] = {
        key: value - scores["mixture"][key] for key, value in scores["estimate"].items() if key != "mse_db"
    }
    return scores


def denoising_scores(denoised_NL: np.ndarray, clean_NL: np.ndarray, noisy_NL: np.ndarray) -> dict[str, float | int]:
    """Mean SNR of output and input and their difference, dB, likewise fitted SNR, SI-SDR and MSE, of complex windows.

    The means are over windows of the values in dB. Windows whose clean partner is silent do not count.
    """
    there_N = _energy(clean_NL) > 0
    clean, denoised, noisy = clean_NL[there_N], denoised_NL[there_N], noisy_NL[there_N]
    before, after = _mean(snr_db(noisy, clean)), _mean(snr_db(denoised, clean))
    fitted_before, fitted_after = (_mean(fitted_snr_db(x, clean)) if len(clean) else np.nan for x in (noisy, denoised))
    return {
        "windows": int(there_N.sum()),
        "input_snr_db": before,
        "output_snr_db": after,
        "gain_db": after - before,
        "fitted_input_snr_db": fitted_before,
        "fitted_output_snr_db": fitted_after,
        "fitted_gain_db": fitted_after - fitted_before,
        "input_si_sdr": _mean(si_sdr_db(noisy, clean)),
        "output_si_sdr": _mean(si_sdr_db(denoised, clean)),
        "input_mse_db": mse_db(noisy, clean) if len(clean) else np.nan,
        "output_mse_db": mse_db(denoised, clean) if len(clean) else np.nan,
    }


def _energy(x: np.ndarray) -> np.ndarray:
    return (x.real**2 + x.imag**2).sum(-1)


def _db(power: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Never infinite: powers that rounding makes zero or negative count as 1e-30 and 1e-15 of the other."""
    over = np.maximum(over, 1e-15 * np.maximum(power, 1e-30))
    return 10.0 * np.log10(np.maximum(power, 1e-30) / over)


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan
