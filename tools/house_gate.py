"""How the house is written: figures of the code, dense lines, old names. Each check takes the project's folder and returns a list of faults.

    python tools/house_gate.py             the faults of all checks, and the figures

What may differ from a limit stands in nbs/exceptions.yml, with its argument.
"""
import ast, io, re, sys, tokenize
from pathlib import Path
from statistics import median

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import architecture_gate
from tools.architecture_gate import module_files, package_of, title
from tools.notebooks import ROOT, name_of, notebooks, read, source

FUNCTION = dict(median=6, p90=18, max=40)  # lines
MODULE, CELL, LINE, PARAMETERS = 300, 25, 120, 10
EXPORT = re.compile(r'^#\|\s*exports?\b', re.M)


def exceptions(root, kind):
    "What may differ from a limit of this kind: name -> the argument for it"
    path = Path(root, 'nbs', 'exceptions.yml')
    return (yaml.safe_load(path.read_text(encoding='utf-8')) or {}).get(kind) or {} if path.exists() else {}

def _spare(root, kind, found):
    "The faults among `found` (name -> fault), without exceptions; and the exceptions that nothing needs"
    may = exceptions(root, kind)
    return ([f for n, f in found.items() if n not in may]
            + [f'nbs/exceptions.yml: {kind}: {n} needs no exception' for n in may if n not in found]
            + [f'nbs/exceptions.yml: {kind}: {n} has no argument' for n, why in may.items() if len(str(why or '').split()) < 4])

def trees(root): return {m: ast.parse(p.read_text(encoding='utf-8')) for m, p in module_files(root).items()}

def functions(root):
    "'module.function' -> its node, for all functions, methods and functions inside functions"
    def of(node, at):
        for n in ast.iter_child_nodes(node):
            named = isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            if named and not isinstance(n, ast.ClassDef): yield f'{at}.{n.name}', n
            yield from of(n, f'{at}.{n.name}' if named else at)
    return {name: n for m, tree in trees(root).items() for name, n in of(tree, m)}

def length(node):
    "Lines of a function, its decorators and signature among them"
    return node.end_lineno - min([node.lineno] + [d.lineno for d in node.decorator_list]) + 1

def exported_cells(root):
    "('core/video.ipynb: cell 7', its code without options) for every exported cell"
    for p in notebooks(root):
        for i, c in enumerate(read(p)['cells']):
            if c['cell_type'] == 'code' and EXPORT.search(source(c)):
                lines = [l for l in source(c).splitlines() if not l.startswith('#|')]
                yield f'{name_of(p, root)}: cell {i}', '\n'.join(lines).strip('\n')


# Figures

def figures(root=ROOT):
    "The lines of functions, modules and cells, the cells of a notebook"
    lines = sorted(length(n) for n in functions(root).values()) or [0]
    modules = [len(p.read_text(encoding='utf-8').splitlines()) for p in module_files(root).values()]
    return dict(functions=len(lines), median=median(lines), p90=lines[int(.9*(len(lines) - 1))], max=lines[-1], modules=len(modules),
                module_median=median(modules), module_max=max(modules), cells=median(len(read(p)['cells']) for p in notebooks(root)))

def function_median(root):
    "Half of all functions are short"
    n = figures(root)['median']
    return [f'functions: median {n:g} lines, more than {FUNCTION["median"]}'] * (n > FUNCTION['median'])

def function_lines(root):
    "Nine tenths of all functions are not long, and none is longer than a screen"
    n, most = figures(root)['p90'], FUNCTION['max']
    long = {f: f'{f}: {length(node)} lines, more than {most}' for f, node in functions(root).items() if length(node) > most}
    return [f'functions: p90 {n:g} lines, more than {FUNCTION["p90"]}'] * (n > FUNCTION['p90']) + _spare(root, 'functions', long)

def module_lines(root):
    "No module is longer than a reader's patience"
    n = {m: len(p.read_text(encoding='utf-8').splitlines()) for m, p in module_files(root).items()}
    return _spare(root, 'modules', {m: f'{title(m)}: {k} lines, more than {MODULE}' for m, k in n.items() if k > MODULE})

def cell_lines(root):
    "An exported cell defines one thing"
    def defines(code): return (re.findall(r'^(?:async )?(?:def|class) (\w+)', code, re.M) or re.findall(r'^(\w+)', code, re.M) or ['?'])[0]
    long = {f'{at.split(":")[0]}: {defines(code)}': f'{at} ({defines(code)}): {k} exported lines, more than {CELL}'
            for at, code in exported_cells(root) if (k := len(code.splitlines())) > CELL}
    return _spare(root, 'cells', long)

