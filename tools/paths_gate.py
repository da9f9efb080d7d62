"""What a reading path promises: each check takes the project's folder and returns a list of faults.

    python tools/paths_gate.py

A chapter on a path uses nothing that the path has not explained: it imports only from modules whose chapters stand before it on the path
(or on the path that one reads first), from its own, and from the front door. nbs/exceptions.yml argues what differs: `plumbing` for modules that need
no chapter to be understood, `paths` for a module that a chapter introduces in passing (from there on it counts as explained), `heads` for a chapter without head and recap.
"""
import ast, math, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.architecture_gate import cell_trees, door, imported, module_files, module_of, owner
from tools.house_gate import _spare, exceptions
from tools.notebooks import ROOT, name_of, notebooks, read, report, source
from tools.pages import BOXES, about, book, paths, words


def uses(root, name):
    "The modules that the cells of a chapter import, but for names of the front door"
    files, front, found = module_files(root), door(root), set()
    for _, tree in cell_trees(read(Path(root)/'nbs'/name)):
        found |= {owner(n, files) for node in ast.walk(tree) for n in imported(node) if n not in front}
    return found - {''}

def known_chapters(root):
    "Paths go through chapters that exist, once each, and say which path one reads first"
    faults, there, titles = [], {name_of(p, root) for p in notebooks(root)}, {p['title'] for p in paths(root)}
    for p in paths(root):
        faults += [f'{p["title"]}: no chapter {c}' for c in p['chapters'] if c not in there]
        faults += [f'{p["title"]}: {c} twice' for c in dict.fromkeys(p['chapters']) if p['chapters'].count(c) > 1]
        if p.get('after', p['title']) not in titles: faults.append(f'{p["title"]}: comes after {p["after"]!r}, which is no path')
    return faults

def explained(root):
    "A chapter on a path uses nothing that the path has not explained"
    table, found = {p['title']: p for p in paths(root)}, {}
    for p in table.values():
        known = {*exceptions(root, 'plumbing')}
        for c in table.get(p.get('after'), dict(chapters=[]))['chapters'] + p['chapters']:
            known.add(module_of(c))
            for m in sorted(uses(root, c) - known):
                found.setdefault(f'{c}: {m}', f'{p["title"]}: {c} uses {m}, which the path has not explained by then')
                if f'{c}: {m}' in exceptions(root, 'paths'): known.add(m)
    return _spare(root, 'paths', found)

def short_enough(root):
    "A path with a limit keeps it"
    length = {p['title']: sum(words(Path(root)/'nbs'/c) for c in p['chapters']) for p in paths(root)}
    return [f'{p["title"]}: {length[p["title"]]} words, at most {p["at_most"]}' for p in paths(root) if length[p['title']] > p.get('at_most', math.inf)]

KINDS = {'. Predict, then run.**': 2, '. Write it.**': 2, '. Open.**': 1}

def exercised(root):
    "Each chapter of a path that says so has exercises of each kind"
    faults = []
    for c in (c for p in paths(root) if p.get('exercises') for c in p['chapters']):
        text = '\n'.join(source(cell) for cell in read(Path(root)/'nbs'/c)['cells'] if cell['cell_type'] == 'markdown')
        faults += [f'{c}: {text.count(k)} exercises of the kind "{k.strip(". *")}", at least {n}' for k, n in KINDS.items() if text.count(k) < n]
    return faults

def _missing(said, before, name):
    "What is wrong with what book.yml says of a chapter"
    at, recap = said.get('at', []), said.get('recap', [])
    if at != 'all' and (not at or {*at} - {*BOXES}): yield f'at: {at!r}: give boxes of {BOXES}, or all'
    if len(recap) != 3 or not all(len(s.split()) > 4 and s.endswith('.') for s in recap): yield f'recap: {len(recap)} sentences, three are wanted, each with its full stop'
    for n in said.get('needs', ()):
        if n not in before: yield f'needs {n}, which no path has before it'

def headed(root):
    "Each chapter on a path says where one is, what one needs, and what to take along; exceptions.yml argues where not"
    table, found = {p['title']: p for p in paths(root)}, {}
    for p in table.values():
        chapters = table.get(p.get('after'), dict(chapters=[]))['chapters'] + p['chapters']
        for i, c in enumerate(chapters):
            before = {b.removesuffix('.ipynb') for b in chapters[:i]}
            for why in _missing(about(root, c), before, c): found.setdefault(c, f'{c}: {why}')
    known = {c.removesuffix('.ipynb') for p in table.values() for c in p['chapters']}
    return _spare(root, 'heads', found) + [f'about: {c} is on no path' for c in book(root).get('about') or {} if c not in known]

CHECKS = [known_chapters, explained, short_enough, exercised, headed]

def faults(root=ROOT): return [f for check in CHECKS for f in check(root)]

if __name__ == '__main__': report(faults())
