"""Faults of the site that Quarto lets pass: each check takes the project's folder and returns a list of faults.

    python tools/site_gate.py
"""
import ast, re, sys
from itertools import dropwhile
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, directives, name_of, notebooks, read, report, settings, source

# What the yml files may say: nested dicts of known keys, True for any value, a set for an enumeration
NAV = dict(text=True, href=True, icon=True, menu=True, **{'aria-label': True})
BOOL = {True, False}
HTML = {'theme': True, 'css': True, 'toc': BOOL, 'toc-depth': True, 'code-copy': {True, False, 'hover'}, 'code-overflow': {'wrap', 'scroll'},
        'code-fold': {True, False, 'show'}, 'html-math-method': True, 'number-sections': BOOL, 'tbl-colwidths': True,
        'grid': {'body-width': True, 'sidebar-width': True, 'margin-width': True}}
SITE = {'title': True, 'site-url': True, 'description': True, 'repo-branch': True, 'repo-url': True, 'favicon': True,
        'twitter-card': BOOL, 'open-graph': BOOL, 'repo-actions': True, 'page-navigation': BOOL,
        'search': True, 'page-footer': {'left': True, 'center': True, 'right': True, 'border': BOOL, 'background': True},
        'image': True, 'image-alt': True, 'repo-subdir': True, 'llms-txt': BOOL,
        'navbar': {'background': True, 'search': BOOL, 'title': True, 'logo': True, 'left': [NAV], 'right': [NAV]},
        'sidebar': {'style': {'floating', 'docked'}, 'search': BOOL, 'collapse-level': {1, 2, 3}, 'contents': True}}
KEYS = {'project': {'type': {'website'}, 'output-dir': True, 'resources': True}, 'format': {'html': HTML},
        'website': SITE, 'execute': {'enabled': BOOL}, 'metadata-files': True}
THEMES = set('''default cerulean cosmo cyborg darkly flatly journal litera lumen lux materia minty morph pulse quartz
    sandstone simplex sketchy slate solar spacelab superhero united vapor yeti zephyr'''.split())
OPTIONS = set('''default_exp export exporti exports hide hide_line filter_stream exec_doc
    eval: echo: output: include: warning: error: label: classes: layout-ncol: layout-nrow: column:
    code-fold: code-summary: code-line-numbers: fig-cap: fig-subcap: fig-alt: fig-width: fig-height: fig-align:
    tbl-cap: tbl-subcap: lst-cap: lst-label:'''.split())
REF = r'(?:fig|tbl|sec|eq|lst|thm|def)-[\w-]+'
BADGE = 'https://colab.research.google.com/github/vader-nb/vader_nb/blob/main/nbs/'
BADGE_SVG = 'https://colab.research.google.com/assets/colab-badge.svg'
BLOB = re.compile(r'https://(?:colab\.research\.google\.com/github|github\.com)/vader-nb/vader_nb/(?:blob|tree)/main/'
                  r'([^)#?"\s]+)')


def _nbs(root): return [(p, read(p)) for p in notebooks(root)]
def _yml(path): return yaml.safe_load(path.read_text(encoding='utf-8')) or {}

def prose(nb):
    "The markdown of `nb` without code, where nothing is a link, a reference or a div"
    return without_code('\n\n'.join(source(c) for c in nb['cells'] if c['cell_type'] == 'markdown'))

def without_code(text):
    "Markdown without its code and comments"
    text = re.sub(r'^( *)(`{3,}|~{3,}).*?^\1\2 *$', '', text, flags=re.M | re.S)
    return re.sub(r'(`+).+?\1', '', re.sub(r'<!--.*?-->', '', text, flags=re.S))

def links_in(text):
    "The targets of the links and pictures in markdown without code"
    found = re.findall(r'\]\(<?([^)\s>]+)>?(?: +"[^"]*")?\)', text)
    return found + re.findall(r'<(?:img|a|video|source)\s[^>]*?(?:src|href)="([^"]+)"', text)

def configs(root):
    "_quarto.yml and the files that it includes: (name, contents)"
    main = _yml(Path(root)/'_quarto.yml')
    files = [Path(root)/'nbs'/n for n in main.get('metadata-files', [])]
    return [('_quarto.yml', main)] + [(f.name, _yml(f)) for f in files if f.exists()]


