"""Faults of the rendered site: links and anchors that lead nowhere, markdown that is shown as it was written, pictures without a text for those who cannot see them.

    python tools/docs_gate.py _proc/_docs

The docs workflow runs it on what Quarto made, before anything is published.
"""
import os, re, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, report, settings

SILENT = ('pre', 'code', 'script', 'style', 'svg', 'math', 'textarea')  # what stands in these is no prose
VOID = set('area base br col embed hr img input link meta source track wbr'.split())
RAW = [(r'\]\([^)\s]+\)', 'a link'), (r'^#{1,6} \S', 'a heading'), (r':::', 'a fenced div'), (r'```', 'a code fence'), (r'\|\s*:?-{3,}', 'a table'), (r'\*\*\w[^*]*\*\*', 'bold text'),
       (r'(?<!\S)\?@(?:fig|tbl|sec|eq)-[\w-]+|(?<!\S)@(?:fig|tbl|sec|eq)-[\w-]+', 'a reference'), (r'<(?:a|img|details|span)\s', 'HTML'), (r'\{#[\w-]+[ }]', 'an identifier'),
       (r'\$[^$]*\\[a-z]+[^$]*\$', 'a formula')]


class Page(HTMLParser):
    "What a page links to, what can be linked to on it, what it shows as text"
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.texts, self.unseen, self.open = set(), [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k)}
        self.links += [a[k] for k in ('href', 'src') if a.get(k) and tag != 'base']
        if tag == 'img' and not (a.get('alt') or '').strip() and a.get('role') != 'presentation': self.unseen.append(a.get('src', '')[:60])
        if tag not in VOID: self.open.append('code' if 'math' in (a.get('class') or '').split() else tag)

    def handle_endtag(self, tag):
        if tag in VOID: return
        while self.open and self.open.pop() not in (tag, 'code' if tag == 'span' or tag == 'div' else tag): pass

    def handle_data(self, data):
        if data.strip() and not set(self.open) & set(SILENT): self.texts.append(' '.join(data.split()))

def pages(folder): return {p.relative_to(folder).as_posix(): Page(p.read_text(encoding='utf-8')) for p in sorted(Path(folder).rglob('*.html'))}

def _inside(target, site):
    "A link into the site as a relative or rooted path; None for one that leads elsewhere"
    if target.startswith(site): target = '/' + target[len(site):].lstrip('/')
    return None if re.match(r'[a-z][a-z0-9+.-]*:|//', target) else target

def dead_links(folder, found, site):
    "Every link into the site leads to a file, and to a place on it"
    faults, folder = [], Path(folder)
    for name, page in found.items():
        for target in dict.fromkeys(page.links):
            if (to := _inside(target, site)) is None or to == '#': continue
            path, place = unquote(urlsplit(to).path), unquote(urlsplit(to).fragment)
            file = name if not path else os.path.normpath(path.lstrip('/') if path.startswith('/') else Path(name).parent/path)
            if path.endswith('/') or path and (folder/file).is_dir(): file = Path(file, 'index.html').as_posix()
            if not (folder/file).is_file(): faults.append(f'{name}: {target}: no such file')
            elif place and file in found and place not in found[file].ids: faults.append(f'{name}: {target}: nothing called {place} on that page')
    return faults

def raw_markdown(folder, found, site):
    "No markdown is shown as it was written"
    return [f'{name}: {what} shown as text: {text[max(m.start() - 30, 0):m.end() + 30]}' for name, page in found.items() for text in page.texts
            for pattern, what in RAW for m in [re.search(pattern, text)] if m]

def alt_texts(folder, found, site):
    "Every picture has a text for those who cannot see it"
    return [f'{name}: no alt text: {src}' for name, page in found.items() for src in page.unseen]

CHECKS = [dead_links, raw_markdown, alt_texts]

def faults(folder, site=None):
    "The faults of a rendered site, whose address is `site`"
    cfg = settings(ROOT)
    site, found = site or cfg['doc_host'] + cfg['doc_baseurl'], pages(folder)
    return [f for check in CHECKS for f in check(folder, found, site)] if found else [f'{folder}: no pages']

if __name__ == '__main__': report(faults(sys.argv[1] if len(sys.argv) > 1 else ROOT/'_docs'))
