# SPDX-License-Identifier: GPL-3.0-or-later
"""EMind in GNU Radio: windows of IQ in, answers as tags and messages out.

The blocks are here wherever GNU Radio is installed. Where it is absent altogether (a training cluster) the rest of
the package works without them; where it is installed and broken the import fails with the real error.
"""

from importlib.util import find_spec

if find_spec("gnuradio") is not None:
    from .inference import inference
    from .overlap_add import overlap_add
    from .receiver import receiver
    from .windowing import windowing

    __all__ = ["inference", "overlap_add", "receiver", "windowing"]
else:
    __all__ = []
