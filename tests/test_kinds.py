"""Kinds of signals drawn by chance: what a family shares, and that windows of a kind differ in the rest."""

from __future__ import annotations

import numpy as np
from emind_training.synthesis.kinds import FAMILY, FAMILY_WINDOWS, OF_KIND, Kind, Span, family, window, windows_of_kinds


def kind(**given) -> Kind:
    settled = dict(
        carrier="swept", law=7, parts=3, band=Span(0.2, 0.2), width=Span(100, 100), duty=Span(0.5, 0.5), gate="pulsed",
        slices=(Span(8, 8), 0.5), echoes="none", spacing=Span(10, 10), count=4, offset=0.0, reverses=False)
    return Kind(**{**settled, **given})


def test_windows_are_whole_families_told_one_rate_and_the_same_for_the_same_seed():
    iq, rate, number = windows_of_kinds(3, 2 * FAMILY_WINDOWS + 11, 256, (8e3, 6.2e7))
    assert iq.shape == (2 * FAMILY_WINDOWS, 256) and iq.dtype == np.complex64 and np.isfinite(iq).all()
    assert np.array_equal(np.bincount(number), np.full(2 * FAMILY, OF_KIND))
    for own in rate.reshape(2, -1):
        assert len(np.unique(own)) == 1 and (np.isnan(own[0]) or 8e3 <= own[0] <= 6.2e7)
    assert np.array_equal(iq, windows_of_kinds(3, 2 * FAMILY_WINDOWS, 256, (8e3, 6.2e7))[0])
    assert not np.array_equal(iq, windows_of_kinds(4, 2 * FAMILY_WINDOWS, 256, (8e3, 6.2e7))[0])


def test_kinds_of_a_family_share_most_traits_and_are_not_all_alike():
    shared, alike = [], 0
    for seed in range(40):
        kinds = family(np.random.default_rng(seed), FAMILY)
        traits = [[getattr(each, name) for each in kinds] for name in vars(kinds[0])]
        shared.append(np.mean([all(value == values[0] for value in values) for values in traits]))
        alike += all(each == kinds[0] for each in kinds)
    assert np.mean(shared) >= 0.6 and alike <= 4


def test_a_pulsed_kind_is_on_for_its_duty_and_a_continuous_one_always():
    rng = np.random.default_rng(0)
    on = [np.mean(np.abs(window(rng, kind(), 1024, snr_db=40.0)) > 0.5) for _ in range(20)]
    assert abs(np.mean(on) - 0.5) < 0.06
    assert min(np.mean(np.abs(window(rng, kind(gate="continuous"), 1024, 40.0)) > 0.5) for _ in range(20)) > 0.98


def test_the_snr_is_of_the_power_while_the_signal_is_on():
    for seed, snr_db in ((1, 0.0), (2, 12.0)):
        clean, noisy = (window(np.random.default_rng(seed), kind(), 1024, level) for level in (80.0, snr_db))
        on = np.abs(clean) > 0.1 * np.abs(clean).max()
        measured = np.mean(np.abs(clean[on]) ** 2) / np.mean(np.abs(noisy - clean) ** 2)
        assert abs(10 * np.log10(measured) - snr_db) < 0.2


def test_a_settled_law_is_the_same_in_every_window_and_an_open_one_is_not():
    rng = np.random.default_rng(2)

    def likeness(given: Kind) -> float:
        spectra = np.stack([np.abs(np.fft.fft(window(rng, given, 1024, 30.0))) for _ in range(8)])
        return float(np.corrcoef(spectra)[np.triu_indices(8, 1)].mean())

    settled = kind(carrier="tones", parts=5, gate="continuous", width=Span(1024, 1024))
    assert likeness(settled) > likeness(kind(carrier="tones", parts=5, gate="continuous", law=None,
                                             width=Span(1024, 1024))) + 0.2


def test_every_carrier_gate_and_echo_gives_a_window():
    rng = np.random.default_rng(5)
    for carrier in ("swept", "hopping", "coded", "noise", "tones", "shaken"):
        for gate in ("continuous", "pulsed", "sliced"):
            for echoes in ("none", "regular", "cloud", "fresh cloud"):
                x = window(rng, kind(carrier=carrier, gate=gate, echoes=echoes), 512)
                assert x.shape == (512,) and np.isfinite(x).all() and np.abs(x).max() > 0
