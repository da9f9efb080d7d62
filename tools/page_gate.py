"""Faults of the pages as they leave nbdev's processing, before Quarto renders them: links that lead nowhere, definitions without an anchor or their parameters, ...

    python tools/page_gate.py

Each check takes {name of a notebook: its processed cells} and the project's folder, and returns a list of faults.
"""
import json, os, re, subprocess, sys
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, name_of, notebooks, source
from tools.site_api import index
from tools.site_gate import links_in, slugs, without_code
from tools.site_layout import WIDTH, narrow
from tools.site_procs import CALLOUT, PHOTO, PLOT, printed, summary, tree

ID = re.compile(r'\sid="([^"]+)"|\{#([\w.-]+)')


def processed(root):
    "The pages of a project as nbdev hands them to Quarto; nothing is written"
    from execnb.nbio import read_nb
    from nbdev.processors import FilterDefaults
    os.chdir(root)
    found = {}
    for p in notebooks(root):
        FilterDefaults()(nb := read_nb(p))
        found[name_of(p, root)] = [dict(cell_type=c.cell_type, source=c.source, outputs=c.get('outputs', [])) for c in nb.cells]
    return found

def _markdown(cells): return '\n\n'.join(source(c) for c in cells if c['cell_type'] == 'markdown')

def _code(cell): return re.sub(r'\A(?:#\|[^\n]*\n)*', '', source(cell))

def anchors(cells):
    "The identifiers of a page: of its headings, its definitions and its figures"
    text, labels = _markdown(cells), [l for c in cells if c['cell_type'] == 'code' for l in re.findall(r'^#\| *label: *(\S+)', source(c), re.M)]
    return slugs(text) + [a or b for a, b in ID.findall(text)] + labels

def dead_links(pages, root):
    "Every link between pages leads to a page and to a place on it"
    faults, there = [], {n: set(anchors(c)) for n, c in pages.items()}
    for name, cells in pages.items():
        for to in links_in(without_code(_markdown(cells))):
            if re.match(r'[a-z]+:|/', to) or Path(to.partition('#')[0]).suffix not in ('', '.ipynb'): continue
            file, _, place = to.partition('#')
            target = os.path.normpath(Path(name).parent/file) if file else name
            if target not in there: faults.append(f'{name}: {to}: no such page')
            elif place and place not in there[target]: faults.append(f'{name}: {to}: nothing called {place} on that page')
    return faults

def raw_links(pages, root):
    "No link inside the text of a link: both would be shown as they are written"
    nested = re.compile(r'\[[^\[\]\n]*\[[^\[\]\n]*\]\([^()\n]*\)[^\[\]\n]*\]\([^()\n]*\)')
    return [f'{name}: a link inside a link: {m[0]}' for name, cells in pages.items() for m in nested.finditer(_markdown(cells))]

def private_links(pages, root):
    "No link from a private name: there is no place for it"
    return [f'{name}: a link from the private name {m[1]}' for name, cells in pages.items() for m in re.finditer(r'\[`(_\w+)(?:\(\))?`\]\(', _markdown(cells))]

def definitions(pages, root):
    "Every exported definition has an anchor, its parameters and its source"
    faults = []
    for d in (d for ds in index(root).values() for d in ds if d.top and d.notebook in pages):
        text = _markdown(pages[d.notebook])
        if d.anchor not in anchors(pages[d.notebook]): faults.append(f'{d.notebook}: no anchor for {d.name}')
        if f'<summary><code>{d.name}</code>' not in text: faults.append(f'{d.notebook}: no parameters of {d.name}')
        if f'{d.path}#L{d.line}">[source]' not in text: faults.append(f'{d.notebook}: no link to the source of {d.name}')
    return faults

def twice(pages, root):
    "No identifier of a definition stands twice on a page"
    return [f'{name}: two places called {a}' for name, cells in pages.items()
            for found in [anchors(cells)] for a in dict.fromkeys(a for a, b in ID.findall(_markdown(cells))) if a and found.count(a) > 1]

