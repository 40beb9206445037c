# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Feeds every parser of outside data with what breaks parsers: python benchmarks/fuzz.py.

Coverage-guided by atheris (extra `fuzz`), or as hypothesis draws it; the targets are those of
test/fuzz_targets.py. Counts add up in OUT/counts.jsonl, inputs that are findings lie in
OUT/findings/TARGET, to be moved to test/corpus/TARGET once they are fixed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from reporting import machine
from reporting import table
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'test'))

ENGINES = ('atheris', 'hypothesis')
INSTRUMENTED = ['seg_uncertainty_ros', 'yaml', 'zipfile', 'rosbags', 'jsonschema', 'numpy.lib']
ADDRESS_SPACE = 2**32
"""Above what a target has mapped at its start: what asks for more gets a MemoryError."""
MAX_INPUT_BYTES = 2**16
HANG_S = 60
"""Until libFuzzer ends a process; a second of processor time is a finding before."""
BATCH = 10_000
BEGIN, END = '<!-- counts -->', '<!-- end of counts -->'


class Run:
    """Counts the cases of one target and keeps the inputs that are findings."""

    def __init__(self, name, runs, out):
        from fuzz_targets import FindingError
        from fuzz_targets import check

        self._check, self._error = check, FindingError
        self.name, self.runs = name, runs
        self.counts = Counter()
        self._findings = out / 'findings' / name
        self._known = {}
        self._start = time.process_time()
        self._bar = tqdm(total=runs, desc=name, unit='case', mininterval=2.0, dynamic_ncols=False)

    def feed(self, data):
        """Run one case."""
        self.counts['cases'] += 1
        try:
            refusal = self._check(self.name, data)
        except self._error as error:
            self._keep(data, str(error))
        else:
            self.counts['refused' if refusal else 'taken'] += 1
        self._bar.update()

    @property
    def done(self):
        return self.counts['cases'] >= self.runs

    def _keep(self, data, message):
        """Keep the shortest input of each message, whatever numbers are in it."""
        kind = re.sub(r'[^A-Za-z ]+', '#', message)[:80]
        if len(data) >= self._known.get(kind, 1 << 30):
            return
        if kind not in self._known:
            tqdm.write(f'finding: {message}', file=sys.stderr)
            self.counts['findings'] += 1
        self._known[kind] = len(data)
        self._findings.mkdir(parents=True, exist_ok=True)
        stem = hashlib.sha256(kind.encode()).hexdigest()[:12]
        (self._findings / stem).write_bytes(data)
        (self._findings / f'{stem}.txt').write_text(message + '\n', 'utf-8', 'backslashreplace')

    def record(self):
        self._bar.close()
        seconds = time.process_time() - self._start
        return {'target': self.name, 'seconds': round(seconds, 1), **self.counts}


def limit_memory():
    pages = int(Path('/proc/self/statm').read_text('ascii').split()[0])
    size = pages * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def fuzz(options):
    """Run one target in this process; write its counts."""
    name, engine = options.target[0], options.engine
    if engine == 'atheris':
        import atheris

        context = atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False)
    else:
        context = nullcontext()
    with context:
        from fuzz_targets import TARGETS
        from fuzz_targets import prepare
        from fuzz_targets import scratch

        prepare(name)
    limit_memory()
    run = Run(name, options.runs, options.out)

    def finish():
        line = json.dumps({'engine': engine, 'seed': options.seed, **run.record()})
        with (options.out / 'counts.jsonl').open('a', encoding='utf-8') as file:
            file.write(line + '\n')

    def end(*_):
        finish()
        shutil.rmtree(scratch(), ignore_errors=True)
        os._exit(0)  # libFuzzer's own way out waits for threads of others

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if engine == 'hypothesis':
        by_hypothesis(run, TARGETS[name], options.seed)
        finish()
        return

    def feed(data):
        if run.done:
            end()
        run.feed(data)

    atheris.Setup(arguments(name, TARGETS[name], options), feed)
    atheris.Fuzz()