def _bad_keys(d, known, at):
    if isinstance(known, list): return [f for x in d for f in _bad_keys(x, known[0], at)]
    if isinstance(known, set): return [] if d in known else [f'{at}: {d!r} is not one of {sorted(map(str, known))}']
    if known is True: return []
    if not isinstance(d, dict): return [f'{at}: expected keys {sorted(known)}, found {d!r}']
    return [f for k, v in d.items()
            for f in (_bad_keys(v, known[k], f'{at}: {k}') if k in known else [f'{at}: unknown key {k!r}'])]

def config_keys(root):
    "Every key of the yml files is known"
    return [f for name, d in configs(root) for f in _bad_keys(d, KEYS, name)]

def _targets(x):
    "Every href, css and bare string under `contents` in a part of a yml file"
    if isinstance(x, list): return [t for o in x for t in _targets(o)]
    if isinstance(x, dict): return [t for k, v in x.items() if k in ('href', 'contents', 'menu', 'file') for t in _targets(v)]
    return [x]

def config_targets(root):
    "Every target of the navbar, sidebar, stylesheet, logo and metadata files exists; themes are known"
    faults, nbs = [], Path(root)/'nbs'
    if (nbs/'_quarto.yml').resolve() != (Path(root)/'_quarto.yml').resolve():
        faults.append('nbs/_quarto.yml is not a link to _quarto.yml')
    for name, d in configs(root):
        site, html = d.get('website', {}), d.get('format', {}).get('html', {})
        navbar, theme = site.get('navbar', {}), html.get('theme', {})
        found = d.get('metadata-files', []) + _targets(navbar.get('left', []) + navbar.get('right', []))
        found += _targets(site.get('sidebar', {}).get('contents', []))
        found += [t for t in (html.get('css'), navbar.get('logo'), site.get('favicon'), site.get('image')) if t] + d.get('project', {}).get('resources', [])
        faults += [f'{name}: no file {t!r}' for t in found if not re.match('https?:', t) and not _made(nbs/t)]
        themes = theme.values() if isinstance(theme, dict) else [theme]
        faults += [f'{name}: unknown theme {t!r}' for t in themes if t not in THEMES and not (nbs/str(t)).is_file()]
    return faults

def _made(path):
    "Is the file there, or the script that prints it when nbdev makes the pages?"
    return path.is_file() or path.with_name(f'{path.name}.py').is_file()

# What the site has to have, and why
NEEDED = [('format/html/grid/body-width', lambda v: int(str(v).removesuffix('px')) >= 900, 'code of 100 characters is cut on a narrower page'),
          ('format/html/code-overflow', lambda v: v == 'wrap', 'a line that cannot be broken would be cut'),
          ('format/html/tbl-colwidths', lambda v: v is False, 'else each column of a wide table is as wide as its dashes, not as its text'),
          ('website/repo-actions', lambda v: v == ['edit', 'source', 'issue'], 'a reader edits a page, sees its source, files an issue'),
          ('website/repo-subdir', lambda v: v == 'nbs', 'the links to edit a page lead into nbs'),
          ('website/llms-txt', lambda v: v is True, 'the text of the pages for language models'),
          ('website/sidebar/collapse-level', lambda v: v == 1, 'only the part that one reads stands open'),
          ('website/favicon', bool, 'a sign of its own'), ('website/image', bool, 'a picture for those who link to the site'),
          ('website/image-alt', bool, 'what that picture shows'),
          ('website/navbar/left', lambda v: [x['text'] for x in v] == ['Learn', 'Reference', 'Paper'], 'the three ways in'),
          ('website/page-footer/left', lambda v: 'LICENSE' in v, 'version and licence'), ('website/page-footer/center', bool, 'how to cite'),
          ('website/page-footer/right', lambda v: 'arxiv.org' in v, 'the paper')]

def needed(root):
    "The site has what its readers need: width, actions, footer, ..."
    everything, faults = {}, []
    for _, d in configs(root): everything = _merged(everything, d)
    for path, fine, why in NEEDED:
        value = everything
        for key in path.split('/'): value = value.get(key) if isinstance(value, dict) else None
        if value is None or not fine(value): faults.append(f'{path}: {value!r} ({why})')
    return faults

