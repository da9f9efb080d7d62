"The list of planted faults fits the code, and a fault is told from a harmless change."
import re, shlex
import pytest
from tools import planted_faults as faults
from tools.notebooks import ROOT

ENTRIES = faults.entries()


def test_every_entry_fits_its_module_and_its_notebook():
    assert [m for e in ENTRIES if (m := faults.misfit(e))] == []

def test_there_are_enough():
    assert len(ENTRIES) >= 150 and len({e['id'] for e in ENTRIES}) == len(ENTRIES)

def test_every_test_is_there():
    def there(test):
        "Is there the file, and in it a function whose name fits the words behind -k, or the name behind ::?"
        (file, _, name), *options = shlex.split(test)[0].partition('::'), *shlex.split(test)[1:]
        if not (ROOT/file).is_file(): return False
        words = [name.partition('[')[0]] if name else options[1].split(' or ') if options[:1] == ['-k'] else []
        found = re.findall(r'^def (test_\w+)', (ROOT/file).read_text(encoding='utf-8'), re.M)
        return not words or any(w.strip() in n for w in words for n in found)
    assert [t for t in {t for e in ENTRIES for t in e['tests']} if not there(t)] == []
    assert not there('tests/test_planted_faults.py -k "no_such_test or neither"') and not there('tests/test_planted_faults.py::test_no_such')

def test_what_changes_nothing_says_why(): assert [e for e in ENTRIES if e['same'] is not None and len(e['same']) < 20] == []

FAULT = dict(module='names', before='n=3, cutoff=.4)', after='n=3, cutoff=.99)', tests=['nbs/core/names.ipynb'], same=None, id='a')

@pytest.mark.parametrize('change, fault', [(dict(before='not there'), 'stands 0 times'), (dict(before='def '), 'times in names.py'), (dict(after='('), 'not Python'),
    (dict(after=FAULT['before']), 'are equal'), (dict(module='no.such'), 'no such module')])
def test_an_entry_that_does_not_fit(change, fault): assert fault in faults.misfit(FAULT | change)

def test_a_fault_is_caught_and_a_harmless_change_is_not(tmp_path):
    copy = faults.Copy(tmp_path)
    try:
        found, harmless = faults.replay(FAULT, copy), faults.replay(FAULT | dict(after='n=3, cutoff=0.4)'), copy)
        assert copy.test('tests/test_planted_faults.py -k "closing_line or enough"')[0] == 'passed'
        with pytest.raises(ValueError, match='pytest found no test'): copy.test('tests/test_planted_faults.py -k "no_such_test or neither"')
    finally: copy.close()
    assert found['status'] == 'caught' and found['by'] == FAULT['tests'][0] and 'cell' in found['said']
    assert harmless['status'] == 'not caught' and harmless['passed'] == FAULT['tests']
    assert (copy.root/'vader_nb'/'names.py').read_bytes() == (ROOT/'vader_nb'/'names.py').read_bytes()

def test_the_closing_line():
    listed = [dict(id=i, same=s) for i, s in (('a', None), ('b', None), ('c', 'it is the same'), ('d', None))]
    said = faults.summary(listed, dict(a=dict(status='caught'), b=dict(status='not caught')))
    assert said == '4 entries: 1 caught, 1 not caught, 1 change nothing, 1 not run yet; 50.0% caught'
