"""Code as a reader of the site sees it: no line longer than the page is wide. Only the layout changes, on the pages alone; the notebooks stay as they are.

A long line is broken after a comma or before an operator, outer brackets first; a comment beside it moves above it, a body behind a colon below it; a long text becomes
two that Python joins. What would say something else (another syntax tree) stays as it was, and the stylesheet wraps it.
"""
import ast, io, re, textwrap, tokenize
from functools import lru_cache
from types import SimpleNamespace

WIDTH = 100  # characters that the page shows beside each other
OPERATORS = set('+ - * / @ | & == != < > <= >= and or if else for in not'.split())
COMPOUND = ('if', 'elif', 'else', 'for', 'while', 'with', 'try', 'except', 'finally', 'def', 'class')


def _tokens(code):
    "Tokens of `code`, an f-string whole, each with the brackets that are open in front of it"
    out, opened, nested, lines = [], [], 0, code.splitlines(True)
    for t in tokenize.generate_tokens(io.StringIO(code).readline):
        kind = tokenize.tok_name[t.type]
        if kind == 'FSTRING_START': nested, start = nested + 1, start if nested else t.start
        elif kind == 'FSTRING_END' and nested == 1 and start[0] == t.end[0]:
            out.append(SimpleNamespace(kind='STRING', string=lines[start[0] - 1][start[1]:t.end[1]], start=start, end=t.end, opened=tuple(opened)))
        elif not nested:
            if kind == 'OP' and t.string in ')]}': opened.pop()
            if t.string.strip(): out.append(SimpleNamespace(kind=kind, string=t.string, start=t.start, end=t.end, opened=tuple(opened)))
            if kind == 'OP' and t.string in '([{': opened.append(t.start)
        nested -= kind == 'FSTRING_END'
    return out

def _below(line, n, indent, t, comma):
    "The line broken in front of the token `t`; outside of all brackets a backslash says that it goes on"
    if not t.opened: return [line[:t.start[1]].rstrip() + ' \\', ' '*(indent + 4) + line[t.start[1]:]]
    row, column = t.opened[-1]
    inside = indent if row != n + 1 else column + 1 if column < WIDTH//2 else indent + 4
    return [line[:t.start[1]].rstrip(), ' '*inside + line[t.start[1]:]]

def _breaks(line, n, row, width):
    "The line broken after a comma or before an operator: outer brackets first, then as far right as it goes"
    indent, found = row[0].start[1], []
    for left, t in zip(row, row[1:]):
        comma = left.string == ','
        if t.kind == 'COMMENT' or not (comma or t.string in OPERATORS and left.kind != 'OP' or t.string in OPERATORS and left.string in ')]}'): continue
        if t.start[1] <= width: found.append((bool(t.opened), -len(t.opened), comma, t.start[1], t))
    best = sorted(found, key=lambda f: f[:4], reverse=True)
    return [_below(line, n, indent, f[-1], f[2]) for f in best[:3] + best[-1:]]

def _comment_above(line, n, row, width):
    "A comment beside code moves above it; a comment alone is wrapped"
    t, indent = row[-1], ' '*row[0].start[1]
    if t.kind != 'COMMENT': return []
    said = textwrap.wrap(t.string.lstrip('# '), width - len(indent) - 2) or ['']
    code = line[:t.start[1]].rstrip()
    return [[f'{indent}# {s}' for s in said] + ([code] if code.strip() else [])]

def _body_below(line, n, row, width):
    "A body behind the colon of a compound statement, or a statement behind a semicolon, moves below"
    indent = row[0].start[1]
    colons = [t for t in row if t.string == ':' and not t.opened]
    if row[0].string in COMPOUND:
        if not colons or not (rest := line[colons[0].end[1]:].strip()): return []
        return [[line[:colons[0].end[1]], ' '*(indent + 4) + rest]]
    ends = [t for t in row if t.string == ';' and t.end[1] < len(line.rstrip())]
    return [[line[:ends[-1].start[1]].rstrip(), ' '*indent + line[ends[-1].end[1]:].strip()]] if ends else []

def _texts(line, n, row, width):
    "A text in brackets becomes two, broken at a space; a docstring goes on in the next line"
    for t in row:
        if t.kind != 'STRING' or t.end[1] <= width or not (m := re.fullmatch(r'([rbfRBF]*)("|\')(?!\2)(.*)\2', t.string)): continue
        start, prefix, quote = t.start[1], m[1], m[2]
        spaces = [i for i, c in enumerate(line[:width - 2]) if c == ' ' and i > start + 10]
        if t is row[0] and len(row) == 1 and not t.opened and not prefix:
            inside = '\n'.join(textwrap.wrap(m[3], width - start - 3, break_long_words=False)).replace('\n', '\n' + ' '*start)
            yield f'{" "*start}{quote*3}{inside}{quote*3}'.split('\n')
        elif t.opened: yield from ([f'{line[:i + 1]}{quote}', f'{" "*start}{prefix}{quote}{line[i + 1:]}'] for i in spaces[:-6:-1])

MEANS = (_comment_above, _body_below, _breaks, _texts)

def _once(code, width, given_up):
    "`code` with its first long line broken once; None when nothing more can be done"
    lines, tokens = code.split('\n'), _tokens(code)
    for n, line in enumerate(lines):
        if len(line) <= width or line in given_up: continue
        row = [t for t in tokens if t.start[0] == n + 1]
        whole = row and all(t.end[0] == n + 1 for t in row) and not any(t.start[0] < n + 1 <= t.end[0] for t in tokens)
        for parts in (p for means in MEANS for p in means(line, n, row, width)) if whole else ():
            made = '\n'.join([*lines[:n], *parts, *lines[n + 1:]])
            if len(parts[0]) < len(line) and parts[-1] != line and said(made) == said(code): return made
        given_up.add(line)
    return None

@lru_cache(32)
def said(code):
    "What `code` says, whatever its layout: its syntax tree, with docstrings as running text; None for what is no Python"
    try: tree = ast.parse(code)
    except SyntaxError: return None
    for node in ast.walk(tree):
        body = getattr(node, 'body', None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(getattr(body[0].value, 'value', None), str):
            body[0].value.value = ' '.join(body[0].value.value.split())
    return ast.dump(tree)

def _statements(code):
    "The top-level statements of `code` as texts, with what stands between them"
    lines, starts = code.split('\n'), []
    for node in ast.parse(code).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, 'decorator_list', []))]) - 1
        if not starts or first > end: starts.append(first)
        end = node.end_lineno - 1
    return ['\n'.join(lines[a:b]) for a, b in zip([0, *starts[1:]], [*starts[1:], len(lines)])]

def narrow(code, width=WIDTH):
    "`code` in lines of at most `width` characters, where that changes nothing but its layout"
    if all(len(l) <= width for l in code.split('\n')) or said(code) is None: return code
    out = []
    for part in _statements(code):
        given_up = set()
        while any(len(l) > width for l in part.split('\n')) and (made := _once(part, width, given_up)): part = made
        out.append(part)
    made = '\n'.join(out)
    return made if said(made) == said(code) else code
