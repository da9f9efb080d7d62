"""Make what is derived from the notebooks and settings.ini: the sidebar, the footer, the lists in index.ipynb, head and last cell of each chapter on a reading path, README.md.

    python tools/pages.py          write them
    python tools/pages.py --check  say which are out of date
    python tools/pages.py --timed LOG  take the seconds that chapters and tests run from pytest's list of durations, then write

The parts of the book, the order of their chapters and the reading paths stand in nbs/book.yml. Numbers are made, not typed: a cell of the index may hold

    <!-- numbers of results/main.json: {queries} reward queries, {before[held_out][reward]:.2f} before -->
    <!-- end of numbers -->

and what stands between the two lines is the template filled from that file below nbs, which a command wrote (`--out` keeps a results.json).
"""
import hashlib, json, os, re, sys
from functools import lru_cache
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, directives, dumps, name_of, notebooks, read, settings, source

LIST, PATHS, NEXT, RECAP, HEAD = '## The notebooks', '## Reading paths', '**Next**: ', '**To take along**\n', "**In the paper's Figure 2**: "
BOXES = 'prompts denoiser LoRA sampler decoder frames reward loss update'.split()    # the paper's Figure 2 in one line
PACE = 200      # words that one reads in a minute
SECONDS = 'nbs/results/seconds.json'    # of each chapter's cells that always run, and of each file of tests: pytest on two cores, two at a time, one core each
TIMED = re.compile(r'^ *([\d.]+)s (?:call|setup) +(?:nbs/(\S+\.ipynb)::cells|tests/(\S+\.py)::)', re.M)
NOTE = '<!-- Made from nbs/index.ipynb by tools/pages.py: edit the notebook, not this file. -->\n\n'
NUMBERS = re.compile(r'(<!-- numbers of (\S+): (.*?) -->\n).*?(<!-- end of numbers -->)', re.S)
LINK = re.compile(r'(\]\(|<(?:img|a)\s[^>]*?(?:src|href)=")(?![a-z]+:|#|/)')


_parsed = lru_cache(8)(yaml.safe_load)
def book(root): return _parsed((Path(root)/'nbs'/'book.yml').read_text(encoding='utf-8'))

def parts(root):
    "(title of the part, its notebooks below nbs) in the order of book.yml; ValueError for a notebook without a line there, and the reverse"
    listed = [(p['title'], [f"{c}.ipynb" if p['folder'] == '.' else f"{p['folder']}/{c}.ipynb" for c in p['chapters']]) for p in book(root)['parts']]
    there = {name_of(p, root) for p in notebooks(root)} - {'index.ipynb'}
    said = {n for _, names in listed for n in names}
    if there != said: raise ValueError(f'nbs/book.yml lists no {sorted(there - said)} and lists {sorted(said - there)}, which are not there')
    return listed

def sidebar(root):
    "sidebar.yml: the notebooks by part"
    out = 'website:\n  sidebar:\n    contents:\n      - index.ipynb\n'
    for title, names in parts(root):
        out += f'      - section: {title}\n        contents:\n' + ''.join(f'          - {n}\n' for n in names)
    return out + '      - reference.qmd\n'

def footer(root):
    "footer.yml: version and licence from settings.ini, how to cite, the paper"
    cfg = settings(root)
    top = f'{cfg["git_url"]}/blob/{cfg["branch"]}'
    return ('website:\n  page-footer:\n    border: true\n'
            f'    left: "{cfg["title"]} {cfg["version"]}, [Apache licence 2.0]({top}/LICENSE)"\n'
            f'    center: "[How to cite]({top}/CITATION.cff)"\n'
            '    right: "After [Video Diffusion Alignment via Reward Gradients](https://arxiv.org/abs/2407.08737)"\n')

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

def paths(root):
    "The reading paths of book.yml: dicts of title, for (whom), after (the path that one reads first) and chapters"
    return [p | dict(chapters=[f'{c}.ipynb' for c in p['chapters']]) for p in book(root).get('paths', [])]

def words(path):
    "Words of a notebook's prose, without its head and its exercises"
    prose = [source(c) for c in read(path)['cells'] if c['cell_type'] == 'markdown' and not source(c).startswith(HEAD)]
    starts = [i for i, text in enumerate(prose) if text.startswith('## ')] + [len(prose)]
    left_out = {i for a, b in zip(starts, starts[1:]) if prose[a].startswith('## Exercises') for i in range(a, b)}
    return sum(len(text.split()) for i, text in enumerate(prose) if i not in left_out)

