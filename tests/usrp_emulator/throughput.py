"""Measure: ``python -m tests.usrp_emulator.throughput --rate 4e6 --seconds 20`` streams through the real driver.

Prints one JSON object: how much of the signal that the device's clock asked for has arrived, and what was lost.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

from . import Emulator
from .receiver import Receiver


def measure(rate: float, seconds: float, source: str) -> dict:
    with Emulator(source) as device, Receiver(device.arguments, rate=rate, wait=seconds * 4 + 30) as radio:
        count = int(rate * seconds)
        radio.until(count, within=seconds * 3 + 10)
        status = device.status()
        fields = Path(f"/proc/{device.pid}/stat").read_text().rpartition(")")[2].split()
        begin = next(e["ticks"] for e in status["events"] if e["event"] == "start") / 100e6
        x, tags, overflows = radio.collect()
    chain = status["chains"][0]
    elapsed = status["time"] - begin
    report = {
        "rate": chain["rate"], "seconds": round(elapsed, 3), "sent_of_due": round(
            chain["position"] / (elapsed * chain["rate"]), 5),
        "received": len(x), "receiver_drops": status["receiver_drops"], "held_back_s": status["held_back_s"],
        "overflow_messages": sum(overflows), "rx_time_tags": sum(key == "rx_time" for _, key, _ in tags),
        "emulator_cores": round((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") / elapsed, 3),
    }
    if source == "counter":
        position = np.rint(x.real * 32767).astype(np.int64) | np.rint(x.imag * 32767).astype(np.int64) << 15
        report["gaps"] = int(np.count_nonzero(np.diff(position) != 1))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1e6)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--source", default="counter")
    options = parser.parse_args()
    print(json.dumps(measure(options.rate, options.seconds, options.source)))


if __name__ == "__main__":
    main()
