"""How close is close? Every tolerance of a test is one of these, and here each is argued, once.

The same code gives other last digits on another machine: MKL, oneDNN and PyTorch choose their kernels by the vendor of the processor, by its vector width
and by the number of threads. What is compared bit by bit must have gone through the same kernels; anything else is bounded by how much arithmetic lies in between.

    python tools/tolerances.py                                         the tolerances in notebooks and tests that are none of these
    python tools/tolerances.py measure nbs/core/lora.ipynb [...]       run notebooks with the kernels of this machine and with those below, and print for
                                                                       each tolerance the largest error that was compared with it
"""
import ast, json, os, subprocess, sys, tempfile
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import OFFLINE, ROOT, label, notebooks, read, report, source

ULP = 2**-24    # what rounding to float32 changes at most, relative to the number
# tolerance -> what may lie between two results that it compares, and why it is enough. Errors are relative to the largest number, or the numbers are near 1.
CLASSES = {
    1e-9: 'float64, anything: rounding leaves 1e-16 an operation, and 1e-12 after a network; all that is more is a fault. (Also 1e-10 to 1e-14, where little is computed.)',
    1e-7: 'float32, one operation and nothing else: half an ulp on each side',
    1e-6: 'float32, a formula: a dozen roundings of 6e-8, or the sum of some hundred numbers in another order',
    1e-5: 'float32, a network: other orders of summation through some ten layers leave 3e-6 of the largest output; a factor of 1.0001 in one embedding shows as 6e-5',
    1e-4: 'float32, networks in a row (a sampler, a few updates) or a gradient through them: each multiplies what the one before has left',
    1e-3: 'float32, a gradient through many steps, a difference of nearly equal numbers, or numbers that were stored as float16 (5e-4)'}
ROUGH = 2e-3    # from here on it is no rounding: a sample's error, a curve's distance, a rate; the text beside it says which

# Kernels of other machines, as far as one machine has them: MKL as on processors of other vendors, PyTorch and oneDNN without wide vectors
KERNELS = {'this machine': {}, 'MKL of other vendors': dict(MKL_CBWR='COMPATIBLE'),
           'narrow vectors': dict(ATEN_CPU_CAPABILITY='default', ONEDNN_MAX_CPU_ISA='SSE41', MKL_CBWR='COMPATIBLE'), 'two threads': dict(OMP_NUM_THREADS='2')}

# Of the recorded vectors, relative to the largest number. SINGLE: a network in float32, measured at most 3e-6 on MKL's paths for Intel and for others. DOUBLE: the
# same in float64. FLOW: RAFT, of which a flow feeds the next iteration: rounding grows through twenty of them, to 2.5e-5 in the official code itself. FRAME: AMT,
# where flows of one level are looked up on the next: 7e-6 in the official code.
SINGLE, DOUBLE, FLOW, FRAME = 1e-5, 1e-9, 2e-4, 1e-4

def wave_tolerance(
    largest,    # of the numbers x that are embedded
):
    """Of cos(x f) and sin(x f) in float32, with frequencies f up to 1

    Exponentials of two vendors differ by an ulp, so f by 2^-24 and the phase by 2^-24 x. Each of the two phases is rounded, by half
    an ulp, 2^-24 x. The wave itself is good to an ulp, at most 2^-24, in both. That is 1.7e-4 for a timestep of 937, where one ulp of
    the phase is 6e-5; a base of 9999 for 10000 is off by 4e-3."""
    return (3*abs(float(largest)) + 2)*ULP


# The tolerances that are written down

CLOSE = {'test_close': 2, 'close': 2, 'allclose': None, 'approx': None, 'isclose': None, 'Check': 3}    # the argument that is a tolerance, counted from 0
NAMES = 'eps', 'atol', 'rtol', 'abs', 'rel', 'tol'

def _literals(node):
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and type(n.value) is float]

def _bounds(compare):
    "What is on the larger side of a comparison"
    sides = [compare.left, *compare.comparators]
    return [b if isinstance(op, (ast.Lt, ast.LtE)) else a for op, a, b in zip(compare.ops, sides, sides[1:]) if isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE))]

def tolerances(code):
    "Numbers in a piece of code that say how close is close: arguments of comparisons, and the small ends of assertions"
    found = []
    for n in ast.walk(ast.parse(code)):
        if isinstance(n, ast.Call):
            name = n.func.id if isinstance(n.func, ast.Name) else getattr(n.func, 'attr', '')
            at = CLOSE.get(name)
            parts = [k.value for k in n.keywords if name in CLOSE and k.arg in NAMES] + (n.args[at:at + 1] if at else [])
            found += [v for p in parts for v in _literals(p)]
        if isinstance(n, ast.Assert):
            found += [v for c in ast.walk(n.test) if isinstance(c, ast.Compare) for b in _bounds(c) for v in _literals(b)]
    return [v for v in found if 0 < v < ROUGH]

def is_argued(value): return value in CLASSES or value <= 1e-8

