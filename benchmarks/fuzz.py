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
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

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
COUNTS = 'counts.jsonl'
BROKEN = 2
BEGIN, END = '<!-- counts -->', '<!-- end of counts -->'


class Run:
    """Counts the cases of one target and keeps the inputs that are findings."""

    def __init__(self, name, runs, out):
        from fuzz_targets import FindingError
        from fuzz_targets import check

        self._check, self._error = check, FindingError
        self.name, self.runs = name, runs
        self.counts = Counter()
        self.folder = out / 'findings' / name
        self.folder.mkdir(parents=True, exist_ok=True)
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
    def left(self):
        return max(0, self.runs - self.counts['cases'])

    def _keep(self, data, message):
        """Keep the shortest input of each message, whatever numbers are in it."""
        kind = re.sub(r'[^A-Za-z ]+', '#', message)[:80]
        if len(data) >= self._known.get(kind, 1 << 30):
            return
        if kind not in self._known:
            tqdm.write(f'finding: {self.name}: {message}', file=sys.stderr)
            self.counts['findings'] += 1
        self._known[kind] = len(data)
        stem = hashlib.sha256(kind.encode()).hexdigest()[:12]
        (self.folder / stem).write_bytes(data)
        (self.folder / f'{stem}.txt').write_text(message + '\n', 'utf-8', 'backslashreplace')

    def record(self):
        self._bar.close()
        seconds = time.process_time() - self._start
        return {'target': self.name, 'seconds': round(seconds, 1), **self.counts}


def limit_memory():
    pages = int(Path('/proc/self/statm').read_text('ascii').split()[0])
    size = pages * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def run_all(options):
    """Run each target in a process of its own: a crash of a library is a finding too.

    Return the exit status, 1 where something was found.
    """
    # What was imported before is not instrumented: NumPy was not, zipfile was, by others.
    sys.modules.pop('zipfile', None)
    with instrumented(options.engine):
        from fuzz_seeds import folder
        from fuzz_targets import TARGETS

    unknown = set(options.target or ()) - set(TARGETS)
    if unknown:
        raise SystemExit(f'{", ".join(unknown)}: none of {", ".join(TARGETS)}')
    folder('inputs')  # this process removes it, however the others end
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed = 0
    for name in options.target or TARGETS:
        child = os.fork()
        if not child:
            try:
                fuzz(name, options)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(BROKEN)
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except (KeyboardInterrupt, SystemExit):
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            raise
        if status:
            failed = 1
            print(f'{name}: ended with {status}, see {options.out}/findings/{name}')
        if status not in (0, 1, BROKEN):  # a crash or a hang, in a process that could not count
            note(options, {'target': name, 'status': status, 'cases': 1, 'findings': 1})
    return failed


def instrumented(engine):
    if engine != 'atheris':
        return nullcontext()
    import atheris

    return atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False)


def note(options, counts):
    with (options.out / COUNTS).open('a', encoding='utf-8') as file:
        file.write(json.dumps({'engine': options.engine, 'seed': options.seed, **counts}) + '\n')


def fuzz(name, options):
    """Run one target and end this process: status 1 where something was found."""
    from fuzz_strategies import draw_each
    from fuzz_targets import TARGETS
    from fuzz_targets import prepare

    with instrumented(options.engine):
        prepare(name)
    target = TARGETS[name]
    limit_memory()
    run = Run(name, options.runs, options.out)
    last = run.folder / 'last'

    def end(*_):
        last.unlink(missing_ok=True)
        note(options, run.record())
        os._exit(bool(run.counts['findings']))  # libFuzzer's own way out waits for threads

    def feed(data):
        if not run.left:
            end()
        run.feed(data)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if options.engine == 'atheris':
        import atheris

        atheris.Setup(arguments(name, target, options), feed)
        atheris.Fuzz()
    else:
        while run.left:
            draw_each(
                target,
                lambda data: (last.write_bytes(data), run.feed(data)),  # a crash leaves it
                min(BATCH, run.left),
                options.seed + run.counts['cases'],
            )
        end()


def arguments(name, target, options):
    """Return libFuzzer's: valid inputs and known findings to start from, words, limits."""
    from fuzz_strategies import tokens

    corpus = options.out / 'corpus' / name
    corpus.mkdir(parents=True, exist_ok=True)
    known = [path.read_bytes() for path in (ROOT / 'test' / 'corpus' / name).glob('*')]
    for data in (*target.seeds, *known):
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    words = options.out / f'{name}.dict'
    words.write_text(''.join(f'"{escaped(word)}"\n' for word in tokens(target) if len(word) < 64))
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
        f'-artifact_prefix={options.out}/findings/{name}/crash-',
        *([f'-dict={words}'] if words.stat().st_size else []),
        str(corpus),
    ]


def escaped(token):
    return ''.join(f'\\x{byte:02x}' for byte in token)


def report(out):
    """Return the machine, and the counts of all runs so far as a table."""
    from reporting import machine  # not above: it imports NumPy, before it is instrumented
    from reporting import table

    sums = {}
    file = out / COUNTS
    for line in file.read_text('utf-8').splitlines() if file.exists() else ():
        content = json.loads(line)
        counts = sums.setdefault(content['target'], Counter())
        counts[content['engine']] += content.get('cases', 0)
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
    return f'{machine()}\n\n{table(header, rows)}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--target', action='append', help='only this one; may be repeated')
    parser.add_argument('--runs', type=int, default=10_000, help='cases of each target')
    parser.add_argument('--engine', choices=ENGINES, default='atheris')
    parser.add_argument('--out', type=Path, default=Path('fuzz_out'))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--report', action='store_true', help='only print the counts so far')
    parser.add_argument('--page', type=Path, help='write the counts into this page')
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    failed = 0 if options.report else run_all(options)
    text = report(options.out)
    print(text)
    if options.page:
        page = options.page.read_text('utf-8')
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        options.page.write_text(f'{before}{BEGIN}\n{text}\n{END}{after}', 'utf-8')
    return failed


if __name__ == '__main__':
    sys.exit(main())
