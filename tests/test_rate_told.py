"""What the rate that a receiver tells is worth, measured on signals of standards."""

from __future__ import annotations

import numpy as np
import pytest
from emind.contract.vocabulary import MODULATIONS
from emind_training import rate_told
from emind_training.synthesis.air import AirConfig


class Listens:
    """An engine that knows OQPSK by the rate that it is told, and nothing else."""

    class Head:
        labels = MODULATIONS

    heads = {rate_told.HEAD: Head}

    def __init__(self, rates: np.ndarray) -> None:
        self._rates = rates

    def infer(self, windows, rates_hz):
        rows = np.zeros((len(windows), len(MODULATIONS)), np.float32)
        heard = np.isin(rates_hz, self._rates)
        rows[heard, MODULATIONS.index("OQPSK")] = 1.0
        rows[~heard, MODULATIONS.index("noise")] = 1.0
        return {rate_told.HEAD: rows}


def test_windows_of_standards_have_rates_that_receivers_know():
    iq, rate, label = rate_told.of_standards(3)
    config = AirConfig()
    assert iq.shape == (len(label), config.length) and iq.dtype == np.complex64
    assert ((rate >= config.rate_min_hz) & (rate <= config.rate_max_hz)).all()
    names, counts = np.unique(label, return_counts=True)
    assert {"OQPSK", "GFSK", "OFDM", "LoRa"} <= {MODULATIONS[name] for name in names} and (counts == 3).all()
    assert "noise" not in {MODULATIONS[name] for name in names}


def test_each_way_of_telling_gives_the_engine_other_rates(monkeypatch, capsys):
    _, rate, label = rate_told.of_standards(2)
    monkeypatch.setattr("emind.runtime.engine.load_engine", lambda *_: Listens(rate))
    monkeypatch.setattr("sys.argv", ["rate_told", "some-weights", "2"])
    assert rate_told.main() == 0
    rows = dict(line.strip("| ").split(" | ", 1) for line in capsys.readouterr().out.splitlines() if "0." in line)
    share = np.mean([MODULATIONS[one] == "OQPSK" for one in label])
    assert float(rows["their own"].split(" | ")[0]) == pytest.approx(share, abs=1e-3)
    assert float(rows["none"].split(" | ")[0]) == float(rows["any other"].split(" | ")[0]) == 0.0
