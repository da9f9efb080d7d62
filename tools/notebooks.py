"""Execute, check and clean notebooks by nbdev's rules.

    python tools/notebooks.py run nbs/core/video.ipynb             execute, store outputs, stamp the digest
    python tools/notebooks.py run --flags "slow cuda" nbs/x.ipynb  also the cells tagged slow and cuda
    python tools/notebooks.py test nbs/core/video.ipynb            execute, store nothing
    python tools/notebooks.py check                                do the stored outputs belong to the code?
    python tools/notebooks.py vouch --made-by 0.2.0 nbs/x.ipynb    only names changed in its skipped cells since that version made their outputs
    python tools/notebooks.py clean                                nbdev's cleaning, sources as lists of lines
"""
import argparse, gc, hashlib, io, json, multiprocessing, os, re, signal, subprocess, sys, tempfile, time, tokenize
from configparser import ConfigParser
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from threading import Timer

ROOT = Path(__file__).resolve().parent.parent
WIDGET = 'application/vnd.jupyter.widget-view+json'
MAX_LINES, MAX_CHARS = 80, 8000  # of one stored text output
LIMIT, LIMIT_FORCED = 600, 6*3600  # seconds that a notebook may take; with cells that are normally skipped
OFFLINE = dict(IN_TEST='1', HF_HUB_OFFLINE='1', TRANSFORMERS_OFFLINE='1', TOKENIZERS_PARALLELISM='false',
               PYTHONHASHSEED='0')
PRELOAD = ['torch', 'diffusers', 'transformers', 'peft', 'matplotlib.pyplot', 'execnb.shell']  # 5 s of imports, for most notebooks


