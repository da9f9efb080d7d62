"The runner and the collector: what runs, what is stored, and that a failing cell is seen."
import os, subprocess, sys
from multiprocessing import forkserver
from pathlib import Path
import pytest
from conftest import PRINTED, code, edit, notebook
from tools.notebooks import ROOT, MAX_LINES, WIDGET, fork, read, settings, spawn, stale, tidy, tidy_text


FLAGS = settings()['tst_flags'].split()

def outputs(path):
    "What each code cell printed"
    return [''.join(''.join(o.get('text', '')) for o in c['outputs']) for c in read(path)['cells'] if 'outputs' in c]

CELLS = [code('print("plain")'), code('#| slow\nprint("slow")'), code('#| cuda\n#| slow\nprint("both")'),
         code('#| eval: false\nprint("never")'), code('print("nbdev_export()")'), code('#| net\nprint("net")')]

@pytest.mark.parametrize('force, shown', [('', 'plain'), ('slow', 'plain slow'), ('slow cuda', 'plain slow both'),
                                          ('net', 'plain net')])
def test_cells_that_run(tmp_path, force, shown):
    path = notebook(tmp_path/'00_a.ipynb', *CELLS)
    assert spawn(path, force.split(), store=True, live=False)[0]
    assert ' '.join(outputs(path)).split() == shown.split()

@pytest.mark.parametrize('force', ['', 'slow', 'slow cuda net'])
def test_the_same_cells_as_nbdev(tmp_path, force):
    log = tmp_path/'log'
    def note(i, flags): return code(f'{flags}with open({str(log)!r}, "a") as f: f.write("{i}")')
    heads = ['', '#| slow\n', '#| cuda\n#| slow\n', '#| eval: false\n', '#|net\n', '#| echo: false\n',
             '# nbdev_export()\n', '#| hide\n']
    path = notebook(tmp_path/'00_a.ipynb', *[note(i, f) for i, f in enumerate(heads)])
    assert spawn(path, force.split(), live=False)[0]
    ours = log.read_text()
    log.unlink()
    run = f'''from pathlib import Path
import nbdev.test
nbdev.test.test_nb(Path({str(path)!r}), ["slow", "cuda", "net"], {force.split()!r})'''
    subprocess.run([sys.executable, '-c', run], check=True)
    assert ours == log.read_text() != ''

def test_skipped_cells_keep_their_outputs(tmp_path):
    path = notebook(tmp_path/'00_a.ipynb', code('#| slow\nprint("slow")', {**PRINTED, 'text': ['before\n']}))
    assert spawn(path, store=True, live=False)[0]
    assert outputs(path)[-1] == 'before\n' and stale(read(path), FLAGS) == []

def test_stored_outputs_are_stamped(tmp_path):
    path = notebook(tmp_path/'00_a.ipynb', code('print(1)'), code('#| slow\nprint("slow")', PRINTED))
    edit(path, 'print(', 'print(0, ')
    assert stale(read(path), FLAGS) == ['code', 'slow']
    assert spawn(path, store=True, live=False)[0] and stale(read(path), FLAGS) == ['slow']
    assert spawn(path, ['slow'], store=True, live=False)[0] and stale(read(path), FLAGS) == []

def test_a_failing_cell_is_shown_and_nothing_is_stored(tmp_path):
    path = notebook(tmp_path/'00_a.ipynb', code('print("first")'), code('print("second"); assert 1 == 2, "no"'))
    before = path.read_bytes()
    passed, _, log = spawn(path, store=True, live=False)
    assert not passed and path.read_bytes() == before
    for text in ('cell 4 failed', 'assert 1 == 2', 'second', 'AssertionError: no'): assert text in log

def test_a_hanging_notebook_is_killed(tmp_path):
    path = notebook(tmp_path/'00_a.ipynb', code('import subprocess\nsubprocess.run(["sleep", "60"])'))
    passed, secs, log = spawn(path, timeout=4, live=False)
    assert not passed and secs < 30 and 'limit 4 s' in log

