"""What the site makes of the notebooks. settings.ini skips the processors of nbdev that would put API tables in the place of exported code (and, to make them, run
every cell that imports something) and those that link names; it adds these, in this order. They work on nbdev's copies: the notebooks stay as they are.

Hidden cells are gone by now, with their outputs: a cell whose output is to be seen says `#| echo: false`.
"""
import ast, re, textwrap
from functools import lru_cache
from pathlib import Path

from execnb.nbio import mk_cell
from nbdev.config import get_config
from nbdev.process import Processor

from tools.site_gate import slugs
from tools.site_api import index, public, signature, title
from tools.site_layout import WIDTH, narrow
from tools.site_links import cited, linkify

CHECKED = re.compile(r'test_\w+$|close$|refuses?$')
CALLOUT = re.compile(r'\A> \*\*(Pitfall|Note|Tip|Warning)[.:]?\*\*[:.]? *(?:\n> ?)*', re.S)
KINDS = dict(Pitfall='warning', Warning='warning', Note='note', Tip='tip')


@lru_cache(None)
def root(): return get_config().config_path

def tree(cell):
    "The syntax tree of a code cell; None for any other"
    if cell.cell_type != 'code': return None
    try: return ast.parse(re.sub(r'^#\|[^\n]*\n', '', cell.source, flags=re.M))
    except SyntaxError: return None

def option(cell, **options):
    "Put Quarto options on top of a cell, where it has none of that name"
    for k, v in options.items():
        if not re.search(rf'^#\| *{(k := k.replace("_", "-"))}:', cell.source, re.M): cell.source = f'#| {k}: {v}\n{cell.source}'

def raw(text):
    "A cell of HTML that no markdown can spoil"
    return mk_cell(f'```{{=html}}\n{text}\n```', 'markdown')

def default_exp_(cell, *args):
    "Leave out the cell that names the module"
    del cell['source']

def _lines(nodes): return sum(n.end_lineno - n.lineno + 1 for n in nodes)

def _imports(nodes): return [n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]

def _refusals(t): return sum(isinstance(n, ast.Call) and getattr(n.func, 'id', '') in ('test_fail', 'ExceptionExpected') for n in ast.walk(t))

def _checks(t):
    "Assertions and calls of test functions anywhere in a cell"
    return sum(isinstance(n, ast.Assert) or isinstance(n, ast.Call) and bool(CHECKED.match(getattr(n.func, 'id', ''))) for n in ast.walk(t))

def summary(t):
    "What a cell is folded under: its imports, or a run of tests that refuse bad input; None for what the reader should see"
    if t is None or not t.body: return None
    imports, rest = _imports(t.body), [n for n in t.body if not isinstance(n, (ast.Import, ast.ImportFrom, ast.Assign))]
    if _lines(imports) >= .6*_lines(t.body) and (len(imports) > 2 or not rest): return 'Imports'
    if _refusals(t) >= 3 and _refusals(t) >= .4*len(t.body): return f'Tests ({_checks(t)})'
    return None

def fold(cell):
    "Fold imports and runs of refusal tests"
    if said := summary(tree(cell)): option(cell, code_summary=f'"{said}"', code_fold='true')

class join(Processor):
    "Imports that follow imports stand under one fold: those of the module, then those of its examples"
    def begin(self):
        kept = []
        for c in self.nb.cells:
            if kept and _joins(kept[-1], c): kept[-1].source += '\n\n' + re.sub(r'^#\|[^\n]*\n', '', c.source, flags=re.M)
            else: kept.append(c)
        self.nb.cells = kept

def _joins(first, then):
    "Are both imports alone, without an output or a definition that needs a place of its own?"
    return all(summary(tree(c)) == 'Imports' and not c.get('outputs') for c in (first, then)) and not any(map(public, tree(then).body))

def fit(cell):
    "No line of code and no printed sentence is wider than the page"
    if cell.cell_type != 'code': return
    for o in cell.get('outputs', []):
        if 'text' in o: o['text'] = printed(''.join(o['text']))
    if '```' in cell.source: return
    head = re.match(r'(?:#\|[^\n]*\n)*', cell.source)[0]
    cell.source = head + narrow(cell.source[len(head):])

