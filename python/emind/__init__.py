# SPDX-License-Identifier: GPL-3.0-or-later
"""EMind in GNU Radio: windows of IQ in, answers as tags and messages out.

The blocks are here wherever GNU Radio is installed. Where it is absent altogether (a training cluster) the rest of
the package works without them. Where it is installed and broken, whoever asks for a block gets the real error, and
``emind doctor`` still runs to say what to do about it.
"""

from importlib.util import find_spec

BLOCKS = ("display", "inference", "label_panel", "overlap_add", "receiver", "recorder", "remote_inference", "windowing")

if find_spec("gnuradio") is None:
    __all__ = []
else:
    __all__ = list(BLOCKS)
    try:
        from .display import display
        from .inference import inference
        from .label_panel import label_panel
        from .overlap_add import overlap_add
        from .receiver import receiver
        from .recorder import recorder
        from .remote_inference import remote_inference
        from .windowing import windowing
    except ImportError as fault:
        _fault = fault

        def __getattr__(name: str):
            if name in BLOCKS:
                raise ImportError(f"the EMind blocks cannot be imported: {_fault}") from _fault
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