def _merged(a, b): return {k: _merged(a[k], b[k]) if isinstance(a.get(k), dict) and isinstance(b.get(k), dict) else b.get(k, a.get(k)) for k in {**a, **b}}

# What the stylesheet has to say: (selector, declarations)
RULES = [(r'pre\.sourceCode', r'font-size: \.8rem'), (r'\.math\.display', 'overflow-x: auto'), ('main table', 'overflow-x: auto'), (r'\.quarto-dark \.plot img', 'filter:'),
         (r'main table:has\(th:nth-child\(9\)\)', r'font-size: \.68em'), (r'\.cell-output-display > pre', 'white-space: pre-wrap')]

def styles(root):
    "Code is small enough, formulas and tables scroll by themselves on a phone, wide tables are set smaller, a value in one long line is broken, plots suit the dark theme"
    css = re.sub(r'/\*.*?\*/', '', (Path(root)/'nbs'/'styles.css').read_text(encoding='utf-8'), flags=re.S)
    blocks = re.findall(r'([^{}]+)\{([^{}]*)\}', css)
    return [f'styles.css: no {says!r} for {what!r}' for what, says in RULES
            if not any(re.search(what + r'(?![\w:(.-])', s) and says.replace('\\', '') in body for s, body in blocks)]

def hidden_outputs(root):
    "A hidden cell is left out of the site with its outputs: one whose output is to be seen says `echo: false`"
    return [f'{name_of(p, root)}: cell {i}: its output is hidden with it: write #| echo: false' for p, nb in _nbs(root) for i, c in enumerate(nb['cells'])
            if c['cell_type'] == 'code' and c['outputs'] and 'hide' in directives(c)[0]]

def part_names(root):
    "No chapter is named as its part"
    book = _yml(Path(root)/'nbs'/'book.yml')
    return [f'{p["folder"]}/{c}.ipynb: named as its part, {p["title"]}' for p in book['parts'] for c in p['chapters']
            if source(read(Path(root)/'nbs'/p['folder']/f'{c}.ipynb')['cells'][0]).split('\n')[0].strip('# ').lower() == p['title'].lower()]

def _shows(cell):
    "Does a cell show a picture or a video?"
    data = [o.get('data', {}) for o in cell.get('outputs', [])]
    return any('image/png' in d or 'image/jpeg' in d or re.search('<(?:img|video)', ''.join(d.get('text/html', ''))) for d in data)

def pictures(root):
    "Every picture says what it shows (alt), and has a caption and a label to refer to"
    faults = []
    for p, nb in _nbs(root):
        for i, c in enumerate(nb['cells']):
            given = {m[1]: m[2].strip() for m in re.finditer(r'^#\| *([\w-]+): *(.*)$', source(c), re.M)} if c['cell_type'] == 'code' and _shows(c) else None
            if given is None: continue
            faults += [f'{name_of(p, root)}: cell {i}: a picture without #| {k}:' for k in ('label', 'fig-cap', 'fig-alt') if len(given.get(k, '').strip('"')) < 3]
            if given.get('label', 'fig-').startswith('fig-') is False: faults.append(f'{name_of(p, root)}: cell {i}: label {given["label"]} does not begin with fig-')
        faults += [f'{name_of(p, root)}: a picture without alt text: {m}' for m in re.findall(r'!\[\]\([^)]*\)|<img(?![^>]*\balt="[^"])[^>]*>', prose(nb))]
    return faults

def same_alts(root):
    "No two pictures of a chapter are described in the same words: one of them is not described"
    found = {p: re.findall(r'^#\| *fig-alt: *"(.*)"', '\n'.join(source(c) for c in nb['cells'] if c['cell_type'] == 'code'), re.M) for p, nb in _nbs(root)}
    return [f'{name_of(p, root)}: two pictures described as {a[:60]!r}' for p, alts in found.items() for a in dict.fromkeys(alts) if alts.count(a) > 1]

def labels(root):
    "No label stands twice in a notebook"
    found = {p: re.findall(r'^#\| *label: *(\S+)', '\n'.join(source(c) for c in nb['cells'] if c['cell_type'] == 'code'), re.M) for p, nb in _nbs(root)}
    return [f'{name_of(p, root)}: two cells labelled {l}' for p, ls in found.items() for l in dict.fromkeys(ls) if ls.count(l) > 1]

