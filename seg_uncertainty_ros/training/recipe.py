# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A recipe: everything that decides what a training run yields."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields
from typing import TYPE_CHECKING

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.structured_text import MAX_CHARACTERS
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_yaml
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from pathlib import Path


SOURCES = ('camvid', 'idd_lite', 'procedural', 'cityscapes', 'pseudo', 'coco')
OUTLIER_OUTPUTS = ('none', 'void', 'head')
TRAINED = ('all', 'branch')


class RecipeError(SegUncertaintyError):
    """A recipe file is wrong."""


@dataclass(frozen=True)
class Recipe:
    """Data, schedule and augmentation of one training run."""

    name: str
    seed: int = 1
    steps: int = 6000
    # End here although the learning rate is planned for all steps; 0: at the end.
    stop_after: int = 0
    crop_height: int = 288
    crop_width: int = 384
    # Crops a batch from each source; a fraction is the probability of one more.
    camvid: float = 5
    idd_lite: float = 2
    procedural: float = 1
    cityscapes: float = 0
    pseudo: float = 0
    coco: float = 0
    procedural_scenes: int = 400
    # Things pasted into a crop of a street, at most; every other one is a known object.
    pasted: int = 0
    # What the branch for outliers is: 'none', 'void' (a class) or 'head' (a sigmoid of its own).
    outlier_output: str = 'none'
    # What learns: 'all', or the 'branch' alone; the masks stay what they are.
    trained: str = 'all'
    # Weight of the loss of the branch, and of entropy maximisation, on outliers.
    outlier_weight: float = 0.5
    entropy_weight: float = 0.0
    learning_rate: float = 1e-3
    encoder_rate: float = 0.3
    # The first blocks of the encoder that stay as they were initialised: fine-tuning is faster.
    frozen_blocks: int = 0
    weight_decay: float = 0.02
    warmup: int = 200
    ema: float = 0.998
    # Share of what was learned in the weights that are kept, the rest is what they started from
    # (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
    learned_share: float = 1.0
    # Target values rarer than this share of CamVid weigh more: (rare / share) ** power, bounded.
    rare_share: float = 0.05
    rare_power: float = 0.35
    rare_bound: float = 3.0
    scale_min: float = 0.6
    scale_max: float = 2.0
    validate_every: int = 400

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that batches hold crops of."""
        return tuple(name for name in SOURCES if getattr(self, name))

    @property
    def uses_outliers(self) -> bool:
        """Whether any loss looks at outliers."""
        return self.outlier_output != 'none' or self.entropy_weight > 0

    @property
    def outlier_scores(self) -> tuple[str, ...]:
        """The scores that a checkpoint is chosen by."""
        output = {'none': (), 'void': ('void',), 'head': ('outlier', 'void')}
        return ('entropy', 'energy', *output[self.outlier_output])

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a YAML recipe.

        Raises:
            RecipeError: unreadable, an unknown field, or a value of the wrong type.

        """
        try:
            with path.open(encoding='utf-8') as file:
                values = parse_yaml(file.read(MAX_CHARACTERS + 1))
        except (OSError, UnicodeDecodeError, TextError) as error:
            msg = f'{path}: unreadable recipe: {shown(str(error))}'
            raise RecipeError(msg) from error
        if not isinstance(values, dict) or 'name' not in values:
            msg = f'{path}: a recipe is a mapping with at least a name'
            raise RecipeError(msg)
        types = {'str': str, 'int': int, 'float': (int, float)}
        known = {field.name: types[str(field.type)] for field in fields(cls)}
        for key, value in values.items():
            if key not in known or isinstance(value, bool) or not isinstance(value, known[key]):
                entry = f'{shown(str(key))}: {shown(repr(value))}'
                msg = f'{path}: {entry} is not a field of a recipe, or of another type'
                raise RecipeError(msg)
        recipe = cls(**values)
        for key, choices in (('outlier_output', OUTLIER_OUTPUTS), ('trained', TRAINED)):
            if (value := getattr(recipe, key)) not in choices:
                msg = f'{path}: {key}: {shown(repr(value))} is none of {", ".join(choices)}'
                raise RecipeError(msg)
        if recipe.trained == 'branch' and recipe.outlier_output == 'none':
            msg = f"{path}: trained: 'branch' of outlier_output 'none', expected void or head"
            raise RecipeError(msg)
        return recipe