def settings(root=ROOT):
    "The `[DEFAULT]` section of settings.ini"
    ini = ConfigParser(delimiters=['='])
    ini.read(Path(root)/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']

def notebooks(root=ROOT):
    "Every notebook of the project"
    return sorted(p for p in Path(root, 'nbs').rglob('*.ipynb') if not any(o[0] in '._' for o in p.relative_to(root).parts))

def name_of(path, root=ROOT):
    "A notebook's path below nbs, such as core/video.ipynb"
    return Path(path).relative_to(Path(root)/'nbs').as_posix()

def read(path): return json.loads(Path(path).read_text(encoding='utf-8'))
def write(nb, path): Path(path).write_text(dumps(nb), encoding='utf-8')
def dumps(nb): return json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n'
def source(cell): return ''.join(cell['source'])
def report(faults):
    "Print what a gate has found and end, with status 1 if that is anything"
    print(*faults, sep='\n')
    sys.exit(bool(faults))


# Which cells run: nbdev's rules

def directives(cell):
    "nbdev's directives of `cell`, as a dict of argument lists, and the source without them"
    from execnb.nbio import NbCell
    from nbdev.process import extract_directives
    c = NbCell(0, dict(cell_type=cell['cell_type'], source=source(cell), id='0'))
    return extract_directives(c), c.source

def group(cell, flags):
    "'code' if `cell` always runs, its test flags (as 'slow cuda') if it needs them, None if it never runs"
    if cell['cell_type'] != 'code' or 'nbdev_export(' in source(cell): return None
    d, _ = directives(cell)
    if d.get('eval:', [''])[0].lower() == 'false': return None
    return ' '.join(f for f in flags if f in d) or 'code'

def runs(g, force=()):
    "Do the cells of group `g` run when the flags `force` are given?"
    return g is not None and (g == 'code' or set(g.split()) <= set(force))


# Is a stored output of the code above it?

def essence(code):
    "`code` without comments and layout, which no output depends on: a text that is equal where the tokens are"
    SILENT, MARKS = {tokenize.COMMENT, tokenize.NL}, {tokenize.INDENT: '>', tokenize.DEDENT: '<', tokenize.NEWLINE: ';'}
    out, nested, lines = [], 0, code.splitlines(True)
    for t in tokenize.generate_tokens(io.StringIO(code).readline):
        kind = tokenize.tok_name[t.type]
        if kind == 'FSTRING_START':  # from Python 3.12 on an f-string is many tokens; taken whole, as before
            nested, start = nested + 1, start if nested else t.start
        elif kind == 'FSTRING_END' and nested == 1: out.append(_between(lines, start, t.end))
        elif not nested and t.type not in SILENT: out.append(MARKS.get(t.type, t.string))
        nested -= kind == 'FSTRING_END'
    return ' '.join(out)

def _between(lines, start, end):
    "The text of `lines` from (row, column) to (row, column)"
    (a, left), (b, right) = start, end
    if a == b: return lines[a - 1][left:right]
    return lines[a - 1][left:] + ''.join(lines[a:b - 1]) + lines[b - 1][:right]

def _essence(code):
    try: return essence(code)
    except (tokenize.TokenError, SyntaxError): return code  # a cell magic or a shell command

def digests(nb, flags):
    "A digest of the code cells of each group; comments and layout do not matter"
    res = {}
    for c in nb['cells']:
        if g := group(c, flags): res.setdefault(g, hashlib.sha256()).update(_essence(source(c)).encode() + b'\0')
    return {g: h.hexdigest()[:16] for g, h in res.items()}

def stamp(nb, flags, force=()):
    "Write the digests of the groups just run into the metadata; keep those of skipped groups that still exist"
    old, new = nb['metadata'].get('vader_nb', {}), digests(nb, flags)
    kept = {g: old[g] for g in new if g in old and not runs(g, force)}
    by = {g: v for g, v in old.get('made_by', {}).items() if g in kept}
    nb['metadata']['vader_nb'] = kept | {g: h for g, h in new.items() if runs(g, force)} | (dict(made_by=by) if by else {})

def vouch(nb, flags, version):
    "Stamp the skipped groups that have outputs: an earlier version made them, and only names in the code have changed since"
    shown = {group(c, flags) for c in nb['cells'] if c.get('outputs')} - {'code', None}
    own, new = nb['metadata'].setdefault('vader_nb', {}), digests(nb, flags)
    for g in sorted(shown):
        if own.get(g) != new[g]: own.update({g: new[g]}, made_by=own.get('made_by', {}) | {g: version})

def stale(nb, flags):
    "The groups of cells whose stored outputs are not of the present code"
    shown = {group(c, flags) for c in nb['cells'] if c.get('outputs')}
    stamped = nb['metadata'].get('vader_nb', {})
    return [g for g, h in digests(nb, flags).items() if stamped.get(g) != h and (g == 'code' or g in shown)]


# Stored outputs

def tidy_text(text):
    "`text` without paths of this machine, progress-bar redraws and excess length"
    text = re.sub(r'[^\n]*\r(?!\n)|[^\n]*\d%\|[^\n]*(it|s)\][^\n]*\n?', '', text)
    text = text.replace(f'{ROOT}/', '').replace(str(ROOT), '.')
    text = re.sub(r'/[^\s"\']*/site-packages/', 'site-packages/', text)
    text = re.sub(re.escape(tempfile.gettempdir()) + r'/tmp\w{8}\b', '/tmp', text)
    text = text.replace(f'{Path.home()}/', '~/')
    lines = text.splitlines(True)
    if len(lines) > MAX_LINES or len(text) > MAX_CHARS:
        text = ''.join(lines[:MAX_LINES])[:MAX_CHARS].rstrip('\n') + '\n...'
    return text

def tidy(outputs):
    "Outputs to store: no stderr, widget views, axes of a plot or execution counts; texts made independent of this machine"
    res = []
    for o in json.loads(json.dumps(outputs)):
        if o.get('name') == 'stderr' or WIDGET in o.get('data', {}) or ''.join(o.get('data', {}).get('text/plain', '')).startswith('<Axes'): continue
        if 'execution_count' in o: o['execution_count'] = None
        if 'image/png' in o.get('data', {}): o['data'].pop('image/jpeg', None)  # the same picture twice
        if 'text' in o: o['text'] = tidy_text(''.join(o['text'])).splitlines(True)
        for k, v in o.get('data', {}).items():
            if k in ('text/plain', 'text/markdown'): o['data'][k] = tidy_text(''.join(v)).splitlines(True)
        res.append(o)
    return res

def clean(nb, cfg):
    "nbdev's cleaning of `nb`, in place, and every cell's source as a list of lines"
    from nbdev.clean import clean_nb
    for c in nb['cells']: c['source'] = source(c).splitlines(True)
    clean_nb(nb, allowed_metadata_keys=cfg.get('allowed_metadata_keys', '').split(),
             allowed_cell_metadata_keys=cfg.get('allowed_cell_metadata_keys', '').split(),
             clean_ids=cfg.getboolean('clean_ids', True))
    return nb


# Execution

def label(path):
    "What a notebook is called in messages: its path below nbs, or its name elsewhere"
    return name_of(path) if Path(path).is_relative_to(ROOT/'nbs') else Path(path).name

def _report_failure(path, i, cell, outs):
    print(f'\n{"=" * 78}\n{label(path)}: cell {i} failed\n{"-" * 78}\n{source(cell)}\n{"-" * 78}')
    for o in outs: print(''.join(o.get('text') or o.get('traceback', [])[-1:]), end='')
    print('=' * 78, flush=True)

def _run_cell(shell, cell):
    "Run one cell; show its warnings here, since stored outputs leave them out"
    t = time.time()
    outs = shell.run(directives(cell)[1])
    err = tidy_text(''.join(''.join(o['text']) for o in outs if o.get('name') == 'stderr')).strip()
    return outs, time.time() - t, err

def execute(path, force=(), store=False):
    "Run the cells of the notebook `path` in this process, from its folder; True if all pass"
    from execnb.shell import CaptureShell
    path, cfg = Path(path).resolve(), settings()
    flags, nb = cfg['tst_flags'].split(), read(path)
    os.chdir(path.parent)
    sys.path.insert(0, str(ROOT))
    shell = CaptureShell(path, mpl_format='png')
    shell.colors = 'nocolor'
    for i, cell in enumerate(nb['cells']):
        if not runs(group(cell, flags), force): continue
        outs, secs, err = _run_cell(shell, cell)
        first = next((l for l in source(cell).splitlines() if l.strip() and not l.startswith('#|')), '')
        if secs > 1: print(f'  cell {i:3d} {secs:6.1f} s  {first[:80]}', flush=True)
        if err: print(f'  cell {i:3d} stderr: {err[-600:]}', flush=True)
        if shell.exc:
            _report_failure(path, i, cell, outs)
            return False
        cell['outputs'] = tidy(outs)
    if store:
        stamp(nb, flags, force)
        write(clean(nb, cfg), path)
    return True

def _kill(p):
    "End the process `p` and those that it started"
    try: os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError: pass

def spawn(path, force=(), store=False, timeout=None, live=True):
    "`execute` in a fresh process, off line unless `force` has 'net': (passed, seconds, what it printed)"
    timeout = timeout or (LIMIT_FORCED if force else LIMIT)
    cmd = [sys.executable, __file__, '_exec', str(path), '--flags', ' '.join(force)] + ['--store'] * store
    env = {**os.environ, **OFFLINE}
    if 'net' in force: env.update(HF_HUB_OFFLINE='0', TRANSFORMERS_OFFLINE='0')
    t, log = time.time(), []
    p = subprocess.Popen(cmd, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors='replace', start_new_session=True)
    timer = Timer(timeout, _kill, [p])
    timer.start()
    try:
        for line in p.stdout:
            log.append(line)
            if live: print(line, end='', flush=True)
        rc = p.wait()
    finally:
        timer.cancel()
        _kill(p)
    if rc < 0: log.append(f'killed by signal {-rc} after {time.time() - t:.0f} s (limit {timeout} s)\n')
    return rc == 0, time.time() - t, ''.join(log)

@cache
def _server():
    "Start a process that imports `PRELOAD` and the library once, off line, and forks a process for each notebook"
    context, env = multiprocessing.get_context('forkserver'), dict(os.environ)
    own = ['.'.join(p.relative_to(ROOT).with_suffix('').parts) for p in sorted(ROOT.glob('vader_nb/**/[!_]*.py'))]
    context.set_forkserver_preload(PRELOAD + own)
    os.environ.update(OFFLINE)
    try: forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(env)
    return context

def _forked(path, log):
    "`execute` in a fork of the server: in a session of its own, with all that it prints in the file `log`"
    os.setsid()
    gc.freeze()     # half a million objects of the libraries, which each full collection would go through and copy
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2): os.dup2(out, stream)
    passed = execute(path)
    sys.stdout.flush()
    sys.exit(not passed)

