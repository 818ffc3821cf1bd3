"""Graphs that OpenVINO runs: converted, compiled for the processor, and kept in the user's cache.

A graph for batches of any size is arranged anew whenever the size changes, which takes as long as two windows of a
small encoder. In a stream it changes all the time, so a graph is compiled for a ladder of sizes besides; a batch
between two of them is filled up, where that costs less than arranging.

Compiled graphs are kept in the user's cache, so that the next start takes a fraction of the time.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

GRAPH_VERSION = 3  # raised when what is compiled from the same weights changes
KEPT_GRAPHS = 96  # in the cache, two dozen for weights that a stream runs
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of batches that have a graph of their own
FILLED_UP = 2  # windows that a batch is filled up by, at most


def import_openvino() -> ModuleType:
    """The library. Its import reports to the maker's servers if openvino_telemetry is there: that is kept from it."""
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]
    return openvino


@cache
def processor_core():
    """The process' one `openvino.Core`, with the processor's plug-in loaded.

    The plug-in gives the thread that loads it a stack for signals of its own, and takes the memory back when it goes:
    the next signal (Ctrl-C, SIGTERM) then ends the process with a segmentation fault. So it is loaded on a thread that
    ends at once, and kept.
    """
    openvino = import_openvino()

    def load():
        core = openvino.Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")
        return core

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(load).result()


class Graph:
    """``module``, whose inputs have these ``shapes`` without the batch, to run in ``precision`` ("bf16" or "f32") on
    ``threads`` streams. ``made_of``: all that it is made of, for the cache."""

    def __init__(self, module: nn.Module, shapes: list[tuple[int, ...]], precision: str, threads: int,
                 made_of: object) -> None:
        self._module, self._shapes, self._made_of = module.eval(), shapes, (type(module).__name__, made_of)
        self._model = None  # converted, once that is needed
        self._options = {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # pinned, two engines in one process would fight over the first cores
        }
        self._tensor = import_openvino().Tensor
        self._requests = threading.local()
        self.any_size = self._compiled(0)
        self._sized: dict[int, object] = {}

    def prepare(self, batch: int) -> None:
        """Compile for the sizes up to this one as well. For the thread that makes the engine, before others run it."""
        for size in SIZES:
            if size <= batch and size not in self._sized:
                self._sized[size] = self._compiled(size)

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs for inputs (B, ...), float32. They are good until this thread runs a batch of this size again."""
        count = len(arrays[0])
        size = self._size_for(count)
        request = self._request(size)
        # Tensors over the arrays' own memory, which they do not keep alive.
        arrays = [_filled_up(values, size) for values in arrays]
        for index, array in enumerate(arrays):
            request.set_input_tensor(index, self._tensor(array, shared_memory=True))
        request.start_async()
        request.wait()
        return [request.get_output_tensor(index).data[:count] for index in range(len(self.any_size.outputs))]

    def _size_for(self, count: int) -> int:
        """The size that a batch of ``count`` is filled up to, 0: it goes to the graph for any."""
        return next((size for size in self._sized if count <= size <= count + FILLED_UP), 0)

    def _request(self, size: int):
        """This thread's own, of the graph for batches of ``size``, 0: of any."""
        requests = self._requests.__dict__
        if size not in requests:
            requests[size] = (self._sized[size] if size else self.any_size).create_infer_request()
        return requests[size]

    def _compiled(self, size: int):
        """Compiled for batches of ``size``, 0: of any; from the cache where it was compiled before."""
        core, openvino = processor_core(), import_openvino()
        processor = core.get_property("CPU", "FULL_DEVICE_NAME")
        key = (GRAPH_VERSION, openvino.__version__, processor, self._options, self._made_of, size)
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        compiled = _from_cache(core, digest, self._options)
        if compiled is None:
            if self._model is None:
                self._model = _converted(self._module, self._shapes)
            model = self._model.clone()
            model.reshape({index: [size or -1, *shape] for index, shape in enumerate(self._shapes)})
            compiled = core.compile_model(model, "CPU", self._options)
            _to_cache(compiled, digest)
        return compiled


def _filled_up(values: np.ndarray, size: int) -> np.ndarray:
    """Contiguous, with zeros behind it where there are fewer than ``size`` rows."""
    if len(values) >= size:
        return np.ascontiguousarray(values)
    out = np.zeros((size, *values.shape[1:]), values.dtype)
    out[: len(values)] = values
    return out


def _converted(module: nn.Module, shapes: list[tuple[int, ...]]):
    """The graph as OpenVINO's."""
    example = tuple(torch.rand(2, *shape) for shape in shapes)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing
        return import_openvino().convert_model(module, example_input=example)


def cache_folder() -> Path:
    """Where compiled graphs are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "gr-emind"


def _from_cache(core, digest: str, options: dict):
    """The compiled graph of this digest; None where there is none, or a damaged one."""
    path = cache_folder() / f"{digest}.blob"
    try:
        blob = path.read_bytes()
    except OSError:
        return None
    with suppress(OSError):
        os.utime(path)  # those not used for the longest time go first
    checksum, data = blob[:32], blob[32:]
    if hashlib.sha256(data).digest() != checksum:
        return None
    try:
        return core.import_model(data, "CPU", options)
    except RuntimeError:  # the library's own; it is compiled anew
        return None


def _to_cache(compiled, digest: str) -> None:
    """Keep a compiled graph, whole or not at all. A cache that cannot be written is no fault."""
    data = compiled.export_model().getvalue()
    temporary = None
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(temporary, folder / f"{digest}.blob")
        oldest_first = sorted(folder.glob("*.blob"), key=lambda path: path.stat().st_mtime)
        for path in oldest_first[:-KEPT_GRAPHS]:
            path.unlink()
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
