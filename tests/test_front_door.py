"The names that the package gives lazily; each case in a fresh process, since an import done once hides how it was done."
import subprocess, sys
import pytest
from tools.notebooks import ROOT

NAMES = dict(align='vader_nb.methods.vader', load_pipeline='vader_nb.models.load', load_prompts='vader_nb.prompts', load_reward='vader_nb.rewards.load')


def run(code):
    res = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert res.returncode == 0, res.stderr
    return res.stdout.split()

def test_importing_the_package_imports_nothing_else():
    assert run("import sys, vader_nb\nprint(*(m for m in sys.modules if m.startswith('vader_nb.') or m == 'torch'))") == []

@pytest.mark.parametrize('first', [True, False])
def test_names_are_those_of_their_modules(first):
    "whether the module was imported before or comes after"
    lines = [f'from vader_nb import {n}' for n in NAMES], [f'import {m}' for m in NAMES.values()]
    code = 'import vader_nb\n' + '\n'.join(sum(lines[::-1] if first else lines, []))
    assert run(code + ''.join(f'\nassert {n} is {m}.{n} is vader_nb.{n}' for n, m in NAMES.items())) == []

def test_what_there_is():
    found = run("import vader_nb\nprint(*vader_nb.__all__)\nassert {*vader_nb.__all__, '__version__'} <= set(dir(vader_nb))")
    assert found == sorted(NAMES)

def test_unknown_name():
    error = run("import vader_nb\ntry: vader_nb.allign\nexcept AttributeError as e: print(e)")
    assert ' '.join(error).startswith("module 'vader_nb' has no attribute 'allign'; did you mean 'align'")
    assert ' '.join(error).endswith('There are: align, load_pipeline, load_prompts, load_reward')
