"Every tolerance is one that is argued in tools/tolerances.py, and what was compared with it can be measured"
import ast, json
import pytest
from tools import tolerances

def test_all_are_argued(monkeypatch):
    found = list(tolerances.written())
    monkeypatch.setattr(tolerances, 'written', lambda root: found)
    assert tolerances.faults() == []
    assert len(found) > 400 and {v for _, v in found} >= {1e-6, 1e-5, 1e-4, 1e-3}

@pytest.mark.parametrize('code, found', [
    ('test_close(a, b)', []), ('test_close(a, b, 3e-5)', [3e-5]), ('test_close(a, b, eps=1e-5*x.max() + 1e-9)', [1e-5, 1e-9]), ('torch.allclose(a, b, atol=2e-6, rtol=1e-3)', [2e-6, 1e-3]),
    ('assert x == pytest.approx(1, abs=1e-4)', [1e-4]), ('assert (a - b).abs().max() < 5e-6', [5e-6]), ('assert 0 < moved < 2e-5', [2e-5]), ('assert 1e-5 > x', [1e-5]),
    ('assert x > 1e-3', []), ('assert x < .5', []), ('align(lr=1e-3)', []), ('x = 1e-5 < y', []), ('Check(k, a, b, 1e-6)', [1e-6])])
def test_what_is_a_tolerance(code, found): assert sorted(tolerances.tolerances(code)) == sorted(found)

@pytest.mark.parametrize('tolerance, argued', [(1e-5, True), (1e-6, True), (1e-12, True), (3e-6, False), (2e-4, False), (5e-7, False)])
def test_which_are_argued(tolerance, argued): assert tolerances.is_argued(tolerance) == argued

def test_what_was_compared(tmp_path):
    "In a notebook: `test_close`, `allclose` and an assertion tell how far they were from failing"
    lines = ['import torch', 'from fastcore.test import test_close', 'test_close(torch.ones(2), torch.ones(2) + 2**-20, 1e-5)',
             'assert torch.allclose(torch.ones(2), torch.ones(2) + 2**-21, rtol=0, atol=1e-6)', 'assert not torch.allclose(torch.ones(2), torch.zeros(2))',
             'assert (torch.ones(2).double() - 1 - 2**-30).abs().max() < 1e-9', 'assert 0 < 1e-4']
    cell = dict(cell_type='code', id='a', metadata={}, outputs=[], execution_count=None, source='\n'.join(lines))
    (file := tmp_path/'x.ipynb').write_text(json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
    passed, rows = tolerances.measured(file, {})
    assert passed and rows == [[1e-5, 2**-20, 'float32'], [1e-6, 2**-21, 'float32'], [1e-9, 2**-30, 'float64'], [1e-4, 0, '']]

def test_an_assertion_means_the_same_when_it_is_recorded():
    tree = tolerances.Recorder().visit(ast.parse('assert a < 1e-3 and not b < 1e-3 and 0 < a < 1e-2 and a < 1'))
    told = []
    exec(compile(tree, '', 'exec'), dict(a=1e-4, b=1e-2, _compared_less=lambda a, b: told.append((a, b)) or a < b))
    assert told == [(1e-4, 1e-3), (1e-2, 1e-3)]