def readme_safe(root):
    "Nothing makes README.md anew from the index: nbdev would, with another text, in every fresh clone"
    flow = Path(root)/'.github'/'workflows'/'docs.yml'
    faults = [f'{flow.name}: {m} writes README.md' for m in re.findall(r'nbdev_(?:docs|readme|prepare)', flow.read_text(encoding='utf-8'))]
    name = settings(root).get('readme_nb', 'index.ipynb')
    return faults + [f'settings.ini: readme_nb = {name}: nbdev_docs would write README.md from it'] * (Path(root)/'nbs'/name).is_file()

def workflow(root):
    "The docs workflow runs a gate on the notebooks, one on the pages, and one on what Quarto made of them, before it publishes"
    text = (Path(root)/'.github'/'workflows'/'docs.yml').read_text(encoding='utf-8')
    order = ['python tools/site_gate.py', 'python tools/page_gate.py', 'quarto render _proc', 'python tools/docs_gate.py _proc/_docs', 'upload-pages-artifact']
    places = [text.find(w) for w in order]
    missing = [f'docs.yml: no {w}' for w, at in zip(order, places) if at < 0]
    return missing or [f'docs.yml: {b} comes before {a}' for (a, x), (b, y) in zip(zip(order, places), zip(order[1:], places[1:])) if y < x]

def _slugs(nb):
    "The anchors of a notebook's headings and its explicit identifiers; the title, which the site takes out of the first cell, has none"
    rest = dict(cells=nb['cells'][1:])
    return set(slugs('\n\n'.join(source(c) for c in rest['cells'] if c['cell_type'] == 'markdown'))) | set(re.findall(r'\{#([\w-]+)', prose(rest)))

def slugs(text):
    "The identifiers that pandoc makes of the headings in `text`"
    text = re.sub(r'^( *)(`{3,}|~{3,}).*?^\1\2 *$', '', text, flags=re.M | re.S)
    heads = re.findall(r'^#+ +(.+?)\s*$', text, re.M)
    return [given[1] if (given := re.search(r'\{#([\w.-]+)', h)) else slug(h) for h in heads]

def slug(heading):
    "pandoc's identifier of a heading"
    said = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
    said = re.sub(r'\{[^}]*\}|[`*]|\$', '', said)
    return re.sub(r'^[^a-zA-Z]+', '', re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', said).strip().lower())) or 'section'

def _link_fault(root, path, target, slugs):
    own = BLOB.match(target)
    if own: return None if (Path(root)/own[1]).exists() else 'no such file in the project'
    if re.match(r'[a-z]+:', target): return None
    name, _, anchor = target.partition('#')
    file = path.parent/name if name else path
    if target.startswith('/') or not file.is_file(): return 'no such file'
    return f'no heading #{anchor}' if anchor and file in slugs and anchor not in slugs[file] else None

def links(root):
    "Every relative link and image exists, with its anchor"
    nbs, faults = _nbs(root), []
    slugs = {p: _slugs(nb) for p, nb in nbs}
    for p, nb in nbs:
        faults += [f'{name_of(p, root)}: {t}: {why}' for t in links_in(prose(nb)) if (why := _link_fault(root, p, t, slugs))]
    return faults

def crossrefs(root):
    "Every @fig-x, @sec-x, ... has a definition in its notebook"
    faults = []
    for p, nb in _nbs(root):
        text = prose(nb)
        code = '\n'.join(source(c) for c in nb['cells'] if c['cell_type'] == 'code')
        defined = set(re.findall(r'\{#(' + REF + ')', text)) | set(re.findall(r'^#\| *label: *(' + REF + ')', code, re.M))
        faults += [f'{name_of(p, root)}: @{r} has no definition'
                   for r in re.findall(r'(?<![\w.])@(' + REF + ')', text) if r not in defined]
    return faults

def divs(root):
    "Every ::: div closes"
    faults = []
    for p, nb in _nbs(root):
        depth = 0
        for line in re.findall(r'^ *:::+(.*)$', prose(nb), re.M):
            depth += 1 if line.strip() else -1
            if depth < 0: break
        if depth: faults.append(f'{name_of(p, root)}: a ::: div ' + ('is not closed' if depth > 0 else 'closes what is not open'))
    return faults

FORMULA = re.compile(r'\$\$.*?\$\$|(?<![\\$])\$(?!\s)[^$\n]+?\$', re.S)

def formulas(root):
    "No command in a formula has its backslash doubled: it would be a new line and a word"
    return [f'{name_of(p, root)}: a doubled backslash in a formula: {m[0]}' for p, nb in _nbs(root)
            for f in FORMULA.findall(prose(nb)) for m in re.finditer(r'\\\\[a-zA-Z]{2,}', f)]

def docstring_formulas(root):
    "No docstring is written in TeX: `help` and the tables of parameters show it as it stands"
    return [f'{name_of(p, root)}: a formula in the docstring of {node.name}: {m[0]}' for p, nb in _nbs(root) for c in nb['cells']
            if c['cell_type'] == 'code' and 'export' in directives(c)[0] for node in ast.walk(ast.parse(source(c)))
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) for m in FORMULA.finditer(ast.get_docstring(node) or '')]

