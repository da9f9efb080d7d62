import pytest
from conftest import edit, edit_nb
from tools.notebooks import ROOT
from tools.project_gate import fresh


def test_stored_outputs_belong_to_the_code(): assert fresh(ROOT) == []

def test_faultless(project): assert fresh(project) == []

@pytest.mark.parametrize('nb, old, new, group', [('core/add.ipynb', 'add(2, 2)', 'add(2, 3)', 'code'),
                                                 ('core/show.ipynb', 'print(4)', 'print(5)', 'slow')])
def test_edited_code(project, nb, old, new, group):
    edit(project/'nbs'/nb, old, new)
    assert fresh(project) == [f'{nb}: outputs are not of the present code: {group} (python tools/notebooks.py run)']

def test_never_run(project):
    edit_nb(project/'nbs'/'core'/'add.ipynb', lambda nb: nb['metadata'].pop('vader_nb'))
    assert len(fresh(project)) == 1

def test_edited_prose_and_a_skipped_cell_without_output(project):
    edit(project/'nbs'/'core'/'show.ipynb', 'A part', 'Some part')
    edit_nb(project/'nbs'/'core'/'show.ipynb', lambda nb: nb['cells'][-1].update(source=['#| cuda\n', '2']))
    assert fresh(project) == []
