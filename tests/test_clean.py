import pytest
from conftest import PRINTED, edit_nb
from tools.notebooks import ROOT
from tools.project_gate import clean, outputs, sources

NB = 'nbs/core/add.ipynb'


@pytest.mark.parametrize('check', [clean, sources, outputs])
def test_notebooks(check): assert check(ROOT) == []

@pytest.mark.parametrize('check', [clean, sources, outputs])
def test_faultless(project, check): assert check(project) == []

@pytest.mark.parametrize('change', [
    lambda nb: nb['cells'][2].update(execution_count=3),
    lambda nb: nb['cells'][2].update(metadata={'scrolled': True}),
    lambda nb: nb['metadata'].update(language_info={'name': 'python'}),
    lambda nb: nb['cells'][4]['outputs'].append(dict(output_type='execute_result', execution_count=None, metadata={},
                                                     data={'text/plain': ['<object at 0x7f00>']}))])
def test_unclean(project, change):
    edit_nb(project/NB, change)
    assert clean(project) == ['core/add.ipynb: not clean (python tools/notebooks.py clean)']

@pytest.mark.parametrize('source', ['a = 1\nb = 2', ['a = 1', 'b = 2'], ['a = 1\nb = 2']])
def test_source_not_a_list_of_lines(project, source):
    edit_nb(project/NB, lambda nb: nb['cells'][4].update(source=source))
    assert sources(project) == ['core/add.ipynb: cell 4: source is not a list of lines']

@pytest.mark.parametrize('text', ['/home/ann/x.png', 'saved to /root/run/a.mp4', '/Users/ann/x', '"/home/ann/nbs"',
                                  r'C:\Users\ann', '/tmp/tmpa1b2c3d4/x'])
def test_local_path(project, text):
    edit_nb(project/NB, lambda nb: nb['cells'][4]['outputs'].append({**PRINTED, 'text': [text]}))
    assert len(outputs(project)) == 1 and 'local path' in outputs(project)[0]

@pytest.mark.parametrize('text', ['https://a.org/home/x', 'and/or', 'out/root/x', 'data:video/mp4;base64,AA/root/home/x=='])
def test_not_a_local_path(project, text):
    edit_nb(project/NB, lambda nb: nb['cells'][4]['outputs'].append({**PRINTED, 'text': [text]}))
    assert outputs(project) == []

def test_stored_error(project):
    error = dict(output_type='error', ename='KeyError', evalue='x', traceback=[])
    edit_nb(project/NB, lambda nb: nb['cells'][4]['outputs'].append(error))
    assert outputs(project) == ['core/add.ipynb: cell 4: stored error KeyError']

def test_large_notebook(project):
    edit_nb(project/NB, lambda nb: nb['cells'][4]['outputs'].append({**PRINTED, 'text': ['x' * 1_000_001]}))
    assert 'more than 1000000' in outputs(project)[0]