def _goes_on(line):
    "A printed sentence that is wider than the page goes on below; a row of a table, and what has columns, stays"
    if len(line) <= WIDTH or ' ' not in line.strip() or line.startswith('|') or re.search(r'\S {3,}\S', line): return line
    indent = re.match(' *', line)[0] + '    '
    return '\n'.join(textwrap.wrap(line, WIDTH, subsequent_indent=indent, expand_tabs=False, replace_whitespace=False, break_long_words=False, break_on_hyphens=False))

def printed(text):
    "A printed text, no sentence of it wider than the page: its end would be out of sight"
    return '\n'.join(map(_goes_on, text.split('\n')))

def callout(cell):
    "A quotation that opens with **Pitfall** (Note, Tip, Warning) becomes a callout; everywhere else it is a quotation"
    if cell.cell_type != 'markdown': return
    blocks = re.split(r'(\n{2,})', cell.source)
    cell.source = ''.join(_callout(b) for b in blocks)

def _callout(block):
    m = CALLOUT.match(block)
    if not m: return block
    inside = re.sub(r'^> ?', '', block[m.end():], flags=re.M)
    return f'::: {{.callout-{KINDS[m[1]]} title="{m[1]}"}}\n{inside}\n:::'

def commands(cell):
    "A long command in a block of shell goes on below each &&"
    def broken(m): return '\n'.join(l.replace(' && ', ' &&\n    ') if len(l) > WIDTH else l for l in m[0].split('\n'))
    if cell.cell_type == 'markdown': cell.source = re.sub(r'^```(?:sh|bash)$.*?^```$', broken, cell.source, flags=re.M | re.S)

PLOT, PHOTO = re.compile(r'\.(?:plot|bar|barh|scatter|hist|semilog[xy]|loglog|step|errorbar|fill_between)\('), re.compile(r'contact_sheet|imshow|show_video|before_after')

def plots(cell):
    "Plots are marked, so that the dark theme can turn them dark; pictures keep their colours"
    if cell.cell_type != 'code' or not any('image/png' in o.get('data', {}) for o in cell.get('outputs', [])): return
    if PLOT.search(cell.source) and not PHOTO.search(cell.source): option(cell, classes='plot')

def described(cell):
    "A video says what it shows, as a picture does: the cell's `fig-alt`"
    said = re.search(r'^#\| *fig-alt: *"?(.*?)"?$', cell.source, re.M) if cell.cell_type == 'code' else None
    for o in cell.get('outputs', []) if said else ():
        if html := o.get('data', {}).get('text/html'): o['data']['text/html'] = re.sub(r'<video(?! aria-label)', f'<video aria-label="{said[1]}"', ''.join(html))

class names(Processor):
    "An anchor before each exported definition, its parameters below it, links from names in backticks"
    def begin(self):
        page = Path(self.nb.path_).resolve().relative_to(root().resolve()/get_config().nbs_path.name).as_posix()
        self.page, self.index = page, index(root())
        self.own = {n: d for n, ds in self.index.items() for d in ds if d.notebook == page}
        self.nb.cells = [new for c in self.nb.cells for new in self.with_names(c)]
        imported = {(n.module, a.name) for c in self.nb.cells for n in ast.walk(tree(c) or ast.Module([], [])) if isinstance(n, ast.ImportFrom) for a in n.names}
        near = cited('\n'.join(c.source for c in self.nb.cells if c.cell_type == 'markdown'), page)
        for c in self.nb.cells:
            if c.cell_type == 'markdown': c.source = linkify(c.source, page, self.index, imported, near)

    def with_names(self, cell):
        "The cell, with what belongs before and after it"
        t = tree(cell) if 'export' in getattr(cell, 'directives_', {}) else None
        nodes = [n for n in (t.body if t else []) if public(n) and title(n) in self.own]
        if not nodes: return [cell]
        headings = {h for c in self.nb.cells if c.cell_type == 'markdown' for h in slugs(c.source)}
        free = dict.fromkeys(a for n in nodes if (a := self.own[title(n)].anchor) not in headings)
        before = [raw(''.join(f'<span id="{a}" class="definition"></span>' for a in free))] if free else []
        return before + [cell] + [raw('\n'.join(signature(n, cell.source, self.own, root()) for n in nodes))]
