import json, os, subprocess, sys
import pytest
from conftest import edit, edit_nb, markdown, notebook
from tools import site_gate
from tools.notebooks import ROOT

YML, SIDE, SHOW = '_quarto.yml', 'nbs/sidebar.yml', 'nbs/core/show.ipynb'


@pytest.mark.parametrize('check', site_gate.CHECKS)
def test_site(check): assert check(ROOT) == []

@pytest.mark.parametrize('check', site_gate.CHECKS)
def test_faultless(project, check): assert check(project) == []

@pytest.mark.parametrize('check, file, old, new, fault', [
    ('config_keys', YML, 'navbar:', 'navbr:', "unknown key 'navbr'"),
    ('config_keys', YML, 'search: true', 'serch: true', "unknown key 'serch'"),
    ('config_keys', YML, 'aria-label', 'arialabel', "unknown key 'arialabel'"),
    ('config_keys', YML, 'style: floating', 'style: flying', "'flying' is not one of"),
    ('config_keys', 'nbs/nbdev.yml', 'site-url', 'siteurl', "unknown key 'siteurl'"),
    ('config_targets', YML, 'href: index.ipynb', 'href: home.ipynb', "no file 'home.ipynb'"),
    ('config_targets', YML, 'styles.css', 'style.css', "no file 'style.css'"),
    ('config_targets', YML, 'sidebar.yml', 'side.yml', "no file 'side.yml'"),
    ('config_targets', YML, 'darkly', 'darkish', "unknown theme 'darkish'"),
    ('config_targets', SIDE, 'core/add.ipynb', 'core/ad.ipynb', "no file 'core/ad.ipynb'"),
    ('links', SHOW, '(add.ipynb)', '(ad.ipynb)', 'ad.ipynb: no such file'),
    ('links', SHOW, '(add.ipynb)', '(add.ipynb#nowhere)', 'no heading #nowhere'),
    ('links', SHOW, '[adding]', '![adding](images/no.png) [adding]', 'images/no.png: no such file'),
    ('links', SHOW, '[adding]', '<img width=\\"9\\" src=\\"no.png\\"> [adding]', 'no.png: no such file'),
    ('links', SHOW, '(add.ipynb)', '(https://github.com/vader-nb/vader_nb/blob/main/NO.md)', 'no such file in the'),
    ('crossrefs', SHOW, '@sec-part', '@sec-other', '@sec-other has no definition'),
    ('crossrefs', SHOW, 'label: fig-one', 'label: fig-two', '@fig-one has no definition'),
    ('cell_options', SHOW, 'fig-cap', 'figcap', "unknown option 'figcap:'"),
    ('cell_options', SHOW, '#| slow', '#| slo', "unknown option 'slo'"),
    ('cell_options', SHOW, 'print(4)', 'print(4)\\n", "#| echo: false', 'does not stand at the top'),
    ('needed', YML, '900px', '700px', 'code of 100 characters is cut'),
    ('needed', YML, 'code-overflow: wrap', 'code-overflow: scroll', 'would be cut'),
    ('needed', YML, 'tbl-colwidths: false', 'tbl-colwidths: auto', 'as its dashes'),
    ('needed', YML, '[edit, source, issue]', '[issue]', 'repo-actions'),
    ('needed', YML, 'repo-subdir: nbs', 'repo-subdir: docs', 'repo-subdir'),
    ('needed', YML, 'llms-txt: true', 'llms-txt: false', 'llms-txt'),
    ('needed', YML, 'collapse-level: 1', 'collapse-level: 2', 'collapse-level'),
    ('needed', YML, '  favicon: favicon.svg\n', '', 'favicon'),
    ('needed', YML, '  image: preview.png\n', '', 'website/image:'),
    ('needed', YML, 'text: Reference', 'text: API', 'navbar'),
    ('needed', 'nbs/footer.yml', '    right:', '    background:', 'the paper'),
    ('needed', 'nbs/footer.yml', 'LICENSE', 'README.md', 'version and licence'),
    ('needed', 'nbs/footer.yml', '    center:', '    background:', 'how to cite'),
    ('needed', YML, '  image-alt:', '  description:', 'what that picture shows'),
    ('config_keys', YML, '    toc: true', '    toc: true\n    keep-md: true', "unknown key 'keep-md'"),
    ('config_keys', YML, 'format:', 'format:\n  commonmark: default', "unknown key 'commonmark'"),
    ('config_targets', YML, 'favicon: favicon.svg', 'favicon: icon.svg', "no file 'icon.svg'"),
    ('config_targets', YML, 'href: reference.qmd', 'href: refs.qmd', "no file 'refs.qmd'"),
    ('styles', 'nbs/styles.css', 'font-size: .8rem', 'font-size: 1rem', 'pre'),
    ('styles', 'nbs/styles.css', '.math.display,', '', 'math'),
    ('styles', 'nbs/styles.css', 'main table {', 'table {', 'main table'),
    ('styles', 'nbs/styles.css', '.quarto-dark .plot img', '.quarto-dark .plots img', 'plot'),
    ('styles', 'nbs/styles.css', 'white-space: pre-wrap', 'white-space: pre', 'pre-wrap'),
    ('styles', 'nbs/styles.css', 'main table:has(th:nth-child(9)) {', 'main table:has(th:nth-child(19)) {', 'nth-child'),
    ('formulas', SHOW, '[adding]', '$\\\\\\\\bar d$ [adding]', 'a doubled backslash in a formula'),
    ('docstring_formulas', 'nbs/core/add.ipynb', 'return a + b', '\\"The $\\\\\\\\sum$\\"; return a + b', 'a formula in the docstring of add'),
    ('workflow', '.github/workflows/docs.yml', 'tools/site_gate.py', 'tools/gate.py', 'no python tools/site_gate.py'),
    ('workflow', '.github/workflows/docs.yml', 'tools/page_gate.py', 'tools/gate.py', 'no python tools/page_gate.py'),
    ('workflow', '.github/workflows/docs.yml', 'docs_gate.py _proc/_docs', 'docs_gate.py', 'no python tools/docs_gate.py _proc/_docs'),
    ('part_names', SHOW, '# A notebook', '# Foundations', 'core/show.ipynb: named as its part, Foundations'),
    ('hidden_outputs', SHOW, '#| label: fig-one', '#| hide\\n", "#| label: fig-one', 'write #| echo: false'),
    ('pictures', SHOW, '#| fig-alt: \\"A line\\"', '#', 'a picture without #| fig-alt:'),
    ('pictures', SHOW, '\\"A line\\"', '\\"\\"', 'a picture without #| fig-alt:'),
    ('pictures', SHOW, '#| fig-cap: \\"One\\"', '#', 'a picture without #| fig-cap:'),
    ('pictures', SHOW, '#| label: fig-one', '#', 'a picture without #| label:'),
    ('pictures', SHOW, 'label: fig-one', 'label: one', 'does not begin with fig-'),
    ('pictures', SHOW, '[adding]', '![](x.png) [adding]', 'without alt text: ![](x.png)'),
    ('pictures', SHOW, '[adding]', '<img src=\\"x.png\\"> [adding]', 'without alt text: <img'),
    ('same_alts', SHOW, '#| slow', '#| slow\\n", "#| fig-alt: \\"A line\\"', "two pictures described as 'A line'"),
    ('labels', SHOW, '#| slow', '#| slow\\n", "#| label: fig-one', 'two cells labelled fig-one'),
    ('readme_safe', '.github/workflows/docs.yml', 'nbdev_proc_nbs', 'nbdev_docs', 'nbdev_docs writes README.md'),
    ('readme_safe', 'settings.ini', 'none.ipynb', 'index.ipynb', 'would write README.md'),
    ('heads', SHOW, '# A notebook', '## A notebook', 'does not open with a title'),
    ('heads', SHOW, '> What', 'What', 'no quoted subtitle'),
    ('heads', SHOW, '> What it teaches', '> What it teaches\\n", "\\n", "More', "'More' stands in the first cell"),
    ('heads', SHOW, 'main/nbs/core/show', 'main/nbs/core/shown', 'no Colab badge'),
    ('heads', SHOW, '<a href', '\\n<a href', 'no Colab badge'),
    ('heads', SHOW, '%pip install', '%pip list', 'no install cell')])
