"""Networks and detectors that others published, written from their papers: what EMind is compared with."""

from __future__ import annotations

from torch import nn

from .mcldnn import Mcldnn
from .petcgdnn import PetCgdnn
from .resnet import ResNet
from .transformer import Transformer

NETWORKS: dict[str, type[nn.Module]] = {
    "resnet": ResNet, "mcldnn": Mcldnn, "petcgdnn": PetCgdnn, "transformer": Transformer,
}  # fmt: skip
