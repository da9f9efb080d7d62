"Figures of the code, density, old names are measured, and each check is shown to fail on a planted fault."
import pytest
from conftest import code, edit, markdown, notebook
from tools import house_gate as gate
from tools.notebooks import ROOT



@pytest.mark.parametrize('check', gate.CHECKS)
def test_the_house(check): assert check(ROOT) == []

@pytest.mark.parametrize('check', gate.CHECKS)
def test_faultless(project, check): assert check(project) == []

def lines(n, name='f'): return f'def {name}():\n' + '    x = 1\n'*(n - 1)

def module(project, text, name='add'):
    (project/'vader_nb'/name).with_suffix('.py').parent.mkdir(exist_ok=True)
    (project/'vader_nb'/name).with_suffix('.py').write_text(text)

def exports(project, text): notebook(project/'nbs'/'core'/'add.ipynb', code('#| default_exp add'), code('#| export\n' + text))

def argue(project, kind, name, why='this table is one thing, and reads from top to bottom'):
    (project/'nbs'/'exceptions.yml').write_text(f'{kind}:\n  "{name}": {why}\n')

@pytest.mark.parametrize('text, fault', [
    (lines(41), 'add.f: 41 lines, more than 40'),
    ('class A:\n' + lines(41, 'g').replace('\n', '\n    ').replace('def', '    def', 1), 'add.A.g: 41 lines, more than 40'),
    ('\n'.join(lines(7, f'f{i}') for i in range(3)), 'functions: median 7 lines, more than 6'),
    ('\n'.join(lines(19 if i > 6 else 2, f'f{i}') for i in range(10)), 'functions: p90 19 lines, more than 18')])
def test_long_functions(project, text, fault):
    module(project, text)
    assert fault in gate.function_lines(project) + gate.function_median(project)

def test_long_module(project):
    module(project, 'x = 1\n'*301)
    assert gate.module_lines(project) == ['vader_nb.add: 301 lines, more than 300']
    argue(project, 'modules', 'add')
    assert gate.module_lines(project) == []

def test_exceptions_are_argued_and_needed(project):
    module(project, 'x = 1\n'*301)
    argue(project, 'modules', 'add', 'long')
    assert gate.module_lines(project) == ['nbs/exceptions.yml: modules: add has no argument']
    module(project, 'x = 1\n')
    argue(project, 'modules', 'add')
    assert gate.module_lines(project) == ['nbs/exceptions.yml: modules: add needs no exception']

def test_long_cell(project):
    exports(project, lines(26))
    assert gate.cell_lines(project) == ['core/add.ipynb: cell 4 (f): 26 exported lines, more than 25']
    argue(project, 'cells', 'core/add.ipynb: f')
    assert gate.cell_lines(project) == []

def test_long_line(project):
    exports(project, 'x = ' + '1'*117)
    assert gate.line_lengths(project) == ['core/add.ipynb: cell 4: a line of 121 characters, more than 120: x = ' + '1'*56 + '...']

def test_unused_import(project):
    module(project, 'import os, re\nfrom pathlib import Path as P\nprint(re)\n')
    assert gate.unused_imports(project) == ['vader_nb.add: os is imported and not used', 'vader_nb.add: P is imported and not used']
    module(project, 'from .add import os\nfrom vader_nb.add import P\nprint(os, P)\n', 'passed_on')
    assert gate.unused_imports(project) == []
    module(project, 'from .other import os\nfrom pathlib import P\nprint(os, P)\n', 'passed_on')
    assert len(gate.unused_imports(project)) == 2

@pytest.mark.parametrize('text', ['a = 1; b = 2', 'for a in b: a(); b()', '(a, b())', 'a() if b else c()', '[a(x) for x in b]', 'a == b', 'a and b()'])
def test_dense(project, text):
    exports(project, f'def f(a, b, c):\n    "A text; with a semicolon"\n    {text}')
    assert len(gate.density(project)) == 1

@pytest.mark.parametrize('text', ['a()', '...', '"a; b"', 'yield a', 'if a: b()', 'a, b = b, a'])
def test_not_dense(project, text):
    exports(project, f'def f(a, b, c):\n    {text}')
    assert gate.density(project) == []

@pytest.mark.parametrize('name, faults', [('add', 1), ('commands/run', 0)])
def test_many_parameters(project, name, faults):
    public = 'def f(' + ', '.join(f'a{i}' for i in range(8)) + ', *rest, b, c, d, **more): pass\n'
    module(project, public + public.replace('f(', '_g(').replace(', d', '') + public.replace('f(', 'h(').replace(', d', ''), name)
    assert gate.parameters(project) == ['add.f: 11 parameters, more than 10'][:faults]

@pytest.mark.parametrize('text', ['x.n_frames', 'f(accumulate=2)', 'from vader_nb.models import load_pipeline', 'vader_nb.rewards.load_reward("a")',
    'import vader_nb.tiny_unet', 'run("vader_align --steps 3")', 'align(pipe, reward, prompts, steps=3)', 'train_tiny_vae(steps=3)', 'fit(loss, updates=4)',
    'vader_loss(pipe, reward, frames=4)', 'def f(cuts): pass', 'align(p, r, recipe="fast")', 'plan(decode_frames=3)', 'f(SimpleNamespace(**x))', '"after so many steps"'])
def test_old_name_in_code(project, text):
    notebook(project/'nbs'/'core'/'add.ipynb', code('#| default_exp add'), code(text))
    assert gate.old_names(project) and all(f.startswith('core/add.ipynb: cell 4: ') for f in gate.old_names(project))

@pytest.mark.parametrize('text', ['for so many steps', '`cuts`', 'see notebook 31', '`31_vader.ipynb`', 'band 2x', '`vader_align --recipe fast`', 'the fast recipe',
                                  'vader_align --grad_steps 2', '`n_frames`', '`vader_nb.planner`'])
def test_old_name_in_prose(project, text):
    notebook(project/'nbs'/'core'/'add.ipynb', markdown(text))
    assert len(gate.old_names(project)) == 1

@pytest.mark.parametrize('text', ['gradients accumulate', 'it cuts the gradient', "the paper's recipe", 'num_frames', '--train-steps', '--num-inference-steps', '--updates-per-rollout 4',
    'vader_align --recipe videocrafter2-hps-aesthetic', 'so many that it fits nowhere', '100 steps', 'fit(loss, train_steps=2)', 'decode(latents, frames=[0])',
    'gradient_accumulation_steps=2', 'accumulated = accumulate(x)', 'vader_nb.savings.planner', '2016_a'])
def test_other_meanings(project, text):
    notebook(project/'nbs'/'core'/'add.ipynb', markdown(text), code(text if '(' in text else '1'))
    assert gate.old_names(project) == []
