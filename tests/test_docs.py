"The rendered site: pages made up here, each with one fault"
import pytest
from tools import docs_gate

SITE = 'https://a.org/book'
GOOD = '''<html><body><nav><a href="../index.html">Home</a><a href="#">top</a><a href="https://b.org/x.md">away</a></nav>
<h2 id="part">A part</h2><p>Of <a href="#part">here</a>, <a href="../index.html#top">there</a>, <a href="https://a.org/book/core/show.html#part">all of it</a>.
<span class="math inline">\\(a](b)\\)</span> <code>[a](b) **c**</code></p><pre>::: {.x}</pre><img src="x.png" alt="A plot"><p>2 * 3 * 4 | 5</p></body></html>'''


@pytest.fixture
def site(tmp_path):
    (tmp_path/'core').mkdir()
    (tmp_path/'index.html').write_text('<a href="core/show.html#part"><b id="top">x</b></a><a href="core/">folder</a>')
    (tmp_path/'core'/'index.html').write_text('<p>x</p>')
    (tmp_path/'core'/'x.png').write_bytes(b'')
    (tmp_path/'core'/'show.html').write_text(GOOD)
    return tmp_path

def test_faultless(site): assert docs_gate.faults(site, SITE) == []

@pytest.mark.parametrize('old, new, fault', [
    ('"#part">here', '"#apart">here', '#apart: nothing called apart'),
    ('../index.html#top', '../index.html#bottom', 'nothing called bottom'),
    ('../index.html">Home', '../home.html">Home', 'home.html: no such file'),
    ('../index.html">Home', '../index.ipynb">Home', 'index.ipynb: no such file'),
    ('book/core/show.html#part', 'book/core/show.html#no', 'nothing called no'),
    ('src="x.png"', 'src="y.png"', 'y.png: no such file'),
    ('alt="A plot"', 'alt=""', 'no alt text: x.png'),
    ('alt="A plot"', '', 'no alt text: x.png'),
    ('2 * 3', '[`a`](b.html) 3', 'a link shown as text'),
    ('2 * 3', '## Two', 'a heading shown as text'),
    ('2 * 3', '::: {.x}', 'a fenced div shown as text'),
    ('2 * 3', '```', 'a code fence shown as text'),
    ('2 * 3', '|---|', 'a table shown as text'),
    ('2 * 3', 'it is **bold** here', 'bold text shown as text'),
    ('2 * 3', 'see ?@fig-one', 'a reference shown as text'),
    ('2 * 3', '&lt;a href="x"&gt;', 'HTML shown as text'),
    ('2 * 3', 'Part {#part}', 'an identifier shown as text'),
    ('2 * 3', r'of $-10 \log_{10}$ of', 'a formula shown as text')])
def test_fault(site, old, new, fault):
    page = site/'core'/'show.html'
    assert old in GOOD
    page.write_text(GOOD.replace(old, new, 1))
    found = docs_gate.faults(site, SITE)
    assert len(found) == 1 and fault in found[0] and found[0].startswith('core/show.html: '), found

def test_no_pages(tmp_path): assert docs_gate.faults(tmp_path, SITE) == [f'{tmp_path}: no pages']
