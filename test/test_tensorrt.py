# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""TensorRT: for real where there is a GPU; elsewhere all but the GPU.

TensorRT-RTX parses and builds without a GPU, and has the interface of TensorRT 11. What runs
engines is tested on a driver whose GPU is the host (``standin/``).
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_uncertainty_ros.classes import CAMVID
from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.procedural import parse_drive
from seg_uncertainty_ros.procedural import random_scene
from seg_uncertainty_ros.runtime import cuda_driver
from seg_uncertainty_ros.runtime import tensorrt_engines
from seg_uncertainty_ros.runtime.cuda_driver import CudaError
from seg_uncertainty_ros.runtime.cuda_driver import find_gpu
from seg_uncertainty_ros.runtime.engines import default_folder
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime
from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.runtime.outputs import Outputs
from seg_uncertainty_ros.runtime.precision import write_graph
from seg_uncertainty_ros.runtime.selection import BACKENDS
from seg_uncertainty_ros.runtime.selection import open_runtime
from seg_uncertainty_ros.runtime.tensorrt_build import EngineError
from seg_uncertainty_ros.runtime.tensorrt_build import build
from seg_uncertainty_ros.runtime.tensorrt_build import import_tensorrt
from seg_uncertainty_ros.runtime.tensorrt_engines import EngineMaker
from seg_uncertainty_ros.runtime.tensorrt_engines import NotReadyError
from seg_uncertainty_ros.runtime.tensorrt_engines import TensorRt
from seg_uncertainty_ros.runtime.tensorrt_graph import tensorrt_graph
from seg_uncertainty_ros.runtime.tensorrt_runtime import TensorRtRuntime

pytestmark = pytest.mark.filterwarnings('ignore:Use Deprecated in TensorRT-RTX')

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 12, 16, 3), dtype=np.uint8)
    return [cv2.resize(image, (WIDTH, HEIGHT)) for image in coarse]


@pytest.fixture(scope='module')
def frames():
    return [
        Frame(cv2.resize(frame.image, (640, 384)), 0)
        for frame in parse_drive('procedural:seed=3,duration=0.3')
    ]


def same(outputs, expected):
    return all(np.array_equal(a, b) for a, b in zip(outputs, expected, strict=True))


# No driver


POISON = 'import os; os._exit(139)'  # as TensorRT ends where there is no driver
PROBE = """
from seg_uncertainty_ros.bundle import Bundle, default_bundle_path
from seg_uncertainty_ros.runtime.cuda_driver import find_gpu
from seg_uncertainty_ros.runtime.outputs import GraphError
from seg_uncertainty_ros.runtime.selection import open_runtime
bundle = Bundle.load(default_bundle_path())
runtime = open_runtime(bundle)
assert runtime.name == 'onnxruntime-cpu', runtime.name
print(runtime.reasons['tensorrt'])
try:
    open_runtime(bundle, 'tensorrt')
except GraphError as error:
    print(error)
"""