def wide_code(pages, root):
    "No line of code, of a command or of what is printed is wider than the page, if it can be broken"
    faults = [f'{name}: code of more than {WIDTH} characters: {max(_code(c).splitlines(), key=len)[:60]}...'
              for name, cells in pages.items() for c in cells if c['cell_type'] == 'code' and narrow(_code(c)) != _code(c)]
    texts = [(name, ''.join(o['text'])) for name, cells in pages.items() for c in cells for o in c.get('outputs', []) if 'text' in o]
    faults += [f'{name}: a printed line of more than {WIDTH} characters: {max(text.splitlines(), key=len)[:60]}...' for name, text in texts if printed(text) != text]
    for name, cells in pages.items():
        shell = re.findall(r'^```(?:sh|bash)\n(.*?)^```', _markdown(cells), re.M | re.S)
        faults += [f'{name}: a command of {len(l)} characters: {l[:60]}...' for s in shell for l in s.splitlines() if len(l) > WIDTH and ' && ' in l]
    return faults

def unfolded(pages, root):
    "Imports and runs of refusal tests are folded"
    class Cell(dict): __getattr__ = dict.get
    return [f'{name}: not folded: {said}: {_code(c)[:40]!r}' for name, cells in pages.items() for c in cells
            if (said := summary(tree(Cell(c)))) and 'code-fold: true' not in source(c)]

def folds_in_a_row(pages, root):
    "Imports that follow imports stand under one fold"
    def imports(c): return c['cell_type'] == 'code' and 'code-summary: "Imports"' in source(c)
    return [f'{name}: two folds in a row: {_code(b)[:40]!r}' for name, cells in pages.items() for a, b in pairwise(cells) if imports(a) and imports(b)]

def page_heads(pages, root):
    "A page has a title and shows the badge and what one can do at its end"
    faults = []
    for name, cells in pages.items():
        if 'title: ' not in source(cells[0]): faults.append(f'{name}: no title')
        if 'colab-badge.svg' not in _markdown(cells): faults.append(f'{name}: the page shows no badge')
    return faults

def quotations(pages, root):
    "Pitfalls and notes are callouts, and no quotations"
    return [f'{name}: no callout: {b[:40]}' for name, cells in pages.items() for b in re.split(r'\n{2,}', _markdown(cells)) if CALLOUT.match(b)]

def light_plots(pages, root):
    "Plots are marked, so that the dark theme can turn them"
    return [f'{name}: a plot that stays light in the dark: {_code(c)[:40]!r}' for name, cells in pages.items() for c in cells if c['cell_type'] == 'code'
            and any('image/png' in o.get('data', {}) for o in c['outputs']) and PLOT.search(source(c)) and not PHOTO.search(source(c)) and not re.search(r'^#\| *classes: plot', source(c), re.M)]

def silent_videos(pages, root):
    "A video says what it shows"
    return [f'{name}: a video without a text for those who cannot see it' for name, cells in pages.items() for c in cells for o in c['outputs']
            if re.search('<video(?![^>]*aria-label="[^"])', ''.join(o.get('data', {}).get('text/html', '')))]

CHECKS = [dead_links, raw_links, private_links, definitions, twice, wide_code, unfolded, folds_in_a_row, page_heads, quotations, light_plots, silent_videos]

def faults(root=ROOT):
    "The faults of a project's pages, found in a process of its own, since nbdev reads its settings once"
    root = Path(root).resolve()
    p = subprocess.run([sys.executable, __file__, str(root), '--json'], cwd=root, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    if p.returncode: raise RuntimeError(f'tools/page_gate.py failed: {p.stderr[-2000:]}')
    return json.loads(p.stdout.splitlines()[-1])

def main(argv):
    root = Path(next((a for a in argv if not a.startswith('-')), ROOT)).resolve()
    pages = processed(root)
    found = {check.__name__: check(pages, root) for check in CHECKS}
    if '--json' in argv: return print(json.dumps(found)) is None
    print(*(f for fs in found.values() for f in fs), sep='\n')
    return not any(found.values())

if __name__ == '__main__': sys.exit(not main(sys.argv[1:]))
