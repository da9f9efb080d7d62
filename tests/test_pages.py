"The pages as they leave nbdev's processing: links, anchors, parameters, layout; each fault planted once"
import ast
from types import SimpleNamespace
import pytest
from execnb.nbio import mk_cell
from conftest import PICTURE, code, edit, edit_nb, markdown
from tools import page_gate, site_api, site_procs
from tools.notebooks import ROOT
from tools.project_gate import _nbdev
from tools.site_layout import WIDTH, narrow, said
from tools.site_links import cited, linkify
from tools.site_procs import callout, commands, join, summary

SETTINGS = 'settings.ini'
DEFINED = '''#| export
from dataclasses import dataclass

def halve(number: int | None,  # what to halve; `a|b` and <i> stay as they are
          # how many times
          times: int = 1,
          **more,
         ) -> float:  # a half
    "Half of a number | or a `quarter`, *if asked*"
    return number/2**times

def _private(): pass

@dataclass
class Halves:
    "What came out"
    first: float = .5  # the first
    def both(self, n: int = 2,  # how many
            ) -> list: return [self.first]*n
'''
PROSE = '''## Halves of numbers

`halve` and `Halves.both()` and `Halves`, of [the chapter that has `add`](add.ipynb), [`add`](show.ipynb), `_private`, `nothing`, ``halve``, $`halve`$.

| `add` | `halve`, [`halve`](add.ipynb) |
|---|---|
| 1 | 2 |

```sh
python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ".[dev]" && .venv/bin/vader_align --out out `halve`
```'''
LONG = 'print(halve(number=1000000000000000, times=20), halve(number=1000000000000000, times=20), halve(number=1000000000000000))'
REFUSED = 'test_fail(lambda: halve("a"))\ntest_fail(lambda: halve("b"))\ntest_fail(lambda: halve("c"))'

SHOWN = '#| label: fig-clip\n#| fig-cap: "A clip"\n#| fig-alt: "A circle that moves"\nshow_video(x)'
VIDEO = dict(output_type='display_data', metadata={}, data={'text/html': '<video controls></video>'})


@pytest.fixture(scope='module')
def chapter(template, tmp_path_factory):
    "The faultless project with a chapter that has everything"
    import shutil
    root = shutil.copytree(template, tmp_path_factory.mktemp('pages')/'project', symlinks=True)
    cells = [code('import os'), code('import sys'), markdown(PROSE), code(DEFINED), code(LONG), code(REFUSED), markdown('> **Pitfall.** Do not.'), code('ax.plot([1, 2])', PICTURE), code(SHOWN, VIDEO)]
    edit_nb(root/'nbs'/'core'/'add.ipynb', lambda nb: nb['cells'].extend(cells))
    _nbdev('nbdev_export', root)
    return root

@pytest.fixture
def book(chapter, tmp_path):
    import shutil
    return shutil.copytree(chapter, tmp_path/'book', symlinks=True)

def test_pages(): assert not any(found := page_gate.faults(ROOT).values()), found

def test_faultless(book): assert not any(found := page_gate.faults(book).values()), found

@pytest.mark.parametrize('check, file, old, new, faults', [
    ('definitions', SETTINGS, 'tools.site_procs:names ', '', ['no anchor for halve', 'no parameters of Halves', 'no link to the source of add']),
    ('wide_code', SETTINGS, ' tools.site_procs:fit', '', ['code of more than 100 characters']),
    ('wide_code', SETTINGS, 'tools.site_procs:commands ', '', ['a command of 1']),
    ('unfolded', SETTINGS, 'tools.site_procs:fold ', '', ['not folded: Imports', 'not folded: Tests (3)']),
    ('folds_in_a_row', SETTINGS, 'tools.site_procs:join ', '', ["two folds in a row: 'import sys'"]),
    ('dead_links', 'nbs/core/add.ipynb', '## Halves of numbers', 'See [it](show.ipynb#nowhere)', ['nothing called nowhere']),
    ('dead_links', 'nbs/core/add.ipynb', '(show.ipynb)', '(shown.ipynb)', ['shown.ipynb: no such page']),
    ('raw_links', 'nbs/core/add.ipynb', '[`add`](show.ipynb)', '[see [`add`](show.ipynb) there](show.ipynb)', ['a link inside a link']),
    ('private_links', 'nbs/core/add.ipynb', '[`add`](show.ipynb)', '[`_private`](show.ipynb)', ['a link from the private name _private']),
    ('twice', 'nbs/core/add.ipynb', '## Halves of numbers', '<b id=\\"halve\\"></b>', ['two places called halve']),
    ('quotations', SETTINGS, 'tools.site_procs:callout ', '', ['no callout: > **Pitfall']),
    ('light_plots', SETTINGS, 'tools.site_procs:plots ', '', ['a plot that stays light']),
    ('silent_videos', SETTINGS, 'tools.site_procs:described ', '', ['a video without a text']),
    ('page_heads', 'nbs/core/add.ipynb', 'colab-badge', 'badge', ['the page shows no badge'])])
