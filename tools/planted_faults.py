"""Do the tests notice? Plants the faults of planted_faults.yml one at a time in a copy of the project, in the exported cell and in its module,
and runs the tests that should fail: the chapter of the module, or those that the entry names, until one fails.

    python tools/planted_faults.py                             all entries without a result, and those missed whose tests have changed
    python tools/planted_faults.py --only savings.rollout lora   of these modules
    python tools/planted_faults.py --again --jobs 2            also those that were not caught, two at a time
    python tools/planted_faults.py --list                      the entries and their results, nothing is run
    python tools/planted_faults.py --sound                     and run every test without a fault that no fault has passed

The file has two parts. `tests:` module -> its tests, if not its chapter. `faults:` module -> entries with
  before  text that stands exactly once in the module and in the exported cells of its notebook
  after   what is planted in its place
  tests   paths of notebooks or pytest ids, the fastest first, if not those of the module
  same    why this change changes nothing: such an entry is not run
Results are lines of runs/planted_faults.jsonl (git ignores it), so a call goes on where the last one ended.
"""
import argparse, ast, compileall, contextlib, hashlib, json, os, queue, shlex, shutil, signal, subprocess, sys, tempfile, threading, time
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import OFFLINE, ROOT, dumps, group, read, settings, source

LIST, RESULTS = Path(__file__).with_suffix('.yml'), ROOT/'runs'/'planted_faults.jsonl'
LIMIT = 900  # seconds that one test may take
NO_TEST = 4, 5  # exit codes of pytest: wrong words, and nothing that fits them
LEFT_OUT = shutil.ignore_patterns('.git', '__pycache__', '.pytest_cache', '.venv*', 'runs', 'out', 'build', 'dist', '_docs', '_proc', '*.egg-info')


# The list

def module_file(module, root=ROOT): return Path(root, 'vader_nb', *module.split('.')).with_suffix('.py')

def chapter(module):
    "The notebook of a module, as a path below the project: nbs/core/lora.ipynb"
    return f'nbs/{module.replace(".", "/") if "." in module else f"core/{module}"}.ipynb'

def entries(path=LIST):
    "Every fault as a dictionary with module, before, after, tests, same and an id"
    import yaml
    listed, res = yaml.safe_load(Path(path).read_text(encoding='utf-8')), []
    for module, faults in listed['faults'].items():
        for f in faults:
            if unknown := f.keys() - {'before', 'after', 'tests', 'same'}: raise ValueError(f'{module}: unknown {sorted(unknown)} in {f}')
            tests = f.get('tests') or (listed.get('tests') or {}).get(module) or [chapter(module)]
            key = json.dumps([module, f['before'], f['after']])
            res.append(dict(module=module, before=f['before'], after=f['after'], tests=tests, same=f.get('same'),
                            id=hashlib.sha256(key.encode()).hexdigest()[:12]))
    return res

def exported(nb):
    "The exported cells of a notebook"
    return [c for c in nb['cells'] if c['cell_type'] == 'code' and any(l.startswith(('#| export', '#|export')) for l in source(c).splitlines())]

@lru_cache(100)
def _texts(path, nb, *stamps):
    "The texts in which the text of an entry must stand once: the module, and all exported cells together"
    return path.read_text(encoding='utf-8'), '\0'.join(source(c) for c in exported(read(nb)))

def misfit(entry, root=ROOT):
    "What is wrong with an entry, or None: its text must stand once in module and notebook, and the planted module must be Python"
    path, nb, before = module_file(entry['module'], root), Path(root, chapter(entry['module'])), entry['before']
    if not path.exists() or not nb.exists(): return f'{entry["module"]}: no such module with a notebook'
    (text, cells), at = _texts(path, nb, *(p.stat().st_mtime_ns for p in (path, nb))), f'{entry["module"]}: {before!r}'
    if before == entry['after']: return f'{at}: before and after are equal'
    for n, where in ((text.count(before), path.name), (cells.count(before), nb.name)):
        if n != 1: return f'{at} stands {n} times in {where}, not once'
    try: ast.parse(text.replace(before, entry['after']))
    except SyntaxError as e: return f'{at}: what is planted is not Python: {e}'

def plant(entry, root):
    "Plant a fault in the copy `root`, in module and notebook"
    path, nb_path = module_file(entry['module'], root), Path(root, chapter(entry['module']))
    path.write_text(path.read_text(encoding='utf-8').replace(entry['before'], entry['after']), encoding='utf-8')
    nb = read(nb_path)
    for c in exported(nb): c['source'] = source(c).replace(entry['before'], entry['after']).splitlines(True)
    nb_path.write_text(dumps(nb), encoding='utf-8')

