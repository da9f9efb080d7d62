"A small project without faults: each gate must pass on it, and fail when a fault is planted in it."
import json, shutil
import pytest
from tools import pages
from tools.notebooks import ROOT, clean, settings, stamp, write
from tools.project_gate import _nbdev
from tools.site_gate import badge

INSTALL = '#| hide\nimport sys\nif "google.colab" in sys.modules:\n    %pip install -q "vader-nb[notebooks]"'
PICTURE = dict(output_type='display_data', metadata={}, data={'image/png': 'iVBO', 'text/plain': ['<Figure>']})
PART = '''## A part {#sec-part}

See @sec-part, @fig-one and [adding](add.ipynb).

::: {.callout-note}
Note
:::'''
BOOK = 'parts:\n  - folder: core\n    title: Foundations\n    chapters: [add, show]\n'
PRINTED = dict(output_type='stream', name='stdout', text=['4\n'])


def _cell(kind, text): return dict(cell_type=kind, metadata={}, source=text, id=f'{abs(hash(text)):x}'[:8])
def markdown(text): return _cell('markdown', text)
def code(text, *outputs): return dict(_cell('code', text), outputs=list(outputs), execution_count=None)

def notebook(path, *cells, title='A notebook'):
    "Write a clean, stamped notebook with the head that every notebook has"
    name = '/'.join(path.parts[path.parts.index('nbs') + 1:]) if 'nbs' in path.parts else path.name
    head = [markdown(f'# {title}\n\n> What it teaches'), markdown(f'{badge(name)}\n\nAt the end you can:\n\n- see it.')]
    meta = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    nb = dict(cells=[*head, code(INSTALL), *cells], metadata=meta, nbformat=4, nbformat_minor=5)
    stamp(nb, settings()['tst_flags'].split(), force=['slow'])
    write(clean(nb, settings()), path)
    return path

def edit(path, old, new):
    "Plant a fault: replace text in a file, where it must stand"
    text = path.read_text(encoding='utf-8')
    assert old in text, f'{old!r} is not in {path}'
    path.write_text(text.replace(old, new), encoding='utf-8')

def edit_nb(path, change):
    "Plant a fault in a notebook: `change` works on its parsed form"
    nb = json.loads(path.read_text(encoding='utf-8'))
    change(nb)
    write(nb, path)

@pytest.fixture
def project(template, tmp_path):
    "A faultless project of one's own"
    return shutil.copytree(template, tmp_path/'project', symlinks=True)

@pytest.fixture(scope='session')
def template(tmp_path_factory):
    "A faultless project: an index, a notebook that exports, one that only teaches"
    root = tmp_path_factory.mktemp('template')
    nbs = root/'nbs'
    (root/'vader_nb'/'weights').mkdir(parents=True)
    (nbs/'core').mkdir(parents=True)
    (nbs/'book.yml').write_text(BOOK)
    for n in ('settings.ini', '_quarto.yml', 'CHANGELOG.md', 'nbs/nbdev.yml', 'nbs/styles.css', 'nbs/favicon.svg', 'nbs/preview.png',
              'nbs/reference.qmd.py', '.github/workflows/docs.yml'):
        (root/n).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/n, root/n)
    (nbs/'_quarto.yml').symlink_to('../_quarto.yml')
    (root/'vader_nb'/'weights'/'config.json').write_text('{}')
    notebook(nbs/'index.ipynb', markdown('## The notebooks'), title='vader_nb')
    notebook(nbs/'core'/'add.ipynb', code('#| default_exp add'), code('#| export\ndef add(a, b): return a + b'),
             code('print(add(2, 2))', PRINTED))
    notebook(nbs/'core'/'show.ipynb', markdown(PART), code('#| label: fig-one\n#| fig-cap: "One"\n#| fig-alt: "A line"\n1', PICTURE),
             code('#| slow\nprint(4)', PRINTED), code('#| cuda\n1'))
    _nbdev('nbdev_export', root)
    for n, make in pages.PAGES.items(): (root/n).write_text(make(root), encoding='utf-8')
    return root

@pytest.fixture(scope='session')
def served(tmp_path_factory):
    "Every repository that the library names, written once: (folder of each, folder of what other servers have)"
    from hub.repositories import write_all
    folder = tmp_path_factory.mktemp('served')
    return write_all(folder), folder/'mirror'

@pytest.fixture
def hub(served, tmp_path):
    "A stand-in hub of one's own, without faults"
    from hub.server import Hub
    hub = Hub(served[0], tmp_path/'uploads', served[1]).start()
    yield hub
    hub.stop()