def line_lengths(root):
    "Exported lines fit beside each other on a screen"
    return [f'{at}: a line of {len(l)} characters, more than {LINE}: {l.strip()[:60]}...' for at, code in exported_cells(root)
            for l in code.splitlines() if len(l) > LINE]

def _from(m, node):
    "The module of the project that an import of module `m` reads, as `trees` names it"
    name = node.module or ''
    if not node.level: return name.removeprefix('vader_nb.') if name.startswith('vader_nb.') else None
    return '.'.join([*m.split('.')[:-node.level], *filter(None, [name])])

def unused_imports(root):
    "A module imports what it uses, or what others import from it"
    all_trees = trees(root)
    imports = {m: [n for n in ast.walk(t) if isinstance(n, (ast.Import, ast.ImportFrom))] for m, t in all_trees.items()}
    passed_on = {(_from(m, n), a.name) for m, nodes in imports.items() for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
    faults = []
    for m, tree in all_trees.items():
        names = dict.fromkeys((a.asname or a.name).split('.')[0] for n in imports[m] for a in n.names)
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        faults += [f'{title(m)}: {n} is imported and not used' for n in names if n not in used and (m, n) not in passed_on]
    return faults


# Density

def _semicolons(code):
    return [t.line.strip() for t in tokenize.generate_tokens(io.StringIO(code + '\n').readline) if t.type == tokenize.OP and t.string == ';']

def _effects(tree):
    "Expressions that stand as statements for their side effect: tuples, conditionals, comprehensions, comparisons"
    fine = (ast.Call, ast.Constant, ast.Await, ast.Yield, ast.YieldFrom)
    return [n for n in ast.walk(tree) if isinstance(n, ast.Expr) and not isinstance(n.value, fine)]

def density(root):
    "One statement a line; a statement is no expression that only works by its side effect"
    faults = []
    for at, code in exported_cells(root):
        tree = ast.parse(code)
        faults += [f'{at}: a statement after a semicolon: {l[:80]}' for l in _semicolons(code)]
        faults += [f'{at}: an expression as a statement: {ast.unparse(n)[:80]}' for n in _effects(tree)]
    return faults

def parameters(root):
    "Public functions take few arguments; options that belong together are a dataclass. A command's arguments are its options"
    def names(a): return [x.arg for x in [*a.posonlyargs, *a.args, *a.kwonlyargs] if x.arg not in ('self', 'cls')]
    def public(name): return not any(part.startswith('_') for part in name.split('.')[1:])
    found = {name: len(names(n.args)) for name, n in functions(root).items()
             if public(name) and package_of(name.rpartition('.')[0]) != 'commands'}
    return _spare(root, 'parameters', {n: f'{n}: {k} parameters, more than {PARAMETERS}' for n, k in found.items() if k > PARAMETERS})


# Old names

# Module paths of 0.2 that are gone
GONE = 'memory speed bench planner vader cli reward_study autoregressive tiny_vae tiny_unet tiny_i2v'.split()
# (pattern, what to write instead); in code and prose alike. A pattern must be narrow enough to leave other meanings alone.
ANYWHERE = [
    (r'\bn_frames\b', 'num_frames'),
    (r'\baccumulate(?=\s*=[^=]|\s*:\s*int)|--accumulate\b|`accumulate`', 'gradient_accumulation_steps'),
    (r'(?<![\w-])--(?:steps|updates|recipe (?:fast|exact|plain)|cuts|frames|decode_frames|n_frames)(?![\w-])', '--train-steps, --updates-per-rollout, --savings, --reward-frames, --num-frames'),
    (r'\bdecode_frames(?=\s*=[^=]|\s*:)', 'reward_frames'),
    (r'\brecipe\s*=\s*["\'](?:plain|exact|fast|none)|\bRECIPES\b|\b(?:fast|exact|plain)\W{0,3}\s+recipe', 'savings'),
    (r'from vader_nb\.models import [^#\n]*\bload_pipeline|vader_nb\.models\.load_pipeline', 'from vader_nb import load_pipeline'),
    (r'from vader_nb\.rewards import [^#\n]*\bload_reward|vader_nb\.rewards\.load_reward', 'from vader_nb import load_reward'),
    (rf'\bvader_nb\.(?:{"|".join(GONE)})\b', 'the module of the package (CHANGELOG has a table)'),
    (r'\bSimpleNamespace\(\*\*', 'a dataclass of the options'),
]
# in prose and docstrings
PROSE = [
    (r'\bso many (?!that\b)', 'this many'),
    (r'`cuts`|`kept`', 'savings, cache'),
    (r'\bband \dx\b|\b[Nn]otebooks? \d\d[a-z]?\b|\b\d\d[a-z]?_\w+\.ipynb|\bNN_name\b', "the chapter's path"),
    (r'(?<![\w-])--[a-z]+(?:_[a-z]+)+', 'options spelled with -'),
]
# calls with a keyword that has another name now: function -> {old: new}
CALLS = {f: dict(steps='train_steps', updates='updates_per_rollout', frames='reward_frames', cuts='savings', recipe='savings',
                 accumulate='gradient_accumulation_steps') for f in ('align', 'fit', 'vader_loss', 'step_parts', 'plan', 'rollout', 'race')}
CALLS |= {f: dict(steps='train_steps') for f in ('train_tiny', 'train_tiny_vae', 'train_tiny_unet', 'train_tiny_i2v', 'train_tiny_clip')}
DEFS = {'cuts', 'n_frames', 'accumulate', 'recipe', 'decode_frames', 'n_steps'}

def _lines(text, patterns):
    return [(m[0], new) for old, new in patterns for m in re.finditer(old, text)]

def _calls(code):
    "Calls and definitions that use an old keyword"
    try: tree = ast.parse(re.sub(r'^(\s*)[%!].*$', r'\1pass', code, flags=re.M))
    except SyntaxError: return []
    found = []
    for n in ast.walk(tree):
        if isinstance(n, ast.Call):
            name = getattr(n.func, 'id', getattr(n.func, 'attr', ''))
            table = CALLS.get(name, CALLS['align'] if name.startswith('train_tiny') else {})
            found += [(f'{name}({k.arg}=)', table[k.arg]) for k in n.keywords if k.arg in table]
        if isinstance(n, ast.arguments): found += [(a.arg, 'the names of CONTRIBUTING.md') for a in [*n.args, *n.kwonlyargs] if a.arg in DEFS]
        if isinstance(n, ast.Name) and n.id == 'cuts': found.append(('cuts', 'savings'))
    return found

def _texts(root):
    "(where, 'code' or 'prose', text) of everything that people read: notebooks, the pages beside them, tests and tools"
    for p in notebooks(root):
        for i, c in enumerate(read(p)['cells']): yield f'{name_of(p, root)}: cell {i}', c['cell_type'].replace('markdown', 'prose'), source(c)
    for n in ('README.md', 'CONTRIBUTING.md', 'nbs/book.yml', '.ci/run'):
        if Path(root, n).exists(): yield n, 'prose', Path(root, n).read_text(encoding='utf-8')
    for folder in ('tests', 'tools'):
        for p in sorted(Path(root, folder).rglob('*.py')):
            if p.stem not in ('house_gate', 'test_house'): yield p.relative_to(root).as_posix(), 'code', p.read_text(encoding='utf-8')

def old_names(root):
    "One thing, one name: the names of 0.2 stand nowhere but in CHANGELOG.md"
    faults = []
    for at, kind, text in _texts(root):
        found = _lines(text, ANYWHERE) + (_lines(text, PROSE) if kind == 'prose' else _calls(text))
        if kind == 'code' and not at.startswith(('tests', 'tools')): found += _lines(text, PROSE[:1])
        faults += [f'{at}: {old.strip()!r}: write {new}' for old, new in dict.fromkeys(found)]
    return faults

CHECKS = [function_median, function_lines, module_lines, cell_lines, line_lengths, unused_imports, density, parameters, old_names]

def faults(root=ROOT): return [f for check in architecture_gate.CHECKS + CHECKS for f in check(root)]

def main():
    for check in architecture_gate.CHECKS + CHECKS:
        found = check(ROOT)
        print(f'\n{check.__name__}: {(check.__doc__ or "").strip()} ({len(found)} faults)', *found, sep='\n  ')
    print('\n' + ', '.join(f'{k} {v:g}' for k, v in figures(ROOT).items()))
    return not faults(ROOT)

if __name__ == '__main__': sys.exit(not main())
