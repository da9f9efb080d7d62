import ast, os, re, runpy, shutil, subprocess, sys, zipfile
import pytest
from conftest import edit
from packaging.requirements import Requirement
from pathlib import Path
from tools import project_gate, versions
from tools.notebooks import ROOT, settings

KEYS = ('requirements', 'notebooks_requirements', 'dev_requirements')
PINS = dict(l.split('==') for l in (ROOT/'constraints.txt').read_text().splitlines() if '==' in l)


def requirements(key): return [Requirement(r) for r in settings()[key].split()]
def canonical(name): return re.sub(r'[-_.]+', '-', name).lower()

@pytest.mark.parametrize('check', [project_gate.versions, project_gate.weights])
def test_package(check): assert check(ROOT) == []

@pytest.mark.parametrize('check', [project_gate.versions, project_gate.weights])
def test_faultless(project, check): assert check(project) == []

@pytest.mark.parametrize('file', ['settings.ini', 'vader_nb/__init__.py', 'CHANGELOG.md'])
def test_version_differs(project, file):
    edit(project/file, settings()['version'], '9.9.9')
    assert len(project_gate.versions(project)) == (2 if file == 'settings.ini' else 1)

def test_pickle_among_the_weights(project):
    (project/'vader_nb'/'weights'/'model.bin').write_bytes(b'x')
    assert project_gate.weights(project) == ['vader_nb/weights/model.bin: only .json, .safetensors, .txt may be shipped']

def test_large_weights(project):
    (project/'vader_nb'/'weights'/'model.safetensors').write_bytes(bytes(16_000_001))
    assert 'more than 16000000' in project_gate.weights(project)[0]

@pytest.mark.parametrize('key', KEYS)
def test_requirements_hold_for_the_tested_versions(key):
    pins = {canonical(n): v for n, v in PINS.items()}
    for r in requirements(key):
        if canonical(r.name) != 'setuptools': assert r.specifier.contains(pins[canonical(r.name)]), r

def test_torch_is_a_lower_bound_and_torchvision_is_absent():
    torch = next(r for r in requirements('requirements') if r.name == 'torch')
    assert all(s.operator == '>=' for s in torch.specifier) and 'torch' in PINS
    assert 'torchvision' not in PINS and not any(r.name == 'torchvision' for k in KEYS for r in requirements(k))

def test_run_time_requirements_have_a_lower_bound_and_no_upper_one():
    "what is installed already may stay; a single bad release is left out by name"
    for r in requirements('requirements'): assert sorted({s.operator for s in r.specifier} - {'!='}) == ['>='], r
    floors = versions.requirements('floors')
    assert 'torch==2.6' in floors and len(floors) == len(requirements('requirements')) and all(Requirement(f) for f in floors)
    assert versions.requirements('newest') == settings()['requirements'].split()

def test_requirement_without_a_lower_bound():
    with pytest.raises(ValueError, match='no lower bound for tqdm'): versions.requirements('floors', dict(requirements='torch>=2.6 tqdm'))

def test_every_library_that_a_module_imports_is_required():
    modules = dict(PIL='pillow', IPython='ipywidgets')    # ipywidgets brings IPython
    asked_for = {'bitsandbytes'}    # its optimiser is imported when a user names it
    wanted = {canonical(r.name) for r in requirements('requirements')}
    for p in (ROOT/'vader_nb').rglob('*.py'):
        for n in ast.walk(ast.parse(p.read_text(encoding='utf-8'))):
            names = [a.name for a in n.names] if isinstance(n, ast.Import) else [n.module] if isinstance(n, ast.ImportFrom) and not n.level else []
            for top in {m.split('.')[0] for m in names} - sys.stdlib_module_names - {'vader_nb'} - asked_for:
                assert canonical(modules.get(top, top)) in wanted, f'{p.relative_to(ROOT)} imports {top}'

