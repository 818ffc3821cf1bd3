"""The benches run, add up and write what they say; short runs, since figures are for `emind bench` on a quiet machine."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("gnuradio")

from emind.contract.tags import DETECTIONS_LIMIT
from emind_benchmarks import latency, measuring, soak, stream
from emind_benchmarks.pacing import Load, paced_chain, paced_source


class Clock:
    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


def work(source, size):
    out = np.zeros(size, np.complex64)
    count = source.work([], [out])
    return out[:max(count, 0)], count


@pytest.fixture
def untagged(monkeypatch):
    """A source outside a flowgraph cannot tag."""
    tags = []
    monkeypatch.setattr(paced_source, "add_item_tag",
                        lambda self, port, item, key, value: tags.append((item, str(key))), raising=False)
    monkeypatch.setattr("emind_benchmarks.pacing.time.sleep", lambda seconds: None)
    return tags


def test_a_paced_source_gives_what_is_due_and_no_more(untagged):
    clock, samples = Clock(), np.arange(10, dtype=np.complex64)
    source = paced_source(samples, rate=1024.0, count=25, buffer_s=1.0, clock=clock)
    assert work(source, 100)[1] == 0
    clock.now += 12 / 1024
    assert work(source, 100)[0].real.tolist() == [*range(10), 0, 1]
    clock.now += 1
    assert work(source, 5)[1] == 5 and work(source, 100)[1] == 8, "25 in all"
    assert work(source, 100)[1] == -1
    assert (source.sent, source.lost, source.stalls) == (25, 0, 1)
    assert source.longest_wait_s == 1, "of the first sample that was not taken"
    assert untagged == [(0, "rx_time"), (0, "rx_rate")]


def test_what_the_receiver_cannot_hold_is_lost_counted_and_tagged_as_a_gap(untagged):
    clock, samples = Clock(), np.arange(1000, dtype=np.complex64)
    source = paced_source(samples, rate=1024.0, count=1000, buffer_s=0.125, clock=clock)
    work(source, 1)
    clock.now += 0.375
    given, count = work(source, 1000)
    assert (count, source.lost, source.stalls) == (128, 256, 1)
    assert given[0].real == 256, "the oldest are lost, the newest kept"
    assert untagged[2:] == [(0, "rx_time"), (0, "rx_rate")]
    assert source.due_at(0) == 50.25


def test_a_chain_accounts_for_every_sample_and_window(small_weights):
    from emind.runtime.engine import load_engine

    engine = load_engine(small_weights, threads=1)
    samples = measuring.noise_windows(1024, 8).ravel()
    figures = paced_chain(engine, Load(2e5, 0.3, 512, "lossless"), samples).run_to_end()
    assert figures["samples_sent"] + figures["samples_lost"] == figures["samples_due"]
    assert figures["windows_seen"] == figures["windows_inferred"] > 50
    assert figures["accounted"] and figures["results_lost"] == 0 and figures["windows_skipped"] == 0
    assert figures["samples_lost"] > 0 or figures["samples_missing"] == 0
    assert 0 < figures["latency_ms_p50"] <= figures["latency_ms_p99"] <= figures["latency_ms_max"]


def test_an_engine_that_fails_ends_the_bench_with_its_error():
    from emind.contract.errors import EMindError
    from emind.contract.window import HeadSpec, WindowSpec

    class Broken:
        spec, heads = WindowSpec(length=64, hop=64), {"any": HeadSpec("any", "classification", ("a", "b"))}
        name = backend = "broken"

        def infer(self, windows, rates_hz):
            raise RuntimeError("gone")

    with pytest.raises(EMindError, match="RuntimeError: gone"):
        paced_chain(Broken(), Load(64e3, 0.2, 64, "lossless"), measuring.noise_windows(64, 4).ravel()).run_to_end()


def test_bench_latency_writes_json_table_and_plot(emind, small_weights, tmp_path):
    done = emind("bench", "latency", "--weights", small_weights, "--loads", "0.5", "2", "--seconds", "0.2",
                 "--backend", "torch", "--threads", "1", "--out", tmp_path, "--json")
    assert done.status == 0, done.err
    figures = json.loads(done.out)
    runs = figures["backends"][0]["loads"]
    assert [run["load"] for run in runs] == [0.5, 2.0] and all(run["accounted"] for run in runs)
    assert [each["load"] for each in figures["goal"]] == [0.5]
    assert json.loads((tmp_path / "latency.json").read_text()) == figures
    assert (tmp_path / "latency.md").read_text() == latency.page(figures) + "\n"
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_bench_soak_writes_memory_and_queues_over_time(emind, small_weights, tmp_path):
    done = emind("bench", "soak", "--weights", small_weights, "--minutes", "0.01", "--threads", "1", "--out", tmp_path,
                 "--backend", "torch", "--json")
    figures = json.loads(done.out)
    assert done.status == (0 if figures["passed"] else 1)
    assert len(figures["trace"]) >= 4 and all(row["rss_mib"] > 10 for row in figures["trace"])
    assert figures["accounted"] and figures["windows_seen"] > 0 and figures["results_lost"] == 0
    assert figures["detections_taken"] <= figures["windows_inferred"]
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
    assert "| windows seen |" in (tmp_path / "soak.md").read_text()


@pytest.mark.parametrize("bench", ["latency", "stream", "soak", "realtime"])
def test_a_bench_runs_the_heads_that_a_block_runs(emind, tmp_path, monkeypatch, bench):
    """Waveforms cost as much as layers, and no block makes them unless its streams are asked for."""
    import several_heads
    from emind.contract.errors import EMindError
    from emind.runtime import header, ready

    asked = []

    def stop(weights, backend, threads, batch, heads=None, streams=(), **how):
        asked.extend(header.heads_for(weights, heads, streams))
        raise EMindError("that was all")

    monkeypatch.setattr(ready, "ready_engine", stop)
    path = several_heads.save(tmp_path / "all.safetensors")
    done = emind("bench", bench, "--weights", path)
    assert done.status == 1 and "that was all" in done.err
    assert asked == header.speaking_heads(path) and "modulation" in asked and "denoise" not in asked


def test_growth_counts_from_the_end_of_the_warm_up():
    trace = [{"s": s, "rss_mib": mib} for s, mib in ((0, 100), (30, 300), (60, 310), (90, 325), (120, 312))]
    assert soak.grown(trace, 60) == 15 and soak.grown(trace, 0) == 225 and soak.grown(trace, 500) == 0


def test_a_soak_passes_only_when_nothing_grew_and_all_is_accounted_for():
    good = {"accounted": True, "results_lost": 0}
    assert soak.passes(20.0, DETECTIONS_LIMIT, good)
    assert not soak.passes(20.1, 0, good) and not soak.passes(0.0, DETECTIONS_LIMIT + 1, good)
    assert not soak.passes(0.0, 0, {**good, "accounted": False}) and not soak.passes(0, 0, {**good, "results_lost": 1})


def test_bench_stream_says_whether_each_demand_was_met(emind, small_weights):
    done = emind("bench", "stream", "--weights", small_weights, "--share", "0.3", "--policy", "lossless",
                 "--seconds", "0.2", "--backend", "torch", "--threads", "1")
    assert done.status == 0, done.err
    assert "| seen = inferred + skipped + gated | yes |" in done.out and "| no window skipped | yes |" in done.out


def test_a_stream_that_loses_waits_or_skips_does_not_pass():
    good = {"samples_lost": 0, "samples_missing": 0, "longest_wait_ms": 99.0, "accounted": True, "results_lost": 0,
            "policy": "lossless", "windows_skipped": 0}
    assert all(stream.verdicts(good, 0.9).values())
    for key, bad in (("samples_lost", 1), ("samples_missing", 5), ("longest_wait_ms", 101.0), ("accounted", False),
                     ("results_lost", 1), ("windows_skipped", 1)):
        assert list(stream.verdicts({**good, key: bad}, 0.9).values()).count(False) == 1, key
    assert not all(stream.verdicts(good, 0.8).values())


@pytest.mark.parametrize("arguments, fault", [
    (("latency", "--seconds", "0"), "must be above 0"),
    (("stream", "--rate", "1e6", "--share", "0.5"), "give one of them"),
    (("soak", "--minutes", "-1"), "must be above 0"),
    (("realtime", "--size", "tiny", "--weights", "emind-nano"), "not both"),
])
def test_arguments_that_cannot_work_are_refused_in_a_line(emind, arguments, fault):
    done = emind("bench", *arguments)
    assert done.status == 2 and fault in done.err and len(done.err.splitlines()) == 1


def test_untrained_weights_of_a_size_have_that_size_and_the_tokenizer_of_the_released_nano(tmp_path):
    from emind.runtime.header import described

    header = described(measuring.write_untrained("tiny", tmp_path))[1]["architecture"]
    assert (header["width"], header["depth"], header["patch"], header["spectral"]) == (192, 6, 16, True)


def test_a_section_of_the_page_is_replaced_between_its_marks():
    begin, end = "<!-- soak: written by `emind bench soak --write` -->", "<!-- /soak -->"
    page = f"before\n{begin}\n\nold\n\n{end}\nafter\n"
    new = measuring.with_section(page, "soak", "new\n")
    assert new == f"before\n{begin}\n\nnew\n\n{end}\nafter\n" and measuring.section(new, "soak") == "new"
    with pytest.raises(ValueError):
        measuring.with_section(page, "latency", "new")


def test_the_page_has_a_section_for_each_bench_that_writes_one():
    text = measuring.PAGE.read_text(encoding="utf-8")
    for name in ("latency", "stream", "soak"):
        assert measuring.with_section(text, name, measuring.section(text, name)).count(f"/{name} -->") == 1


def test_runs_of_other_names_stay_in_the_page_s_table(monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- stream: written by `emind bench stream --write` -->\n\n\n<!-- /stream -->\n")
    monkeypatch.setattr(measuring, "PAGE", page)
    figures = {"weights": "w", "rate": 2e7, "policy": "realtime", "seconds": 60, "load": 9.0, "samples_sent": 1200,
               "samples_lost": 0, "longest_wait_ms": 12.0, "windows_skipped": 3, "coverage": 0.1,
               "coverage_allowed": 0.11, "threads": 1, "cores": 2, "apart": True, "verdicts": {"met": True, "missed": False}}

    class Options:
        name = "20 MS/s"

    stream._write(Options, figures)
    Options.name = "2 MS/s"
    stream._write(Options, figures)
    stream._write(Options, {**figures, "samples_sent": 7})
    rows = [line for line in page.read_text().splitlines() if line.startswith("| 2")]
    assert len(rows) == 2 and rows[0].startswith("| 20 MS/s | 1 of 2, apart |") and "| 7 |" in rows[1] and "| missed |" in rows[1]
