"""Do the requirements tell the truth? Install their lower bounds, or the newest of everything, into a fresh environment and run tools/smoke.py there.

    python tools/versions.py floors                        the lower bounds of settings.ini, each exactly
    python tools/versions.py newest --python python3.13    whatever pip chooses
    python tools/versions.py floors --env DIR              keep the environment in DIR, and use it again
"""
import argparse, os, subprocess, sys, tempfile
from pathlib import Path

from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, settings


def requirements(which, cfg=None):
    "What pip is asked for: the lower bounds as pins, or the requirements as they are"
    reqs = (cfg or settings())['requirements'].split()
    if which == 'newest': return reqs
    lowest = {r.name: [s.version for s in r.specifier if s.operator == '>='] for r in map(Requirement, reqs)}
    if none := [n for n, v in lowest.items() if len(v) != 1]: raise ValueError(f'settings.ini: no lower bound for {", ".join(none)}')
    return [f'{n}=={v}' for n, [v] in lowest.items()]

def install(env, which, python):
    "A fresh environment with the package in it"
    subprocess.run([python, '-m', 'venv', env], check=True)
    pip = [Path(env)/'bin'/'python', '-m', 'pip', 'install', '-q']
    subprocess.run([*pip, *requirements(which)], check=True)
    subprocess.run([*pip, '--no-deps', ROOT], check=True)

def smoke(env):
    "Run the trip outside the checkout, so that the installed package is what it meets"
    with tempfile.TemporaryDirectory() as folder:
        env_vars = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
        subprocess.run([Path(env).resolve()/'bin'/'python', ROOT/'tools'/'smoke.py'], check=True, cwd=folder, env=env_vars)

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('which', choices=['floors', 'newest'])
    parser.add_argument('--python', default=sys.executable, help='the interpreter of the environment (default: this one)')
    parser.add_argument('--env', type=Path, help='where to keep the environment')
    a = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as tmp:
        env = a.env or Path(tmp)/'env'
        if not (env/'bin'/'pip').exists(): install(env, a.which, a.python)
        smoke(env)

if __name__ == '__main__': main()
