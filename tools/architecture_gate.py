"""Who imports whom, and the rules that keep it readable: each check takes the project's folder and returns a list of faults.

    python tools/architecture_gate.py

The graph comes from the code, parsed and not imported, so an import inside a function counts. A name in a table, such as
"vader_nb.rewards.aesthetic:aesthetic_reward", is looked up when somebody asks for it: it is no import.
"""
import ast, re, sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, name_of, notebooks, read, report, source

PACKAGE = 'vader_nb'
# The floors of the house, from the ground up. `core` is the modules that stand directly in vader_nb.
FLOORS = [{'core'}, {'rewards', 'models'}, {'savings'}, {'methods'}, {'tiny', 'evaluate'}, {'paper'}, {'commands'}]
FLOOR = {p: i for i, floor in enumerate(FLOORS) for p in floor}
MEET = 'methods'  # the lowest package in which a sampler and a reward may come together


# The graph

def package_of(module): return module.split('.')[0] if '.' in module else 'core'
def title(module): return f'{PACKAGE}.{module}' if module else PACKAGE

def module_files(root):
    "Name -> file of every module: 'rewards.clip', 'video'; the front door (vader_nb itself) and nbdev's index are left out"
    top = Path(root, PACKAGE)
    files = {'.'.join(p.relative_to(top).with_suffix('').parts): p for p in sorted(top.rglob('*.py'))}
    return {m: p for m, p in files.items() if m.split('.')[-1] not in ('__init__', '_modidx')}

def door(root):
    "Name -> module of what vader_nb itself gives: a module that takes it from there imports that module"
    text = Path(root, PACKAGE, '__init__.py').read_text(encoding='utf-8')
    return dict(re.findall(rf'(\w+)="{PACKAGE}\.([\w.]+):\w+"', text))

def _full_name(node, here):
    "The module that a `from ... import` names, without the leading package's name; None for another library"
    if node.level: return '.'.join([*here[:len(here) - node.level + 1], *filter(None, [node.module])])
    if node.module == PACKAGE: return ''
    return node.module.removeprefix(f'{PACKAGE}.') if node.module.startswith(f'{PACKAGE}.') else None

def imported(node, here=()):
    "Dotted names inside the package that an import statement names; `here` is the folder of its module"
    if isinstance(node, ast.Import): return [a.name.removeprefix(f'{PACKAGE}.') for a in node.names if a.name.startswith(f'{PACKAGE}.')]
    if not isinstance(node, ast.ImportFrom) or (start := _full_name(node, here)) is None: return []
    return [f'{start}.{a.name}'.lstrip('.') for a in node.names]

def owner(name, modules, door=()):
    "The module that a dotted name belongs to: 'video.check_pixels' -> 'video'; '' for none"
    if name in door: return door[name]
    while name and name not in modules: name = name.rpartition('.')[0]
    return name

def import_graph(root=ROOT):
    "Module -> set of the modules that it imports"
    files, front = module_files(root), door(root)
    def of(m, path):
        found = [n for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))) for n in imported(node, m.split('.')[:-1])]
        return {owner(n, files, front) for n in found} - {'', m}
    return {m: of(m, path) for m, path in files.items()}

def package_graph(graph):
    "Package -> set of the other packages that its modules import"
    res = {package_of(m): set() for m in graph}
    for m, others in graph.items(): res[package_of(m)] |= {package_of(o) for o in others} - {package_of(m)}
    return res

def reach(graph, module):
    "All that a module imports, directly or not"
    seen, todo = set(), [module]
    while todo:
        new = graph.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


# The rules: each takes the graph and returns complaints in plain sentences

def unknown_packages(graph):
    "Packages that have no floor"
    return [f'{PACKAGE}.{p} has no floor: add it to FLOORS in tools/architecture_gate.py' for p in sorted({*map(package_of, graph)} - FLOOR.keys())]

def upward(graph):
    "Imports from a higher floor, or from another package on the same one"
    def why(m, o):
        a, b = package_of(m), package_of(o)
        if a == b or FLOOR.get(b, -1) < FLOOR.get(a, 99): return ''
        return 'is above it' if FLOOR[b] > FLOOR[a] else 'is on the same floor'
    return [f'{title(m)} imports {title(o)}: {package_of(o)} {w}' for m in graph for o in sorted(graph[m]) if (w := why(m, o))]

