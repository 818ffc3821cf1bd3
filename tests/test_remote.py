"""Windows inferred by other processes over ZeroMQ, hosts that are lost and come back, and what is said of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gnuradio.zeromq")

import pmt
from emind.contract import tags
from emind.contract.errors import EMindError, UsageError
from emind.contract.window import Domain, HeadSpec
from emind.inference_host import inference_host
from emind.overlap_add import overlap_add
from emind.remote_inference import remote_inference
from emind.remote_link import answers_address, zeromq_link
from emind.remote_pmt import Answers, Hello, Windows, answers_pdu, hello_pdu, read, windows_pdu
from emind.runtime.engine_remote import CHUNK, RemoteEngine, described
from emind.runtime.unanswered import Unanswered
from emind.windowing import windowing
from fake_host import LENGTH, SignEngine, running_host
from gnuradio import blocks, gr
from test_module import ROOT, program, run

PATIENCE_S = 60


def windows_of(*values):
    return np.repeat(np.array(values, np.complex64)[:, None], LENGTH, axis=1)


def over_the_network(message):
    return pmt.deserialize_str(pmt.serialize_str(message))


# --- messages ---


def test_windows_answers_and_hellos_come_over_as_they_were_sent():
    rng = np.random.default_rng(1)
    windows = rng.standard_normal((3, 10)).view(np.complex64).reshape(3, -1)
    sent = Windows(2**63 - 1, 7, windows, np.array([1e6, np.nan, 2e6]))
    came = read(over_the_network(windows_pdu(sent)))
    assert (came.client, came.number) == (sent.client, 7)
    assert np.array_equal(came.windows, windows) and np.array_equal(came.rates_hz, sent.rates_hz, equal_nan=True)
    rows = {"a": rng.standard_normal((3, 4)).astype(np.float32), "wave": windows[:, None, :], "none": np.zeros((3, 0))}
    answer = read(over_the_network(answers_pdu(Answers(1, 2, 3, rows))))
    assert answer[:3] == (1, 2, 3) and list(answer.answers) == list(rows)
    for head, values in rows.items():
        assert np.array_equal(answer.answers[head], values) and answer.answers[head].dtype == values.dtype
    assert read(over_the_network(hello_pdu(Hello(5, '{"a": 1}')))) == Hello(5, '{"a": 1}')


def test_what_is_no_such_message_is_refused():
    good = windows_pdu(Windows(1, 1, windows_of(1, 2), np.zeros(2)))
    fields, samples = pmt.car(good), pmt.cdr(good)
    answer = answers_pdu(Answers(1, 1, 1, {"a": np.zeros((2, 3), np.float32)}))
    layout = pmt.intern('[["a", "|O", [3]]]')
    for bad in (
        pmt.intern("windows"), pmt.PMT_NIL, pmt.cons(pmt.make_dict(), samples), pmt.cons(fields, pmt.PMT_NIL),
        pmt.cons(fields, pmt.init_c32vector(3, [1, 2, 3])), pmt.cons(fields, pmt.init_u8vector(3, [1, 2, 3])),
        pmt.cons(pmt.dict_add(fields, pmt.intern("emind_host"), pmt.from_long(99)), samples),
        pmt.cons(pmt.dict_add(fields, pmt.intern("kind"), pmt.intern("other")), samples),
        pmt.cons(pmt.dict_add(fields, pmt.intern("length"), pmt.from_long(-64)), samples),
        pmt.cons(pmt.car(answer), pmt.init_u8vector(5, [0] * 5)),
        pmt.cons(pmt.dict_add(pmt.car(answer), pmt.intern("layout"), layout), pmt.cdr(answer)),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            read(bad)


@pytest.mark.parametrize("address, answers", [
    ("tcp://10.0.0.2:5555", "tcp://10.0.0.2:5556"), ("tcp://*:1", "tcp://*:2"), ("tcp://[::1]:80", "tcp://[::1]:81"),
    ("ipc:///run/emind", "ipc:///run/emind.answers"),
])
def test_answers_come_from_the_next_port(address, answers):
    assert answers_address(address) == answers


@pytest.mark.parametrize("address", ["10.0.0.2:5555", "tcp://host", "tcp://host:65535", "tcp://host:0", "ipc://", ""])
def test_what_is_no_address_is_refused_in_a_line(address):
    with pytest.raises(UsageError, match="no address"):
        answers_address(address)


# --- the engine, with a link that is told what happens ---


class Clock:
    def __init__(self):
        self.now = 10.0

    def __call__(self):
        return self.now


class FakeLink:
    """Answers at once what ``answers`` says of a host: a function of the chunk's windows, or None for silence."""

    def __init__(self, sessions, clock, engines):
        self.sessions, self.clock, self.sent, self.closed = sessions, clock, [], False
        self.engines = engines

    def open(self, addresses, listener):
        self.listener = listener
        for host, session in enumerate(self.sessions):
            self.hello(host, session)
        return self

    def hello(self, host, session, kind=None):
        engine = self.engines[host] or SignEngine()
        self.listener.hello(host, session, described(engine if kind is None else SignEngine(kind)))

    def send(self, host, number, windows, rates_hz):
        self.sent.append((host, len(windows)))
        if self.engines[host] is None:
            self.clock.now += 5  # its time runs out
        else:
            answers = self.engines[host].infer(windows, rates_hz)
            threading.Thread(target=self.listener.answer, args=(host, self.sessions[host], number, answers)).start()

    def close(self):
        self.closed = True


