"""Faults of the site that Quarto lets pass: each check takes the project's folder and returns a list of faults.

    python tools/site_gate.py
"""
import re, sys
from itertools import dropwhile
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, directives, name_of, notebooks, read, settings, source

# What the yml files may say: nested dicts of known keys, True for any value, a set for an enumeration
NAV = dict(text=True, href=True, icon=True, menu=True, **{'aria-label': True})
BOOL = {True, False}
HTML = {'theme': True, 'css': True, 'toc': BOOL, 'toc-depth': True, 'code-copy': {True, False, 'hover'},
        'code-fold': {True, False, 'show'}, 'keep-md': BOOL, 'html-math-method': True, 'number-sections': BOOL}
SITE = {'title': True, 'site-url': True, 'description': True, 'repo-branch': True, 'repo-url': True, 'favicon': True,
        'twitter-card': BOOL, 'open-graph': BOOL, 'repo-actions': True, 'page-navigation': BOOL,
        'search': True, 'page-footer': True,
        'navbar': {'background': True, 'search': BOOL, 'title': True, 'logo': True, 'left': [NAV], 'right': [NAV]},
        'sidebar': {'style': {'floating', 'docked'}, 'search': BOOL, 'contents': True}}
KEYS = {'project': {'type': {'website'}, 'output-dir': True, 'resources': True}, 'format': {'html': HTML, 'commonmark': True},
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
    text = '\n\n'.join(source(c) for c in nb['cells'] if c['cell_type'] == 'markdown')
    text = re.sub(r'^( *)(`{3,}|~{3,}).*?^\1\2 *$', '', text, flags=re.M | re.S)
    return re.sub(r'(`+).+?\1', '', re.sub(r'<!--.*?-->', '', text, flags=re.S))

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
        found += [t for t in (html.get('css'), navbar.get('logo'), site.get('favicon')) if t]
        faults += [f'{name}: no file {t!r}' for t in found if not re.match('https?:', t) and not (nbs/t).is_file()]
        themes = theme.values() if isinstance(theme, dict) else [theme]
        faults += [f'{name}: unknown theme {t!r}' for t in themes if t not in THEMES and not (nbs/str(t)).is_file()]
    return faults

def _slugs(nb):
    "The anchors of a notebook's headings and its explicit identifiers"
    text = prose(nb)
    auto = {re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', re.sub(r'^[^a-zA-Z]+|\{.*\}', '', h)).strip().lower())
            for h in re.findall(r'^#+ +(.+)$', text, re.M)}
    return auto | set(re.findall(r'\{#([\w-]+)', text))

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
        text = prose(nb)
        found = re.findall(r'\]\(<?([^)\s>]+)>?(?: +"[^"]*")?\)', text)
        found += re.findall(r'<(?:img|a|video|source)\s[^>]*?(?:src|href)="([^"]+)"', text)
        faults += [f'{name_of(p, root)}: {t}: {why}' for t in found if (why := _link_fault(root, p, t, slugs))]
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

CHECKS = [config_keys, config_targets, links, crossrefs, divs, cell_options, heads, page_names]

def faults(root=ROOT): return [f for check in CHECKS for f in check(root)]

if __name__ == '__main__':
    found = faults()
    print(*found, sep='\n')
    sys.exit(bool(found))
