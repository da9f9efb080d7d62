"""Check the library against recorded vectors of the official code: `python tests/golden.py DIR [--known-only]`

DIR holds cases: `NAME.json` (constructor arguments, conventions) and mostly `NAME.safetensors` (weights, inputs, outputs).
One line a quantity: file, quantity, largest error, tolerance, pass or FAIL. A case that no check knows is UNKNOWN.
The exit status is non-zero after any FAIL or UNKNOWN; `--known-only` forgives the latter."""
import argparse, importlib, json, pkgutil, sys
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
from tools.tolerances import DOUBLE, FLOW, FRAME, SINGLE, wave_tolerance     # argued there


class Check(NamedTuple):
    "One compared quantity; numbers compare by largest difference over largest wanted size, all else exactly"
    quantity: str
    got: object         # tensor, number, bool, list or dict
    want: object
    tol: float = 0.     # 0: exact

    @property
    def error(self):
        "Largest error, relative to the largest wanted number; infinite for another shape or what is not finite"
        if not isinstance(self.want, (Tensor, int, float)) or isinstance(self.want, bool): return 0. if self.got == self.want else float('inf')
        got, want = (torch.as_tensor(x).detach().double() for x in (self.got, self.want))
        if got.shape != want.shape or not got.isfinite().all(): return float('inf')
        if not want.numel(): return 0.
        return ((got - want).abs().max()/want.abs().max().clamp(min=1e-12)).item()

    @property
    def ok(self): return self.error <= self.tol


class Case:
    "A recorded case: `info` from its JSON and `data`, its tensors"
    def __init__(self, path):
        self.path, self.info = Path(path), json.loads(Path(path).read_text())
        tensors = self.path.with_suffix('.safetensors')
        self.data = load_file(tensors) if tensors.is_file() else {}
        self.name = self.info.get('name', self.path.stem)

    def __getitem__(self, key): return self.data[key]
    def __contains__(self, key): return key in self.data
    def part(self, prefix): return {k.removeprefix(prefix): v for k, v in self.data.items() if k.startswith(prefix)}
    def sibling(self, name):
        "Another case of the same folder and of the same series (`case` of the JSON), whose weights this one uses"
        found = [c for p in sorted(self.path.parent.glob('*.json')) for c in [Case(p)] if c.name == name]
        same = [c for c in found if c.info.get('case') == self.info.get('case')]
        if not found: raise FileNotFoundError(f'{self.path}: needs the case {name!r} in the same folder')
        return (same or found)[0]

    def gradient(self, key, grad, tol, norm_tol=None):
        "Checks of a gradient stored whole, or as every S-th entry and its norm"
        if key in self: yield Check(key, grad, self[key], tol)
        for k in self.data:
            if k.startswith(key + '.every'): yield Check(k, grad.flatten()[::int(k.rsplit('every')[1])], self[k], tol)
        if key + '.l2norm' in self: yield Check(key + '.l2norm', grad.double().norm(), self[key + '.l2norm'], norm_tol or tol)


def checks():
    "Check functions `Case -> iterable of Check`, by the name of the cases they know, from `golden_checks/*.py`"
    import golden_checks
    found = {}
    for m in pkgutil.iter_modules(golden_checks.__path__): found |= importlib.import_module(f'golden_checks.{m.name}').CHECKS
    return found

def check_of(name, known=None):
    "The check of a case: the longest known name that begins the case's name; None if there is none"
    known = checks() if known is None else known
    fits = [n for n in known if name == n or name.startswith(n)]
    return known[max(fits, key=len)] if fits else None

def run_case(path, known=None):
    "(results, reason): the checks of one case, and why there are none"
    case = Case(path)
    check = check_of(case.name, known) or check_of(case.path.stem, known)
    if check is None: return [], 'no check knows this case'
    results = list(check(case))
    return results, None if results else 'its check compared nothing'

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('dir', type=Path); p.add_argument('--known-only', action='store_true', help='forgive UNKNOWN cases')
    a = p.parse_args(argv)
    if not a.dir.is_dir(): p.error(f'{a.dir} is not a folder')
    paths, failed, unknown, known = sorted(a.dir.glob('*.json')), 0, 0, checks()
    if not paths: p.error(f'{a.dir} holds no case (NAME.json)')
    for path in paths:
        try: results, reason = run_case(path, known)
        except Exception as e: results, reason = [], None; failed += 1; print(f'{path.stem}  (raised)  {type(e).__name__}: {e}  FAIL', flush=True)
        if reason: unknown += 1; print(f'{path.stem}  UNKNOWN: {reason}', flush=True)
        for r in results:
            failed += not r.ok
            print(f"{path.stem}  {r.quantity}  {r.error:.1e}  {r.tol:.0e}  {'pass' if r.ok else 'FAIL'}", flush=True)
    print(f'{len(paths)} cases, {failed} FAIL, {unknown} UNKNOWN')
    sys.exit(bool(failed or (unknown and not a.known_only)))

if __name__ == '__main__': main()