def test_fault(project, check, file, old, new, fault):
    edit(project/file, old, new)
    found = getattr(site_gate, check)(project)
    assert len(found) == 1 and fault in found[0], found

def test_object_of_python(project):
    def show(nb): nb['cells'][-1]['outputs'] = [dict(output_type='display_data', metadata={}, data={'text/plain': ["<Axes: xlabel='step'>"]})]
    edit_nb(project/SHOW, show)
    assert site_gate.objects(project) == ["core/show.ipynb: cell 6 shows <Axes: xlabel='step'>: end it with a semicolon"]

def test_order_of_the_workflow(project):
    "A gate that reads the rendered pages after they were published is of no use"
    flow = project/'.github/workflows/docs.yml'
    lines = flow.read_text().splitlines()
    gate = next(l for l in lines if 'docs_gate' in l)
    flow.write_text('\n'.join([l for l in lines if l != gate] + [gate]))
    assert site_gate.workflow(project) == ['docs.yml: upload-pages-artifact comes before python tools/docs_gate.py _proc/_docs']

@pytest.mark.parametrize('text, fault', [('::: {.panel}\nopen', 'is not closed'),
                                         ('text\n\n:::', 'closes what is not open')])
def test_div(project, text, fault):
    edit_nb(project/SHOW, lambda nb: nb['cells'].append(markdown(text)))
    assert site_gate.divs(project) == [f'core/show.ipynb: a ::: div {fault}']