def test_fault(book, check, file, old, new, faults):
    edit(book/file, old, new)
    found = page_gate.faults(book)[check]
    assert all(any(f in g for g in found) for f in faults) and found, found


# Links

def _named(name, notebook, module='m'): return SimpleNamespace(name=name, notebook=notebook, module=module, anchor=name.lower())
INDEX = {'add': [_named('add', 'core/add.ipynb')], 'step': [_named('step', 'a/one.ipynb', 'one'), _named('step', 'a/two.ipynb', 'two')], 'align': [_named('align', 'methods/vader.ipynb')],
         'vader_align': [_named('vader_align', 'commands/align.ipynb')]}

@pytest.mark.parametrize('text, linked', [
    ('use `add` here', 'use [`add`](../core/add.ipynb#add) here'),
    ('use `add()`', 'use [`add()`](../core/add.ipynb#add)'),
    ('[`add`](../core/add.ipynb)', '[`add`](../core/add.ipynb#add)'),
    ('(`add`)', '([`add`](../core/add.ipynb#add))'),
    *((same, same) for same in ('[the `add` of it](x.ipynb)', '[`add`](x.ipynb)', '![`add`](x.png)', '``add``', '`add it`', '`_add`', '`step`', '## The `add`', '<b title="`add`">', '<!-- `add` -->',
                                '```\n`add`\n```', 'so\n\n    `add`', '$`add`$', '[a link with [brackets] and `add`](x.ipynb)', '[two\nlines, `add`](x.ipynb)'))])
def test_links(text, linked): assert linkify(text, 'rewards/x.ipynb', INDEX, near={'core/add.ipynb'}) == linked

def test_a_name_of_a_chapter_that_has_nothing_to_do_with_the_page():
    "`queries`, a column of the log, is not the function `queries` of a chapter on the paper"
    assert linkify('`add`', 'rewards/x.ipynb', INDEX) == '`add`'
    assert linkify('`add`', 'rewards/x.ipynb', INDEX, {('m', 'add')}) == '[`add`](../core/add.ipynb#add)'
    assert linkify('`align` and `vader_align`', 'rewards/x.ipynb', INDEX) == '[`align`](../methods/vader.ipynb#align) and [`vader_align`](../commands/align.ipynb#vader_align)'
    assert cited('[one](../core/add.ipynb#part), [two](y.ipynb), [out](https://a.org/z.ipynb), `add`', 'rewards/x.ipynb') == {'core/add.ipynb', 'rewards/y.ipynb'}

def test_which_of_two():
    assert linkify('`step`', 'a/two.ipynb', INDEX) == '[`step`](#step)'
    assert linkify('`step`', 'b/x.ipynb', INDEX, {('one', 'step')}) == '[`step`](../a/one.ipynb#step)'


# Parameters

def test_parameters():
    f, c = [n for n in ast.parse(DEFINED).body if getattr(n, 'name', '') in ('halve', 'Halves')]
    rows = [(r.name, r.type, r.default, r.said) for r in site_api.parameters(f, DEFINED)]
    assert rows == [('number', 'int | None', '', 'what to halve; `a|b` and <i> stay as they are'), ('times', 'int', '1', 'how many times'), ('**more', '', '', ''),
                    ('returns', 'float', '', 'a half')]
    assert [(r.name, r.default, r.said) for r in site_api.parameters(c, DEFINED)] == [('first', '.5', 'the first')]
    table = site_api.table(site_api.parameters(f, DEFINED))
    assert '<code>int | None</code>' in table and '<code>a|b</code> and &lt;i&gt; stay' in table

def test_options_of_a_command():
    code = 'class Options:\n    out: str | None = option("out", "where it \\"writes\\"")'
    row, = site_api.parameters(ast.parse(code).body[0], code)
    assert (row.name, row.type, row.default, row.said) == ('out', 'str | None', '"out"', 'where it "writes"')

def test_a_method_that_is_patched_in():
    node = ast.parse('@patch\ndef encode(self: Model, x): pass').body[0]
    assert site_api.title(node) == 'Model.encode'
    assert site_api.title(ast.parse('@patch(as_prop=True)\ndef dtype(self: Model): pass').body[0]) == 'Model.dtype'

def test_reference():
    text = site_api.reference(ROOT)
    assert '## `vader_nb.methods.vader`' in text and '- [`align`](methods/vader.ipynb#align): ' in text
    assert site_api.markdown('a | b of `x|y`, *not* <i>') == r'a \| b of `x|y`, \*not\* \<i\>'

