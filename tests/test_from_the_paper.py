"The page from the paper to the module: nothing of the paper is left out, and every name stands in one of the chapters that its row links to."
import ast, re
import pytest
from tools.notebooks import ROOT, read, source

PAGE = ROOT/'nbs'/'from_the_paper.ipynb'
WANTED = {'Algorithm 1', *(f'Equation {i}' for i in range(1, 8)), *(f'Figure {i}' for i in range(1, 13)), *(f'Table {i}' for i in range(1, 10)),
          *(f'Section {i}' for i in '1 2 3 4 5 5.1 5.2 5.3 5.4 6'.split()), *(f'Appendix A.{i}' for i in range(1, 5))}
# What each place says of itself in the paper, so that a row cannot stand at another number
SUBJECTS = {'Table 2': 'human', 'Table 4': 'EvalCrafter', 'Table 5': 'VBench', 'Table 6': 'VBench', 'Table 7': 'memory', 'Table 8': 'diversity', 'Table 9': 'K = 1', 'Figure 3': 'resolution', 'Figure 6': 'book',
            'Figure 11': 'rewards', 'Equation 3': 'DDPM', 'Section 5.2': 'prompts', 'Section 5.3': 'people', 'Appendix A.1': 'prompts', 'Appendix A.3': 'baselines'}

def rows(nb):
    "(place in the paper, what it is, linked chapters, last column) of each row of the page's tables"
    text = '\n'.join(source(c) for c in nb['cells'] if c['cell_type'] == 'markdown')
    table = [[x.strip() for x in l.strip('|').split(' | ')] for l in text.splitlines() if l.startswith('| ') and not l.startswith('| paper')]
    return [(r[0].strip('| '), r[1], re.findall(r'\]\((\S+?)\.ipynb\)', r[2]), r[3].strip(' |') if len(r) > 3 else '') for r in table]

def defined(chapter):
    "The names that the module of a chapter gives: defined or imported at its top level, or the names of commands"
    path = ROOT/'vader_nb'/f'{chapter.removeprefix("core/")}.py'
    tree = ast.parse(path.read_text(encoding='utf-8')) if path.exists() else ast.Module([], [])
    found = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    targets = [t for n in tree.body if isinstance(n, (ast.Assign, ast.AnnAssign)) for t in getattr(n, 'targets', None) or [n.target]]
    return found | {t.id for t in targets if isinstance(t, ast.Name)}

def faults(nb):
    "What is missing, twice, or leads nowhere"
    found, places = [], [r[0].split(',')[0] for r in rows(nb) if ',' not in r[0]]
    found += [f'{p} is missing' for p in sorted(WANTED - {*places})] + [f'{p} stands {places.count(p)} times' for p in sorted({*places}) if places.count(p) > 1 or p not in WANTED]
    for place, what, chapters, last in rows(nb):
        if SUBJECTS.get(place, '') not in what: found.append(f'{place}: {what!r} is not what the paper has there')
        there = set().union(*(defined(c) for c in chapters)) if chapters else set()
        found += [f'{place}: no {n} in {", ".join(chapters)}' for n in re.findall(r'`(\w+)`', last) if n not in there]
        if last.startswith('not done') and len(last.split()) < 8: found.append(f'{place}: not done, and no reason')
        if not last and place not in ('Section 1', 'Section 6', 'Appendix A.4'): found.append(f'{place}: neither names nor a reason')
    return found

def test_the_page(): assert faults(read(PAGE)) == []

def test_recipes_that_it_names():
    from vader_nb.methods.experiments import RECIPE_TABLE
    named = re.findall(r'load_recipe\("([^"]+)"\)', '\n'.join(source(c) for c in read(PAGE)['cells']))
    assert named and {*named} <= {*RECIPE_TABLE}

@pytest.mark.parametrize('old, new, fault', [
    ('| Equation 5 |', '| Equation 4 |', 'Equation 5 is missing'),
    ('| Table 7 |', '| Table 8 |', 'Table 8 stands 2 times'),
    ('`add_noise`', '`add_noises`', 'Equation 1: no add_noises in core/diffusion'),
    ('not done: the tiny world has one text-to-video model, so it cannot be asked there; for published weights there is the recipe `load_recipe("opensora-pickscore")`', 'not done: nobody', 'Figure 7: not done, and no reason'),
    ('`per_frame`', '', 'Equation 7: neither names nor a reason'),
    ('| diversity |', '| motion |', "Table 8: 'motion' is not what the paper has there")])
def test_planted(old, new, fault):
    nb = read(PAGE)
    assert any(old in source(c) for c in nb['cells'])
    for c in nb['cells']: c['source'] = source(c).replace(old, new).splitlines(True)
    assert fault in faults(nb), faults(nb)
