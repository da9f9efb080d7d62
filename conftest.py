"Every notebook is one test: its cells run in a fresh process by nbdev's rules."
import gc, json, os
from pathlib import Path
import pytest
from tools.notebooks import ROOT, fork, label, spawn

if n := os.environ.get('PYTEST_XDIST_WORKER_COUNT'):  # two workers that both use all cores would wait for each other
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1)//int(n))))


class NotebookFailed(Exception):
    def __init__(self, log):
        "The error stands in the first line too, which pytest's summary shows"
        lines = [l for l in log.splitlines() if l.strip('= ')]
        super().__init__(f'{lines[-1] if lines else "no output"}\n{log}')

class Notebook(pytest.File):
    def collect(self): yield NotebookItem.from_parent(self, name='cells')

class NotebookItem(pytest.Item):
    def runtest(self):
        live, flags = self.config.getoption('capture') == 'no', self.config.getoption('nb_flags').split()
        passed, _, log = spawn(self.path, flags, live=live) if live or flags else fork(self.path)
        if not passed: raise NotebookFailed(log)

    def repr_failure(self, excinfo):
        return str(excinfo.value) if excinfo.errisinstance(NotebookFailed) else super().repr_failure(excinfo)

    def reportinfo(self): return self.path, 0, label(self.path)

def pytest_collect_file(file_path, parent):
    if file_path.suffix == '.ipynb' and file_path.name[0] not in '._':
        return Notebook.from_parent(parent, path=file_path)


# Several workers: the longest files first, and each file as a whole to whoever is free, so that all end together and no fixture of a module is made twice

SECONDS = json.loads((ROOT/'nbs'/'results'/'seconds.json').read_text(encoding='utf-8'))     # tools/pages.py --timed

def seconds_of(path):
    "How long the file of an item took in an earlier run"
    return SECONDS.get(label(path) if Path(path).suffix == '.ipynb' else Path(path).name, 0)

def pytest_collection_modifyitems(items):
    if 'PYTEST_XDIST_WORKER' in os.environ: items.sort(key=lambda item: -seconds_of(item.path))

@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling
    config.option.loadscopereorder = False      # our order, not that of how many items a file has
    return LoadFileScheduling(config, log)

def pytest_collection_finish(session): gc.freeze()    # what was imported until now is not gone through again and again

def pytest_addoption(parser):
    parser.addoption('--nb-flags', default='',
                     help='test flags of notebook cells to run that are normally skipped, as "slow cuda"')