def test_anchors_of_a_page_differ():
    by_page = {}
    for d in (d for ds in site_api.index(ROOT).values() for d in ds): by_page.setdefault(d.notebook, []).append(d.anchor)
    assert all(len(a) == len(set(a)) for a in by_page.values())


# Layout

@pytest.mark.parametrize('text', [
    LONG, f'x = 1  # {"a long comment " * 9}', f'if True: {LONG}', 'a = 1; ' * 20 + 'b = 2', f'raise ValueError(f"{{x}} {"word " * 25}")', 'a, b = ' + ', '.join(['something'] * 14),
    f'def f():\n    "{"A docstring that goes on " * 5}"\n    return 1', 'from os import ' + ', '.join(f'name_{i}' for i in range(16))])
def test_narrow(text):
    made = narrow(text)
    assert made != text and max(map(len, made.split('\n'))) <= WIDTH and said(made) == said(text) != said('x')
    assert narrow(made) == made

@pytest.mark.parametrize('text', ['short = 1', 'x = """' + 'a ' * 80 + '"""', '%pip install ' + 'x ' * 80, 'x = ' + 'a' * 120])
def test_what_stays(text): assert narrow(text) == text

def test_commands():
    cell = SimpleNamespace(cell_type='markdown', source=PROSE)
    commands(cell)
    assert 'python3 -m venv .venv &&\n    .venv/bin/pip install' in cell.source and max(map(len, cell.source.split('```sh')[1].split('\n'))) <= WIDTH

def test_printed():
    "A sentence goes on below; a table, columns and what cannot be broken stay"
    long = '  error: ' + ' '.join(f'word{i}' for i in range(40))
    made = site_procs.printed(f'short\n{long}\n')
    assert made.split() == f'short {long}'.split() and max(map(len, made.split('\n'))) <= WIDTH
    assert made.startswith('short\n  error: ') and made.endswith('\n') and '\n      word' in made and site_procs.printed(made) == made
    for same in ('| ' + 'cell | '*40, 'name    ' + 'word '*40, 'x'*200, '    ' + 'x'*200): assert site_procs.printed(same) == same

def test_printed_line_of_a_page():
    cell = mk_cell('print(1)', 'code')
    cell.outputs = [dict(output_type='stream', name='stdout', text=['word '*30, '\n'])]
    found = page_gate.wide_code({'x.ipynb': [cell]}, ROOT)
    assert len(found) == 1 and 'a printed line of more than 100 characters: word' in found[0]
    site_procs.fit(cell)
    assert page_gate.wide_code({'x.ipynb': [cell]}, ROOT) == []

def test_callout():
    cell = SimpleNamespace(cell_type='markdown', source='Text.\n\n> **Pitfall.** Do not\n> do it.\n\n> A quotation.')
    callout(cell)
    assert cell.source == 'Text.\n\n::: {.callout-warning title="Pitfall"}\nDo not\ndo it.\n:::\n\n> A quotation.'

@pytest.mark.parametrize('text, under', [('import os\nfrom sys import path', 'Imports'), (REFUSED, 'Tests (3)'), ('test_fail(f)', None), ('x = 1', None), ('import os\nx = os.sep\nprint(x)', None),
                                         ('import os, sys\nfrom sys import path\nx = os.sep', 'Imports'), ('import os\nfrom sys import path\nfor p in path: print(p)', None),
                                         ('import os\nimport sys\nfrom sys import path\nsys.setrecursionlimit(9)', 'Imports'), ('import os\nimport sys\nimport ast\ndef f(x):\n    y = x\n    return y', None)])
def test_folds(text, under): assert summary(ast.parse(text)) == under

def _cell(source, outputs=()): return SimpleNamespace(cell_type='code', source=source, get=lambda k, *_: list(outputs))

def _joined(*cells):
    "The sources of the cells of a page after `join`"
    proc = object.__new__(join)
    proc.nb = SimpleNamespace(cells=list(cells))
    proc.begin()
    return [c.source for c in proc.nb.cells]

def test_joined_imports():
    made = '#| code-fold: true\nimport sys\nimport ast'
    assert _joined(_cell('#| code-fold: true\nimport os'), _cell(made), _cell('import re'), _cell('x = 1'), _cell(made)) == [
        '#| code-fold: true\nimport os\n\nimport sys\nimport ast\n\nimport re', 'x = 1', made]
    output, text = _cell('import re', ['seen']), SimpleNamespace(cell_type='markdown', source='import os')
    defined = _cell('import os\nimport sys\nimport ast\nimport re\ndef f(): pass')
    for kept in (output, text, defined): assert len(_joined(_cell('import os'), kept)) == 2
