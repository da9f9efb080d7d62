"""What the site says of exported names, read from the source, without importing or running it: where they are defined, their parameters, a page that
lists them all. The modules of the package tell which cell a definition comes from, so they must be what the notebooks export.
"""
import ast, html, io, re, sys, tokenize
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebooks import ROOT, settings

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
CELL = re.compile(r'^# %% (\S+\.ipynb) #\S+$', re.M)


def page_of(notebook):
    "The page that nbdev makes of a notebook below nbs: it leaves a number in front out of the name"
    path = Path(notebook)
    return path.with_name(re.sub(r'^\d+[a-zA-Z0-9]*_', '', path.name.lower())).with_suffix('.html').as_posix()

def public(node): return isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name[0] != '_'

def title(node):
    "What a definition is called: `Class.method` for a function that `@patch` puts into a class"
    patched = any(getattr(getattr(d, 'func', d), 'id', '') == 'patch' for d in node.decorator_list) and node.args.args
    return f'{ast.unparse(patched[0].annotation)}.{node.name}' if patched else node.name

def methods(node):
    "The public methods of a class"
    return [m for m in node.body if isinstance(m, FUNCTIONS) and m.name[0] != '_'] if isinstance(node, ast.ClassDef) else []

def anchor(name, taken=()):
    "The identifier of a name on its page: in small letters, as in nbdev's index, or another where that is taken"
    return next(a for a in (name.lower(), name, *(f'{name}-{i}' for i in range(2, 99))) if a not in taken)

def _module(path, root):
    "The public definitions of a module: name, notebook, module, line and first line of the docstring"
    text, nbs = path.read_text(encoding='utf-8'), Path(root).resolve()/'nbs'
    starts = [(text.count('\n', 0, m.start()) + 1, (path.parent/m[1]).resolve()) for m in CELL.finditer(text)]
    name = path.relative_to(root).with_suffix('').as_posix().replace('/', '.').removesuffix('.__init__')
    for node in ast.parse(text).body:
        at = [nb for line, nb in starts if line < node.lineno]
        if not public(node) or not at or not at[-1].is_relative_to(nbs): continue
        yield from (SimpleNamespace(name=n, notebook=at[-1].relative_to(nbs).as_posix(), module=name, line=d.lineno, doc=first_line(d), top=d is node,
                                    path=path.relative_to(root).as_posix())
                    for n, d in [(title(node), node), *((f'{node.name}.{m.name}', m) for m in methods(node))])

@lru_cache(None)
def index(root=ROOT):
    "Every exported public name and method: {name: [its definitions]}, each with the anchor on its page"
    found, taken, root = {}, {}, Path(root).resolve()
    for path in sorted((root/'vader_nb').rglob('*.py')):
        for d in _module(path, root):
            own = taken.setdefault(d.notebook, {})
            d.anchor = own.setdefault(d.name, anchor(d.name, set(own.values())))
            found.setdefault(d.name, []).append(d)
    return found

def first_line(node):
    "The first line of a docstring; '' without one"
    return (ast.get_docstring(node) or '').split('\n')[0]

def source_url(d, root=ROOT):
    "Where the definition `d` stands on GitHub"
    cfg = settings(root)
    return f'{cfg["git_url"]}/blob/{cfg["branch"]}/{d.path}#L{d.line}'


# Parameters

@lru_cache(64)
def comments(code):
    "The comments of `code`: {line: (text, does it have the line to itself?)}"
    lines = code.splitlines()
    return {t.start[0]: (t.string.lstrip('# ').strip(), not lines[t.start[0] - 1][:t.start[1]].strip())
            for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.type == tokenize.COMMENT}

def _said(found, node, end):
    "The comment on a parameter: beside it, or in the lines above it that hold nothing else"
    if end in found and not found[end][1]: return found[end][0]
    above, line = [], node.lineno - 1
    while line in found and found[line][1]: above, line = [found[line][0], *above], line - 1
    return ' '.join(above)

def _row(code, node, name, type_=None, default=None):
    def spelt(n): return ' '.join((ast.get_source_segment(code, n) or '').split()) if n else ''
    end, said = max(n.end_lineno for n in (node, type_, default) if n is not None), ''
    if isinstance(default, ast.Call) and getattr(default.func, 'id', '') == 'option' and len(default.args) == 2 and isinstance(default.args[1], ast.Constant):  # an option of a command: default and help
        default, said = default.args[0], default.args[1].value
    return SimpleNamespace(name=name, type=spelt(type_), default=spelt(default), said=said or _said(comments(code), node, end))

