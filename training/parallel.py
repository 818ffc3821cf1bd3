"""One process or many: torchrun with DistributedDataParallel, or with FSDP where a model is too large for one device.

Each process computes its rows of every batch. What a step computes does not depend on how many there are: losses are
divided by counts of the whole batch, and only then do gradients meet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from emind.contract.errors import EMindError, UsageError
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

LONGEST_WAIT = timedelta(hours=1)  # for another process, which may be probing, reading or writing


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    kind: str = "none"
    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        """The one process that logs and saves."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same in each."""
        if self.world > 1:
            values = values.to(self.device)
            distributed.all_reduce(values)
        return values.cpu()

    def wait(self) -> None:
        if self.world > 1:
            distributed.barrier()

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model to call: it shares gradients, or gradients and parameters, with the other processes."""
        if self.world == 1:
            return model
        if self.kind == "ddp":
            return DistributedDataParallel(model)
        mesh = init_device_mesh(self.device.type, (self.world,))
        for part in layers(model):
            fully_shard(part, mesh=mesh)
        return fully_shard(model, mesh=mesh)


def layers(model: nn.Module) -> list[nn.Module]:
    """The transformer layers: the parts that FSDP gathers one at a time."""
    return [part for module in model.modules() if isinstance(module, nn.ModuleList) for part in module]


@contextmanager
def joined(kind: str) -> Iterator[Group]:
    """The group that torchrun started, from its environment; a group of one without torchrun.

    UsageError for several processes where ``kind`` is none, EMindError where they do not find each other.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", 0))
    if cuda and local >= torch.cuda.device_count():
        raise UsageError(f"process {local} of this machine has no GPU: torchrun --nproc-per-node "
                         f"{torch.cuda.device_count()}")
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world == 1:
        yield Group(device=device)
        return
    if kind == "none":
        raise UsageError(f'torchrun started {world} processes, and the configuration says [run] parallel = "none"; '
                         'say "ddp" or "fsdp"')
    try:
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=LONGEST_WAIT)
    except (RuntimeError, ValueError) as error:
        raise EMindError(f"the {world} processes do not find each other: {str(error).splitlines()[0]}") from None
    try:
        yield Group(kind, distributed.get_rank(), world, device)
    finally:
        distributed.destroy_process_group()


@contextmanager
def gradients_kept(model: nn.Module, keep: bool) -> Iterator[None]:
    """Inside, where ``keep``, backward passes add up gradients in each process and share none."""
    if keep and isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(not keep)
        yield
    else:
        yield


def plain(model: nn.Module) -> nn.Module:
    """The model inside the wrapping, with the names its parameters have in files."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def whole(tensor: Tensor) -> Tensor:
    """A copy on the processor, gathered from all processes where it is shared. All processes must call it."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().cpu().contiguous().clone()


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor as ``like`` lies: on its device, and shared among the processes where that is."""
    tensor = tensor.to(device=like.device, dtype=like.dtype)
    if isinstance(like, DTensor):
        return distribute_tensor(tensor, like.device_mesh, like.placements)
    return tensor
