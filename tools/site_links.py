"""Links on the site from names in backticks to the places where they are defined. nbdev's own way finds any backtick in any line: inside the text of a link, where it
makes raw text of both, and private names, for which there is no place. This one looks at what the markdown means there.
"""
import os, re
from pathlib import Path

# What a link must not be put into: code blocks, comments, tags, formulas, links and pictures, headings (they become entries of the page's contents)
SKIP = r'''
    ^(?P<fence>[ ]*(?:`{3,}|~{3,})).*?^(?P=fence)[ ]*$ | ^[ ]{4,}\S[^\n]*$ | ^\#[^\n]*$
  | <!--.*?--> | <a\s.*?</a> | <code\b.*?</code> | </?[a-zA-Z][^<>]*> | \$\$.*?\$\$ | (?<![\\$])\$(?!\s)[^$\n]+?\$
  | !?\[(?:[^\[\]`]|`[^`]*`|\[(?:[^\[\]`]|`[^`]*`)*\])*\](?:\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+"[^"]*")?\)|\[[^\]]*\]|\{[^}]*\})
'''
TOKEN = re.compile(rf'(?P<skip>{SKIP})|(?<!`)(?P<tick>`+)(?!`)(?P<code>.+?)(?<!`)(?P=tick)(?!`)', re.M | re.S | re.X)
OWN = re.compile(r'\[(`([A-Za-z][\w.]*)(?:\(\))?`)\]\(([^)#:]+\.ipynb)\)')
NAME = re.compile(r'([A-Za-z][\w.]*)(\(\))?')


DOOR = ('align', 'load_pipeline', 'load_prompts', 'load_reward')   # names of the front door, and the commands: they mean one thing everywhere

def cited(text, page):
    "The notebooks that the markdown `text` of a page links to"
    return {os.path.normpath(Path(page).parent/n) for n in re.findall(r'\]\(([^()\s#:]+\.ipynb)[^()\s]*\)', text)}

def chosen(name, page, index, imported=(), near=()):
    """The definition that `name` means on a page: its own, the one that it imports, or the only one of the chapters that it links to; None otherwise.
    An option, a column or another library's method may have the name of something in a chapter that has nothing to do with the page."""
    found = index.get(name, [])
    known = [d for d in found if d.notebook in near or name in DOOR or name.startswith('vader_')]
    for of in ([d for d in found if d.notebook == page], [d for d in found if (d.module, name.split('.')[0]) in imported], known if len(known) == len(found) else []):
        if len({(d.notebook, d.anchor) for d in of}) == 1 or of and of[0].notebook == page: return of[0]
    return None

def linkify(text, page, index, imported=(), near=()):
    "The markdown `text` of the notebook `page` with links from names in backticks; `imported`: (module, name) of what its cells import; `near`: notebooks that it links to"
    def placed(m):
        "A link from a name to the chapter that defines it leads to the definition"
        here = os.path.normpath(Path(page).parent/m[3])
        found = [d for d in index.get(m[2], []) if d.notebook == here]
        return f'[{m[1]}]({"" if here == page else m[3]}#{found[0].anchor})' if found else m[0]
    def link(m):
        if m['skip'] is not None and (own := OWN.fullmatch(m['skip'])): return placed(own)
        if m['skip'] is not None or m['tick'] != '`' or not (n := NAME.fullmatch(m['code'])): return m[0]
        d = chosen(n[1], page, index, imported, near)
        if d is None: return m[0]
        to = '' if d.notebook == page else Path(os.path.relpath(d.notebook, Path(page).parent)).as_posix()
        return f'[{m[0]}]({to}#{d.anchor})'
    return TOKEN.sub(link, text)
