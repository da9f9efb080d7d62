"The whole race in small: every opponent, sweep, seeds, report; stored legs are read, others made again, longer ones prolonged"
import json
import pytest
from vader_nb.commands.race import vader_race
from vader_nb.evaluate import contest
from vader_nb.evaluate.contest import OPPONENTS

SMALL = '--rewards green --train 4 --test 2 --every 16 --diversity-prompts 0 --lrs 1e-3,2e-2 --seeds 2'.split()

@pytest.fixture(autouse=True)
def toy(monkeypatch):
    from toy import Toy
    monkeypatch.setattr(contest, 'load_pipeline', lambda name: Toy(seed=1))
    contest._weights.cache_clear()
    yield
    contest._weights.cache_clear()

def race(folder, *more, queries=16): vader_race([*SMALL, '--out', str(folder), '--queries', str(queries), *more])

def legs_in(folder):
    "Name of the file -> what a leg became, but for its time"
    found = {p.name: json.loads(p.read_text()) for p in folder.glob('*.json')}
    for leg in found.values():
        for point in leg['points']: del point['seconds']
    return found

def test_race_of_all_opponents_and_again(tmp_path, capsys):
    race(tmp_path)
    legs = legs_in(tmp_path)
    n = len(OPPONENTS) - 1
    assert len(legs) == 1 + 3*n
    trained = [f for f in legs.values() if f['opponent'] != 'base']
    assert all(f['points'][0]['queries'] == f['log'][-1][0] == 16 and f['points'][0]['backwards'] > 0 for f in trained)
    for name in OPPONENTS:
        mine = [f for f in trained if f['opponent'] == name]
        assert len({f['points'][0]['test']['reward'] for f in mine}) == len(mine)       # another rate, another seed: another LoRA
        assert len({f['log'][0][3] for f in mine}) == len({f['seed'] for f in mine})    # another seed: other videos
    text = (tmp_path/'results.md').read_text()
    assert all(f'| {name} ' in text for name in OPPONENTS) and (tmp_path/'green.png').stat().st_size > 1000
    gone = sorted(tmp_path.glob('NFT*.json'))[0]
    gone.unlink()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob('*.json')}
    race(tmp_path, '--report')
    assert not gone.exists()
    race(tmp_path)
    assert legs_in(tmp_path) == legs and {p: p.stat().st_mtime_ns for p in before} == before
    assert 'green: NFT' in capsys.readouterr().out

def test_longer_is_the_same_as_long(tmp_path):
    who = '--opponents', 'VADER fast, DDPO, DPO, NFT'
    race(tmp_path/'twice', *who)
    for file in (tmp_path/'twice'/'checkpoints').glob('NFT*'): file.unlink()        # then the first half is trained once more
    race(tmp_path/'twice', *who, queries=32)
    race(tmp_path/'once', *who, queries=32)
    once, twice = legs_in(tmp_path/'once'), legs_in(tmp_path/'twice')
    assert [len(f['points']) for f in once.values() if f['opponent'] != 'base'] == [2]*12
    assert {k: twice[k] for k in once} == once       # a rate that was best after the first half may have more seeds

def test_no_time_and_bad_input(tmp_path, capsys):
    for more, told in ((['--minutes', '0'], 'no legs'), (['--opponents', 'PPO'], 'unknown opponent'), (['--lrs', 'x'], 'give numbers'),
                       (['--queries', '24'], 'multiple of every'), (['--rewards', 'greeen'], 'green'), (['--every', '20'], 'multiple of')):
        with pytest.raises(SystemExit) as e: vader_race([*SMALL, '--out', str(tmp_path/'x'), '--queries', '16', *more])
        assert e.value.code == 2 and told in capsys.readouterr().err
        assert not (tmp_path/'x').exists()
