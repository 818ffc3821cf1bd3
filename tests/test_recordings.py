"""The page of figures on real recordings is what the measure printed."""

import re
from pathlib import Path

import pytest
from emind_benchmarks import recordings

ROOT = Path(__file__).resolve().parents[1]

PRINTED = """\
 0.97 ppm        132/  349 adsb.sigmf-meta
 1.00 ofdm        17/   18 wifi.sigmf-meta
 0.50 ofdm         4/   20 lte.sigmf-meta
ppm      mean 0.970 over 1: {'ppm': 128, 'ook-ask': 4}
ofdm     mean 0.750 over 2: {'ofdm': 19, 'qam': 2}
{"recordings": 3, "failed": 0, "mean_share": 0.8233, "macro_family": 0.86}
"""


def test_every_printed_figure_reaches_the_page():
    text = recordings.page(recordings.parse(PRINTED), "emind-nano")
    for row in ("| adsb | `ppm` | 132 | 0.97 |", "| lte | `ofdm` | 4 | 0.50 |", "| `ofdm` | 2 | 0.750 |"):
        assert row in text
    assert "**0.823**" in text and "| `ofdm` | ofdm, qam |" in text


def test_a_run_without_a_closing_line_is_refused():
    with pytest.raises(ValueError, match="no closing line"):
        recordings.parse(PRINTED.splitlines()[0])


def test_the_summary_is_replaced_between_its_marks_and_nothing_else():
    readme = f"a\n{recordings.BEGIN}\nold\n{recordings.END}\nb\n"
    once = recordings.with_summary(readme, recordings.parse(PRINTED))
    assert once.startswith(f"a\n{recordings.BEGIN}\n| family") and once.endswith(f"{recordings.END}\nb\n")
    assert recordings.with_summary(once, recordings.parse(PRINTED)) == once


def test_the_readme_and_the_page_state_the_same_figure():
    figure = re.compile(r"\*\*mean over recordings\*\* \| (\d+) \| \*\*([\d.]+)\*\*")
    in_readme = figure.search((ROOT / "README.md").read_text())
    on_page = figure.search((ROOT / "docs" / "real-recordings.md").read_text())
    assert in_readme and on_page and in_readme.groups() == on_page.groups()
