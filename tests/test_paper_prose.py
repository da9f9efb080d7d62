"What the paper's chapters say in words of the stored results, against the stored numbers: every claim is spoken of once, with the verdict that its interval has"
import json, re
from fnmatch import fnmatchcase
from pathlib import Path
import pytest
from vader_nb.paper.items import VERDICTS, found_of

NBS = Path(__file__).parents[1]/'nbs'
ITEMS = NBS/'results'/'paper'/'items'
CHAPTERS = sorted((NBS/'paper').glob('*.ipynb'))
LINE = re.compile(rf'^- \*\*({"|".join(VERDICTS)})\*\*: (`[^`]+`(?:(?:, | and )`[^`]+`)*)\. \S', re.M)     # - **agrees**: `claim`, `claim*`. A sentence

def spoken(text):
    "(verdict, pattern) of each claim that a text speaks of"
    return [(verdict, name) for verdict, names in LINE.findall(text) for name in re.findall('`([^`]+)`', names)]

def texts(place, chapters=CHAPTERS):
    "The cells that begin with an item's name in bold"
    cells = [''.join(c['source']) for p in chapters for c in json.loads(p.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'markdown']
    return [t for t in cells if t.startswith(f'**{place}.**')]

def wrong(said, claims):
    "What is said and not so, and what is not said"
    found = []
    for c in claims:
        mine = [verdict for verdict, name in said if fnmatchcase(c.of, name)]
        if mine != [c.verdict]: found.append(f'{c.of}: the numbers say {c.verdict!r}, the prose {mine}')
    return found + [f'{name}: no such claim' for _, name in said if not any(fnmatchcase(c.of, name) for c in claims)]

@pytest.mark.parametrize('file', sorted(ITEMS.glob('*.json')), ids=lambda p: p.stem)
def test_prose_and_numbers(file):
    data = json.loads(file.read_text(encoding='utf-8'))
    said = [s for t in texts(data['place']) for s in spoken(t)]
    assert not wrong(said, found_of(data).claims)

def test_every_built_item_is_stored():
    from vader_nb.paper.report import items_named
    assert {p.stem for p in ITEMS.glob('*.json')} == {i.name for i in items_named()}

def test_a_wrong_word_is_seen():
    from vader_nb.evaluate.compare import Interval
    from vader_nb.paper.items import Claim
    claims = [Claim('A is above B', 'x: A minus B', Interval(2, 1, 3)), Claim('A is above C', 'x: A minus C', Interval(-2, -3, -1))]
    text = '**Table 1.** Words.\n\n- **agrees**: `x: A minus B`. By far.\n- **does not**: `*: A minus C`. We do not know why.\n'
    assert spoken(text) == [('agrees', 'x: A minus B'), ('does not', '*: A minus C')] and not wrong(spoken(text), claims)
    assert wrong(spoken(text.replace('does not', 'not told apart')), claims)       # another verdict
    assert wrong(spoken(text.replace('*: A minus C', 'x: *')), claims)             # said twice, once wrongly
    assert wrong(spoken(text.split('- **does')[0]), claims)                        # one is left out
    assert wrong(spoken(text.replace('A minus B', 'A minus D')), claims)           # one that there is not
