# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A model bundle: one directory with everything that belongs to a model.

``bundle.json`` is the manifest (schema: ``bundle.schema.json``); it names each file with its size
and sha256. Nodes and commands take the path of a bundle and nothing else about the model.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from functools import cache
from itertools import islice
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import jsonschema

from seg_uncertainty_ros.classes import ClassInfo
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.frames import Geometry
from seg_uncertainty_ros.segments import features
from seg_uncertainty_ros.segments.meta import MetaModel
from seg_uncertainty_ros.segments.meta import MetaModelError
from seg_uncertainty_ros.shift.reference import ShiftReference
from seg_uncertainty_ros.shift.reference import ShiftReferenceError
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_json
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping


MANIFEST = 'bundle.json'
GRAPH = 'graph.onnx'
REFERENCE = 'reference.npz'
NOVELTY = 'novelty.onnx'
MODEL_CARD = 'MODEL_CARD.md'
MAX_MANIFEST_BYTES = 1 << 20
MAX_ERRORS = 100
"""Of which the best is told: a manifest may be wrong in every value."""


class BundleError(SegUncertaintyError):
    """A bundle cannot be used; the message names the file, the field and the value."""


@dataclass(frozen=True)
class ScoreInfo:
    """An anomaly score of the graph; ``knots``: raw scores at the equidistant values 0..1."""

    name: str
    description: str
    knots: tuple[float, ...]


@dataclass(frozen=True)
class Threshold:
    """A warning is raised at ``enter``, ends at ``exit``; ``reason`` says where they come from."""

    enter: float
    exit: float
    reason: str