def texts(root):
    "(where, code) of tests and notebooks"
    for p in sorted(Path(root, 'tests').rglob('*.py')): yield p.relative_to(root).as_posix(), p.read_text(encoding='utf-8')
    for p in notebooks(root):
        for i, c in enumerate(read(p)['cells']):
            if c['cell_type'] == 'code' and not source(c).lstrip().startswith(('%', '!')): yield f'{p.relative_to(root).as_posix()}: cell {i}', source(c)

def written(root=ROOT):
    "(where, tolerance) of all of them"
    for where, code in texts(root):
        try: yield from ((where, v) for v in tolerances(code))
        except SyntaxError: continue     # a cell with a magic

def faults(root=ROOT):
    known = ', '.join(f'{v:g}' for v in CLASSES)
    return [f'{where}: a tolerance of {v:g}: take one of {known}, or argue it in tools/tolerances.py' for where, v in written(root) if not is_argued(v)]


# What was compared with them

class Recorder(ast.NodeTransformer):
    "Comparisons of an assertion with a small number go through `less`"
    def visit_Compare(self, node):
        self.generic_visit(node)
        if len(node.ops) > 1 or not isinstance(node.ops[0], (ast.Lt, ast.LtE)) or not any(0 < v < ROUGH for v in _literals(node.comparators[0])): return node
        call = ast.Call(ast.Name('_compared_less', ast.Load()), [node.left, node.comparators[0]], [])
        return ast.fix_missing_locations(ast.copy_location(call, node))

def _largest(x):
    import torch
    return torch.as_tensor(x).detach().abs().max().item()

def _dtype(*values): return next((str(v.dtype)[6:] for v in values if hasattr(v, 'dtype') and str(v.dtype).startswith('torch.float')), '')

def _watch(rows):
    "Let `test_close`, `allclose` and comparisons in cells tell (tolerance, error, kind of numbers)"
    import builtins, fastcore.test, torch
    from execnb.shell import CaptureShell
    def less(a, b):
        try: rows.append((float(b), _largest(a), _dtype(a)))
        except (TypeError, ValueError, RuntimeError): pass
        return a < b
    def test_close(a, b, eps=1e-5, own=fastcore.test.test_close):
        try: rows.append((float(eps), _largest(torch.as_tensor(a) - torch.as_tensor(b)), _dtype(a, b)))
        except (TypeError, ValueError, RuntimeError): pass
        own(a, b, eps)
    def allclose(a, b, rtol=1e-5, atol=1e-8, own=torch.allclose, **more):
        if own(a, b, rtol=rtol, atol=atol, **more) and a.numel(): rows.append((atol if atol > 1e-8 else rtol, atol*_largest((a - b)/(atol + rtol*b.abs())), _dtype(a, b)))
        return own(a, b, rtol=rtol, atol=atol, **more)
    builtins._compared_less, fastcore.test.test_close, torch.allclose = less, test_close, allclose
    make = CaptureShell.__init__
    def init(self, *args, **options):
        make(self, *args, **options)
        self.ast_transformers.append(Recorder())
    CaptureShell.__init__ = init

def _execute(path, file):
    "Run a notebook here, and write what was compared"
    from tools.notebooks import execute
    rows = []
    _watch(rows)
    passed = execute(path)
    Path(file).write_text(json.dumps(rows), encoding='utf-8')
    return passed

def measured(path, kernels):
    "(did it pass, [(tolerance, error, kind)]) with some kernels"
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | OFFLINE | dict(OMP_NUM_THREADS='1', MPLBACKEND='Agg') | kernels
        done = subprocess.run([sys.executable, __file__, '_exec', path, f'{folder}/rows.json'], env=env, capture_output=True, text=True)
        file = Path(folder, 'rows.json')
        return done.returncode == 0, json.loads(file.read_text(encoding='utf-8')) if file.exists() else []

def measure(paths):
    "Print the largest error of each tolerance, with each kind of kernels"
    largest, thin = defaultdict(dict), []
    for p in paths:
        for name, env in KERNELS.items():
            passed, rows = measured(p, env)
            print(f'{label(p)}, {name}: {"passed" if passed else "FAILED"}, {len(rows)} comparisons', flush=True)
            for tol, error, kind in rows:
                if tol > 1e-8: largest[tol][name] = max(error, largest[tol].get(name, 0))
                if tol > 1e-8 and error > tol/3: thin.append(f'{label(p)}, {name}: {error:.1e} of {tol:g} {kind}')
    for tol in sorted(largest): print(f'{tol:g}: ' + ', '.join(f'{n} {largest[tol].get(n, 0):.1e}' for n in KERNELS))
    print(*dict.fromkeys(thin), sep='\n')

if __name__ == '__main__':
    if sys.argv[1:2] == ['_exec']: sys.exit(not _execute(*sys.argv[2:]))
    measure(sys.argv[2:]) if sys.argv[1:2] == ['measure'] else report(faults())
