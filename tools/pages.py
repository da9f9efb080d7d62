"""Make what is derived from the notebooks: the sidebar, the list in index.ipynb, and README.md.

    python tools/pages.py          write them
    python tools/pages.py --check  say which are out of date

The parts of the book and the order of their chapters stand in nbs/book.yml.
"""
import json, re, sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, directives, dumps, name_of, notebooks, read, source

LIST = '## The notebooks'
NOTE = '<!-- Made from nbs/index.ipynb by tools/pages.py: edit the notebook, not this file. -->\n\n'
LINK = re.compile(r'(\]\(|<(?:img|a)\s[^>]*?(?:src|href)=")(?![a-z]+:|#|/)')


def parts(root):
    "(title of the part, its notebooks below nbs) in the order of book.yml; ValueError for a notebook without a line there, and the reverse"
    book = yaml.safe_load((Path(root)/'nbs'/'book.yml').read_text(encoding='utf-8'))
    listed = [(p['title'], [f"{c}.ipynb" if p['folder'] == '.' else f"{p['folder']}/{c}.ipynb" for c in p['chapters']]) for p in book['parts']]
    there = {name_of(p, root) for p in notebooks(root)} - {'index.ipynb'}
    said = {n for _, names in listed for n in names}
    if there != said: raise ValueError(f'nbs/book.yml lists no {sorted(there - said)} and lists {sorted(said - there)}, which are not there')
    return listed

def sidebar(root):
    "sidebar.yml: the notebooks by part"
    out = 'website:\n  sidebar:\n    contents:\n      - index.ipynb\n'
    for title, names in parts(root):
        out += f'      - section: {title}\n        contents:\n' + ''.join(f'          - {n}\n' for n in names)
    return out

def heading(path):
    "The H1 and the quoted subtitle of a notebook"
    text = source(read(path)['cells'][0])
    title, sub = re.search(r'^# (.+)$', text, re.M), re.search(r'^> (.+)$', text, re.M)
    return (title[1] if title else path.stem), (sub[1] if sub else '')

def listing(root):
    "The markdown list of notebooks that stands in index.ipynb"
    out = f'{LIST}\n'
    for title, names in parts(root):
        out += f'\n**{title}**\n\n'
        out += ''.join('- [{}]({}): {}\n'.format(*(h := heading(Path(root)/'nbs'/n))[:1], n, h[1]) for n in names)
    return out.rstrip('\n')

def index(root):
    "index.ipynb with the list of notebooks brought up to date"
    nb = read(Path(root)/'nbs'/'index.ipynb')
    for c in nb['cells']:
        if source(c).startswith(LIST): c['source'] = listing(root).splitlines(True)
    return dumps(nb)

def _md(cell):
    "A notebook cell as GitHub markdown; links are relative to the top folder"
    if cell['cell_type'] == 'markdown': return LINK.sub(r'\1nbs/', source(cell))
    d, code = directives(cell)
    if {'hide', 'default_exp'} & set(d): return ''
    code = '\n'.join(l for l in code.splitlines() if not l.startswith('#|'))
    texts = [''.join(o.get('text') or o['data'].get('text/plain', '')) for o in cell['outputs']]
    return f'```python\n{code}\n```' + ''.join(f'\n\n```\n{t.rstrip()}\n```' for t in texts)

def readme(root):
    "README.md: the cells of index.ipynb as GitHub markdown"
    cells = json.loads(index(root))['cells']
    return NOTE + '\n\n'.join(m for c in cells if (m := _md(c))) + '\n'

PAGES = {'nbs/sidebar.yml': sidebar, 'nbs/index.ipynb': index, 'README.md': readme}

def out_of_date(root):
    "The derived pages that differ from what the notebooks say"
    return [n for n, make in PAGES.items() if (Path(root)/n).read_text(encoding='utf-8') != make(root)]

def main(argv):
    if '--check' in argv:
        bad = out_of_date(ROOT)
        for n in bad: print(f'out of date: {n} (python tools/pages.py writes it)')
        return not bad
    for n, make in PAGES.items(): (ROOT/n).write_text(make(ROOT), encoding='utf-8')
    return True

if __name__ == '__main__': sys.exit(not main(sys.argv[1:]))
