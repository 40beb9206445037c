# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the package does not do: run what it reads, or talk to a network."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seg_uncertainty_ros import structured_text
from seg_uncertainty_ros.recordings import SourceError
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.bag_writer import BagWriter

ROOT = Path(__file__).parents[1]
MODULES = sorted([*(ROOT / 'seg_uncertainty_ros').rglob('*.py'), *(ROOT / 'launch').glob('*.py')])
# Loaders of objects; multiprocessing pickles what it passes on.
EXECUTING = {'cloudpickle', 'code', 'dill', 'joblib', 'marshal', 'multiprocessing', 'pickle'}
EXECUTING |= {'shelve'}
NETWORK = {'aiohttp', 'asyncio', 'ftplib', 'http', 'httpx', 'requests', 'smtplib', 'socket'}
NETWORK |= {'socketserver', 'ssl', 'telnetlib', 'urllib', 'urllib3', 'webbrowser', 'websockets'}
NETWORK |= {'xmlrpc', 'zmq'}
CALLS = {'__import__', 'compile', 'eval', 'exec', 'os.popen', 'os.system'}
CALLS |= {'subprocess.getoutput', 'subprocess.getstatusoutput'}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imported(tree):
    """Yield the top-level names that a module imports anywhere, also by name at run time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or '').partition('.')[0]
        elif isinstance(node, ast.Call) and dotted(node.func).endswith('import_module'):
            assert isinstance(node.args[0], ast.Constant), ast.unparse(node)
            yield node.args[0].value.partition('.')[0]


def dotted(node):
    """Return a name such as ``np.load``, or an empty string for what is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f'{dotted(node.value)}.{node.attr}'
    return ''


def origins(tree):
    """Return what the names are that a module imports under another name, or from a module."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            found |= {here: f'{node.module}.{there}' for here, there in names.items()}
    return found


def keyword(call, name):
    """Return the value of a call's keyword, None where it is missing or no constant."""
    values = [item.value for item in call.keywords if item.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def faults(source):
    """Return what a module does that it must not."""
    tree = ast.parse(source)
    found = [f'imports {name}' for name in set(imported(tree)) & (EXECUTING | NETWORK)]
    known = origins(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        head, *rest = dotted(call.func).split('.')
        name = '.'.join([known.get(head, head), *rest])
        text = f'line {call.lineno}: {ast.unparse(call)[:80]}'
        given = {item.arg for item in call.keywords}
        if name in CALLS:
            found.append(text)
        if any(keyword(call, each) is not False for each in given & {'allow_pickle', 'shell'}):
            found.append(text)
        if name == 'torch.load' and keyword(call, 'weights_only') is not True:
            found.append(text)
        if name.startswith('yaml.') and name.endswith('_load') and name != 'yaml.safe_load':
            found.append(text)
        if name in ('yaml.load', 'yaml.load_all') and not any(
            item.arg == 'Loader' and dotted(item.value) == '_LOADER' for item in call.keywords
        ):
            found.append(text)
    return found


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_no_module_runs_what_it_reads_or_talks_to_a_network(path):
    assert faults(path.read_text(encoding='utf-8')) == []


@pytest.mark.parametrize(
    'source',
    [
        'import pickle',
        'def f():\n    from urllib.request import urlopen',
        "import importlib\nimportlib.import_module('socket')",
        "eval('1')",
        "import os\nos.system('ls')",
        "from os import system\nsystem('ls')",
        'import numpy as np\nnp.load(path, allow_pickle=True)',
        'import numpy as np\nnp.load(path, allow_pickle=setting)',
        'import torch\ntorch.load(path)',
        'import yaml\nyaml.load(text)',
        'import yaml\nyaml.load(text, Loader=yaml.Loader)',
        'import yaml\nyaml.unsafe_load(text)',
        'from yaml import unsafe_load\nunsafe_load(text)',
        'import subprocess\nsubprocess.run(line, shell=True)',
        'from subprocess import run\nrun(line, shell=setting)',
    ],
)
def test_what_is_forbidden_is_found(source):
    assert len(faults(source)) == 1


def test_the_loader_of_yaml_makes_plain_values_only():
    """The one module that calls yaml.load gives it a loader of PyYAML's safe kind."""
    users = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Call) and dotted(node.func) in ('yaml.load', 'yaml.load_all')
    }
    assert users <= {'seg_uncertainty_ros/structured_text.py'}
    assert issubclass(structured_text._LOADER, (yaml.SafeLoader, yaml.CSafeLoader))


# Python tells its audit hooks what is about to happen, whoever asks for it.
WATCHED = """
import sys

SEEN = []

def watch(event, arguments):
    if event.startswith(('socket.connect', 'socket.getaddrinfo', 'socket.sendto', 'urllib.',
                         'http.', 'ftplib.', 'smtplib.', 'pickle.find_class', 'marshal.loads',
                         'os.system', 'os.exec', 'os.posix_spawn', 'subprocess.Popen')):
        SEEN.append(event)

sys.addaudithook(watch)
from seg_uncertainty_ros.cli import main

# What libraries do when they are imported is not what is made of data.
SEEN.clear()
status = main(sys.argv[1:])
print('seen:', [event for event in SEEN if event != 'marshal.loads'])
sys.exit(status)
"""


def test_a_bag_is_processed_without_network_pickle_or_other_programs(tmp_path):
    bag = tmp_path / 'drive.mcap'
    with BagWriter(bag) as writer:
        for frame in open_source('procedural:seed=3,duration=1,rate=5,width=160,height=96'):
            writer.write_image('/camera', frame.image, 'bgr8', frame.stamp_ns, frame.frame_id)
    done = subprocess.run(
        [sys.executable, '-c', WATCHED, 'replay', bag, '--out', tmp_path / 'out.mcap'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == 'seen: []'


@pytest.mark.parametrize(
    'address',
    ['http://127.0.0.1:9/drive.mp4', 'rtsp://127.0.0.1:9/drive', 'tcp://127.0.0.1:9'],
)
def test_an_address_is_no_source(address):
    with pytest.raises(SourceError, match=r'127\.0\.0\.1'):
        open_source(address)


def test_a_playlist_fetches_nothing(tmp_path):
    """FFmpeg follows what a playlist names: only files, and only from containers we know."""
    from http.server import BaseHTTPRequestHandler
    from http.server import HTTPServer
    from threading import Thread

    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(('127.0.0.1', 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{server.server_port}/secret.ts'
    for suffix in ('.mp4', '.avi', '.mkv'):
        path = tmp_path / f'drive{suffix}'
        path.write_text(
            f'#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}\n#EXT-X-ENDLIST\n'
        )
        with pytest.raises(SourceError):
            list(open_source(path))
    server.shutdown()
    server.server_close()
    assert asked == []