def _arguments(node, code):
    "The arguments of a function, without self"
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None]*(len(plain) - len(a.defaults)) + a.defaults
    rows = [_row(code, x, x.arg, x.annotation, d) for x, d in zip(plain, defaults)]
    if a.vararg: rows.append(_row(code, a.vararg, f'*{a.vararg.arg}', a.vararg.annotation))
    rows += [_row(code, x, x.arg, x.annotation, d) for x, d in zip(a.kwonlyargs, a.kw_defaults)]
    if a.kwarg: rows.append(_row(code, a.kwarg, f'**{a.kwarg.arg}', a.kwarg.annotation))
    return [r for r in rows if r.name not in ('self', 'cls')]

def parameters(node, code):
    "Rows (name, type, default, said) of a function and what it returns, of a class's __init__, or of a dataclass's fields"
    if isinstance(node, FUNCTIONS):
        returns = [_row(code, node.returns, 'returns', node.returns)] if node.returns else []
        return _arguments(node, code) + [r for r in returns if r.type != 'None']
    init = [m for m in node.body if isinstance(m, FUNCTIONS) and m.name == '__init__']
    if init: return _arguments(init[0], code)
    return [_row(code, f, f.target.id, f.annotation, f.value) for f in node.body if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)]


# As HTML, which no markdown can spoil: a type may hold |, a comment anything

def text(said):
    "A comment or docstring as HTML; what stands in backticks becomes code"
    parts = re.split(r'`([^`]+)`', said)
    return ''.join(f'<code>{html.escape(p)}</code>' if i % 2 else html.escape(p) for i, p in enumerate(parts))

def _code(s): return f'<code>{html.escape(s)}</code>' if s else ''

def table(rows):
    "Rows of parameters as an HTML table"
    head = ''.join(f'<th>{h}</th>' for h in ('parameter', 'type', 'default', 'what it is'))
    body = ''.join(f'<tr><td>{_code(r.name)}</td><td>{_code(r.type)}</td><td>{_code(r.default)}</td><td>{text(r.said)}</td></tr>\n' for r in rows)
    return f'<table class="parameters" data-quarto-disable-processing="true">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n'

def signature(node, code, found, root=ROOT):
    "What the site shows of a definition below its cell: a collapsed table of parameters, its methods, where its source stands. `found`: {name: definition}"
    d = found[title(node)]
    what = 'class' if isinstance(node, ast.ClassDef) else 'method' if '.' in d.name else 'function'
    out = f'<details class="signature">\n<summary>{_code(d.name)}: {what}, {text(d.doc) or "parameters"}</summary>\n'
    rows = parameters(node, code)
    out += table(rows) if rows else '<p>No parameters.</p>\n'
    for m in methods(node):
        own = found[f'{node.name}.{m.name}']
        out += f'<p id="{own.anchor}" class="method">{_code(own.name)} {text(own.doc)}</p>\n'
        rows = parameters(m, code)
        if any(r.said or r.type for r in rows): out += table(rows)
    return out + f'<p><a href="{source_url(d, root)}">[source]</a></p>\n</details>'


# The reference

ESCAPED = re.compile(r'([\\*_\[\]<>$#|~^@"\'.-])')

def markdown(said):
    "A docstring as markdown that says nothing else: what stands in backticks stays code"
    return ''.join(f'`{p}`' if i % 2 else ESCAPED.sub(r'\\\1', p) for i, p in enumerate(re.split(r'`([^`]+)`', said)))

def reference(root=ROOT):
    "The reference page: every exported function and class by module, with one line and a link to its chapter"
    found = sorted((d for ds in index(root).values() for d in ds if '.' not in d.name), key=lambda d: (d.module, d.line))
    out, module = 'A name leads to the chapter that builds it, where its parameters stand below its code.\n', None
    for d in found:
        if d.module != module: out += f'\n## `{d.module}`\n\n'
        out, module = out + f'- [`{d.name}`]({d.notebook}#{d.anchor})' + (f': {markdown(d.doc)}' if d.doc else '') + '\n', d.module
    return out