def by_hypothesis(run, target, seed):
    from fuzz_strategies import inputs
    from hypothesis import HealthCheck
    from hypothesis import Phase
    from hypothesis import given
    from hypothesis import seed as seeded
    from hypothesis import settings

    while not run.done:
        examples = min(BATCH, run.runs - run.counts['cases'])

        @seeded(seed + run.counts['cases'])
        @settings(
            max_examples=examples,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(inputs(target))
        def feed(data):
            run.feed(data)

        feed()


def arguments(name, target, options):
    """Return libFuzzer's: valid inputs and known findings to start from, words, limits."""
    corpus = options.out / 'corpus' / name
    corpus.mkdir(parents=True, exist_ok=True)
    known = [path.read_bytes() for path in (ROOT / 'test' / 'corpus' / name).glob('*')]
    for data in (*target.seeds(), *known):
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    words = options.out / f'{name}.dict'
    tokens = [token for token in target.tokens if 0 < len(token) < 64]
    words.write_text(''.join(f'"{escaped(token)}"\n' for token in tokens))
    findings = options.out / 'findings' / name
    findings.mkdir(parents=True, exist_ok=True)
    return [
        sys.argv[0],
        f'-max_len={MAX_INPUT_BYTES}',
        '-len_control=0',
        f'-timeout={HANG_S}',
        '-rss_limit_mb=4096',
        '-verbosity=0',
        '-handle_term=0',
        '-handle_int=0',
        f'-seed={options.seed + 1}',
        f'-artifact_prefix={findings}/crash-',
        *([f'-dict={words}'] if tokens else []),
        str(corpus),
    ]


def escaped(token):
    return ''.join(f'\\x{byte:02x}' for byte in token)


def report(out):
    """Return the counts of all runs so far as a table."""
    sums = {}
    file = out / 'counts.jsonl'
    for line in file.read_text('utf-8').splitlines() if file.exists() else ():
        content = json.loads(line)
        counts = sums.setdefault(content['target'], Counter())
        counts[content['engine']] += content['cases']
        for key in ('cases', 'seconds', 'taken', 'findings'):
            counts[key] += content.get(key, 0)
        counts['last'] = content.get('findings', 0)
    total = Counter()
    for counts in sums.values():
        total.update(counts)
    header = ['target', *ENGINES, 'all cases', 'taken', 'CPU s', 'findings', 'of the last run']
    rows = [
        [
            name,
            *(f'{counts[key]:,}' for key in (*ENGINES, 'cases')),
            f'{counts["taken"] / max(1, counts["cases"]):.0%}',
            f'{counts["seconds"]:.0f}',
            counts['findings'],
            counts['last'],
        ]
        for name, counts in [*sorted(sums.items()), ('**all**', total)]
    ]
    return table(header, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--target', action='append', help='only this one; may be repeated')
    parser.add_argument('--runs', type=int, default=10_000, help='cases of each target')
    parser.add_argument('--engine', choices=ENGINES, default='atheris')
    parser.add_argument('--out', type=Path, default=Path('fuzz_out'))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--report', action='store_true', help='only print the counts so far')
    parser.add_argument('--page', type=Path, help='write the counts into this page')
    parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.child:
        fuzz(options)
        return 0
    failed = 0
    if not options.report:
        failed = run_all(options)
    text = f'{machine()}\n\n{report(options.out)}'
    print(text)
    if options.page:
        page = options.page.read_text('utf-8')
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        options.page.write_text(f'{before}{BEGIN}\n{text}\n{END}{after}', 'utf-8')
    return failed


def run_all(options):
    """Run each target in a process of its own: a crash of a library is a finding too."""
    from fuzz_targets import TARGETS

    unknown = set(options.target or ()) - set(TARGETS)
    if unknown:
        raise SystemExit(f'{", ".join(unknown)}: none of {", ".join(TARGETS)}')
    failed = 0
    for name in options.target or TARGETS:
        command = [sys.executable, __file__, '--child', '--target', name]
        command += ['--runs', str(options.runs), '--engine', options.engine]
        command += ['--out', str(options.out), '--seed', str(options.seed)]
        ended = subprocess.run(command, check=False)
        if ended.returncode:
            print(f'{name}: ended with {ended.returncode}, see {options.out}/findings/{name}')
            failed = 1
    return failed


if __name__ == '__main__':
    sys.exit(main())