def fork(path, timeout=None):
    "`spawn` for cells that always run, without the time that imports take: (passed, seconds, what it printed)"
    timeout, t = timeout or LIMIT, time.time()
    with tempfile.NamedTemporaryFile(mode='r', suffix='.log', errors='replace') as log:
        p = _server().Process(target=_forked, args=(path, log.name))
        p.start()
        p.join(timeout)
        rc = p.exitcode
        _kill(p)
        p.kill()
        p.join()
        text = log.read()
    if rc is None: text += f'killed after {time.time() - t:.0f} s (limit {timeout} s)\n'
    elif rc < 0: text += f'killed by signal {-rc} after {time.time() - t:.0f} s\n'
    return rc == 0, time.time() - t, text


# The command

def _each_run(paths, force, store, timeout):
    ok = True
    for p in paths:
        print(label(p), flush=True)
        passed, secs, _ = spawn(p, force, store, timeout)
        print(f'{"passed" if passed else "FAILED"} {secs:6.1f} s  {p.stat().st_size / 1000:.0f} kB  {label(p)}', flush=True)
        ok &= passed
    return ok

def _each_check(paths, cfg):
    bad = [(p, s) for p in paths if (s := stale(read(p), cfg['tst_flags'].split()))]
    for p, s in bad: print(f'stale outputs ({", ".join(s)}): {p}')
    return not bad