def _link(root, name, at='index.ipynb'):
    "A link to the chapter `name` from the chapter `at`"
    return f'[{heading(Path(root)/"nbs"/name)[0]}]({Path(os.path.relpath(name, Path(at).parent)).as_posix()})'

def path_list(root):
    "The markdown list of reading paths that stands in index.ipynb"
    out = f'{PATHS}\n'
    for p in paths(root):
        n = sum(words(Path(root)/'nbs'/c) for c in p['chapters'])
        after = f'; read *{p["after"]}* first' if 'after' in p else ''
        out += f'\n**{p["title"][0].upper()}{p["title"][1:]}** ({p["for"]}; about {max(1, round(n/1000)):,},000 words{after}): '
        out += ' → '.join(_link(root, c) for c in p['chapters']) + '\n'
    return out.rstrip('\n')

def next_text(root, name):
    "The last cell of a chapter: where each path goes from here; '' for a chapter on no path"
    next_of, ends = {}, []
    for p in paths(root):
        if name not in p['chapters']: continue
        rest = p['chapters'][p['chapters'].index(name) + 1:]
        back = Path(os.path.relpath('index.ipynb', Path(name).parent)).as_posix() + '#reading-paths'
        if rest: next_of.setdefault(rest[0], []).append(f'*{p["title"]}*')
        else: ends.append(f'the path *{p["title"]}* ends here; [the index]({back}) has the others')
    said = [f'on the path{"s" if titles[1:] else ""} {" and ".join(titles)}, {_link(root, to, name)}' for to, titles in next_of.items()] + ends
    return f'{NEXT}{"; ".join(said)}.' if said else ''

def about(root, name):
    "What book.yml says of a chapter: at, needs, recap; {} for nothing"
    return (book(root).get('about') or {}).get(name.removesuffix('.ipynb'), {})

def figure_2(at):
    "The paper's Figure 2 in one line, with the boxes lit that a chapter is about"
    return ' → '.join(f'**[{b}]**' if at == 'all' or b in at else b for b in BOXES)

def timed(log):
    "Seconds of each chapter, and of each file of tests, from the durations that pytest lists at its end; those under a second are not listed"
    found = {}
    for secs, chapter, tests in TIMED.findall(Path(log).read_text(encoding='utf-8')): found[chapter or tests] = found.get(chapter or tests, 0) + float(secs)
    return {name: round(secs) for name, secs in sorted(found.items())}

def running(root, name):
    "How long the cells of a chapter run, roughly; '' where no seconds are stored"
    if not (file := Path(root)/SECONDS).exists(): return ''
    secs = json.loads(file.read_text(encoding='utf-8')).get(name, 0)
    said = 'under 10 s' if secs < 10 else f'about {round(secs, -1)} s' if secs < 90 else f'about {round(secs/60)} min'
    return f' **Running**: {said} on one core.'

def head_text(root, name):
    "The third cell of a chapter on a path: where one is, what one needs, how long it takes; '' where book.yml says nothing"
    if not (said := about(root, name)): return ''
    needs = ', '.join(_link(root, f'{n}.ipynb', name) for n in said.get('needs', ())) or 'PyTorch, and no other chapter'
    minutes = max(1, round(words(Path(root)/'nbs'/name)/PACE))
    return f'{HEAD}{figure_2(said["at"])}.\n\n**Builds on**: {needs}. **Reading**: about {minutes} min.{running(root, name)}'

def end_text(root, name):
    "The last cell of a chapter: three sentences to take along, and the next chapter of each path"
    recap = ''.join(f'\n- {s}' for s in about(root, name).get('recap', ()))
    return '\n\n'.join(filter(None, [f'{RECAP}{recap}' if recap else '', next_text(root, name)]))

def _replaced(nb, starts, text, place, key):
    "The cells without those that begin so, and `text` at a place; a cell keeps its id"
    old = [c for c in nb['cells'] if c['cell_type'] == 'markdown' and source(c).startswith(starts)]
    ident = old[-1]['id'] if old else hashlib.sha256(key.encode()).hexdigest()[:8]
    nb['cells'] = [c for c in nb['cells'] if c not in old]
    if text: nb['cells'].insert(place(nb), dict(cell_type='markdown', id=ident, metadata={}, source=text.splitlines(True)))