@contextlib.contextmanager
def planted(entry, root):
    "A fault in the copy `root`, inside a `with` block"
    kept = {p: p.read_bytes() for p in (module_file(entry['module'], root), Path(root, chapter(entry['module'])))}
    try: yield plant(entry, root)
    finally:
        for p, data in kept.items(): p.write_bytes(data)


# The server: a process in the copy that has imported what others wrote, and forks for every test

def _imports(root):
    "The import statements of the package that name other libraries"
    for p in sorted(Path(root, 'vader_nb').rglob('*.py')):
        for n in ast.walk(ast.parse(p.read_text(encoding='utf-8'))):
            if isinstance(n, ast.Import) or isinstance(n, ast.ImportFrom) and not n.level and not n.module.startswith('vader_nb'):
                yield ast.unparse(n)

def _child(test):
    "Run one test in this process, which ends with its result"
    if test.split('::')[0].endswith('.ipynb'):
        from tools.notebooks import execute
        return 0 if execute(ROOT/test) else 1
    import pytest
    return pytest.main(['-x', '-q', '-p', 'no:cacheprovider', '--assert=plain', '--rootdir', str(ROOT), *shlex.split(test)])

def _fork(test, log, limit):
    "Run one test in a process of its own: its exit status, None if it took too long"
    pid = os.fork()
    if not pid:
        os.setsid()
        out, nothing = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), os.open(os.devnull, os.O_RDONLY)
        for a, b in ((nothing, 0), (out, 1), (out, 2)): os.dup2(a, b)
        rc = 1
        try: rc = _child(test)
        except BaseException as e: print(f'{type(e).__name__}: {e}')
        finally:
            sys.stdout.flush()
            os._exit(int(rc))
    try:
        until, parent = time.time() + limit, os.getppid()
        while time.time() < until and os.getppid() == parent:  # without the tool there is nobody to answer
            done, status = os.waitpid(pid, os.WNOHANG)
            if done: return os.waitstatus_to_exitcode(status)
            time.sleep(.2)
    finally:
        with contextlib.suppress(ProcessLookupError): os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

def serve():
    "Read requests, a JSON line each, and answer them"
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    for line in [*dict.fromkeys(_imports(ROOT)), 'import pytest, matplotlib.pyplot', 'import nbdev.process, nbdev.clean', 'from execnb.shell import CaptureShell']:
        with contextlib.suppress(Exception): exec(line, {})
    for line in sys.stdin:
        rc = _fork(**json.loads(line))
        print(json.dumps(rc), file=answers, flush=True)

