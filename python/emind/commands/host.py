"""`emind host`: answers windows that flowgraphs on other machines, or in other processes, send over ZeroMQ."""

from __future__ import annotations

import argparse
import json
import signal
import threading

from ..contract.errors import EMindError

BIND = "tcp://127.0.0.1:5555"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default="emind-nano", metavar="NAME", help="name or path of a weights file")
    parser.add_argument("--bind", default=BIND, metavar="ADDRESS",
                        help="where windows come in, such as tcp://0.0.0.0:5555; answers go out at the next port. "
                             f"Nobody is asked for a password: only on a network that you trust (default: {BIND})")
    parser.add_argument("--backend", default="auto", metavar="NAME", help="what computes (default: auto)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="processor threads (default: 0 = all)")
    parser.add_argument("--json", action="store_true", help="one JSON object when ready, and one with counts at the end")


def run(options: argparse.Namespace) -> int:
    from gnuradio import gr

    from ..inference_host import inference_host
    from ..remote_link import POLL_MS, answers_address, import_zeromq

    zeromq = import_zeromq()
    answers = answers_address(options.bind)
    host = inference_host(options.weights, options.threads, options.backend)
    top_block = gr.top_block("emind host", catch_exceptions=True)
    top_block.handle_sigint = False
    try:
        source = zeromq.pull_msg_source(options.bind, POLL_MS, True)
        sink = zeromq.pub_msg_sink(answers, POLL_MS, True)
    except RuntimeError as fault:
        raise EMindError(f"cannot take windows at {options.bind} and send answers at {answers}: {fault}") from None
    top_block.msg_connect(source, "out", host, "windows")
    top_block.msg_connect(host, "answers", sink, "in")

    ended, caught = threading.Event(), []
    before = {number: signal.signal(number, lambda number, frame: (caught.append(number), ended.set()))
              for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}  # the last: the terminal is closed
    engine = host.engine
    try:
        top_block.start()
        if options.json:
            print(json.dumps({"ready": True, "windows": options.bind, "answers": answers, "weights": engine.name,
                              "backend": engine.backend}), flush=True)
        else:
            print(f"{engine.name}, {engine.backend}: windows at {options.bind}, answers at {answers}. Ctrl-C ends it.",
                  flush=True)
        ended.wait()
    finally:
        top_block.stop()
        top_block.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
        engine.close()
    counts = host.statistics()
    if options.json:
        print(json.dumps(counts), flush=True)
    else:
        print(", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in counts.items()), flush=True)
    return 130 if signal.SIGINT in caught else 0