def remote(*engines, clock=None):
    clock = clock or Clock()
    link = FakeLink(list(range(1, len(engines) + 1)), clock, list(engines))
    addresses = [f"tcp://h{n}:1" for n in range(len(engines))]
    return RemoteEngine(addresses, link.open, timeout_s=1.0, wait_s=0.01, clock=clock), link


def test_a_batch_is_shared_by_the_hosts_and_put_together_in_order():
    engine, link = remote(SignEngine(), SignEngine())
    values = np.random.default_rng(2).choice([-1, 1], 5 * CHUNK + 3)
    answers = engine.infer(windows_of(*values), np.zeros(len(values)))["sign"]
    assert np.array_equal(answers.argmax(axis=1), values > 0)
    assert {host for host, _ in link.sent} == {0, 1} and sum(count for _, count in link.sent) == len(values)
    assert sum(host["windows_answered"] for host in engine.hosts()) == len(values)
    assert engine.backend == "2 of 2 hosts, sign" and engine.name == "sign"


def test_what_a_lost_host_owes_stays_unanswered_and_the_others_go_on_and_it_comes_back():
    engine, link = remote(SignEngine(), None)
    values = np.ones(4 * CHUNK)
    with pytest.raises(Unanswered) as fault:
        engine.infer(windows_of(*values), np.zeros(len(values)))
    answered = fault.value.answered
    assert 0 < answered.sum() < len(values)
    assert fault.value.answers["sign"][answered].argmax(axis=1).all()
    lost = [host for host in engine.hosts() if host["state"] == "lost"]
    assert lost and all(host["times_lost"] == 1 for host in lost)
    link.engines[1] = SignEngine()
    for host in (0, 1):
        link.hello(host, link.sessions[host])
    link.sent.clear()
    assert len(engine.infer(windows_of(*values), np.zeros(len(values)))["sign"]) == len(values)
    assert {host for host, _ in link.sent} == {0, 1}


def test_with_no_host_there_nothing_is_answered_and_nothing_waits():
    engine, link = remote(None)
    for _ in range(2):
        with pytest.raises(Unanswered) as fault:
            engine.infer(windows_of(1, 2), np.zeros(2))
        assert not fault.value.answered.any()
    assert len(link.sent) == 1, "nothing is sent to a host that is lost"


def test_a_restarted_host_is_not_asked_for_what_the_old_process_owed():
    engine, link = remote(None)
    link.send = lambda host, number, windows, rates: threading.Thread(target=link.hello, args=(host, 77)).start()
    with pytest.raises(Unanswered):
        engine.infer(windows_of(1), np.zeros(1))
    assert engine.hosts()[0]["state"] == "there" and engine.hosts()[0]["times_lost"] == 1


def test_a_host_with_other_weights_is_not_asked(caplog):
    engine, link = remote(SignEngine(), SignEngine("b"))
    link.hello(1, 2)
    assert [host["state"] for host in engine.hosts()] == ["there", "refused"]
    engine.infer(windows_of(*np.ones(3 * CHUNK)), np.zeros(3 * CHUNK))
    assert {host for host, _ in link.sent} == {0}
    assert [record.levelname for record in caplog.records].count("ERROR") == 1, "said once"


def test_answers_that_do_not_fit_are_no_answers():
    class Short(SignEngine):
        def infer(self, windows, rates_hz):
            return {"sign": np.zeros((1, 2), np.float32)}

    engine, _ = remote(Short())
    with pytest.raises(Unanswered):
        engine.infer(windows_of(1, 2, 3), np.zeros(3))


