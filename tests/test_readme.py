import re, subprocess
import pytest
from conftest import edit, notebook
from tools import pages
from tools.notebooks import ROOT

README = (ROOT/'README.md').read_text(encoding='utf-8')


def command(name):
    "The one command that stands under its marker in the README"
    found = re.findall(rf'<!-- {name} command -->\n```sh\n(.+?)\n```', README, re.S)
    assert len(found) == 1
    return found[0]

def test_pages_are_up_to_date(): assert pages.out_of_date(ROOT) == []

def test_faultless(project): assert pages.out_of_date(project) == []

def test_edited_readme(project):
    edit(project/'README.md', 'What it teaches', 'What it costs')
    assert pages.out_of_date(project) == ['README.md']

def test_edited_index(project):
    edit(project/'nbs'/'index.ipynb', '> What it teaches', '> All')
    assert pages.out_of_date(project) == ['README.md']

def test_new_notebook(project):
    notebook(project/'nbs'/'core'/'new.ipynb', title='New')
    edit(project/'nbs'/'book.yml', 'show]', 'show, new]')
    assert pages.out_of_date(project) == list(pages.PAGES)

def test_notebook_that_the_book_does_not_list(project):
    notebook(project/'nbs'/'intro.ipynb')
    with pytest.raises(ValueError, match=r"lists no \['intro.ipynb'\]"): pages.out_of_date(project)

def test_listed_notebook_that_is_not_there(project):
    edit(project/'nbs'/'book.yml', 'show]', 'show, gone]')
    with pytest.raises(ValueError, match=r"lists \['core/gone.ipynb'\], which are not there"): pages.out_of_date(project)

def test_links_of_the_readme_lead_from_the_top_folder():
    targets = re.findall(r'\]\((?!https?:|#)([^)]+)\)', README)
    assert targets and all((ROOT/t).is_file() for t in targets)

@pytest.mark.parametrize('name, extras, run', [('main', '-e .', 'vader_align --out out'),
                                               ('test', '-e ".[dev]"', 'python -m pytest')])
def test_commands_do_all_their_set_up(name, extras, run):
    venv, install, job = command(name).split(' && ')
    assert venv == 'python3 -m venv .venv'
    assert install == f'.venv/bin/pip install -q -c constraints.txt {extras}'
    assert job == f'.venv/bin/{run}'

def test_ci_runs_the_test_command():
    ci = subprocess.run(['bash', ROOT/'.ci'/'run', '--print'], capture_output=True, text=True, check=True)
    assert ci.stdout.strip() == command('test')