def test_without_a_gpu_tensorrt_is_never_imported(tmp_path):
    (tmp_path / 'tensorrt.py').write_text(POISON)
    done = subprocess.run(
        [sys.executable, '-c', PROBE],
        env={**os.environ, 'PYTHONPATH': str(tmp_path), 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reason, forced = done.stdout.splitlines()
    assert reason.startswith(('no NVIDIA driver: libcuda.so.1: ', 'cuInit: CUDA_ERROR_NO_DEVICE'))
    assert forced == f'backend tensorrt: {reason}'


@pytest.mark.parametrize(
    ('code', 'reason'),
    [
        ('100', 'cuInit: CUDA_ERROR_NO_DEVICE, '),
        ('803', 'cuInit: error 803, the driver does not say why'),
    ],
)
def test_a_driver_that_does_not_start_says_why(standin_gpu, bundle, monkeypatch, code, reason):
    monkeypatch.setenv('STANDIN_INIT', code)
    with pytest.raises(CudaError, match=reason):
        find_gpu()
    assert reason in open_runtime(bundle).reasons['tensorrt']


def test_a_library_that_is_no_driver_is_one_sentence(monkeypatch, tmp_path):
    (tmp_path / 'text.so').write_text('text')
    for library, reason in (
        (tmp_path / 'text.so', 'no NVIDIA driver: .*text.so: '),
        ('libc.so.6', 'the NVIDIA driver is too old: .*cuInit'),
    ):
        monkeypatch.setattr(cuda_driver, 'LIBRARY', str(library))
        cuda_driver._library.cache_clear()
        with pytest.raises(CudaError, match=reason):
            find_gpu()
    cuda_driver._library.cache_clear()


def test_a_tensorrt_of_another_version_is_refused(standin_gpu, monkeypatch, bundle):
    assert import_tensorrt() is standin_gpu
    for version in ('8.6.1', '10.0.1', '12.0.0', 'odd'):
        monkeypatch.setattr(standin_gpu, '__version__', version)
        with pytest.raises(EngineError, match=f'TensorRT {version} at .*, expected 10'):
            import_tensorrt()
    assert 'expected 10' in open_runtime(bundle).reasons['tensorrt']


def test_a_tensorrt_that_is_not_whole_is_refused(tmp_path, monkeypatch):
    (tmp_path / 'tensorrt.py').write_text("raise OSError('libnvinfer.so.10: not found\\nhelp')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'tensorrt', raising=False)
    with pytest.raises(EngineError, match=r'^no TensorRT: libnvinfer.so.10: not found$'):
        import_tensorrt()


# The choice


def test_a_backend_that_cannot_run_is_refused_with_the_reason(bundle):
    with pytest.raises(GraphError, match=f"'fastest' is none of {', '.join(BACKENDS)}"):
        open_runtime(bundle, 'fastest')
    import onnxruntime

    if 'CUDAExecutionProvider' in onnxruntime.get_available_providers():
        pytest.skip('ONNX Runtime has CUDA here')
    with pytest.raises(GraphError, match=r'onnxruntime-cuda: ONNX Runtime .* without CUDA'):
        open_runtime(bundle, 'onnxruntime-cuda')


def test_the_gpu_runs_every_frame_as_the_cpu_does(standin_gpu, bundle, images):
    said = []
    runtime = open_runtime(bundle, precision='fp32', say=said.append)
    expected = OnnxRuntime(bundle)
    for index, image in enumerate(images):
        assert same(runtime.run(image, index), expected.run(image, index))
    assert runtime.name == 'tensorrt'
    assert 'tensorrt' not in runtime.reasons
    assert sum('it is built now' in text for text in said) == 1
    runtime.close()
    # From the folder, at another start; another size is another engine.
    runtime = open_runtime(bundle, 'tensorrt', precision='fp32')
    assert same(runtime.run(images[0], 2), expected.run(images[0], 2))
    half = np.ascontiguousarray(images[0][:64, :96])
    assert same(runtime.run(half, 1), expected.run(half, 1))
    assert len(standin_gpu.builds) == 2
    runtime.close()


def test_while_an_engine_is_built_the_next_backend_runs(standin_gpu, bundle, images):
    said = []
    standin_gpu.go_on.clear()
    runtime = open_runtime(bundle, precision='fp32', background=True, say=said.append)
    expected = OnnxRuntime(bundle).run(images[0], 0)
    assert same(runtime.run(images[0], 0), expected)
    assert runtime.name == 'onnxruntime-cpu'
    wait_for(lambda: '128x96 in fp32: 50 % built' in runtime.progress)
    runtime.run(images[0], 0)
    assert '50 % built' in runtime.reasons['tensorrt']
    standin_gpu.go_on.set()
    wait_for(lambda: not runtime.progress)
    assert same(runtime.run(images[0], 0), expected)
    assert runtime.name == 'tensorrt'
    assert said[-1] == 'tensorrt runs the network'
    runtime.close()


def test_without_another_backend_frames_wait_for_the_engine(standin_gpu, bundle, images):
    standin_gpu.go_on.clear()
    runtime = open_runtime(bundle, 'tensorrt', precision='fp32', background=True)
    with pytest.raises(NotReadyError, match=r'engine for 128x96 in fp32: .* % built'):
        runtime.run(images[0], 0)
    standin_gpu.go_on.set()
    wait_for(lambda: not runtime.progress)
    assert runtime.run(images[0], 0).labels.size
    runtime.close()


def test_engines_of_few_sizes_are_kept(standin_gpu, bundle, images, monkeypatch):
    monkeypatch.setattr(tensorrt_engines, 'SIZES_KEPT', 2)
    live = cuda_driver._library().standin_live
    live.restype = ctypes.c_longlong
    runtime = open_runtime(bundle, 'tensorrt', precision='fp32')
    sizes = [np.ascontiguousarray(images[0][:height]) for height in (32, 64, 96)]
    taken = []
    for image in (*sizes, sizes[0], sizes[2]):
        runtime.run(image, 0)
        gc.collect()
        taken.append(live())
    assert taken[1] > taken[0]
    assert taken[4] <= max(taken[1:4])  # two engines, not three, and those that were used last
    assert len(standin_gpu.builds) == 3  # the first one came back from the folder
    runtime.close()
    gc.collect()
    assert live() == 0
    # Camera sizes that change faster than engines are built do not fill the machine with builds.
    standin_gpu.go_on.clear()
    runtime = open_runtime(bundle, 'tensorrt', precision='fp16', background=True)
    for image in sizes[:2]:
        with pytest.raises(NotReadyError, match='% built'):
            runtime.run(image, 0)
    with pytest.raises(NotReadyError, match='128x96: 2 engines for other sizes are being built'):
        runtime.run(sizes[2], 0)
    standin_gpu.go_on.set()
    wait_for(lambda: not runtime.progress)
    runtime.close()


def test_closing_ends_a_build(standin_gpu, bundle, images):
    standin_gpu.go_on.clear()
    runtime = open_runtime(bundle, precision='fp32', background=True)
    runtime.run(images[0], 0)
    wait_for(lambda: '50 %' in runtime.progress)
    # The build goes on to its next step, which the closed runtime refuses.
    closing = threading.Thread(target=runtime.close)
    closing.start()
    time.sleep(0.1)
    standin_gpu.go_on.set()
    closing.join(10)
    assert not closing.is_alive()
    assert [path.suffix for path in default_folder().iterdir()] == ['.lock']


@pytest.mark.parametrize('backend', ['auto', 'tensorrt'])
def test_a_gpu_out_of_memory_falls_back_or_fails_with_sizes(
    standin_gpu, bundle, images, monkeypatch, backend
):
    monkeypatch.setenv('STANDIN_BYTES', '40000')
    runtime = open_runtime(bundle, backend, precision='fp32')
    sizes = (
        r'does not fit on the GPU .*cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY, out of memory; it '
        r'needs 12 MB for activations, 0.1 MB for inputs and outputs; 0 of 0 MB are free'
    )
    if backend == 'tensorrt':
        for _ in range(2):
            with pytest.raises(EngineError, match=sizes):
                runtime.run(images[0], 0)
        return
    assert same(runtime.run(images[0], 0), OnnxRuntime(bundle).run(images[0], 0))
    assert runtime.name == 'onnxruntime-cpu'
    assert 'needs 12 MB' in runtime.reasons['tensorrt']


def test_a_gpu_that_fails_on_a_frame_is_left(standin_gpu, bundle, images, monkeypatch):
    runtime = open_runtime(bundle, precision='fp32')
    runtime.run(images[0], 0)
    monkeypatch.setattr(cuda_driver.Context, 'make_current', lambda self: None)
    cuda_driver.call('cuCtxSetCurrent', None)  # what a lost context comes to
    expected = OnnxRuntime(bundle).run(images[1], 0)
    assert same(runtime.run(images[1], 0), expected)
    assert runtime.name == 'onnxruntime-cpu'
    assert 'cuGraphLaunch: error 201' in runtime.reasons['tensorrt']


def test_an_engine_that_does_not_load_is_built_anew_once(standin_gpu, bundle, images):
    maker = EngineMaker(TensorRt(), bundle, 'fp32', None)
    key = maker.key(HEIGHT, WIDTH)
    maker.cache.folder.mkdir(parents=True)
    maker.cache._store(key, b'whole, and of no use')
    said = []
    runtime = maker.make(key, lambda done: True, said.append)
    assert runtime.run(images[0], 0).labels.size
    assert 'cannot load the engine: the engine is of another version' in said[0]
    assert len(standin_gpu.builds) == 1


# What runs engines


def test_nothing_is_left_on_the_gpu_and_two_buffer_sets_keep_the_order(
    standin_gpu, bundle, images, tmp_path
):
    live = cuda_driver._library().standin_live
    live.restype = ctypes.c_longlong
    path = tmp_path / 'graph.onnx'
    write_graph(bundle, 'fp32', path)
    engine = build(standin_gpu, tensorrt_graph(path, HEIGHT, WIDTH), lambda done: True).engine
    expected = [OnnxRuntime(bundle).run(image, 1) for image in images]
    for sets in (1, 2):
        runtime = TensorRtRuntime(standin_gpu, engine, buffer_sets=sets)
        made = live()
        outputs = list(runtime.run_all((image, 1) for image in images))
        assert all(same(*pair) for pair in zip(outputs, expected, strict=True))
        assert live() == made  # nothing is allocated for a frame
        with pytest.raises(GraphError, match=r'uint8 \(64, 128, 3\), the engine is for \(96, 1'):
            runtime.run(images[0][:64], 0)
        del runtime
        gc.collect()
        assert live() == 0


# The graph, as TensorRT takes it


def rtx():
    return pytest.importorskip('tensorrt_rtx', reason='tensorrt-rtx belongs to the extra dev')


NAMES = """
Builder.build_serialized_network Builder.create_builder_config Builder.create_network
BuilderFlag.TF32 IBuilderConfig.clear_flag
IBuilderConfig.create_timing_cache IBuilderConfig.progress_monitor IBuilderConfig.set_timing_cache
ICudaEngine.create_execution_context ICudaEngine.device_memory_size_v2
ICudaEngine.get_tensor_dtype ICudaEngine.get_tensor_location ICudaEngine.get_tensor_name
ICudaEngine.get_tensor_shape ICudaEngine.num_io_tensors
IExecutionContext.execute_async_v3 IExecutionContext.set_tensor_address
ILogger.Severity.ERROR ILogger.Severity.INTERNAL_ERROR IProgressMonitor.phase_finish
IProgressMonitor.phase_start IProgressMonitor.step_complete ITimingCache.serialize
NetworkDefinitionCreationFlag.STRONGLY_TYPED
OnnxParser.get_error OnnxParser.num_errors OnnxParser.parse
ParserError.desc ParserError.node_name ParserError.node_operator
Runtime.deserialize_cuda_engine TensorLocation.DEVICE nptype
"""
ARGUMENTS = {
    'IBuilderConfig.set_timing_cache': 'ignore_mismatch: bool',
    'IExecutionContext.execute_async_v3': 'stream_handle',
    'IExecutionContext.set_tensor_address': 'name: str, memory',
    'OnnxParser.parse': 'model',
    'Runtime.deserialize_cuda_engine': 'serialized_engine',
}


def check_names(trt):
    for name in NAMES.split():
        value = trt
        for part in name.split('.'):
            value = getattr(value, part)
        assert ARGUMENTS.get(name, '') in (value.__doc__ or '')


def test_every_name_that_is_used_exists_in_tensorrt_rtx():
    check_names(rtx())


def test_every_name_that_is_used_exists_in_tensorrt(tensorrt):
    check_names(import_tensorrt())


LIBRARIES = ('nvinfer', 'nvinfer_plugin', 'nvonnxparser')
FUNCTIONS = """
createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL
createNvOnnxParserRefitter_INTERNAL createNvOnnxParser_INTERNAL getBuilderPluginRegistry
getNvOnnxParserVersion getPluginRegistry initLibNvInferPlugins
"""


def test_every_name_that_is_used_exists_in_bindings_of_any_version(tmp_path):
    """The bindings alone (pip install tensorrt-cu13-bindings) import if their libraries exist."""
    if find_spec('tensorrt_bindings') is None or (compiler := shutil.which('cc')) is None:
        pytest.skip('no package tensorrt-cu13-bindings, or no C compiler')
    code = tmp_path / 'empty.c'
    code.write_text('\n'.join(f'void *{name}(void) {{ return 0; }}' for name in FUNCTIONS.split()))
    for name in (f'lib{library}.so.{major}' for library in LIBRARIES for major in (10, 11)):
        command = [
            compiler,
            '-shared',
            '-fPIC',
            f'-Wl,-soname,{name}',
            '-o',
            tmp_path / name,
            code,
        ]
        subprocess.run(command, check=True)
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            'import tensorrt_bindings as x, test_tensorrt as t; t.check_names(x)',
        ],
        env={**os.environ, 'LD_LIBRARY_PATH': str(tmp_path)},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_casts_to_bytes_come_last_and_change_nothing(onnx, bundle, images):
    import onnxruntime

    graph = tensorrt_graph(bundle.graph, HEIGHT, WIDTH)
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model)
    ends = {output.name for output in model.graph.output}
    bytes_made = [
        node.output[0]
        for node in model.graph.node
        if node.op_type == 'Cast'
        and onnx.helper.get_node_attr_value(node, 'to') == onnx.TensorProto.UINT8
    ]
    assert set(bytes_made) == {'labels', 'confidence', 'anomaly'} <= ends
    session = onnxruntime.InferenceSession(graph, providers=['CPUExecutionProvider'])
    outputs = session.run(None, {'image': images[0], 'score_index': np.array(2)})
    assert same(outputs, OnnxRuntime(bundle).run(images[0], 2))


def test_a_file_that_is_no_graph_is_one_error(onnx, tmp_path):
    (tmp_path / 'graph.onnx').write_bytes(b'\x08no graph')
    with pytest.raises(GraphError, match='onnx cannot read it: '):
        tensorrt_graph(tmp_path / 'graph.onnx', HEIGHT, WIDTH)


@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'int8'])
def test_tensorrt_rtx_builds_the_graph_that_ships(onnx, bundle, frames, tmp_path, precision):
    trt = rtx()
    path = tmp_path / 'graph.onnx'
    write_graph(bundle, precision, path, frames if precision == 'int8' else None)
    seen = []
    built = build(trt, tensorrt_graph(path, 384, 640), lambda done: seen.append(done) or True)
    assert len(built.engine) > 1_000_000
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.1
    assert seen[-1] > 0.8


