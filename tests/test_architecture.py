"The packages' order, and one path for a chapter and its module; each rule is shown to fail on a planted fault."
import pytest
from conftest import code, edit, notebook
from tools import architecture_gate as gate
from tools.notebooks import ROOT

SOUND = {'video': set(), 'sampling': {'video'}, 'rewards.clip': {'video'}, 'models.wan': {'video'}, 'savings.rollout': {'sampling'},
         'methods.vader': {'sampling', 'rewards.clip', 'savings.rollout'}, 'tiny.vae': {'video'}, 'evaluate.measures': {'methods.vader'},
         'commands.align': {'methods.vader'}, 'commands.bench': {'methods.vader'}}


def also(module, other): return SOUND | {module: SOUND.get(module, set()) | {other}}

@pytest.mark.parametrize('check', gate.CHECKS)
def test_the_house(check): assert check(ROOT) == []

@pytest.mark.parametrize('check', gate.CHECKS)
def test_faultless(project, check): assert check(project) == []

@pytest.mark.parametrize('rule', gate.RULES)
def test_sound_graph(rule): assert rule(SOUND) == []

@pytest.mark.parametrize('rule, graph, complaint', [
    (gate.unknown_packages, also('extras.x', 'video'), 'vader_nb.extras has no floor'),
    (gate.upward, also('video', 'rewards.clip'), 'vader_nb.video imports vader_nb.rewards.clip: rewards is above it'),
    (gate.upward, also('savings.rollout', 'commands.align'), 'vader_nb.savings.rollout imports vader_nb.commands.align: commands is above it'),
    (gate.upward, also('rewards.clip', 'models.wan'), 'vader_nb.rewards.clip imports vader_nb.models.wan: models is on the same floor'),
    (gate.cycles, also('video', 'sampling'), 'a cycle between modules: '),
    (gate.cycles, also('rewards.clip', 'rewards.clip'), 'a cycle between modules: '),
    (gate.cycles, also('models.load', 'tiny.vae') | {'tiny.t2v': {'models.wan'}}, 'a cycle between packages: '),
    (gate.siblings, also('commands.bench', 'commands.align'), 'vader_nb.commands.bench imports vader_nb.commands.align: what two'),
    (gate.met_early, also('savings.rollout', 'rewards.clip'), 'vader_nb.savings.rollout brings sampling and rewards together'),
    (gate.met_early, also('savings.memory', 'models.svd') | {'models.svd': {'rewards.clip', 'sampling'}}, 'vader_nb.savings.memory brings')])
def test_planted(rule, graph, complaint): assert [c for c in rule(graph) if c.startswith(complaint)]

FILES = {'a.py': 'x = 1', 'names.py': '', 'rewards/clip.py': 'from ..a import x\ndef f(): import vader_nb.models.load', 'rewards/core.py': 'from .clip import f',
         'models/load.py': "from vader_nb import a, align\nfrom vader_nb.rewards.clip import f\nimport os\nTABLE = {'x': 'vader_nb.names:x'}",
         'methods/vader.py': 'from ..models import load', '_modidx.py': 'import vader_nb.a', '__init__.py': 'DOOR = dict(align="vader_nb.methods.vader:align")'}

def test_every_way_to_import(tmp_path):
    "relative and absolute, in a function, a module from its package, through the front door; a name in a table is none"
    for name, text in FILES.items():
        (tmp_path/'vader_nb'/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/'vader_nb'/name).write_text(text)
    assert gate.import_graph(tmp_path) == {'a': set(), 'names': set(), 'rewards.clip': {'a', 'models.load'}, 'rewards.core': {'rewards.clip'},
                                           'models.load': {'a', 'methods.vader', 'rewards.clip'}, 'methods.vader': {'models.load'}}

def test_upward_import_in_a_module(project):
    (project/'vader_nb'/'commands').mkdir()
    (project/'vader_nb'/'commands'/'align.py').write_text('')
    (project/'vader_nb'/'add.py').write_text('def f():\n    from vader_nb.commands.align import main\n')
    assert gate.packages(project) == ['vader_nb.add imports vader_nb.commands.align: commands is above it']

def test_module_without_a_notebook(project):
    (project/'vader_nb'/'stray.py').write_text('')
    assert gate.paths(project) == ['vader_nb.stray has no notebook']

def test_notebook_of_another_path(project):
    edit(project/'nbs'/'core'/'add.ipynb', '#| default_exp add', '#| default_exp plus')
    assert gate.paths(project) == ['core/add.ipynb exports vader_nb.plus: its path says vader_nb.add', 'vader_nb.add has no notebook']

def test_notebook_in_a_folder_that_is_no_package(project):
    (project/'nbs'/'more').mkdir()
    notebook(project/'nbs'/'more'/'x.ipynb', code('1'))
    assert gate.paths(project) == ['more/x.ipynb: more is no package']

@pytest.mark.parametrize('line, faults', [('from vader_nb.add import add', 0), ('from vader_nb import add', 0), ('import vader_nb.add as a', 0),
    ('from vader_nb.add import plus', 1), ('from vader_nb.gone import add', 1), ('from vader_nb import gone', 1), ('import vader_nb.gone', 1)])
def test_imports_of_notebooks(project, line, faults):
    notebook(project/'nbs'/'core'/'show.ipynb', code('#| slow\n%pip list\n' + line))
    assert len(gate.names(project)) == faults
