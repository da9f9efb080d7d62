"""What must hold between notebooks, modules and package: each check takes the project's folder and returns a list of faults.

    python tools/project_gate.py
"""
import os, re, shutil, subprocess, sys, sysconfig, tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, name_of, notebooks, read, report, settings, stale

MAX_NOTEBOOK, MAX_WEIGHTS = 1_000_000, 16_000_000  # bytes
WEIGHTS = {'.safetensors', '.json', '.txt'}
LOCAL = re.compile(r'(?<![\w.:~/-])/(?:home|root|work|workspace|Users|mnt|opt|private|var/folders|tmp/tmp)\w*/?[\w./-]*'
                   r'|\b[A-Z]:\\Users\\')


def _copy(root, tmp):
    "The notebooks and settings of the project in the folder `tmp`"
    shutil.copy(Path(root)/'settings.ini', tmp)
    for p in notebooks(root):
        to = Path(tmp)/p.relative_to(root)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(p, to)

def _nbdev(command, cwd):
    "Run an nbdev command in `cwd`; without IN_TEST, which would turn nbdev_export into a no-op"
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    exe = Path(sysconfig.get_path('scripts'))/command
    subprocess.run([exe], cwd=cwd, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

def _modules(root):
    return {p.relative_to(root).as_posix(): p.read_text(encoding='utf-8') for p in Path(root, 'vader_nb').rglob('*.py')}

def export(root):
    "The modules are what the notebooks export"
    with tempfile.TemporaryDirectory() as tmp:
        _copy(root, tmp)
        _nbdev('nbdev_export', tmp)
        ours, made = _modules(root), _modules(tmp)
    return ([f'{n}: not exported (nbdev_export writes it)' for n in sorted(made.keys() - ours.keys())]
            + [f'{n}: no notebook exports it' for n in sorted(ours.keys() - made.keys())]
            + [f'{n}: differs from its notebook (nbdev_export writes it)'
               for n in sorted(made) if n in ours and ours[n] != made[n]])

def clean(root):
    "nbdev_clean leaves every notebook as it is"
    with tempfile.TemporaryDirectory() as tmp:
        _copy(root, tmp)
        _nbdev('nbdev_clean', tmp)
        changed = [p for p in notebooks(root) if p.read_bytes() != (Path(tmp)/p.relative_to(root)).read_bytes()]
    return [f'{name_of(p, root)}: not clean (python tools/notebooks.py clean)' for p in changed]

def sources(root):
    "Every cell's source is a list of lines"
    def good(s): return isinstance(s, list) and s == ''.join(s).splitlines(True)
    return [f'{name_of(p, root)}: cell {i}: source is not a list of lines' for p in notebooks(root)
            for i, c in enumerate(read(p)['cells']) if not good(c['source'])]

def _texts(output):
    "The texts of a stored output, without embedded images and videos"
    for t in [output.get('text', '')] + [v for k, v in output.get('data', {}).items() if k.startswith('text/')]:
        yield re.sub(r'base64,[\w+/=]+', '', ''.join(t))

def outputs(root):
    "Stored outputs hold no error and no path of the machine they were made on; notebooks stay small"
    faults = []
    for p in notebooks(root):
        if p.stat().st_size > MAX_NOTEBOOK: faults.append(f'{name_of(p, root)}: {p.stat().st_size} bytes, more than {MAX_NOTEBOOK}')
        for i, c in enumerate(read(p)['cells']):
            for o in c.get('outputs', []):
                if o['output_type'] == 'error': faults.append(f'{name_of(p, root)}: cell {i}: stored error {o["ename"]}')
                faults += [f'{name_of(p, root)}: cell {i}: local path {m[0]!r}' for t in _texts(o) for m in LOCAL.finditer(t)]
    return faults

def fresh(root):
    "Stored outputs belong to the code"
    flags = settings(root)['tst_flags'].split()
    return [f'{name_of(p, root)}: outputs are not of the present code: {", ".join(s)} (python tools/notebooks.py run)'
            for p in notebooks(root) if (s := stale(read(p), flags))]

def weights(root):
    "The shipped weights are small, and files that run no code when loaded"
    files = [p for p in Path(root, 'vader_nb').rglob('weights/**/*') if p.is_file()]
    total = sum(p.stat().st_size for p in files)
    faults = [f'{p.relative_to(root)}: only {", ".join(sorted(WEIGHTS))} may be shipped'
              for p in files if p.suffix not in WEIGHTS]
    return faults + [f'weights: {total} bytes in all, more than {MAX_WEIGHTS}'] * (total > MAX_WEIGHTS)

def wheel(root, names):
    "`names`, the files of a wheel, hold every module and weight file of the package"
    files = [p.relative_to(root).as_posix() for pattern in ('**/*.py', '**/weights/**/*')
             for p in Path(root, 'vader_nb').glob(pattern) if p.is_file()]
    return [f'not in the wheel: {n}' for n in sorted(set(files) - set(names))]

def versions(root):
    "settings.ini, the package and the changelog name one version"
    want = settings(root)['version']
    found = {'vader_nb/__init__.py': r'__version__ = "([^"]+)"', 'CHANGELOG.md': r'^## (\S+)'}
    got = {n: re.search(r, (Path(root)/n).read_text(encoding='utf-8'), re.M) for n, r in found.items()}
    return [f'{n}: version {m and m[1]}, but settings.ini says {want}' for n, m in got.items() if not m or m[1] != want]

CHECKS = [export, clean, sources, outputs, fresh, weights, versions]

def faults(root=ROOT): return [f for check in CHECKS for f in check(root)]

if __name__ == '__main__': report(faults())