def test_slow_cells_have_more_time(tmp_path, monkeypatch):
    monkeypatch.setattr('tools.notebooks.LIMIT', .1)
    path = notebook(tmp_path/'00_a.ipynb', code('print(1)'))
    assert not spawn(path, live=False)[0] and spawn(path, ['slow'], live=False)[0]

def test_collector(tmp_path):
    notebook(tmp_path/'00_good.ipynb', code('1'))
    notebook(tmp_path/'01_bad.ipynb', code('assert 1 == 2, "no"'))
    cmd = [sys.executable, '-m', 'pytest', '-p', 'conftest', '-p', 'no:cacheprovider', '-c', ROOT/'pyproject.toml',
           '--rootdir', tmp_path, '--durations-min=0', tmp_path]
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '200'}
    res = subprocess.run(cmd, cwd=ROOT, capture_output=True, text=True, env=env)
    assert res.returncode == 1 and '1 failed, 1 passed' in res.stdout.splitlines()[-1]
    for text in ('01_bad.ipynb: cell 3 failed', ' - AssertionError: no', 'call     00_good.ipynb::cells'):
        assert text in res.stdout

def test_no_network_by_default(tmp_path):
    cell = code('import os; print(os.environ["HF_HUB_OFFLINE"])')
    for force, want in (('', '1'), ('net', '0')):
        path = notebook(tmp_path/'00_a.ipynb', cell)
        spawn(path, force.split(), store=True, live=False)
        assert outputs(path)[-1] == f'{want}\n'

def test_tidy():
    assert tidy_text(f'{ROOT}/nbs/a.png {Path.home()}/x') == 'nbs/a.png ~/x'
    assert tidy_text('10%|# | 1/10 [00:00<00:01, 9.1it/s]\rdone\n') == 'done\n'
    assert tidy_text('x\n' * 500).count('\n') == MAX_LINES
    result = dict(output_type='execute_result', execution_count=None, metadata={}, data={'text/plain': ['1']})
    widget = dict(output_type='display_data', metadata={}, data={WIDGET: {}})
    axes = dict(output_type='execute_result', metadata={}, data={'text/plain': ["<Axes: xlabel='step'>"]}, execution_count=4)
    assert tidy([{**PRINTED, 'name': 'stderr'}, widget, axes, {**result, 'execution_count': 3}]) == [result]

def test_a_fork_is_a_fresh_process(tmp_path):
    "What a notebook leaves behind is not there for the next one"
    first = code(f"""import json, os, sys
print(os.environ["HF_HUB_OFFLINE"], "torch" in sys.modules, os.getpgid(0) == os.getpid(), os.getcwd() == {str(tmp_path)!r}, hasattr(json, "planted"))""")
    path = notebook(tmp_path/'00_a.ipynb', first, code('json.planted = 1; assert 1 == 2, sys.stdin.read() + "no input"'))
    for _ in range(2):
        passed, _, log = fork(path)
        assert not passed and 'cell 4 failed' in log and 'AssertionError: no input' in log
    path = notebook(tmp_path/'00_b.ipynb', first, code('assert not hasattr(json, "planted") and os.environ["HF_HUB_OFFLINE"] == "1" and "torch" in sys.modules'),
                    code(f'assert os.getpgid(0) == os.getpid() and os.getcwd() == {str(tmp_path)!r}'))
    passed, _, log = fork(path)
    assert passed, log

@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='only Linux lists the threads of a process')
def test_a_fork_takes_no_lock_of_another_thread_along():
    fork(ROOT/'nbs'/'core'/'names.ipynb')
    assert len(os.listdir(f'/proc/{forkserver._forkserver._forkserver_pid}/task')) == 1

def test_a_fork_that_hangs_or_dies(tmp_path):
    path = notebook(tmp_path/'00_a.ipynb', code('import subprocess\nsubprocess.run(["sleep", "60"])'))
    passed, secs, log = fork(path, timeout=3)
    assert not passed and secs < 20 and 'limit 3 s' in log
    path = notebook(tmp_path/'00_a.ipynb', code('import os\nos.kill(os.getpid(), 9)'))
    passed, _, log = fork(path)
    assert not passed and 'killed by signal 9' in log
