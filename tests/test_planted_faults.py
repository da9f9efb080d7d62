"The list of planted faults fits the code, and a fault is told from a harmless change."
import pytest
from tools import planted_faults as faults
from tools.notebooks import ROOT

ENTRIES = faults.entries()


def test_every_entry_fits_its_module_and_its_notebook():
    assert [m for e in ENTRIES if (m := faults.misfit(e))] == []

def test_there_are_enough():
    assert len(ENTRIES) >= 150 and len({e['id'] for e in ENTRIES}) == len(ENTRIES)

def test_every_test_is_there():
    assert [t for e in ENTRIES for t in e['tests'] if not (ROOT/t.split()[0].split('::')[0]).is_file()] == []

def test_what_changes_nothing_says_why(): assert [e for e in ENTRIES if e['same'] is not None and len(e['same']) < 20] == []

FAULT = dict(module='names', before='n=3, cutoff=.4)', after='n=3, cutoff=.99)', tests=['nbs/core/names.ipynb'], same=None, id='a')

@pytest.mark.parametrize('change, fault', [(dict(before='not there'), 'stands 0 times'), (dict(before='def '), 'times in names.py'), (dict(after='('), 'not Python'),
    (dict(after=FAULT['before']), 'are equal'), (dict(module='no.such'), 'no such module')])
def test_an_entry_that_does_not_fit(change, fault): assert fault in faults.misfit(FAULT | change)

def test_a_fault_is_caught_and_a_harmless_change_is_not(tmp_path):
    copy = faults.Copy(tmp_path)
    try: found, harmless = faults.replay(FAULT, copy), faults.replay(FAULT | dict(after='n=3, cutoff=0.4)'), copy)
    finally: copy.close()
    assert found['status'] == 'caught' and found['by'] == FAULT['tests'][0] and 'cell' in found['said']
    assert harmless['status'] == 'not caught' and harmless['passed'] == FAULT['tests']
    assert (copy.root/'vader_nb'/'names.py').read_bytes() == (ROOT/'vader_nb'/'names.py').read_bytes()

def test_the_closing_line():
    listed = [dict(id=i, same=s) for i, s in (('a', None), ('b', None), ('c', 'it is the same'), ('d', None))]
    said = faults.summary(listed, dict(a=dict(status='caught'), b=dict(status='not caught')))
    assert said == '4 entries: 1 caught, 1 not caught, 1 change nothing, 1 not run yet; 50.0% caught'
