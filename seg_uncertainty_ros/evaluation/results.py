# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The page of results: bundles over four datasets, and what the literature reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from datetime import timezone
from typing import TYPE_CHECKING

from seg_uncertainty_ros.evaluation.benchmark import OutlierTable
from seg_uncertainty_ros.evaluation.benchmark import SegmentationTable
from seg_uncertainty_ros.evaluation.benchmark import evaluate_outliers
from seg_uncertainty_ros.evaluation.benchmark import evaluate_segmentation
from seg_uncertainty_ros.evaluation.datasets import open_dataset
from seg_uncertainty_ros.evaluation.tables import bundle_labels
from seg_uncertainty_ros.evaluation.tables import grid
from seg_uncertainty_ros.evaluation.tables import interval
from seg_uncertainty_ros.evaluation.tables import markdown
from seg_uncertainty_ros.evaluation.tables import megapixels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence
    from pathlib import Path

    from seg_uncertainty_ros.bundle import Bundle
    from seg_uncertainty_ros.evaluation.benchmark import OutlierRow
    from seg_uncertainty_ros.evaluation.datasets import Dataset

# The first is the set to choose on, the others only report.
OUTLIER_SETS = (
    ('fishyscapes', 'ood/fs_static'),
    ('fishyscapes', 'ood/FS_LostFound_full'),
    ('road-anomaly', 'ood/RoadAnomaly'),
)
CAMVID_TEST = 'camvid/test'

QUOTED = """\
## Reported in the literature

Quoted, not measured here: AP / FPR95 on the hidden test sets of the benchmarks, which are not the
sets above, with larger networks at full resolution. Fishyscapes from table 1 of Blum et al., The
Fishyscapes Benchmark, IJCV 2021; RoadAnomaly21 from Maag and Riedlinger, Pixel-Wise Gradient
Uncertainty for Convolutional Neural Networks Applied to Out-of-Distribution Segmentation.

| method                             | FS Lost & Found | FS Static     | RoadAnomaly21 |
|------------------------------------|-----------------|---------------|---------------|
| max softmax                        | 0.018 / 0.448   | 0.129 / 0.398 | 0.280 / 0.721 |
| entropy                            | 0.029 / 0.448   | 0.154 / 0.398 | –             |
| MC dropout, mutual information     | 0.098 / 0.385   | 0.487 / 0.155 | –             |
| kNN density                        | 0.035 / 0.300   | 0.440 / 0.202 | –             |
| learned density, log. regression   | 0.047 / 0.244   | 0.572 / 0.134 | –             |
| void classifier                    | 0.103 / 0.221   | 0.450 / 0.194 | 0.366 / 0.635 |
| outlier head, combined probability | 0.309 / 0.222   | 0.840 / 0.103 | –             |
| Dirichlet                          | 0.343 / 0.474   | 0.313 / 0.846 | –             |
| image resynthesis                  | 0.057 / 0.481   | 0.296 / 0.271 | 0.523 / 0.259 |
| SynBoost                           | 0.432 / 0.158   | 0.726 / 0.188 | 0.564 / 0.619 |
| PGN uniform, p = 0.5               | –               | –             | 0.428 / 0.564 |
"""


@dataclass(frozen=True)
class BundleResults:
    """One bundle at one resolution over all sets; ``outliers`` in the order of OUTLIER_SETS."""

    segmentation: SegmentationTable
    outliers: tuple[OutlierTable, ...]

    def chosen_score(self) -> str:
        """Return the score with the highest AP on the set to choose on."""
        return max(self.outliers[0].rows, key=lambda row: row.pixels.average_precision.value).score


def open_datasets(data: Path) -> tuple[Dataset, ...]:
    """Return CamVid's test split and the sets with outliers below the folder ``data``.

    Raises:
        DatasetError: one of them is missing.

    """
    return (
        open_dataset('camvid', data / CAMVID_TEST),
        *(open_dataset(name, data / folder) for name, folder in OUTLIER_SETS),
    )


def evaluate_all(
    datasets: Sequence[Dataset], bundles: Sequence[Bundle], resolutions: Sequence[int | None]
) -> Iterator[BundleResults]:
    """Yield the results of every bundle at every resolution; None is the bundle's own."""
    camvid, *sets = datasets
    for bundle in bundles:
        segmentation = evaluate_segmentation(bundle, camvid, bundle.score_names)
        for pixels in resolutions:
            tables = (
                evaluate_outliers(bundle, dataset, bundle.score_names, max_pixels=pixels)
                for dataset in sets
            )
            yield BundleResults(segmentation, tuple(tables))


def results_page(results: Sequence[BundleResults], command: str) -> str:
    """Return the page as markdown; ``command`` is what printed it."""
    by_bundle = {result.segmentation.run.bundle.digest: result for result in results}
    bundles = [result.segmentation.run.bundle for result in by_bundle.values()]
    labels = bundle_labels(bundles)
    names = [table.run.dataset.name for table in results[0].outliers]
    parts = [
        '# Results',
        f'Made on {datetime.now(timezone.utc):%Y-%m-%d} by',
        f'```\n{command}\n```',
        'with the bundles',
        grid(
            ('bundle', 'version', 'sha256 of the manifest'),
            [(labels[bundle.digest], bundle.version, bundle.digest[:16]) for bundle in bundles],
        ),
        '## Summary',
        'The score of each line is the one with the highest AP on '
        f'{names[0]}, the set to choose on; the others only report.',
        _summary(results, names),
        markdown([result.segmentation for result in by_bundle.values()]),
        *(
            markdown([result.outliers[index] for result in results])
            for index in range(len(OUTLIER_SETS))
        ),
        QUOTED,
    ]
    return '\n\n'.join(part.strip() for part in parts) + '\n'


def _summary(results: Sequence[BundleResults], names: Sequence[str]) -> str:
    labels = bundle_labels(result.segmentation.run.bundle for result in results)
    rows = []
    for result in results:
        score = result.chosen_score()
        chosen = [_row(table, score) for table in result.outliers]
        run, segmented = result.outliers[0].run, result.segmentation.run
        rows.append(
            (
                labels[run.bundle.digest],
                megapixels(run.max_pixels),
                score,
                # CamVid was segmented at the bundle's own resolution only.
                interval(result.segmentation.miou)
                if run.max_pixels == segmented.max_pixels
                else '–',
                *(
                    interval(estimate)
                    for row in chosen
                    for estimate in (row.pixels.average_precision, row.pixels.fpr95)
                ),
            )
        )
    metrics = [f'{name} {metric}' for name in names for metric in ('AP', 'FPR95')]
    return grid(('bundle', 'input up to', 'score', 'CamVid test mIoU', *metrics), rows)


def _row(table: OutlierTable, score: str) -> OutlierRow:
    return next(row for row in table.rows if row.score == score)
