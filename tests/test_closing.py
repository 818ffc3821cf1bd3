"""A block that is closed gives back its engine and the processes of that, whatever else runs in the program."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import numpy as np
import pytest
from conftest import tone_bursts

pytest.importorskip("gnuradio")

from emind.contract.errors import EMindError
from emind.inference import inference
from emind.receiver import receiver
from emind.runtime.engine_processes import ProcessEngine
from gnuradio import blocks, gr

ENGINE = {"backend": "torch-float32", "threads": 1, "processes": 1}


class endless(gr.sync_block):
    """Samples until it is told to end."""

    def __init__(self) -> None:
        gr.sync_block.__init__(self, "endless", in_sig=None, out_sig=[np.complex64])
        self.over = threading.Event()

    def work(self, input_items, output_items):
        self.over.wait(0.001)
        output_items[0][:] = 1.0
        return -1 if self.over.is_set() else min(1024, len(output_items[0]))


@pytest.fixture
def another_stream(small_weights):
    """A stream that must not wait runs meanwhile."""
    source, block = endless(), receiver(small_weights, policy="realtime", **ENGINE | {"processes": 0})
    graph = gr.top_block()
    sink = blocks.null_sink(gr.sizeof_gr_complex)
    graph.connect(source, block, sink)
    graph.start()
    yield block
    source.over.set()
    graph.wait()
    block.close()


def run_once(block) -> None:
    graph = gr.top_block()
    sink = blocks.null_sink(gr.sizeof_gr_complex)
    graph.connect(blocks.vector_source_c(tone_bursts(50_000).tolist()), block, sink)
    graph.run()


def process_of(block) -> int:
    (number,) = block.inference._engine.processes
    return number


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_closed_receiver_gives_back_its_process_and_engine_while_another_stream_runs(small_weights, another_stream):
    block = receiver(small_weights, policy="lossless", **ENGINE)
    run_once(block)
    process, engine = process_of(block), weakref.ref(block.inference._engine)
    counts = block.statistics()
    assert counts["windows_seen"] > 0 and not gone(process) and gc.get_freeze_count() > 0
    block.close()
    assert gone(process) and engine() is None  # nothing waits for the search for garbage
    assert block.statistics() == counts
    block.close()  # once more does no harm
    run_once(block)
    assert isinstance(block.error(), EMindError) and "was closed" in str(block.error())
    assert another_stream.error() is None


def test_an_engine_that_was_given_to_blocks_stays(small_weights):
    engine = ProcessEngine(small_weights, ENGINE["backend"], 1, processes=1)
    try:
        for make in (lambda: inference(engine=engine), lambda: receiver(engine=engine)):
            make().close()
            assert len(engine.infer(np.ones((1, 1024), np.complex64), np.array([1e6]))) == 1
    finally:
        engine.close()


def test_a_block_that_runs_is_not_closed(another_stream):
    with pytest.raises(EMindError, match="still runs"):
        another_stream.close()
    assert another_stream.statistics()["backend"].startswith("torch")


def test_weights_that_are_still_loading_when_a_block_is_closed_are_given_back_too(small_weights, monkeypatch):
    block = receiver(small_weights, policy="lossless", **ENGINE)
    first, loaded = process_of(block), []
    begun, go = threading.Event(), threading.Event()
    load = block.inference._load_engine

    def slowly(weights):
        loaded.append(load(weights))
        begun.set()
        go.wait(30)
        return loaded[0]

    monkeypatch.setattr(block.inference, "_load_engine", slowly)
    block.set_weights(f"/{small_weights}")  # the same by another name: those of a block are not asked for twice
    assert begun.wait(60)
    block.close()
    go.set()
    assert block.inference._weights.changer.wait(60) and len(loaded) == 1
    assert gone(first) and gone(loaded[0].processes[0])


def test_a_closed_remote_block_leaves_its_hosts_and_keeps_its_counts(tmp_path):
    pytest.importorskip("gnuradio.zeromq")
    from emind.remote_inference import remote_inference
    from emind.windowing import windowing
    from fake_host import LENGTH, SignEngine, running_host

    address = f"ipc://{tmp_path}/host"
    with running_host(address, SignEngine()):
        block = remote_inference([address], LENGTH, policy="lossless")
        left, leave = [], block.engine._link.close
        block.engine._link.close = lambda: (left.append(True), leave())
        source, cut, graph = endless(), windowing(LENGTH, LENGTH), gr.top_block()
        graph.connect(source, cut, block, blocks.null_sink(gr.sizeof_gr_complex * LENGTH))
        graph.start()
        try:
            with pytest.raises(EMindError, match="still runs"):
                block.close()
            assert not left
        finally:
            source.over.set()
            graph.wait()
        block.close()
        block.close()  # as often as one likes
        assert left == [True]
        counts = block.statistics()
        assert counts["windows_seen"] == counts["windows_inferred"] + counts["windows_skipped"]
        assert block.hosts()[0]["address"] == address