def objects(root):
    "No cell shows an object of Python's as `<Axes ...>` or `<... at 0x...>`"
    def said(o): return ''.join(o['data']['text/plain']) if set(o.get('data', {})) == {'text/plain'} else ''
    return [f'{name_of(p, root)}: cell {i} shows {t[:40]}: end it with a semicolon' for p, nb in _nbs(root) for i, c in enumerate(nb['cells'])
            for o in c.get('outputs', []) if re.match(r'[\[(]?<', t := said(o))]

def cell_options(root):
    "Every `#|` option is nbdev's, Quarto's or a test flag"
    known, faults = OPTIONS | set(settings(root)['tst_flags'].split()), []
    for p, nb in _nbs(root):
        for i, c in enumerate(nb['cells']):
            if c['cell_type'] != 'code': continue
            faults += [f'{name_of(p, root)}: cell {i}: unknown option {o!r}' for o in directives(c)[0] if o not in known]
            body = dropwhile(lambda l: not l.strip() or l.startswith(('#|', '%%')), source(c).splitlines())
            faults += [f'{name_of(p, root)}: cell {i}: option {l!r} does not stand at the top' for l in body if l.startswith('#|')]
    return faults

def badge(name):
    "What opens the second cell of the notebook `name`; as a markdown image it would become a figure with a caption"
    return f'<a href="{BADGE}{name}"><img src="{BADGE_SVG}" alt="Open in Colab"></a>'

def _head(nb, name):
    "What is wrong with the first cells of a notebook"
    first, second = (source(c) if c['cell_type'] == 'markdown' else '' for c in nb['cells'][:2])
    if not re.match(r'# \S', first): yield 'does not open with a title'
    titled = re.search(r'^> \S', first, re.M)
    if not titled: yield 'no quoted subtitle'
    more = [l for l in first.splitlines()[1:] if l.strip() and not l.startswith('> ')]
    if titled and more: yield f'{more[0][:60]!r} stands in the first cell, of which the site shows nothing but title and subtitle: move it into the second'
    if not second.startswith(badge(name)): yield f'no Colab badge for {name} at the top of the second cell: {badge(name)}'
    code = [source(c) for c in nb['cells'] if c['cell_type'] == 'code']
    if not any('"google.colab" in sys.modules' in c and '%pip install' in c for c in code[:3]):
        yield 'no install cell for Colab among the first three code cells'

def heads(root):
    "Every notebook opens with title and subtitle, then the Colab badge of its own file, and installs the package there"
    return [f'{name_of(p, root)}: {why}' for p, nb in _nbs(root) for why in _head(nb, name_of(p, root))]

def page_names(root):
    "No two notebooks become one page: nbdev leaves a number in front out of its name"
    pages = {}
    for p in notebooks(root):
        name = Path(name_of(p, root))
        pages.setdefault((name.parent/re.sub(r'^\d+[a-zA-Z]?_', '', name.stem)).as_posix(), []).append(name.as_posix())
    return [f'{page}.html: made by {" and ".join(names)}' for page, names in pages.items() if len(names) > 1]

CHECKS = [config_keys, config_targets, needed, styles, links, crossrefs, divs, cell_options, heads, page_names, part_names, hidden_outputs, pictures, same_alts, labels, readme_safe, formulas, docstring_formulas, objects, workflow]

def faults(root=ROOT): return [f for check in CHECKS for f in check(root)]

if __name__ == '__main__': report(faults())
