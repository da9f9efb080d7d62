"""Run every notebook cell that needs the network, in one process, with no more of its notebook than it needs:

    python tests/net_cells.py [NOTEBOOK ...]        prints a line of JSON a cell

A cell sees what the notebook's module holds (which is what its exported cells define and import), and runs after those earlier statements that define
the names which are still missing. So it takes seconds, where its whole notebook takes a minute.
"""
import ast, builtins, importlib, json, os, sys, tempfile, time, traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
from tools.notebooks import directives, name_of, notebooks, read, source


def net_cells(path):
    "Numbers of the cells that are tagged `net`, and not `cuda`"
    told = [directives(c)[0] if c['cell_type'] == 'code' else {} for c in read(path)['cells']]
    return [i for i, d in enumerate(told) if 'net' in d and 'cuda' not in d]

def module_of(nb):
    "The module that a notebook exports"
    return next('vader_nb.' + d['default_exp'][0] for c in nb['cells'] if c['cell_type'] == 'code' and 'default_exp' in (d := directives(c)[0]))

def _root(target):
    "The name whose object `x[0].y = ...` changes"
    while isinstance(target, (ast.Subscript, ast.Attribute)): target = target.value
    return {target.id} if isinstance(target, ast.Name) else set()

def _bound(tree):
    "Names that a statement defines, or whose object it changes, for those after it"
    found = set().union(*map(_root, getattr(tree, 'targets', [])))
    def visit(n):
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)): return found.add(n.name)
        if isinstance(n, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)): return
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store): found.add(n.id)
        elif isinstance(n, (ast.Import, ast.ImportFrom)): found.update((a.asname or a.name).split('.')[0] for a in n.names)
        for child in ast.iter_child_nodes(n): visit(child)
    visit(tree)
    return found

def _wanted(tree):
    "Names that a statement, or a cell, uses before it defines them, in whatever scope"
    if isinstance(tree, ast.Module):
        found, have = set(), set()
        for s in tree.body: found, have = found | (_wanted(s) - have), have | _bound(s)
        return found
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    targets = {id(n) for t in getattr(tree, 'targets', []) for n in ast.walk(t)}
    own = {n.id for n in names if isinstance(n.ctx, ast.Store) and id(n) not in targets} | {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    changed = {tree.target.id} if isinstance(tree, ast.AugAssign) and isinstance(tree.target, ast.Name) else set()
    return ({n.id for n in names if isinstance(n.ctx, ast.Load)} - own | changed) - set(dir(builtins))

def _statements(nb, i):
    "Those of the plain cells before `i`, in their order"
    for c in nb['cells'][:i]:
        if c['cell_type'] != 'code': continue
        told, code = directives(c)
        if {'slow', 'cuda', 'net'} & set(told) or '%pip' in code or 'nbdev_export(' in code: continue
        yield from ast.parse(code).body

def needed(nb, i, known):
    "The earlier statements that define what cell `i` needs and `known` does not hold, in their order"
    before = list(_statements(nb, i))
    todo, chosen = [(n, len(before)) for n in _wanted(ast.parse(directives(nb['cells'][i])[1]))], set()
    while todo:
        name, end = todo.pop()
        j = None if name in known else next((j for j in reversed(range(end)) if name in _bound(before[j])), None)
        if j is None or j in chosen: continue
        chosen.add(j)
        todo += [(n, j) for n in _wanted(before[j])]
    return ast.Module([before[j] for j in sorted(chosen)], [])

def run_cell(path, i, toys):
    "What came of a cell: seconds, the error, the toys whose weights it loaded, the toy scorers in it"
    nb, start = read(path), time.time()
    names = vars(importlib.import_module(module_of(nb))).copy() | dict(__name__='__main__')
    result = dict(notebook=name_of(path), cell=i, error='')
    try:
        from IPython.display import display
        names['display'] = display
        exec(compile(needed(nb, i, names), f'{name_of(path)}: before {i}', 'exec'), names)
        toys.clear()
        exec(compile(directives(nb['cells'][i])[1], f'{name_of(path)}:{i}', 'exec'), names)
    except BaseException: result['error'] = traceback.format_exc(limit=-6)
    scorers = {s for v in names.values() for s in getattr(v, 'scorers', ()) or () if isinstance(s, str)}
    return result | dict(seconds=round(time.time() - start, 1), toys=sorted(toys), tiny=sorted(s for s in scorers if s.startswith('tiny-')))

def watch_toys():
    "A list that grows when somebody asks for the weights of a toy; to be called before anything else of the library is imported"
    import vader_nb.hub as hub
    asked, find = [], hub.weights_folder
    def weights_folder(name):
        asked.append(name)
        return find(name)
    hub.weights_folder = weights_folder
    return asked

def main(paths):
    import matplotlib
    matplotlib.use('agg')
    toys = watch_toys()
    for path in paths or notebooks(ROOT):
        for i in net_cells(path):
            os.chdir(tempfile.mkdtemp())
            result = run_cell(path, i, toys)
            print(f'\n@@{json.dumps(result)}', flush=True)

if __name__ == '__main__': main([Path(p).resolve() for p in sys.argv[1:]])
