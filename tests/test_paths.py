"Reading paths: what the pages say of them, and that a chapter uses nothing that its path has not explained."
import json
import pytest
from conftest import code, edit, markdown, notebook
from tools import pages, paths_gate as gate
from tools.notebooks import ROOT, clean, read, settings

PATHS = '''paths:
  - title: an evening
    for: beginners
    chapters: [core/add, core/show]
  - title: a builder
    for: builders
    after: an evening
    chapters: [core/mul]
about:
  core/add: {at: [LoRA], recap: [One and one make two., "Two and two make four.", A sum has no order at all.]}
  core/show: {at: all, needs: [core/add], recap: [It shows what was added., It shows it only once., It shows it in black.]}
  core/mul: {at: [loss], recap: [A product is a sum., A sum is no product., One times one is one.]}
'''

@pytest.fixture
def walk(project):
    "A project with three chapters and two reading paths, of which one comes after the other"
    nbs = project/'nbs'
    notebook(nbs/'core'/'mul.ipynb', code('#| default_exp mul'), code('#| export\nfrom vader_nb.add import add'), title='Times')
    (project/'vader_nb'/'mul.py').write_text('from .add import add\n')
    notebook(nbs/'index.ipynb', markdown('## The notebooks'), markdown('## Reading paths'), title='vader_nb')
    edit(nbs/'book.yml', 'show]\n', 'show, mul]\n' + PATHS)
    for n, made in pages.derived(project): (project/n).write_text(made, encoding='utf-8')
    return project

def last(root, name): return ''.join(read(root/'nbs'/name)['cells'][-1]['source'])

@pytest.mark.parametrize('check', gate.CHECKS)
def test_the_book(check): assert check(ROOT) == []

@pytest.mark.parametrize('check', gate.CHECKS)
def test_faultless(walk, check): assert check(walk) == []

def test_pages_are_up_to_date(walk): assert pages.out_of_date(walk) == []

def test_last_cells_name_the_next_chapters(walk):
    recap = '**To take along**\n\n- One and one make two.\n- Two and two make four.\n- A sum has no order at all.\n\n'
    assert last(walk, 'core/add.ipynb') == recap + '**Next**: on the path *an evening*, [A notebook](show.ipynb).'
    assert last(walk, 'core/show.ipynb').split('\n\n')[-1] == '**Next**: the path *an evening* ends here; [the index](../index.ipynb#reading-paths) has the others.'

def test_one_link_for_two_paths_that_go_on_alike(walk):
    edit(walk/'nbs'/'book.yml', 'about:', '  - title: a night\n    for: all\n    chapters: [core/add, core/show]\nabout:')
    assert pages.next_text(walk, 'core/add.ipynb') == '**Next**: on the paths *an evening* and *a night*, [A notebook](show.ipynb).'

def third(root, name): return ''.join(read(root/'nbs'/name)['cells'][2]['source'])

def test_heads_say_where_one_is(walk):
    line = 'prompts → denoiser → **[LoRA]** → sampler → decoder → frames → reward → loss → update'
    assert third(walk, 'core/add.ipynb') == f"**In the paper's Figure 2**: {line}.\n\n**Builds on**: PyTorch, and no other chapter. **Reading**: about 1 min."
    assert '**[prompts]** → **[denoiser]**' in third(walk, 'core/show.ipynb') and '**Builds on**: [A notebook](add.ipynb).' in third(walk, 'core/show.ipynb')

def test_heads_say_how_long_a_chapter_runs(walk):
    log = walk/'pytest.log'
    log.write_text('12.40s call     nbs/core/show.ipynb::cells\n131.00s call     nbs/core/add.ipynb::cells\n5.00s setup    tests/test_a.py::test_b\n 2.30s call     tests/test_a.py::test_c[1]\n')
    assert pages.timed(log) == {'core/add.ipynb': 131, 'core/show.ipynb': 12, 'test_a.py': 7}
    (walk/pages.SECONDS).parent.mkdir()
    (walk/pages.SECONDS).write_text('{"core/add.ipynb": 131, "core/show.ipynb": 12}')
    for name, said in (('add', 'about 2 min'), ('show', 'about 10 s'), ('mul', 'under 10 s')):
        assert pages.head_text(walk, f'core/{name}.ipynb').endswith(f'**Running**: {said} on one core.')

@pytest.mark.parametrize('old, new, fault', [
    ('at: [LoRA]', 'at: [lora]', "core/add.ipynb: at: ['lora']"),
    ('at: [loss], ', '', 'core/mul.ipynb: at: []'),
    ('"Two and two make four.", ', '', 'core/add.ipynb: recap: 2 sentences'),
    ('One times one is one.', 'Ones', 'core/mul.ipynb: recap: 3 sentences, three are wanted, each with its full stop'),
    ('needs: [core/add]', 'needs: [core/mul]', 'core/show.ipynb: needs core/mul, which no path has before it'),
    ('  core/mul: {', '  core/gone: {', 'about: core/gone.ipynb is on no path'),
    ('  core/mul: {', '  core/gone: {', 'core/mul.ipynb: at: []')])
def test_heads_and_recaps(walk, old, new, fault):
    edit(walk/'nbs'/'book.yml', old, new)
    assert any(f.startswith(fault.replace('.ipynb is', ' is')) for f in gate.headed(walk)), gate.headed(walk)

