"""Figures in prose that nobody measured: each check takes the project's folder and returns a list of faults.

    python tools/numbers_gate.py

A figure with a unit in a sentence that speaks of a measurement ("fell to 61%", "in 8 minutes") needs one of three: a cell of its notebook whose code or stored output holds the figure
(61% may stand there as 0.61), a stored result below nbs/results that the notebook reads, or a source in its paragraph (a link to somebody else, the paper, what is published or official, a name as in "(Slurm: 30 seconds)").
What has another reason is argued in nbs/exceptions.yml under `numbers` ("chapter: figure").
"""
import re, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.house_gate import _spare
from tools.notebooks import ROOT, name_of, notebooks, read, report, source
from tools.pages import NUMBERS
from tools.site_gate import without_code

UNITS = r'%|percent(?:age points)?|seconds?|minutes?|hours?|milliseconds?|ms|[GMkK]i?B|times|standard deviations|sd|dB'
TIMES = 'seconds? minutes? hours? milliseconds? ms'.split()     # a time is a measurement, whatever the sentence says
WORDS = dict(zip('two three four five six seven eight nine ten twelve fifteen twenty thirty forty'.split(), (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 40)))
TIME = re.compile(rf'\b(\d[\d,]*(?:\.\d+)?|{"|".join(WORDS)}) ({"|".join(TIMES)})\b')
FIGURE = re.compile(rf'(?<![\w$\\{{.,^/-])(\d[\d,]*(?:\.\d+)?) ?({UNITS})(?!\w)')
DECIMAL = re.compile(r'(?<![\w$\\{.,^/=<>+-])(\d+\.\d{2,}|\d+\.\d(?= (?:to|instead of|on|for|of|in) ))()(?![\w.%])')     # without a unit, such as an accuracy of 0.99
MEASURED = re.compile(r'\b(?:took|takes?|cost|costs|fell|falls?|fallen|rose|rises?|risen|gain(?:s|ed)?|learns?|lost|loses?|drop(?:s|ped)?|reach(?:es|ed)?|finds?|found|sees?|right|wrong|correct|faster|slower|better|worse'
                      r'|missing|left|measured?s?|predicted|on (?:one|two|\d+) (?:CPU )?cores?|of a core|less than|more than|instead of|a step|an update|needs?|wants?|will do|enough|nearly the same|stands? still)\b')
SOURCE = re.compile(r'\]\(https?:|\((?:torch|diffusers|[A-Z]\w+(?: and [A-Z]\w+)*): |\b(?:paper|published|official|officially|authors|README|et al|arXiv|hub)\b')
PARTS = re.compile(r'(?<=[.!?;:])\s+(?=\S)')

# What an output says where it is in the unit: 8 minutes are 8 min, or 480 s
FAMILY = {'second': r'\bs\b|second|sec\b', 'minute': r'minute|\bmin\b', 'hour': r'hour|\bh\b', 'ms': r'\bms\b|millisecond', 'millisecond': r'\bms\b|millisecond', 'GB': 'Gi?B', 'GiB': 'Gi?B', 'MB': 'Mi?B', 'MiB': 'Mi?B', 'kB': '[kK]i?B', 'KB': '[kK]i?B',
          'standard deviation': r'\bsd\b|standard deviation|deviation', 'sd': r'\bsd\b|standard deviation|deviation', 'dB': r'\bdB\b'}

def outputs(nb):
    "The stored texts of a notebook, one an output; and its assertions, which hold whenever they are run"
    for c in nb['cells']:
        if c['cell_type'] != 'code': continue
        for o in c['outputs']:
            data = o.get('data', {})
            yield '\n'.join([''.join(o.get('text', '')), ''.join(data.get('text/plain', '')), ''.join(data.get('text/markdown', '')), re.sub('base64,[^"]*', '', ''.join(data.get('text/html', '')))])
        yield from (l for l in source(c).splitlines() if re.match(r'\s*(?:assert\b|test_\w+\()', l))

def results(root, text):
    "The stored results that the code of a notebook names"
    files = [p for p in Path(root, 'nbs', 'results').rglob('*') if p.suffix in ('.json', '.jsonl', '.md', '.csv') and p.stat().st_size < 10**6]
    folder = lambda p: p.parent.relative_to(Path(root, 'nbs')).as_posix()      # such as results/race
    return [p.read_text(encoding='utf-8') for p in files if p.name in text or folder(p) in text and folder(p) != 'results']

def spellings(figure, unit):
    "How a figure may stand in a cell: 61% as 61 or 0.61"
    plain = str(WORDS.get(figure, figure)).replace(',', '')
    return {figure, plain} | ({f'{float(plain)/100:.10g}'} if unit in ('%', 'percent', 'percentage points') else set())

def held(figure, unit, texts):
    "Does one of the texts hold the figure, as a number of its own, perhaps with more digits, and in its unit?"
    said = {t for s in spellings(figure, unit) for t in (s, s.removeprefix('0') if s.startswith('0.') else s)}
    def same(m): return m in said or any('.' in m and f'{float(m):.{len(s.partition(".")[2])}f}' == s for s in said)
    family = FAMILY.get(unit.removesuffix('s') if unit not in ('ms',) else unit)
    return any(same(m.lstrip('+')) for t in texts if not family or re.search(family, t) for m in re.findall(r'(?<![\w.])\d*\.?\d+', t))

def figures(nb):
    "(figure, unit, sentence, paragraph) of each figure beside a measurement in the prose of a notebook, but for exercises"
    for c in nb['cells']:
        if c['cell_type'] != 'markdown' or NUMBERS.search(source(c)): continue      # of the latter tools/pages.py fills in the results
        for paragraph in re.split(r'\n\s*\n', without_code(source(c))):
            for sentence in PARTS.split(paragraph):
                line = ' '.join(sentence.split())
                hits = [*(h for kind in (DECIMAL, FIGURE) if MEASURED.search(line) for h in kind.finditer(line)), *TIME.finditer(line)]
                yield from ((m[1], m[2], line, paragraph) for m in {h.start(): h for h in hits}.values())

def measured(root):
    "Each figure beside a measurement stands in a cell, in a stored result that is read, or beside its source"
    found = {}
    for p in notebooks(root):
        nb = read(p)
        texts = [*outputs(nb), *results(root, '\n'.join(source(c) for c in nb['cells'] if c['cell_type'] == 'code'))]
        for figure, unit, sentence, paragraph in figures(nb):
            if held(figure, unit, texts) or SOURCE.search(paragraph): continue
            found.setdefault(f'{name_of(p, root)}: {figure}', f'{name_of(p, root)}: {figure} {unit}: where does it come from? {sentence[:140]!r}')
    return _spare(root, 'numbers', found)

CHECKS = [measured]

def faults(root=ROOT): return [f for check in CHECKS for f in check(root)]

if __name__ == '__main__': report(faults())
