"Every cell that needs the network runs as it stands against the stand-in hub, from an empty cache, on published scorers"
import ast, json, os, subprocess, sys
from pathlib import Path

import pytest
from hub.server import Hub
from net_cells import needed, net_cells
from tools.notebooks import ROOT, directives, name_of, notebooks, read

CELLS = [(name_of(p), i) for p in notebooks(ROOT) for i in net_cells(p)]


@pytest.fixture(scope='module')
def results(served, tmp_path_factory):
    "All of them, in one process; what it printed"
    uploads, home = (tmp_path_factory.mktemp(n) for n in ('uploads', 'home'))
    hub = Hub(served[0], uploads, served[1]).start()
    env = {k: v for k, v in os.environ.items() if k not in ('HF_HUB_CACHE', 'TRANSFORMERS_CACHE')} | hub.environment(home) | dict(IN_TEST='1')
    p = subprocess.run([sys.executable, Path(__file__).with_name('net_cells.py')], env=env, capture_output=True, text=True, timeout=1500)
    hub.stop()
    found = [json.loads(l[2:]) for l in p.stdout.splitlines() if l.startswith('@@')]
    return {(r['notebook'], r['cell']): r for r in found}, p.stdout[-2000:] + p.stderr[-2000:]

@pytest.mark.parametrize('notebook, cell', CELLS)
def test_runs(notebook, cell, results):
    found, log = results
    assert (notebook, cell) in found, log
    assert not found[notebook, cell]['error'], found[notebook, cell]['error']

@pytest.mark.parametrize('notebook, cell', CELLS)
def test_no_toy_scores(notebook, cell, results):
    "No weights of a toy are read, and no reward in it is one"
    r = results[0][notebook, cell]
    assert not r['toys'] and not r['tiny']

def test_what_is_not_run():
    "Cells for CUDA are of the tiny models, need no network, and say how much memory they need in the text before them"
    for path in notebooks(ROOT):
        cells = read(path)['cells']
        for i, c in enumerate(cells):
            if c['cell_type'] != 'code' or 'cuda' not in (d := directives(c)[0]): continue
            assert 'net' not in d and 'GB' in ''.join(cells[i - 1]['source']), f'{name_of(path)}: {i}'

def test_needed():
    "A cell gets the statements before it that define what it uses, and what those use; the nearest wins"
    code = lambda s: dict(cell_type='code', source=s)
    nb = dict(cells=[code('import os\na = 1\nraise ValueError'), code('b = a + 1'), code('a = 5'), code('f = lambda b: [c for c in b]'), code('#| slow\nd = 8'),
                     code('#| net\nprint(b, d, known)')])
    assert ast.unparse(needed(nb, 5, {'known'})) == 'a = 1\nb = a + 1'
    assert ast.unparse(needed(nb, 5, {'known', 'b'})) == ''
    changed = dict(cells=[code('x = [1]\ny = 2'), code('x[0] = y\nx += [3]\nx = x*2'), code('#| net\nx')])
    assert ast.unparse(needed(changed, 2, set())) == 'x = [1]\ny = 2\nx[0] = y\nx += [3]\nx = x * 2'