def test_without_any_host_the_error_says_what_to_start():
    link = FakeLink([], Clock(), [])
    with pytest.raises(EMindError, match="emind host --bind"):
        RemoteEngine(["tcp://nobody:1"], link.open, wait_s=0.01)
    assert link.closed
    with pytest.raises(UsageError, match="each once"):
        RemoteEngine(["tcp://a:1", "tcp://a:1"], link.open)


# --- a host's block ---


def test_a_host_counts_what_it_cannot_answer_and_goes_on(tmp_path):
    class Failing(SignEngine):
        def infer(self, windows, rates_hz):
            if windows[0, 0] == 13:
                raise RuntimeError("not this one")
            return super().infer(windows, rates_hz)

    address = f"ipc://{tmp_path}/host"
    with running_host(address, Failing()) as host:
        engine = RemoteEngine([address], zeromq_link, timeout_s=1.0)
        try:
            with pytest.raises(Unanswered):
                engine.infer(windows_of(13), np.zeros(1))
            host.to_basic_block()._post(pmt.intern("windows"), pmt.intern("rubbish"))
            answers = None
            while answers is None:  # until its next hello it counts as lost
                try:
                    answers = engine.infer(windows_of(1, -1), np.zeros(2))
                except Unanswered:
                    pass
        finally:
            engine.close()
        assert answers["sign"].argmax(axis=1).tolist() == [1, 0]
        counts = host.statistics()
    assert counts == {"windows_answered": 2, "chunks_dropped": 0, "chunks_failed": 1, "messages_garbled": 1}


def test_a_host_takes_no_more_than_may_wait():
    block = inference_host(engine=SignEngine(), queue=2)
    for number in range(5):
        block._take(windows_pdu(Windows(1, number, windows_of(1), np.zeros(1))))
    assert block.statistics()["chunks_dropped"] == 3


# --- two processes, one killed ---


def test_a_host_does_not_make_waveforms_that_nobody_asks_for(tmp_path):
    import several_heads  # torch

    path = several_heads.save(tmp_path / "all.safetensors")
    host = inference_host(str(path), threads=1, backend="torch-float32")
    assert set(host.engine.heads) == set(several_heads.HEADS) - {"denoise", "separation"}
    host.engine.close()


class Process:
    def __init__(self, address):
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("fake_host.py")), address, "a"],
                                        stdout=subprocess.PIPE, text=True)

    def ready(self):
        assert self.process.stdout.readline() == "runs\n"
        return self

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()