def _each_vouch(paths, cfg, version):
    for p in paths:
        nb = read(p)
        vouch(nb, cfg['tst_flags'].split(), version)
        write(clean(nb, cfg), p)
    return True

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'test', 'check', 'vouch', 'clean', '_exec'])
    parser.add_argument('paths', nargs='*', type=Path, help='notebooks (default: all)')
    parser.add_argument('--flags', default='', help='test flags to run that are normally skipped, as "slow cuda"')
    parser.add_argument('--timeout', type=int, help=f'seconds that a notebook may take (default: {LIMIT}, with --flags {LIMIT_FORCED})')
    parser.add_argument('--made-by', help='with vouch: the version whose outputs the skipped cells show')
    parser.add_argument('--store', action='store_true', help=argparse.SUPPRESS)
    a = parser.parse_intermixed_args(argv)
    paths, cfg, force = [p.resolve() for p in a.paths] or notebooks(), settings(), a.flags.split()
    if bad := set(force) - set(cfg['tst_flags'].split()): parser.error(f'unknown flags {bad}; known: {cfg["tst_flags"]}')
    if a.command == '_exec': return execute(paths[0], force, a.store)
    if a.command == 'check': return _each_check(paths, cfg)
    if a.command == 'vouch': return _each_vouch(paths, cfg, a.made_by or parser.error('vouch needs --made-by VERSION'))
    if a.command == 'clean': return [write(clean(read(p), cfg), p) for p in paths] is not None
    return _each_run(paths, force, a.command == 'run', a.timeout)

if __name__ == '__main__': sys.exit(not main())