def test_code_in_prose_is_not_checked(project):
    text = '`[a](b)` and\n\n```\n::: {.x}\n@fig-no [a](no.md)\n```\n\nann@fig-mail'
    edit_nb(project/SHOW, lambda nb: nb['cells'].append(markdown(text)))
    assert site_gate.faults(project) == []

def test_copied_configuration(project):
    (project/'nbs'/'_quarto.yml').unlink()
    (project/'nbs'/'_quarto.yml').write_text((project/YML).read_text())
    assert site_gate.config_targets(project) == ['nbs/_quarto.yml is not a link to _quarto.yml']

def test_two_notebooks_for_one_page(project):
    notebook(project/'nbs'/'core'/'20_show.ipynb')
    assert site_gate.page_names(project) == ['core/show.html: made by core/20_show.ipynb and core/show.ipynb']

def test_what_quarto_is_given(project):
    "nbdev's processing keeps exported code, drops plumbing, executes nothing and copies the configuration"
    edit(project/'nbs'/'core'/'show.ipynb', '"1"', '"import sys\\n",\n    "sys.exit(1)"')
    (project/'proc.py').write_text('if __name__ == "__main__":\n    from nbdev.serve import proc_nbs\n    proc_nbs()')
    subprocess.run([sys.executable, 'proc.py'], cwd=project, check=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    made = project/'_proc'
    want = {'core/add.ipynb', 'core/show.ipynb', 'index.ipynb', '_quarto.yml', 'nbdev.yml', 'sidebar.yml', 'styles.css',
            'footer.yml', 'favicon.svg', 'preview.png', 'reference.qmd'}
    assert want <= {p.relative_to(made).as_posix() for p in made.rglob('*')}
    assert not (made/'_quarto.yml').is_symlink()
    text = ''.join(''.join(c['source']) for c in json.loads((made/'core/add.ipynb').read_text())['cells'])
    assert '[`add`](core/add.ipynb#add)' in (made/'reference.qmd').read_text() and 'colab-badge.svg' in text
    assert 'def add(a, b)' in text and 'default_exp' not in text and 'google.colab' not in text
