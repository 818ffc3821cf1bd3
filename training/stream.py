"""Windows drawn in other processes, delivered in order.

    producer 0: batch 0, 2, 4 ... -> queue 0 \\
                                               > batches in order -> training step
    producer 1: batch 1, 3, 5 ... -> queue 1 /

Batch k depends on the seed and on k alone, so any number of producers, and a resumed run, give the same batches.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from queue import Empty, Full

from .synthesis.air import AirConfig, Batch, air_batch

DEPTH = 6  # batches waiting at most for each producer


def _produce(queue, seed: int, first: int, step: int, stop: int, size: int, config: AirConfig) -> None:
    consumer = multiprocessing.parent_process()
    try:
        for number in range(first, stop, step):
            batch = air_batch(seed, number, size, config)
            while True:
                try:
                    queue.put(batch, timeout=5.0)
                    break
                except Full:
                    if not consumer.is_alive():  # killed: nobody ends this process but itself
                        queue.cancel_join_thread()
                        return
    except KeyboardInterrupt:
        pass  # the consumer, interrupted as well, has said so


def air_batches(
    seed: int, first: int, stop: int, size: int, config: AirConfig, producers: int
) -> Iterator[tuple[int, Batch]]:
    """Batches ``first`` to ``stop - 1`` of the air set with their numbers; ``producers`` 0 draws them here."""
    if producers == 0:
        for number in range(first, stop):
            yield number, air_batch(seed, number, size, config)
        return
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=DEPTH) for _ in range(producers)]
    workers = [
        context.Process(
            target=_produce, args=(queue, seed, first + k, producers, stop, size, config), daemon=True
        )
        for k, queue in enumerate(queues)
    ]
    for worker in workers:
        worker.start()
    try:
        for number in range(first, stop):
            which = (number - first) % producers
            while True:
                try:
                    batch = queues[which].get(timeout=5.0)
                    break
                except Empty:
                    if not workers[which].is_alive():
                        raise RuntimeError(f"producer {which} ended with status {workers[which].exitcode}") from None
            yield number, batch
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