class Copy:
    "A copy of the project with its server"
    def __init__(self, folder):
        self.root = Path(shutil.copytree(ROOT, Path(folder)/'project', symlinks=True, ignore=LEFT_OUT))
        for part in ('vader_nb', 'tools', 'tests'): compileall.compile_dir(self.root/part, quiet=1)     # once; the tests' processes write none
        env = {**os.environ, **OFFLINE, 'PYTHONPATH': str(self.root), 'PYTHONDONTWRITEBYTECODE': '1', 'MPLBACKEND': 'Agg'}
        env.setdefault('OMP_NUM_THREADS', '1')  # a pool of threads would not survive the fork
        self.server = subprocess.Popen([sys.executable, self.root/'tools'/'planted_faults.py', '_serve'], cwd=self.root, env=env, text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.log = Path(folder)/'log'

    def test(self, test, limit=LIMIT):
        "('passed', 'failed' or 'out of time', seconds, where it failed)"
        start = time.time()
        print(json.dumps(dict(test=test, log=str(self.log), limit=limit)), file=self.server.stdin, flush=True)
        rc = json.loads(self.server.stdout.readline())
        said = self.log.read_text(encoding='utf-8', errors='replace') if self.log.exists() else ''
        if rc in NO_TEST and not test.endswith('.ipynb'): raise ValueError(f'{test}: pytest found no test: {said[-300:]}')
        return {None: 'out of time', 0: 'passed'}.get(rc, 'failed'), time.time() - start, _where(said)

    def close(self):
        self.server.stdin.close()
        self.server.wait()

def _where(said):
    "The line that says what failed: the cell or the test, and the error"
    lines = [l.strip() for l in said.splitlines() if l.strip(' =-')]
    cell = next((l.split(': ')[-1] for l in lines if l.endswith(' failed') and ': cell ' in l), '')
    named = [l for l in lines if l.startswith(('FAILED ', 'ERROR '))]
    return ' '.join([cell, *(named[:1] or lines[-1:])]).strip()[:300]

def replay(entry, copy, limit=LIMIT):
    "Plant one fault and run its tests until one fails: its result, a dictionary"
    res = dict(id=entry['id'], module=entry['module'], before=entry['before'], tests=entry['tests'], status='not caught', by=None, said='',
               seconds=0.)
    with planted(entry, copy.root):
        for t in entry['tests']:
            outcome, seconds, said = copy.test(t, limit)
            res['seconds'] = round(res['seconds'] + seconds, 1)
            res.setdefault('passed', []).extend([t] * (outcome == 'passed'))
            if outcome == 'failed': return res | dict(status='caught', by=t, said=said)
            if outcome == 'out of time': res['status'] = outcome
    return res


# The command

def results(path=RESULTS):
    "id -> the last result"
    if not Path(path).exists(): return {}
    return {r['id']: r for r in map(json.loads, Path(path).read_text(encoding='utf-8').splitlines())}

def _work(todo, jobs, each):
    "Call `each(item, copy)` for every item, with one copy of the project a job"
    waiting = queue.Queue()
    for e in todo: waiting.put(e)
    def job():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp:
            copy = Copy(tmp)
            with contextlib.suppress(queue.Empty):
                while True: each(waiting.get_nowait(), copy)
            copy.close()
    threads = [threading.Thread(target=job, daemon=True) for _ in range(min(jobs, len(todo)))]
    for t in threads: t.start()
    for t in threads: t.join()

def _noted(res, path=RESULTS):
    path.parent.mkdir(exist_ok=True)
    with path.open('a', encoding='utf-8') as f: f.write(json.dumps(res) + '\n')

def _line(entry, res):
    status = 'changes nothing' if entry['same'] else res['status'] if res else 'not run yet'
    change = f'{" ".join(entry["before"].split())[:70]!r} -> {" ".join(entry["after"].split())[:70]!r}'
    return f'{status:15s} {res["seconds"] if res else 0:6.1f} s  {entry["module"]}: {change}' + (f'\n{"":26s}{res["by"]}: {res["said"][:120]}' if res and res['by'] else '')

def summary(listed, found):
    "The closing line: how many entries there are, and the share that was caught of those that change something and were run"
    run = [found[e['id']]['status'] for e in listed if e['id'] in found and not e['same']]
    caught, same = run.count('caught'), sum(bool(e['same']) for e in listed)
    share = f'{100*caught/len(run):.1f}%' if run else 'none'
    return f'{len(listed)} entries: {caught} caught, {len(run) - caught} not caught, {same} change nothing, {len(listed) - same - len(run)} not run yet; {share} caught'

def sound(listed, jobs):
    "Tests that caught faults and passed with none: do they pass without a fault? Those that do not"
    found = [r for r in results().values() if r.get('by')]
    passed = {t for r in results().values() for t in r.get('passed', ())}
    bad, tests = [], sorted({r['by'] for r in found} - passed)
    def each(test, copy):
        outcome, seconds, said = copy.test(test)
        if outcome == 'passed': _noted(dict(id=f'without a fault: {test}', passed=[test]))
        else: bad.append(test)
        print(f'{outcome} without a fault {seconds:6.1f} s  {test} {said if outcome != "passed" else ""}', flush=True)
    _work(tests, jobs, each)
    return bad

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', metavar='MODULE', help='entries of these modules, such as sampling or savings.rollout')
    parser.add_argument('--again', action='store_true', help='also entries that were not caught before')
    parser.add_argument('--fresh', action='store_true', help='all entries, also those that were caught before')
    parser.add_argument('--list', action='store_true', help='show entries and results, run nothing')
    parser.add_argument('--jobs', type=int, default=1, help='copies of the project that work side by side')
    parser.add_argument('--sound', action='store_true', help='run tests without a fault that have only failed so far')
    a = parser.parse_args(argv)
    listed = [e for e in entries() if not a.only or e['module'] in a.only]
    if not listed: parser.error(f'no entries for {a.only}')
    if bad := [m for e in listed if (m := misfit(e))]: parser.error('\n'.join(bad))
    found = results()
    def due(e):
        res = found.get(e['id'])
        return not e['same'] and (not res or a.fresh or res['status'] != 'caught' and (a.again or res['tests'] != e['tests']))
    def each(entry, copy):
        _noted(res := replay(entry, copy))
        print(_line(entry, res), flush=True)
    if a.list: print(*[_line(e, found.get(e['id'])) for e in listed], sep='\n')
    else: _work([e for e in listed if due(e)], a.jobs, each)
    bad = sound(listed, a.jobs) if a.sound else []
    print(summary(listed, found := results()))
    return not bad and all(e['same'] or found.get(e['id'], {}).get('status') == 'caught' for e in listed)

if __name__ == '__main__': sys.exit(serve() if sys.argv[1:] == ['_serve'] else not main())