class watched_source(gr.sync_block):
    """``LENGTH`` samples of 1, then of -1, and so on; looks on at each call, and ends when told."""

    def __init__(self, look):
        gr.sync_block.__init__(self, "watched_source", None, [np.complex64])
        self.look, self.ended, self.sent = look, False, 0
        self.set_output_multiple(LENGTH)

    def work(self, input_items, output_items):
        self.look()
        if self.ended:
            return -1
        out = output_items[0][: 8 * LENGTH]
        windows = len(out) // LENGTH
        signs = 1 - 2 * ((self.sent // LENGTH + np.arange(windows)) % 2)
        out[: windows * LENGTH] = np.repeat(signs, LENGTH)
        self.sent += windows * LENGTH
        return windows * LENGTH


def test_a_killed_host_costs_its_windows_and_the_stream_goes_on_and_a_restarted_one_takes_part(tmp_path):
    addresses = [f"ipc://{tmp_path}/one", f"ipc://{tmp_path}/two"]
    hosts = [Process(address) for address in addresses]
    for host in hosts:
        host.ready()
    block = remote_inference(addresses, LENGTH, policy="lossless", batch=4 * CHUNK, timeout_ms=1000)
    moved, new = threading.Condition(), []

    def states():
        return [(host["state"], host["windows_answered"]) for host in block.hosts()]

    def look():
        with moved:
            moved.notify_all()

    def wait_until(reached):
        with moved:
            assert moved.wait_for(reached, PATIENCE_S), f"the stream stands still: {states()}"

    source = watched_source(look)
    top_block, cut, joined = gr.top_block(), windowing(LENGTH, LENGTH), overlap_add(LENGTH, LENGTH)
    sink = blocks.tag_debug(gr.sizeof_gr_complex, "answers", tags.head_key("sign"))
    sink.set_display(False)
    sink.set_save_all(True)
    top_block.connect(source, cut, block, joined, sink)
    top_block.start()
    try:
        wait_until(lambda: all(answered > 100 for _, answered in states()))
        hosts[0].end(signal.SIGKILL)
        before = states()[1][1]
        wait_until(lambda: states()[0][0] == "lost" and states()[1][1] > before + 200)
        before = states()[0][1]
        new.append(Process(addresses[0]).ready())
        wait_until(lambda: states()[0][1] > before + 100)
        source.ended = True
        top_block.wait()
    finally:
        source.ended = True
        top_block.stop()
        top_block.wait()
        for host in (*hosts, *new):
            host.end()
        block.engine.close()
    counts = block.statistics()
    windows = source.sent // LENGTH
    assert sink.nitems_read(0) == source.sent, "no sample is lost"
    assert counts["windows_seen"] == windows == counts["windows_inferred"] + counts["windows_skipped"]
    assert 0 < counts["windows_skipped"] <= 4 * CHUNK * 4
    assert block.error() is None
    found = sink.current_tags()
    assert len({tag.offset for tag in found}) == counts["windows_inferred"]
    for tag in found:
        label = pmt.symbol_to_string(pmt.dict_ref(tag.value, pmt.intern("label"), pmt.PMT_NIL))
        assert label == ("plus" if tag.offset // LENGTH % 2 == 0 else "minus")
    assert block.hosts()[0]["times_lost"] == 1


def test_a_block_of_another_length_than_the_hosts_weights_is_refused(tmp_path):
    address = f"ipc://{tmp_path}/host"
    with running_host(address, SignEngine()):
        with pytest.raises(EMindError, match="set length 64 instead of 1024"):
            remote_inference([address])


class Modulations(SignEngine):
    """Says BPSK where the first sample is above zero."""

    def __init__(self):
        super().__init__(length=1024)
        self.heads = {"modulation": HeadSpec("modulation", "classification", ("noise", "BPSK"))}
        self.domains = {"modulation": Domain(1024)}

    def infer(self, windows, rates_hz):
        return {"modulation": super().infer(windows, rates_hz)["sign"]}


def test_the_example_flowgraph_asks_both_hosts_and_ends_with_its_file(tmp_path):
    command = [*program("grcc"), "--output", str(tmp_path), str(ROOT / "examples" / "two_host.grc")]
    done = run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    signs = np.repeat([1, 1, 1, -1], [64 * 1024] * 4).astype(np.complex64)
    signs.tofile(tmp_path / "samples.cf32")
    addresses = [f"ipc://{tmp_path}/one", f"ipc://{tmp_path}/two"]
    with running_host(addresses[0], Modulations()) as one, running_host(addresses[1], Modulations()) as two:
        done = run([sys.executable, str(tmp_path / "two_host.py"), "--recording", str(tmp_path / "samples.cf32"),
                    "--host-a", addresses[0], "--host-b", addresses[1]])
        answered = [host.statistics()["windows_answered"] for host in (one, two)]
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("from sample")]
    assert [line.split(": ")[1] for line in said] == ["BPSK in 64 of 64 windows"] * 3 + ["noise in 64 of 64 windows"]
    assert sum(answered) == 256 and max(answered) > 0


# --- the command ---


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_emind_host_serves_and_says_what_it_did(tmp_path, small_weights, how):
    address = f"ipc://{tmp_path}/host"
    code = "import sys; from emind.cli import main; sys.exit(main())"
    arguments = ["host", "--weights", str(small_weights), "--bind", address, "--backend", "torch", "--threads", "1"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments, "--json"], stdout=subprocess.PIPE, text=True)
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["windows"] == address and ready["answers"] == address + ".answers"
        engine = RemoteEngine([address], zeromq_link, timeout_s=30.0)
        answers = engine.infer(np.ones((5, 1024), np.complex64), np.full(5, 1e6))["modulation"]
        engine.close()
        assert answers.shape[0] == 5 and np.allclose(answers.sum(axis=1), 1, atol=1e-3)
        process.send_signal(how)
        out, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0 and json.loads(out)["windows_answered"] == 5


def test_an_address_that_is_taken_is_said_in_a_line(emind, tmp_path, small_weights):
    address = f"ipc://{tmp_path}/nowhere/host"
    done = emind("host", "--weights", small_weights, "--bind", address, "--backend", "torch", "--threads", "1")
    assert done.status == 1 and "cannot take windows at" in done.err and len(done.err.splitlines()) == 1