@dataclass(frozen=True)
class Bundle:
    """A model and all that is known about it; the id of a class is its index.

    ``reference`` says what is in-distribution; None: no shift can be told.
    ``segments`` judges the segments of the anomaly plane, None in a bundle without a meta model.
    ``novelty`` is the ONNX file that says how novel an embedding is, None without one.
    ``files``: sha256 of each file as it was loaded.
    """

    path: Path
    name: str
    version: str
    geometry: Geometry
    classes: tuple[ClassInfo, ...]
    temperature: float
    scores: tuple[ScoreInfo, ...]
    default_score: str
    thresholds: Mapping[str, Threshold]
    reference: ShiftReference | None
    provenance: Mapping[str, Any]
    digest: str
    segments: MetaModel | None = None
    novelty: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name, version and the beginning of the digest, which any change of any file changes."""
        return f'{self.name} {self.version} {self.digest[:12]}'

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return self.path / GRAPH

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores in the order of the graph's output."""
        return tuple(score.name for score in self.scores)

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Read and validate the bundle in the directory ``path``.

        Raises:
            BundleError: missing or unreadable, against the schema, inconsistent, or a file whose
                size or sha256 is not the manifest's.

        """
        path = Path(path)
        data = _read_manifest(path)
        manifest = _parse_manifest(path / MANIFEST, data)
        for name, entry in manifest['files'].items():
            _check_file(path / name, entry)
        return cls(
            path=path,
            name=manifest['name'],
            version=manifest['version'],
            geometry=_geometry(manifest),
            classes=_classes(manifest),
            temperature=manifest['temperature'],
            scores=tuple(
                ScoreInfo(s['name'], s['description'], tuple(s['knots']))
                for s in manifest['scores']
            ),
            default_score=manifest['default_score'],
            thresholds={k: Threshold(**v) for k, v in manifest['thresholds'].items()},
            reference=_reference(path, manifest),
            provenance=manifest['provenance'],
            digest=hashlib.sha256(data).hexdigest(),
            segments=_segments(manifest),
            novelty=path / NOVELTY if NOVELTY in manifest['files'] else None,
            files={name: entry['sha256'] for name, entry in manifest['files'].items()},
        )

    def copy_files(self, folder: Path) -> None:
        """Copy the files to a folder, but not their modes: a bundle may be read-only."""
        for file in self.path.iterdir():
            if file.is_file():
                shutil.copyfile(file, folder / file.name)

    def write(self) -> Bundle:
        """Write manifest and reference beside the graph and the model card already in ``path``.

        Without a reference, one that lies there is removed. A novelty graph there becomes part of
        the bundle too.
        Returns the bundle as loaded again, so that what was written is known to be valid.
        """
        names = [GRAPH, MODEL_CARD]
        if self.reference is None:
            (self.path / REFERENCE).unlink(missing_ok=True)
        else:
            self.reference.save(self.path / REFERENCE)
            names.append(REFERENCE)
        if (self.path / NOVELTY).is_file():
            names.append(NOVELTY)
        manifest = {
            'format': 1,
            'name': self.name,
            'version': self.version,
            'geometry': {k: v for k, v in asdict(self.geometry).items() if v is not None},
            'classes': [asdict(info) for info in self.classes],
            'temperature': self.temperature,
            'scores': [asdict(score) for score in self.scores],
            'default_score': self.default_score,
            'thresholds': {k: asdict(v) for k, v in self.thresholds.items()},
            'provenance': dict(self.provenance),
            **({'segments': self.segments.to_dict()} if self.segments else {}),
            'files': {name: _describe(self.path / name) for name in names},
        }
        text = json.dumps(manifest, indent=2, allow_nan=False) + '\n'
        (self.path / MANIFEST).write_text(text, encoding='utf-8')
        return Bundle.load(self.path)


def default_bundle_path() -> Path:
    """Return the path of the bundle that ships with the package."""
    return Path(__file__).parent / 'models' / 'default'


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _describe(path: Path) -> dict[str, Any]:
    return {'sha256': _sha256(path), 'bytes': path.stat().st_size}


def _read_manifest(path: Path) -> bytes:
    manifest = path / MANIFEST
    try:
        if not path.is_dir():
            msg = f'{path}: no such bundle (a bundle is a directory with {MANIFEST})'
            raise BundleError(msg)
        with manifest.open('rb') as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        msg = f'{manifest}: unreadable: {error.strerror}'
        raise BundleError(msg) from error
    if len(data) > MAX_MANIFEST_BYTES:
        msg = f'{manifest}: more than {MAX_MANIFEST_BYTES} bytes'
        raise BundleError(msg)
    return data


def _parse_manifest(source: Path, data: bytes) -> dict[str, Any]:
    """Check against the schema and for what a schema cannot say."""
    try:
        manifest = parse_json(data)
    except TextError as error:
        msg = f'{source}: {error}'
        raise BundleError(msg) from error
    errors = islice(_validator().iter_errors(manifest), MAX_ERRORS)
    if error := jsonschema.exceptions.best_match(errors):
        where = '.'.join(str(part) for part in error.absolute_path) or 'manifest'
        msg = f'{source}: {shown(where)}: {shown(error.message)}'
        raise BundleError(msg)
    if problem := _inconsistency(manifest):
        msg = f'{source}: {shown(problem, 400)}'
        raise BundleError(msg)
    return manifest


@cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(Path(__file__).with_name('bundle.schema.json').read_text('utf-8'))
    return jsonschema.Draft202012Validator(schema)


def _classes(manifest: dict[str, Any]) -> tuple[ClassInfo, ...]:
    return tuple(
        ClassInfo(entry['name'], tuple(map(int, entry['color'])), entry.get('ground', False))
        for entry in manifest['classes']
    )


def _geometry(manifest: dict[str, Any]) -> Geometry:
    values = manifest['geometry']
    # To a schema 32.0 is an integer.
    return Geometry(
        int(values['stride']),
        int(values['max_pixels']),
        values.get('enlarge', 1.0),
        tuple(map(int, values['size'])) if 'size' in values else None,
    )


def _reference(path: Path, manifest: dict[str, Any]) -> ShiftReference | None:
    if REFERENCE not in manifest['files']:
        return None
    try:
        reference = ShiftReference.load(path / REFERENCE)
    except ShiftReferenceError as error:
        raise BundleError(str(error)) from error
    classes = len(manifest['classes'])
    if reference.classes != classes:
        msg = f'{path / REFERENCE}: {reference.classes} classes, the manifest has {classes}'
        raise BundleError(msg)
    return reference


def _segments(manifest: dict[str, Any]) -> MetaModel | None:
    content = manifest.get('segments')
    return MetaModel.from_dict(content) if content else None


def _inconsistency(manifest: dict[str, Any]) -> str | None:
    texts = [manifest['name'], manifest['version'], *manifest['thresholds'], *manifest['files']]
    texts += [entry['name'] for key in ('classes', 'scores') for entry in manifest[key]]
    for text in texts:
        if not text.isprintable():
            return f'names: {shown(repr(text))}, expected printable characters'
    for key in ('classes', 'scores'):
        names = [entry['name'] for entry in manifest[key]]
        if len(set(names)) < len(names):
            return (
                f'{key}: names occur twice: {sorted(n for n in set(names) if names.count(n) > 1)}'
            )
    asked = manifest.get('segments', {}).get('features', [])
    if len(set(asked)) < len(asked):
        return f'segments.features: {len(asked)} names, {len(set(asked))} of them different'
    names = [score['name'] for score in manifest['scores']]
    if manifest['default_score'] not in names:
        return f'default_score: {manifest["default_score"]!r} is none of {names}'
    for score in manifest['scores']:
        knots = score['knots']
        if len(knots) != (first := len(manifest['scores'][0]['knots'])):
            return f'scores.{score["name"]}.knots: {len(knots)} values, the first has {first}'
        # NaN compares false: it is caught here too, as Python's JSON reads it.
        if not all(a < b for a, b in pairwise(knots)) or not isfinite(knots[0] + knots[-1]):
            return f'scores.{score["name"]}.knots: not finite and strictly increasing'
    if not isfinite(manifest['temperature']):
        return f'temperature: {manifest["temperature"]}, expected a finite number'
    for name, threshold in manifest['thresholds'].items():
        if not isfinite(threshold['enter'] + threshold['exit']):
            return f'thresholds.{name}: not finite'
        # Confidence alarms below, everything else above.
        rises = threshold['enter'] > threshold['exit']
        if rises == (name == 'low_confidence'):
            return (
                f'thresholds.{name}: enter {threshold["enter"]} is on the wrong side of '
                f'exit {threshold["exit"]}'
            )
    try:
        if model := _segments(manifest):
            features.columns(model, _classes(manifest))
            if unknown := set(model.scores) - set(names):
                return f'segments.scores: {min(unknown)!r} is none of {names}'
    except MetaModelError as error:
        return f'segments.{error}'
    return None


def _check_file(path: Path, entry: dict[str, Any]) -> None:
    if not path.is_file():
        msg = f'{path}: missing, the manifest names it'
        raise BundleError(msg)
    if (size := path.stat().st_size) != entry['bytes']:
        msg = f'{path}: {size} bytes, the manifest says {entry["bytes"]}'
        raise BundleError(msg)
    try:
        digest = _sha256(path)
    except OSError as error:
        msg = f'{path}: unreadable: {error.strerror}'
        raise BundleError(msg) from error
    if digest != entry['sha256']:
        msg = f'{path}: sha256 {digest[:12]}…, the manifest says {entry["sha256"][:12]}…'
        raise BundleError(msg)
