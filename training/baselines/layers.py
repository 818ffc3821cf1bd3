"""The first weights of the published convolutional and recurrent networks."""

from __future__ import annotations

from torch import nn


def glorot(module: nn.Module) -> None:
    """Weights of convolutions and dense layers uniform by fan in and out, biases zero."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def recurrent_start(layer: nn.GRU | nn.LSTM) -> None:
    """Glorot on the input, orthogonal on the state, biases zero but for an LSTM's forget gates, which start open."""
    units = layer.hidden_size
    for name, parameter in layer.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
            if isinstance(layer, nn.LSTM) and name.startswith("bias_ih"):
                parameter.data[units : 2 * units] = 1.0
            continue
        start = nn.init.xavier_uniform_ if name.startswith("weight_ih") else nn.init.orthogonal_
        for gate in parameter.data.split(units):
            start(gate)