def test_a_chapter_without_a_head(walk):
    edit(walk/'nbs'/'book.yml', '  core/mul: {at', '  core/mul: {} #')
    assert any(f.startswith('core/mul.ipynb: at') for f in gate.headed(walk))
    for n, made in pages.derived(walk): (walk/n).write_text(made, encoding='utf-8')
    assert not third(walk, 'core/mul.ipynb').startswith(pages.HEAD) and not last(walk, 'core/mul.ipynb').startswith(pages.RECAP)
    (walk/'nbs'/'exceptions.yml').write_text('heads:\n  core/mul.ipynb: a product explains itself\n')
    assert gate.headed(walk) == []

def test_heads_do_not_count_as_prose(walk):
    assert pages.HEAD in third(walk, 'core/mul.ipynb')
    without = pages.words(walk/'nbs'/'core'/'mul.ipynb')
    edit(walk/'nbs'/'book.yml', 'at: [loss]', 'at: [loss, reward, frames]')
    for n, made in pages.derived(walk): (walk/n).write_text(made, encoding='utf-8')
    assert pages.words(walk/'nbs'/'core'/'mul.ipynb') == without

def test_last_cells_are_clean(walk):
    nb = read(walk/'nbs'/'core'/'add.ipynb')
    assert clean(json.loads(json.dumps(nb)), settings()) == nb

def test_index_lists_the_paths(walk):
    assert ('**An evening** (beginners; about 1,000 words): [A notebook](core/add.ipynb) → [A notebook](core/show.ipynb)\n\n'
            '**A builder** (builders; about 1,000 words; read *an evening* first): [Times](core/mul.ipynb)') in last(walk, 'index.ipynb')

def test_another_order(walk):
    edit(walk/'nbs'/'book.yml', 'chapters: [core/add, core/show]', 'chapters: [core/show, core/add]')
    assert pages.out_of_date(walk) == ['nbs/core/add.ipynb', 'nbs/core/show.ipynb', 'nbs/index.ipynb', 'README.md']

def test_a_chapter_that_leaves_its_path(walk):
    edit(walk/'nbs'/'book.yml', 'chapters: [core/add, core/show]', 'chapters: [core/add]')
    edit(walk/'nbs'/'book.yml', '  core/show: {at', '  core/gone: {at')
    for n, made in pages.derived(walk): (walk/n).write_text(made, encoding='utf-8')
    assert not last(walk, 'core/show.ipynb').startswith(pages.NEXT)

def test_a_path_that_is_too_long(walk):
    edit(walk/'nbs'/'book.yml', '    for: beginners\n', '    for: beginners\n    at_most: 40\n')
    assert gate.short_enough(walk) and 'at most 40' in gate.short_enough(walk)[0]
    edit(walk/'nbs'/'book.yml', 'at_most: 40', 'at_most: 4000')
    assert gate.short_enough(walk) == []

def test_exercises_do_not_count_as_prose(walk):
    path, head, rest = walk/'nbs'/'core'/'mul.ipynb', code('#| default_exp mul'), markdown('## Summary\n\nthree words here')
    without = pages.words(notebook(path, head, rest, title='Times'))
    exercises = markdown('## Exercises\n\nmany words'), markdown('**1. Open.** more of them')
    assert pages.words(notebook(path, head, *exercises, rest, title='Times')) == without

def test_a_chapter_without_exercises(walk):
    edit(walk/'nbs'/'book.yml', '    for: builders\n', '    for: builders\n    exercises: true\n')
    assert len(gate.exercised(walk)) == 3 and '0 exercises of the kind "Open", at least 1' in gate.exercised(walk)[-1]
    kinds = '**1. Predict, then run.** a\n\n**2. Predict, then run.** b\n\n**3. Write it.** c\n\n**4. Write it.** d\n\n**5. Open.** e'
    notebook(walk/'nbs'/'core'/'mul.ipynb', code('#| default_exp mul'), markdown('## Exercises\n\n' + kinds), title='Times')
    assert gate.exercised(walk) == []

@pytest.mark.parametrize('old, new, fault', [
    ('core/add, core/show]\n', 'core/add, core/gone]\n', 'an evening: no chapter core/gone.ipynb'),
    ('core/add, core/show]\n', 'core/add, core/add]\n', 'an evening: core/add.ipynb twice'),
    ('after: an evening', 'after: an afternoon', "a builder: comes after 'an afternoon', which is no path")])
def test_unknown_chapters(walk, old, new, fault):
    edit(walk/'nbs'/'book.yml', old, new)
    assert fault in gate.known_chapters(walk)

def test_chapter_that_uses_what_comes_later(walk):
    edit(walk/'nbs'/'book.yml', 'chapters: [core/add, core/show]', 'chapters: [core/mul, core/add]')
    fault = ['an evening: core/mul.ipynb uses add, which the path has not explained by then']
    assert gate.explained(walk) == fault
    (walk/'nbs'/'exceptions.yml').write_text('paths:\n  "core/mul.ipynb: add": its first paragraph says what add does\n')
    assert gate.explained(walk) == []
    edit(walk/'nbs'/'book.yml', 'chapters: [core/mul, core/add]', 'chapters: [core/add, core/mul]')
    assert gate.explained(walk) == ['nbs/exceptions.yml: paths: core/mul.ipynb: add needs no exception']

def test_what_an_earlier_path_explains(walk):
    edit(walk/'nbs'/'book.yml', '    after: an evening\n', '')
    assert gate.explained(walk) == ['a builder: core/mul.ipynb uses add, which the path has not explained by then']

def test_plumbing(walk):
    edit(walk/'nbs'/'book.yml', '    after: an evening\n', '')
    (walk/'nbs'/'exceptions.yml').write_text('plumbing:\n  add: a sum is a sum, and says so\n')
    assert gate.explained(walk) == []
