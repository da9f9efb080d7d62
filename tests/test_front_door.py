"The names that the package gives lazily; each case in a fresh process, since an import done once hides how it was done."
import subprocess, sys
from tools.notebooks import ROOT

NAMES = dict(align='vader_nb.methods.vader', load_pipeline='vader_nb.models.load', load_prompts='vader_nb.prompts', load_reward='vader_nb.rewards.load')


def run(code):
    res = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert res.returncode == 0, res.stderr
    return res.stdout.split()

def test_importing_the_package_imports_nothing_else():
    assert run("import sys, vader_nb\nprint(*(m for m in sys.modules if m.startswith('vader_nb.') or m == 'torch'))") == []

def test_names_are_those_of_their_modules():
    "whether the module was imported before the name was asked for, or comes after"
    before, after = list(NAMES)[:2], list(NAMES)[2:]
    code = 'import vader_nb' + ''.join(f'\nimport {NAMES[n]}' for n in before) + f'\nfrom vader_nb import {", ".join(NAMES)}'
    code += ''.join(f'\nimport {NAMES[n]}' for n in after)
    assert run(code + ''.join(f'\nassert {n} is {m}.{n} is vader_nb.{n}' for n, m in NAMES.items())) == []

def test_what_there_is():
    found = run("import vader_nb\nprint(*vader_nb.__all__)\nassert {*vader_nb.__all__, '__version__'} <= set(dir(vader_nb))")
    assert found == sorted(NAMES)

def test_unknown_name():
    error = run("import vader_nb\ntry: vader_nb.allign\nexcept AttributeError as e: print(e)")
    assert ' '.join(error).startswith("module 'vader_nb' has no attribute 'allign'; did you mean 'align'")
    assert ' '.join(error).endswith('There are: align, load_pipeline, load_prompts, load_reward')