def cycle(graph, kind='module'):
    "The first cycle, if there is any"
    try: list(TopologicalSorter(graph).static_order())
    except CycleError as e: return [f'a cycle between {kind}s: ' + ' <- '.join(e.args[1])]
    return []

def cycles(graph): return cycle(graph) + cycle(package_graph(graph), 'package')

def siblings(graph, package='commands'):
    "Commands that import one another"
    return [f'{title(m)} imports {title(o)}: what two commands share stands below {package}'
            for m in graph for o in sorted(graph[m]) if package_of(m) == package_of(o) == package]

def met_early(graph):
    "Modules below the alignment methods that bring the sampler and a reward together, also through a third module"
    def both(m): return 'sampling' in (r := reach(graph, m) | {m}) and any(package_of(o) == 'rewards' for o in r)
    return [f'{title(m)} brings sampling and rewards together: only {MEET} and the floors above may'
            for m in graph if FLOOR.get(package_of(m), 99) < FLOOR[MEET] and both(m)]

RULES = [unknown_packages, upward, cycles, siblings, met_early]


# The folders: a chapter and its module have one path

def exported(root):
    "Path of a notebook below nbs -> the module that it exports, None if it exports none"
    def of(nb):
        found = [m[1] for c in nb['cells'] if c['cell_type'] == 'code' and (m := re.search(r'^#\|\s*default_exp\s+(\S+)', source(c), re.M))]
        return found[0] if found else None
    return {name_of(p, root): of(read(p)) for p in notebooks(root)}

def module_of(notebook):
    "The module that a notebook may export: core/video.ipynb -> 'video', rewards/clip.ipynb -> 'rewards.clip'"
    if notebook == 'architecture.ipynb': return '__init__'
    return notebook.removesuffix('.ipynb').removeprefix('core/').replace('/', '.')

def paths(root):
    "Every module has one notebook, of the same path; every notebook stands in the folder of a package"
    made, files = exported(root), module_files(root)
    faults = [f'{n} exports {title(m)}: its path says {title(module_of(n))}' for n, m in made.items() if m and m != module_of(n)]
    faults += [f'{title(m)} has no notebook' for m in files if m not in made.values()]
    faults += [f'{n}: {n.split("/")[0]} is no package' for n in made if '/' in n and n.split('/')[0] not in FLOOR]
    return faults

def _defined(path):
    "Names that a module defines or imports at its top level"
    found = set()
    for n in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): found.add(n.name)
        else:
            for o in ast.walk(n):
                if isinstance(o, (ast.Import, ast.ImportFrom)): found |= {(a.asname or a.name).split('.')[0] for a in o.names}
                if isinstance(o, ast.Name) and isinstance(o.ctx, ast.Store): found.add(o.id)
    return found

def cell_trees(nb):
    "(number, syntax tree) of each code cell; lines for the shell are passed over, cells of another language too"
    for i, c in enumerate(nb['cells']):
        if c['cell_type'] != 'code': continue
        try: yield i, ast.parse(re.sub(r'^(\s*)[%!].*$', r'\1pass', source(c), flags=re.M))
        except SyntaxError: continue

def names(root):
    "What a notebook imports from the package is there, also in cells that no test runs"
    files, front, faults = module_files(root), door(root), []
    have = {m: _defined(p) for m, p in files.items()}
    def there(name):
        module = owner(name, files, front)
        rest = name.removeprefix(module).lstrip('.') if name not in front else ''
        return bool(module) and (not rest or rest in have[module]) or name in {package_of(m) for m in files}
    for p in notebooks(root):
        for i, tree in cell_trees(read(p)):
            faults += [f'{name_of(p, root)}: cell {i}: no {title(n)}' for node in ast.walk(tree) for n in imported(node) if n and not there(n)]
    return faults

def packages(root):
    "The order of the packages: floors, circles, commands apart, sampling and rewards apart"
    return [f for rule in RULES for f in rule(import_graph(root))]

CHECKS = [packages, paths, names]

def faults(root=ROOT): return [f for check in CHECKS for f in check(root)]

if __name__ == '__main__': report(faults())
