"Figures in prose: what the gate lets pass, and what it asks about."
import pytest
from conftest import code, edit, markdown, notebook
from tools import numbers_gate as gate
from tools.notebooks import ROOT

PRINTED = dict(output_type='stream', name='stdout', text=['accuracy 0.614, 481 s, 12.02 GB\n'])

@pytest.fixture
def said(project):
    "Faults for a sentence that stands in a notebook whose cell has printed something"
    def faults(text, *cells):
        notebook(project/'nbs'/'core'/'show.ipynb', markdown(text), *(cells or (code('print(x)', PRINTED),)), title='Show')
        return gate.measured(project)
    return faults

def test_the_book(): assert gate.faults(ROOT) == []

def test_faultless(project): assert gate.faults(project) == []

@pytest.mark.parametrize('text', [
    'The accuracy fell to 61%.',                                                    # printed as 0.614
    'The accuracy fell to 0.61 after that.',
    'It took 481 seconds, and 12 GB.',
    'It took [77 seconds](https://example.org) there.',
    "In the paper's Table 7 it costs 276 GB.",
    'It is killed after a while (Slurm and Kubernetes: 30 seconds).',
    'A batch of 32 videos, 25 steps, a guidance of 7.5.',                           # settings, not measurements
    '`take(77, "seconds")` and $77\\%$ are code and a formula.'])
def test_let_pass(said, text): assert said(text) == []

@pytest.mark.parametrize('text, figure', [
    ('The accuracy fell to 62%.', '62'),
    ('The accuracy fell to 0.57 after that.', '0.57'),
    ('It needs 13 GB.', '13'),
    ('It took 481 minutes.', '481'),                                                # 481 is there, but in seconds
    ('That is done in eight minutes.', 'eight'),
    ('It is killed after a while (here: 30 seconds).', '30'),
    ('A cell of\n40 seconds.', '40')])
def test_asked_about(said, text, figure):
    assert [f.split(': where')[0].rsplit(' ', 1)[0] for f in said(text)] == [f'core/show.ipynb: {figure}']

def test_an_assertion_is_a_cell(said):
    assert said('It rises by 62%.', code('assert rise > .62')) == [] and said('It rises by 62%.', code('x = .62'))

def test_results_that_are_read(said, project):
    (project/'nbs'/'results').mkdir()
    (project/'nbs'/'results'/'run.json').write_text('{"accuracy": 0.62}')
    assert said('The accuracy fell to 62%.', code('read("run.json")')) == [] and said('The accuracy fell to 62%.', code('read("other.json")'))

def test_a_folder_of_results_is_named_with_its_path(said, project):
    "A word of the code that happens to be a folder's name reads nothing"
    (project/'nbs'/'results'/'run'/'items').mkdir(parents=True)
    (project/'nbs'/'results'/'run'/'items'/'one.json').write_text('{"accuracy": 0.62}')
    fell = 'The accuracy fell to 62%.'
    assert said(fell, code('read("../results/run/items")')) == [] and said(fell, code('found.items()')) and said(fell, code('run(found)'))

def test_an_argument(said, project):
    (project/'nbs'/'exceptions.yml').write_text('numbers:\n  "core/show.ipynb: 62": a bound that follows from the rule of the game\n')
    assert said('The accuracy fell to 62%.') == []
    assert said('The accuracy fell to 61%.') == ['nbs/exceptions.yml: numbers: core/show.ipynb: 62 needs no exception']
