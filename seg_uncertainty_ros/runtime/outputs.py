# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a runtime gives for one image; shapes at the network's resolution HxW."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import NamedTuple
from typing import Protocol

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class GraphError(SegUncertaintyError):
    """A graph cannot be run; the message names the file and the reason."""


class Outputs(NamedTuple):
    """Outputs of the deployed graph, in its order.

    ``labels`` uint8 H/2xW/2; ``confidence`` and ``anomaly`` uint8 H/4xW/4, 0..255 for 0..1;
    ``embedding`` float32 D; ``scores`` float32 KxH/4xW/4.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    anomaly: NDArray[np.uint8]
    embedding: NDArray[np.float32]
    scores: NDArray[np.float32]


class Runtime(Protocol):
    """Runs a graph."""

    name: str

    def run(self, image: NDArray[np.uint8], score_index: int) -> Outputs:
        """Run the graph on a uint8 HxWx3 BGR image of the network's size."""
        ...