def test_an_operator_that_tensorrt_lacks_is_named(onnx, tmp_path):
    trt = rtx()
    helper = onnx.helper
    value = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2])
        for name in ('given', 'made')
    ]
    node = helper.make_node('Det', ['given'], ['volume'], name='the_volume')
    graph = helper.make_graph([node], 'odd', value[:1], [])
    graph.output.extend([helper.make_tensor_value_info('volume', onnx.TensorProto.FLOAT, [])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
    with pytest.raises(EngineError, match=r"refuses node 'the_volume', operator Det: "):
        build(trt, model.SerializeToString(), lambda done: True)
    with pytest.raises(EngineError, match=r'refuses the graph: .*Failed to parse'):
        build(trt, b'\x08no graph', lambda done: True)


def test_a_build_can_be_ended(onnx, bundle):
    graph = tensorrt_graph(bundle.graph, HEIGHT, WIDTH)
    with pytest.raises(EngineError, match='the build of the engine was ended'):
        build(rtx(), graph, lambda done: done < 0.05)


# The command


def test_the_command_builds_once_and_says_what(standin_gpu, bundle_path, capsys, tmp_path):
    command = ['build-engine', str(bundle_path), '--size', '128x96', '--precision', 'fp32']
    command += ['--cache', str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr()
    engine = next(tmp_path.glob('*.engine'))
    assert said.out.startswith(f'{engine}: ')
    assert said.out.endswith(' fp32, Stand-in GPU (8.7), TensorRT 10.7.0.post1\n')
    assert 'no engine yet; it is built now' in said.err
    assert main(command) == 0
    assert 'built now' not in capsys.readouterr().err
    assert len(standin_gpu.builds) == 1


def test_int8_takes_recordings_and_is_refused_where_it_loses_too_much(
    onnx, standin_gpu, bundle, bundle_path, capsys, tmp_path
):
    scene = random_scene(3, 320, 192)
    labels = np.minimum(scene.labels, len(CAMVID)).astype(np.uint8)
    outlier = np.zeros_like(labels)
    outlier[100:140, 60:140] = 1
    for name, image in {
        'camvid/val/0': scene.image,
        'camvid/valannot/0': labels,
        'ood/fs_static/images/0': scene.image,
        'ood/fs_static/labels/0': outlier,
    }.items():
        path = tmp_path / f'{name}.png'
        path.parent.mkdir(parents=True)
        assert cv2.imwrite(str(path), image)
    cache = tmp_path / 'engines'
    image = np.zeros((*bundle.geometry.network_size(192, 320), 3), np.uint8)
    runtime = open_runtime(bundle, 'tensorrt', precision='int8', engines=cache)
    with pytest.raises(EngineError, match=r'no int8 engine for \d+x\d+, .* --calibration BAG'):
        runtime.run(image, 0)
    command = ['build-engine', str(bundle_path), '--size', '320x192', '--precision', 'int8']
    command += ['--cache', str(cache), '--calibration', str(tmp_path / 'camvid' / 'val')]
    command += ['--check', str(tmp_path), '--tolerance']
    assert main([*command, '0']) == 1
    lost = r'int8: .* falls from 0\.\d+ to 0\.\d+, by more than the tolerated 0\n'
    assert re.search(lost, capsys.readouterr().err)
    assert not list(cache.glob('*.engine'))
    assert main([*command, '1']) == 0
    (engine,) = cache.glob('*.engine')
    report = json.loads(engine.with_name(f'{engine.name}.parity.json').read_text())
    assert [row['name'] for row in report['rows']] == ['fp32', 'int8']
    assert report['rows'][0]['agreement'] == 1.0
    assert 0.8 < report['rows'][1]['agreement'] < 1.0
    runtime = open_runtime(bundle, 'tensorrt', precision='int8', engines=cache)
    assert runtime.run(image, 0).labels.size
    assert len(standin_gpu.builds) == 1
    runtime.close()


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['--precision', 'int8'], 'precision int8: --calibration goes with int8'),
        (['--calibration', 'x'], 'precision fp16: --calibration goes with int8'),
        (['--precision', 'int8', '--calibration', 'x'], 'what it loses has to be known'),
        (['--tolerance', '-0.1'], '--tolerance: -0.1, expected 0..1'),
    ],
)
def test_the_command_refuses(bundle_path, capsys, arguments, reason):
    assert main(['build-engine', str(bundle_path), *arguments]) == 1
    assert reason in capsys.readouterr().err


# For real


@pytest.fixture(scope='module')
def tensorrt():
    try:
        return TensorRt()
    except GraphError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'int8'])
def test_planes_agree_with_the_cpu(tensorrt, onnx, bundle, frames, tmp_path, precision):
    graph = tmp_path / 'graph.onnx'
    write_graph(bundle, precision, graph, frames)
    maker = EngineMaker(tensorrt, bundle, precision, tmp_path, graph)
    key = maker.key(384, 640)
    runtime = maker.make(key, lambda done: True, print)
    expected = OnnxRuntime(bundle)
    labels, planes = [], []
    for frame in frames:
        got, wanted = runtime.run(frame.image, 0), expected.run(frame.image, 0)
        labels.append(got.labels == wanted.labels)
        for name in ('confidence', 'anomaly'):
            a, b = (getattr(outputs, name).astype(int) for outputs in (got, wanted))
            planes.append(np.abs(a - b) <= 1)
    assert isinstance(got, Outputs)
    assert np.mean(labels) >= (0.95 if precision == 'int8' else 0.995)
    if precision != 'int8':
        assert np.mean(planes) >= 0.999
    again = maker.make(key, lambda done: pytest.fail('built twice'), print)
    assert same(again.run(frame.image, 0), got)


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
