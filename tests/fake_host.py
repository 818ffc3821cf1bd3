"""An inference host as a process of its own, with an engine that needs no weights: `python fake_host.py ADDRESS SPEC`.

The engine says 1 of windows whose first sample is above zero, else 0. Prints a line when it runs; ends by SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import threading

import numpy as np
from emind.contract.window import Domain, HeadSpec, WindowSpec
from emind.inference_host import inference_host
from emind.remote_link import POLL_MS, answers_address
from gnuradio import gr, zeromq

LENGTH = 64


class SignEngine:
    """``kind`` stands for the weights: hosts of two kinds have two."""

    name = backend = "sign"

    def __init__(self, kind: str = "a", length: int = LENGTH) -> None:
        self.spec = WindowSpec(length=length, hop=length)
        self.heads = {"sign": HeadSpec("sign", "classification", ("minus", "plus"))}
        self.domains = {"sign": Domain(length)}
        self.header = {"kind": kind}

    def infer(self, windows, rates_hz):
        plus = (windows[:, 0].real > 0)[:, None]
        return {"sign": np.where(plus, np.float32([[0.25, 0.75]]), np.float32([[0.75, 0.25]]))}

    def warm_up(self, batch):
        """There is nothing to warm."""

    def close(self):
        """There is nothing to close."""


class running_host:
    """``with running_host(address, engine) as block``: a host's flowgraph in this process."""

    def __init__(self, address: str, engine: object) -> None:
        self.block = inference_host(engine=engine)
        self.top_block = gr.top_block()
        self._ends = [zeromq.pull_msg_source(address, POLL_MS, True),
                      zeromq.pub_msg_sink(answers_address(address), POLL_MS, True)]
        self.top_block.msg_connect(self._ends[0], "out", self.block, "windows")
        self.top_block.msg_connect(self.block, "answers", self._ends[1], "in")

    def __enter__(self) -> inference_host:
        self.top_block.start()
        return self.block

    def __exit__(self, *_) -> None:
        self.top_block.stop()
        self.top_block.wait()


if __name__ == "__main__":
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with running_host(sys.argv[1], SignEngine(sys.argv[2])):
        print("runs", flush=True)
        ended.wait()
