import pytest
from conftest import edit
from tools.notebooks import ROOT
from tools.project_gate import export


def test_modules_match_the_notebooks(): assert export(ROOT) == []

def test_faultless(project): assert export(project) == []

@pytest.mark.parametrize('in_test', ['', '1'])
def test_edited_module(project, monkeypatch, in_test):
    monkeypatch.setenv('IN_TEST', in_test)  # nbdev_export does nothing when it inherits this
    edit(project/'vader_nb'/'add.py', 'a + b', 'a - b')
    assert export(project) == ['vader_nb/add.py: differs from its notebook (nbdev_export writes it)']

def test_edited_notebook(project):
    edit(project/'nbs'/'core'/'add.ipynb', 'a + b', 'a - b')
    assert export(project) == ['vader_nb/add.py: differs from its notebook (nbdev_export writes it)']

def test_missing_module(project):
    (project/'vader_nb'/'add.py').unlink()
    assert 'vader_nb/add.py: not exported (nbdev_export writes it)' in export(project)

def test_module_without_notebook(project):
    (project/'vader_nb'/'stray.py').write_text('x = 1\n')
    assert 'vader_nb/stray.py: no notebook exports it' in export(project)
