# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the monitor takes and what it says."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from math import isfinite
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_json
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from seg_uncertainty_ros.monitor.domain_shift import Indicator
    from seg_uncertainty_ros.monitor.ood_area import Box
    from seg_uncertainty_ros.monitor.ood_area import Region
    from seg_uncertainty_ros.pipeline import Result
    from seg_uncertainty_ros.shift.image_statistics import ImageStatistics


@dataclass(frozen=True)
class Observation:
    """One processed image.

    mask: class ids; confidence, anomaly: 0-255 = 0-1; all uint8 (H, W) of one size.
    embedding: (D,) or None where it is not at hand. latency_s: from the stamp until now.
    dispersion: float32 (h, w, K), the raw scores that the bundle's meta model looks at, at the
    size of the network's logits; None where they are not at hand. image_statistics: of the
    network's input, likewise.
    """

    stamp_ns: int
    mask: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    anomaly: NDArray[np.uint8]
    embedding: NDArray[np.float32] | None = None
    latency_s: float | None = None
    dispersion: NDArray[np.float32] | None = None
    image_statistics: ImageStatistics | None = None

    @classmethod
    def of(cls, result: Result, stamp_ns: int, latency_s: float | None = None) -> Observation:
        """Return the observation of an image that the pipeline has processed."""
        return cls(
            stamp_ns=stamp_ns,
            mask=result.mask,
            confidence=result.confidence,
            anomaly=result.anomaly,
            embedding=result.embedding,
            latency_s=latency_s,
            dispersion=result.dispersion,
            image_statistics=result.image_statistics,
        )


@dataclass(frozen=True)
class Warning_:  # noqa: N801
    """An active warning: since when (ns) it is so bad, by how much, where, in plain words."""

    name: str
    level: str
    since_ns: int
    value: float | None
    threshold: float
    where: str
    box: Box | None
    message: str


@dataclass(frozen=True)
class Transition:
    """A warning was raised or cleared at a stamp (ns)."""

    name: str
    raised: bool
    stamp_ns: int
    value: float | None
    threshold: float
    message: str


@dataclass(frozen=True)
class Assessment:
    """How far the network can be trusted at a stamp (ns).

    state: 'OK', 'WARN', 'ERROR' or 'STALE'. ood_area: fraction of the region of interest;
    None where there is none.
    mean_confidence: [0, 1]. domain_shift: 1.0 = in-distribution bound; None while warming up.
    shift_evidence: of the sequential test, if the reference has one: the warning begins at 1.0 and
    ends at 0. moved: what moved, in words, while beyond the bound. indicators: behind the shift.
    latency_s: 95th percentile over the last seconds. regions: the unknown objects, the largest
    first; dismissed: how many more the meta model takes for none, or that are too young.
    transitions: since the last assessment. notes: what could not be judged, and why.
    bundle: name, version and digest of the bundle that reference and thresholds come from;
    overridden: what parameters say instead.
    """

    stamp_ns: int
    state: str
    ood_area: float | None
    mean_confidence: float | None
    domain_shift: float | None
    nearest_domain: str | None
    latency_s: float | None
    warnings: tuple[Warning_, ...] = ()
    regions: tuple[Region, ...] = ()
    dismissed: int = 0
    transitions: tuple[Transition, ...] = ()
    notes: tuple[str, ...] = ()
    shift_evidence: float | None = None
    moved: tuple[str, ...] = ()
    indicators: Mapping[str, Indicator] = field(default_factory=dict)
    bundle: str | None = None
    overridden: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return plain dicts, lists and numbers, ready for JSON, which has no inf and NaN."""
        return plain(asdict(self))

    @property
    def message(self) -> str:
        """One line: the warnings, else the notes, else that nothing is wrong."""
        said = tuple(warning.message for warning in self.warnings)
        return '; '.join(said or self.notes) or 'nothing unusual'


def plain(content: object) -> object:
    """Return dicts, lists and numbers for JSON: None for a float that is not finite."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    return None if isinstance(content, float) and not isfinite(content) else content


def parse_state(text: str) -> dict[str, Any]:
    """Return the assessment in a message of the monitor; raises TextError."""
    assessment = parse_json(text)
    if not isinstance(assessment, dict) or type(assessment.get('stamp_ns')) is not int:
        msg = f'{shown(text, 80)!r} is no assessment with a stamp'
        raise TextError(msg)
    return assessment
