"""Speech and music of the air set's analogue classes."""

import numpy as np
import pytest
from emind_training.synthesis import air_messages as messages


def spectrum(x):
    return np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2


@pytest.mark.parametrize("bandwidth", [0.01, 0.1, 0.45])
def test_a_programme_stays_within_its_band_and_within_one(bandwidth):
    rng = np.random.default_rng(1)
    for _ in range(20):
        x = messages.programme(rng, 1280, bandwidth, pauses=True)
        power = spectrum(x[128:-128])
        assert np.abs(x).max() <= 1 and np.isfinite(x).all()
        assert power[: int((bandwidth + 0.01) * 1024) + 2].sum() > 0.98 * power.sum()


def test_voiced_speech_is_lines_at_the_pitch_and_its_overtones():
    """The autocorrelation comes back after one pitch period, which noise of the same spectrum's does not."""
    rng = np.random.default_rng(2)
    bandwidth, n = 0.3, 2048
    shortest, longest = messages.SPEECH_HZ / 300 / bandwidth, messages.SPEECH_HZ / 75 / bandwidth
    for _ in range(20):
        x = messages.voiced(rng, n, bandwidth)[:600]  # the pitch glides
        correlation = np.fft.irfft(np.abs(np.fft.rfft(x, 1200)) ** 2)[:600]
        at = slice(int(0.9 * shortest), int(1.1 * longest) + 1)
        assert correlation[at].max() > 0.3 * correlation[0]


def test_pauses_come_only_where_they_are_asked_for():
    rng = np.random.default_rng(3)

    def silent(pauses):
        x = [messages.speech(rng, 1280, 0.1, pauses) for _ in range(60)]
        return [np.mean(np.abs(y) < 1e-6) for y in x]

    assert max(silent(False)) < 0.2
    with_pauses = silent(True)
    assert 0.05 < np.mean(np.array(with_pauses) > 0.2) < 0.5 and max(with_pauses) < 0.8


def test_the_same_generator_gives_the_same_message():
    x, y = (messages.programme(np.random.default_rng(4), 1280, 0.2) for _ in range(2))
    assert np.array_equal(x, y)