def with_ends(root, name):
    "The chapter `name` with its head and its last cell brought up to date"
    nb = read(Path(root)/'nbs'/name)
    _replaced(nb, HEAD, head_text(root, name), lambda nb: 2, f'head {name}')
    _replaced(nb, (NEXT, RECAP), end_text(root, name), lambda nb: len(nb['cells']), f'next {name}')
    return dumps(nb)

def results(path):
    "The results.json of a run, with what a sentence says of it: the gain in standard deviations, minutes of training"
    found = json.loads(Path(path).read_text(encoding='utf-8'))
    before, after = (found[k]['held_out'] for k in ('before', 'after'))
    return found | dict(gain=(after['reward'] - before['reward'])/before['reward_std'], minutes=found['seconds']/60)

def fill(root, text):
    "`text` with the numbers of stored results in the place of the old ones; a template whose file is not there yet is left as it stands"
    def made(m):
        path = Path(root)/'nbs'/m[2]
        return f'{m[1]}{m[3].format(**results(path))}\n{m[4]}' if path.exists() else m[0]
    return NUMBERS.sub(made, text)

def differing(found, options):
    "Names of the options in which stored results differ from those of a command; where the run wrote to does not matter"
    names = {*found['options'], *options} - {'out'}
    return sorted(n for n in names if found['options'].get(n) != options.get(n))

def index(root):
    "index.ipynb with its lists and numbers brought up to date"
    nb = read(Path(root)/'nbs'/'index.ipynb')
    for c in nb['cells']:
        if NUMBERS.search(source(c)): c['source'] = fill(root, source(c)).splitlines(True)
        if source(c).startswith(LIST): c['source'] = listing(root).splitlines(True)
        if source(c).startswith(PATHS): c['source'] = path_list(root).splitlines(True)
    return dumps(nb)

def _md(cell):
    "A notebook cell as GitHub markdown; links are relative to the top folder"
    if cell['cell_type'] == 'markdown': return LINK.sub(r'\1nbs/', source(cell))
    d, code = directives(cell)
    if {'hide', 'default_exp'} & set(d) or d.get('echo:') == ['false']: return ''
    code = '\n'.join(l for l in code.splitlines() if not l.startswith('#|'))
    texts = [''.join(o.get('text') or o['data'].get('text/plain', '')) for o in cell['outputs']]
    return f'```python\n{code}\n```' + ''.join(f'\n\n```\n{t.rstrip()}\n```' for t in texts)

def readme(root):
    "README.md: the cells of index.ipynb as GitHub markdown"
    cells = json.loads(index(root))['cells']
    return NOTE + '\n\n'.join(m for c in cells if (m := _md(c))) + '\n'

PAGES = {'nbs/sidebar.yml': sidebar, 'nbs/footer.yml': footer, 'nbs/index.ipynb': index, 'README.md': readme}

def derived(root):
    "(file, what it should hold) for every derived page; the chapters first, since the index counts their words"
    for p in notebooks(root):
        name, text = name_of(p, root), p.read_text(encoding='utf-8')
        if name != 'index.ipynb' and (NEXT in text or HEAD in text or end_text(root, name)): yield f'nbs/{name}', with_ends(root, name)
    for n, make in PAGES.items(): yield n, make(root)

def out_of_date(root):
    "The derived pages that differ from what the notebooks say"
    return [n for n, made in derived(root) if not (Path(root)/n).exists() or (Path(root)/n).read_text(encoding='utf-8') != made]

def main(argv):
    if '--check' in argv:
        bad = out_of_date(ROOT)
        for n in bad: print(f'out of date: {n} (python tools/pages.py writes it)')
        return not bad
    if '--timed' in argv: (ROOT/SECONDS).write_text(json.dumps(timed(argv[argv.index('--timed') + 1]), indent=1) + '\n', encoding='utf-8')
    for n, made in derived(ROOT):
        if (ROOT/n).exists() and (ROOT/n).read_text(encoding='utf-8') == made: continue
        (ROOT/f'{n}.part').write_text(made, encoding='utf-8')  # whole or not at all
        os.replace(ROOT/f'{n}.part', ROOT/n)
    return True

if __name__ == '__main__': sys.exit(not main(sys.argv[1:]))