def test_nothing_imports_torchvision():
    found = [p for p in (ROOT/'vader_nb').rglob('*.py') if re.search(r'^\s*(from|import) torchvision', p.read_text(), re.M)]
    assert found == []


COMMANDS = [tuple(re.split('[=:]', e)) for e in settings()['console_scripts'].split()]     # (name, module, function)

@pytest.mark.parametrize(('name', 'module', 'function'), COMMANDS)
def test_the_module_of_a_command_is_a_program(name, module, function, monkeypatch, capsys):
    "As `python -m` runs it, and with it `accelerate launch -m` and `torchrun -m`"
    monkeypatch.delitem(sys.modules, module, raising=False)
    for words, code in (['--help'], 0), (['--nothing'], 2):
        monkeypatch.setattr(sys, 'argv', [module, *words])
        with pytest.raises(SystemExit) as end: runpy.run_module(module, run_name='__main__')
        said = capsys.readouterr()
        assert end.value.code == code and (said.err if code else said.out).startswith(f'usage: {name} ')
    assert callable((imported := runpy.run_module(module))[function])      # imported, it waits
    exec(Path(imported['__file__']).read_text(encoding='utf-8').splitlines()[-1], dict(__name__='__main__', __spec__=None))     # and in a notebook

def test_python_m():
    res = subprocess.run([sys.executable, '-m', 'vader_nb.commands.align', '--help'], cwd=ROOT, capture_output=True, text=True)
    assert (res.returncode, res.stderr) == (0, '') and res.stdout.startswith('usage: vader_align ')


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "The wheel of a clean copy of the project, built without network"
    src, out = tmp_path_factory.mktemp('src'), tmp_path_factory.mktemp('wheel')
    files = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split('\0')
    for f in files:
        if f.startswith('nbs/') or not (ROOT/f).is_file(): continue
        (src/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/f, src/f)
    subprocess.run([sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', out, src], check=True,
                   stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return next(out.glob('*.whl'))

def test_wheel_holds_every_module_and_weight(built):
    assert project_gate.wheel(ROOT, zipfile.ZipFile(built).namelist()) == []

def test_file_missing_from_the_wheel(project):
    names = ['vader_nb/__init__.py', 'vader_nb/_modidx.py', 'vader_nb/add.py']
    assert project_gate.wheel(project, names) == ['not in the wheel: vader_nb/weights/config.json']

def test_wheel_works_outside_the_checkout(built, tmp_path):
    "Its commands can be imported from the unpacked wheel"
    zipfile.ZipFile(built).extractall(tmp_path)
    code = ''.join(f'from {m} import {f}\n' for _, m, f in COMMANDS)
    code += 'import vader_nb\nprint(vader_nb.__file__, vader_nb.__version__)'
    env = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    res = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert res.returncode == 0, res.stderr
    assert res.stdout.split() == [str(tmp_path/'vader_nb'/'__init__.py'), settings()['version']]

def test_wheel_aligns_outside_the_checkout(built, tmp_path):
    "The main command runs from the unpacked wheel, on the weights in it"
    zipfile.ZipFile(built).extractall(tmp_path/'wheel')
    options = '--out out --train-steps 2 --num-inference-steps 2 --eval-train 0 --eval-test 2 --diversity-prompts 0 --pictures 1'.split()
    env = {**os.environ, 'PYTHONPATH': str(tmp_path/'wheel'), 'OMP_NUM_THREADS': '1'}
    (tmp_path/'run.py').write_text('from vader_nb.commands.align import vader_align\nvader_align()\n')    # as pip's script does
    res = subprocess.run([sys.executable, 'run.py', *options], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert res.returncode == 0, res.stderr
    assert '| held_out: reward' in res.stdout and '| 8 |' in ' '.join(res.stdout.split())    # 8 reward queries: 2 steps
    assert {'pytorch_lora_weights.safetensors', 'before_after.mp4', 'before_after.png', 'reward.png', 'log.jsonl'} <= {
        p.name for p in (tmp_path/'out').iterdir()}
