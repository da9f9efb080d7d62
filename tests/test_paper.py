"The whole of `vader_paper` in small: items against numbers worked out by hand, a toy model through every item, kills, processes, bad input"
import json, os, random, re, signal, subprocess, sys, time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
import pytest, torch
from vader_nb.commands.paper import vader_paper
from vader_nb.evaluate import contest
from vader_nb.evaluate.compare import bootstrap_interval
from vader_nb.evaluate.measures import format_table
from vader_nb.paper import efficiency, judged, long_table, memory_table, report, resolutions, sheets
from vader_nb.paper.items import crossed_interval
from vader_nb.paper.report import ITEMS
from vader_nb.paper import runs
from vader_nb.paper.runs import SIZES, Board, Job, do_all
from vader_nb.world import parse_caption, render
from test_kills import child

SMOKE = SIZES['smoke']
close = lambda a, b: abs(a - b) < 1e-9
NAMES = [*ITEMS]


# Formulas, on numbers that were made up

PROMPTS = ['a red circle moving left over sand', 'a blue square growing over sea', 'a green cross moving up over night', 'a cyan circle moving down over grass']
SHOWN = {k: [parse_caption(p)[k] for p in PROMPTS] for k in parse_caption(PROMPTS[0])}

def found(shift, **seen):
    "What `judge` would have found: every measure of video i is i + shift"
    return dict(prompts=PROMPTS, values={m: [i + shift + .01*i*shift for i in range(4)] for m in judged.JUDGES}, seen=SHOWN | seen)

def models(monkeypatch, **shifts):
    "Judged models without any model"
    all_found = {n: [found(s) for s in of] for n, of in ({n: (0,) if n == 'base' else (1, 2) for n in ('base', *judged.ALIGNED)} | shifts).items()}
    monkeypatch.setattr(judged, 'read_all', lambda size, folder: all_found)
    return all_found

def test_table3_is_means_and_paired_differences(monkeypatch):
    models(monkeypatch, **{'VADER-HPS': (1, 1.1), 'VADER-Pick': (3.9, 4.1), 'VADER-ViCLIP': (-2, -1.9)})
    t = judged.table3(SMOKE, None)
    assert close(t.rows['base']['HPS'].mean, 1.5) and close(t.rows['VADER-Pick']['HPS'].mean, 1.5 + 4 + .01*1.5*4)
    raises = t.claims[0]
    assert raises.verdict == 'agrees' and close(raises.value.mean, 4 + .06) and raises.value.low > 0
    assert [c.verdict for c in t.claims if 'ViCLIP score' in c.text] == ['agrees']          # base above VADER-ViCLIP
    assert [c.verdict for c in t.claims if c.text.startswith('VADER-HPS has')] == ['does not', 'agrees']      # below Pick, above ViCLIP

def test_table4_less_warping_is_better(monkeypatch):
    models(monkeypatch, **{'VADER-HPS': (1, 1.1), 'VADER-Pick': (-1, -1.1)})
    claims = {(c.text.split()[0], c.of.split(':')[0]): c for c in judged.table4(SMOKE, None).claims}
    assert claims['VADER-HPS', 'semantic consistency'].verdict == 'agrees' and claims['VADER-HPS', 'warping error'].verdict == 'does not'
    assert claims['VADER-Pick', 'semantic consistency'].verdict == 'does not' and claims['VADER-Pick', 'warping error'].verdict == 'agrees'

def test_table5_columns_are_the_measures_that_they_say(monkeypatch):
    all_found = models(monkeypatch)
    for k, m in enumerate(judged.JUDGES): all_found['base'][0]['values'][m] = [100.*k]*4
    row = judged.table5(SMOKE, None).rows['base']
    at = lambda m: 100.*judged.JUDGES.index(m)
    assert {c: v.mean for c, v in row.items()} == {
        'subject consistency': at('tiny-subject_consistency'), 'background consistency': at('tiny-background_consistency'), 'motion smoothness': at('tiny-motion_smoothness'),
        'dynamic degree': at('tiny-dynamic_degree'), 'aesthetic quality': at('tiny-aesthetic'), 'imaging quality': at('tiny-imaging_quality')}

def test_table2_counts_pairs(monkeypatch):
    all_found = models(monkeypatch)
    all_found['VADER-HPS'] = [found(1, colour=['red', 'red', 'green', 'cyan']), found(1)]      # one attribute wrong in one of eight pairs; all sharper
    all_found['base'] = [found(0, shape=['circle', 'square', 'circle', 'circle'])]      # the third video is wrong: two pairs are won
    t = judged.table2(SMOKE, None)
    assert t.rows['VADER-HPS']['fidelity'].mean == 100 and t.rows['base']['fidelity'].mean == 0
    assert close(t.rows['VADER-HPS']['text alignment'].mean, 100*(2 + .5*5)/8) and close(t.rows['base']['text alignment'].mean, 100 - 100*4.5/8)

def test_table8_and_its_claims(monkeypatch):
    class Kept:
        def __init__(self, v): self.v = v
        def read(self, folder): return dict(variance=self.v)
    values = {'base': [[.4, .6]], 'VADER-HPS': [[.1, .2], [.2, .3]], 'VADER-Pick': [[.4, .6], [.4, .6]], 'VADER-ViCLIP': [[.8, .9], [.9, 1.]]}
    monkeypatch.setattr(judged, 'spreads', lambda size: {n: [[Kept(v) for v in row] for row in of] for n, of in values.items()})
    t = judged.table8(SMOKE, None)
    assert close(t.rows['VADER-HPS']['average variance'].mean, .2) and close(t.claims[0].value.mean, .3)
    assert {c.of.split()[2].strip(','): round(c.value.mean, 9) for c in t.claims} == {'VADER-HPS': .3, 'VADER-Pick': 0., 'VADER-ViCLIP': -.4}

def leg(opponent, seed, train, test, curve, lr=1e-3, seconds=1.):
    "What `train_leg` would have written: the scores at the end, and the reward of four batches of 4 for each point of the curve"
    log = [[4*(i + 1), 16*i, 4*i, r] for i, r in enumerate(r for r in curve for _ in range(4))] if curve else []
    q = 16*len(curve)
    point = dict(queries=q, seconds=seconds, train=dict(scores=train, reward=sum(train)/len(train)), test=dict(scores=test, reward=sum(test)/len(test)))
    return dict(opponent=opponent, lr=lr, seed=seed, log=log, points=[point])

LEGS = [leg('base', 0, [1., 2.], [0., 1.], [])] + [leg(n, s, [a + s, a + 1 + s], [a - 1 + s, a + s], curve, seconds=t) for n, a, curve, t in
        (('VADER', 5, [1, 4, 6, 8], 4.), ('DDPO', 2, [1, 2, 3, 4], 8.), ('DPO', 0, [1, 1, 1, 9], 8.)) for s in (0, 1)]
SIXTY = replace(SMOKE, queries=64)

@pytest.fixture
def legs(monkeypatch):
    class Kept:
        def __init__(self, f): self.f = f
        def read(self, folder): return self.f
    pictures = dict(base=[dict(train=[1., 1.], test=[0., 0.])], VADER=[dict(train=[2., 2.], test=[.5, .5])]*2)
    monkeypatch.setattr(efficiency, 'compared', lambda size, folder, reward, methods=None: [Kept(f) for f in LEGS])
    monkeypatch.setattr(efficiency, 'picture_runs', lambda size: {n: [Kept(f) for f in of] for n, of in pictures.items()})

def test_table1_means_and_differences(legs):
    t = efficiency.table1(SIXTY, None)
    assert close(t.rows['VADER']['aesthetic, training'].mean, 6.) and close(t.rows['VADER']['aesthetic, held out'].mean, 5.)
    assert close(t.rows['base']['aesthetic, held out'].mean, .5) and close(t.rows['VADER']['aesthetic, pictures, held out'].mean, .5)
    of = {c.of: c for c in t.claims}
    assert close(of['aesthetic, training: VADER minus DDPO'].value.mean, 3.) and of['aesthetic, training: VADER minus DDPO'].verdict == 'agrees'     # the same seeds, so the difference has no spread
    assert close(of['aesthetic, training: DPO minus base'].value.mean, -.5)

def test_figure5_factors(legs):
    t = efficiency.figure5(SIXTY, None)
    assert close(t.rows['DDPO']['aesthetic: factor in queries'].mean, 2.)       # 64 against 32
    assert close(t.rows['DDPO']['aesthetic: factor in seconds'].mean, 4.)       # 8 s against 2 s
    assert close(t.rows['DPO']['aesthetic: factor in queries'].mean, 64/80)     # VADER never has 9
    early = leg('DDPO', 0, [1.], [1.], [1, 9, 2, 3])                            # nor had the other one at the end
    assert close(efficiency.factor(LEGS[1], early, 64, 'queries'), 32/80)
    assert t.curves['aesthetic over queries: VADER'] == [(16, 1, 1, 1), (32, 4, 4, 4), (48, 6, 6, 6), (64, 8, 8, 8)]

def test_table9_quarters_and_meaning(monkeypatch):
    class Kept:
        def __init__(self, f): self.f = f
        def read(self, folder): return self.f
    both = {'K = 1': [Kept(leg('VADER', s, [4. + s, 5. + s], [0., 0.], [1, 2, 3, 4])) for s in (0, 1)],
            'K = several': [Kept(leg('VADER K=2', s, [2. + s, 3. + s], [0., 0.], [0, 1, 1, 2])) for s in (0, 1)]}
    wrong = dict(shape=['square']*4)
    seen = {id(r): found(0, **(wrong if n == 'K = several' else {})) for n, of in both.items() for r in of}
    monkeypatch.setattr(efficiency, '_by_steps', lambda size: both)
    monkeypatch.setattr(efficiency, 'judged', lambda size, run: Kept(seen.get(id(run), found(0))))
    t = efficiency.table9(SIXTY, None)
    assert [t.rows[q]['reward, K = 1'].mean for q in efficiency._QUARTERS] == [1, 2, 3, 4]
    assert t.rows['last quarter']['reward, K = several'].mean == 2 and close(t.claims[0].value.mean, 2.)
    assert close(t.claims[1].value.mean, 3/4/5) and close(t.rows['attributes that read differently']['share, K = 1'].mean, 0)

LOSSES, DOT = [dict(step=2, loss=.5), dict(step=4, loss=.25), dict(step=5, loss=.9)], 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC'
def looked(**seen):
    "What `quality` would have found"
    return dict(prompts=PROMPTS, psnr=25., seen=seen, sheet=DOT)

def test_figure3_gains_gaps_and_their_growth(monkeypatch):
    class Kept:
        def __init__(self, f): self.f = f
        def read(self, folder): return self.f
    def legs(base, ddpo, vader):
        scores = dict(base=[base], DDPO=[base + ddpo, base + ddpo + .1], VADER=[base + vader, base + vader + .1])
        all_of = [leg(n, s, [v, v + 1], [v - 2, v], [] if n == 'base' else [1], lr=.003) for n, of in scores.items() for s, v in enumerate(of)]
        for f in all_of: f['points'][0] |= dict(train=f['points'][0]['train'] | dict(reward_std=4.), queries=0 if f['opponent'] == 'base' else 16)
        return [Kept(f) for f in all_of]
    found = {16: legs(1., 1., 2.), 32: legs(3., 1., 5.)}
    wrong = SHOWN | dict(shape=['square']*4)
    monkeypatch.setattr(resolutions, 'legs_at', lambda size, folder: found)
    monkeypatch.setattr(resolutions, 'measured', lambda size: {p: Kept(looked(real=SHOWN, coded=SHOWN, drawn=wrong)) for p in found})
    run = Kept(LOSSES)
    run.options = (('train_steps', 5),)
    monkeypatch.setattr(resolutions, 'models_at', lambda size: {16: run, 32: resolutions.base_of(size)})
    t = resolutions.figure3(SMOKE, None)
    row = t.rows['32 pixels']
    assert close(row['base'].mean, 3.5) and close(row['DDPO, gain'].mean, 1.05) and close(row['VADER, gain'].mean, 5.05) and close(row['gap'].mean, 4.)
    assert close(row['gap in sd'].mean, 1.) and close(row['read right, real'].mean, 1.) and close(row['read right, drawn'].mean, 1 - 3/4/5)      # one square is a square
    of = {c.of: c for c in t.claims}
    assert close(of['16 pixels: gap'].value.mean, 1.) and close(of['gap: at 32 pixels minus at 16'].value.mean, 3.) and close(of['gap in sd: at 32 pixels minus at 16'].value.mean, .75)
    assert {c.verdict for c in t.claims} == {'agrees'} and [p[:2] for p in t.curves['gap']] == [(16, t.rows['16 pixels']['gap'].mean), (32, row['gap'].mean)]
    assert 'shape 25% (100%, 100%)' in t.notes[1] and 'from 0.500 to 0.250 (means over 2 updates at the beginning and at the end of 5)' in t.notes[1] and 'Its loss' not in t.notes[2] and 'VADER 0.003' in t.notes[0]
    found[32] = legs(3., 1., 1.5)
    assert {c.verdict for c in resolutions.figure3(SMOKE, None).claims[2:]} == {'does not'}

def test_figure3_an_adapted_model_that_is_gone_is_made_again(tmp_path, monkeypatch):
    run, made = resolutions.models_at(SMOKE)[SMOKE.smaller[0][0]], []
    monkeypatch.setattr(Job, 'do', lambda self, folder: made.append(self))
    (tmp_path/'models').mkdir()
    place = Path(resolutions.model_of(tmp_path, run))
    assert made == [run]
    place.mkdir()
    (place/'model_index.json').touch()
    assert resolutions.model_of(tmp_path, run) == str(place) and made == [run]

def test_intervals_know_trainings():
    spread = crossed_interval([[0., 0., 0.], [3., 3., 3.], [6., 6., 6.]])
    assert spread.low < 0 and spread.high > 6         # three trainings that disagree
    assert crossed_interval([[1., 2., 3.]]) == bootstrap_interval([1., 2., 3.], [0, 1, 2])


def long_videos(folder, train_steps, seed, pictures):
    "What it would have found: three chunks of seven frames, of which the second and third keep a half and a quarter; an alignment adds a tenth"
    plus = .1*(train_steps > 0) + .01*seed
    kept = [[1.]*8 + [.5 + plus]*7 + [.25 + plus]*7]*pictures
    return dict(columns={c: [i + plus for i in range(pictures)] for c in long_table._COLUMNS}, drift={long_table.KEPT: kept, long_table.COLOUR: [[1 - k for k in kept[0]]]*pictures})

def test_table6_and_figure9(monkeypatch):
    class Kept:
        def __init__(self, *a): self.f = long_videos(None, *a, 3)
        def read(self, folder): return self.f
    monkeypatch.setattr(long_table, 'long_runs', lambda size: {'base': [Kept(0, 0)], 'VADER-V-JEPA': [Kept(9, 0), Kept(9, 1)]})
    t, f = long_table.table6(SMOKE, None), long_table.figure9(SMOKE, None)
    assert close(t.rows['base']['motion smoothness'].mean, 1.) and close(t.rows['VADER-V-JEPA']['motion smoothness'].mean, 1.105)
    assert len(t.claims) == 5 and all(close(c.value.mean, .105) for c in t.claims)
    assert [round(f.rows['VADER-V-JEPA'][f'kept in chunk {i}'].mean, 9) for i in (1, 2, 3)] == [1., .605, .355]
    assert [round(c.value.mean, 9) for c in f.claims] == [.75, .105, .105] and [len(c) for c in f.curves.values()] == [22, 22]
    assert [round(v, 9) for v in f.curves['VADER-V-JEPA'][8]] == [8, .605, .6, .61]        # the mean, and the lowest and the highest seed

def test_sheets_compare_after_with_before(monkeypatch):
    class Kept:
        def __init__(self, f): self.f = f
        def read(self, folder): return self.f
    frames = render(PROMPTS[:2], torch.Generator().manual_seed(0), 1., 0.)[0]
    assert sheets.seen(frames, PROMPTS[:2])['right'] == [5, 5] and max(sheets.seen(frames, PROMPTS[1::-1])['right']) < 3
    one = dict(before=dict(gem=[1., 1.]), after=dict(gem=[0., .5]), sheet=DOT)
    few, many = (sheets.shown_runs(replace(SMOKE, train=2, test=100), [None], side, 'green')[0].seconds for side in sheets.SIDES)
    monkeypatch.setattr(sheets, 'shown_runs', lambda *a: [Kept(one)])
    fell = sheets._made(SMOKE, None, 'objects', [], 'held out', 'green', 'gem', -1, 'It is removed', 'share')
    assert few < many and close(fell.claims[0].value.mean, .75) and fell.claims[0].of == 'objects, held out: fall of the share'
    assert close(fell.rows['objects: base']['share'].mean, 1.) and close(fell.rows['objects: VADER']['share'].mean, .25)

def test_sheets_draw_the_prompts_of_a_side(monkeypatch):
    drawn, dark, bright = [], torch.full((4, 8, 3, 32, 32), .2), torch.full((4, 8, 3, 32, 32), .8)
    monkeypatch.setattr(sheets, 'sample_videos', lambda pipe, prompts, *a, **k: drawn.append(prompts) or pipe)
    monkeypatch.setattr(sheets, 'seen', lambda frames, prompts: {})
    monkeypatch.setattr(sheets, 'load_reward', lambda name: lambda frames, prompts: frames.mean((1, 2, 3, 4)))
    run = SimpleNamespace(pipeline=lambda folder: bright, contest=SimpleNamespace(prompts=lambda: (['x']*4, PROMPTS), sampler=SIZES['smoke'].sampler))
    told = sheets.both(None, SimpleNamespace(pipeline=lambda folder: dark), run, 'held out', 'green')
    assert drawn == [PROMPTS]*2 and max(told['before']['score']) < .5 < min(told['after']['score']) and len(told['sheet']) > 100

def test_report_tables_first_and_without_a_ruler():
    assert NAMES[:2] == ['table1', 'table2'] and NAMES[-1] == 'figure12'
    assert report.html_table(format_table([('a', 'b'), ('1', '<2>')])) == '<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>&lt;2&gt;</td></tr></table>'


# Every item, on a toy model

@pytest.fixture
def toy(monkeypatch):
    from diffusers.utils.torch_utils import randn_tensor
    from toy import CHANNELS, Toy
    class Large(Toy):
        "Frames of the tiny world's size"
        def init_latents(self, batch_size, generator=None): return randn_tensor((batch_size, CHANNELS, 8, 32, 32), generator=generator)
    monkeypatch.setattr(contest, 'load_pipeline', lambda name: Large(num_frames=8, seed=1))
    monkeypatch.setattr(efficiency, 'continued', lambda folder, train_steps, seed, pictures: {k: [seed + .1*i + (train_steps > 0) for i in range(pictures)] for k in ('train', 'test')})
    monkeypatch.setattr(memory_table, 'planned', lambda folder, size, num_frames: dict(zip(memory_table.TABLE7.paper, (8., 4., 2., 1.))))
    monkeypatch.setattr(long_table, 'long_videos', long_videos)
    monkeypatch.setattr(resolutions, 'adapted', lambda folder, base, pixels, train_steps: LOSSES)
    monkeypatch.setattr(resolutions, 'quality', lambda folder, run, pixels, videos, sampler: looked(**{k: SHOWN for k in ('real', 'coded', 'drawn')}))
    for c in (contest._weights, runs._leg_name, runs._job_hash): c.cache_clear()
    yield
    for c in (contest._weights, runs._leg_name, runs._job_hash): c.cache_clear()

def run(folder, *words): vader_paper([*words, '--smoke', '--jobs', '1', '--out', str(folder)])

def files(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob('*.json')}

def test_every_item_and_again(tmp_path, toy, capsys):
    run(tmp_path, '--all')
    for name in NAMES:
        data = json.loads((tmp_path/'items'/f'{name}.json').read_text())
        assert data['size'] == 'smoke' and (data['rows'] or name == 'figure7') and data['claims'] and (tmp_path/'items'/f'{name}.png').stat().st_size > 1000
        for row in data['rows'].values():
            for v in row.values(): assert v is None or v['low'] - 1e-9 <= v['mean'] <= v['high'] + 1e-9
    page = (tmp_path/'report.html').read_text()
    assert all(f'id="{n}"' in page for n in NAMES) and 'http' not in re.sub('base64,[^"]*', '', page) and 'says nothing about any method' in page
    before, said = files(tmp_path/'runs'), capsys.readouterr().out
    assert 'nothing is left' in said
    kept = [line.split(' ', 2)[2] for line in (tmp_path/'log.txt').read_text().splitlines()]      # without date and time
    assert kept == said.splitlines()
    gone = sorted((tmp_path/'runs'/'jobs').glob('judge-*'))[0]
    gone.unlink()
    lacking = {i.name for i in ITEMS.values() if gone in [r.file(tmp_path/'runs') for r in runs.in_order(i.runs(SMOKE, tmp_path/'runs'))]}
    run(tmp_path, 'table8', '--report')
    told = capsys.readouterr().out.split('plots of')[1].replace(',', ' ').split()
    assert lacking and not gone.exists() and set(told) == set(NAMES) - lacking        # what lacks a run is left out
    run(tmp_path, '--all')
    assert len(capsys.readouterr().out.splitlines()) == 3       # plan, the run that was gone, summary
    same = lambda found: {k: v for k, v in found.items() if not k.endswith(gone.name)}     # it has the seconds that it took
    assert same(files(tmp_path/'runs')) == same(before) and gone.exists()

def test_killed_inside_a_training_and_resumed(tmp_path, toy, monkeypatch):
    "The process ends in the middle of a leg and of a measurement; the same command goes on to the same bytes"
    run(tmp_path/'whole', 'table8')
    real, left = judged.spread, [2]
    def dies(*a, **more):
        left[0] -= 1
        if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)
        return real(*a, **more)
    monkeypatch.setattr(judged, 'spread', dies)
    pid = child(lambda: run(tmp_path/'killed', 'table8'))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path/'killed'/'report.html').exists()
    monkeypatch.setattr(judged, 'spread', real)
    run(tmp_path/'killed', 'table8')
    same = lambda folder: {k: v for k, v in json.loads((folder/'items'/'table8.json').read_text()).items() if k != 'made_with'}
    assert same(tmp_path/'killed') == same(tmp_path/'whole')


# Kills at random moments, processes

def jobs_of(n, pause): return [Job('paper_jobs:squares', f'{i} squares', (), (('n', i), ('pause', pause))) for i in range(n)]

def test_killed_at_random_moments(tmp_path):
    "SIGKILL again and again; at the end all runs are there, and none that was done was done again"
    squares, rng, kills = jobs_of(12, .1), random.Random(0), 0
    last = Job('paper_jobs:squares', 'last', tuple(squares), (('n', 99), ('pause', 0.)))
    for attempt in range(60):     # longer and longer, for machines that are slow to begin
        pid, end = child(lambda: do_all(tmp_path, lambda: [last], tell=lambda s: None)), time.time() + rng.uniform(.02, .25)*(1 + attempt/10)
        while time.time() < end and (done := os.waitpid(pid, os.WNOHANG))[0] == 0: time.sleep(.005)
        if done[0] == 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            kills += 1
        elif last.read(tmp_path): break
    assert kills > 2 and [r.read(tmp_path) for r in squares] == [[k*k for k in range(i)] for i in range(12)]
    begun = [line.split()[0] for line in (tmp_path/'diary').read_text().splitlines()]
    assert begun.count('99') <= kills + 1 and len(begun) <= 13 + kills      # a kill costs one beginning at most
    assert not list((tmp_path/'jobs').glob('*.tmp'))

def test_processes_share_the_work_and_end_with_their_parent(tmp_path):
    code = ('import sys; sys.path.insert(0, {tests!r})\nfrom vader_nb.paper.runs import Job, do_all\n'
            'def jobs(): return [Job("paper_jobs:squares", f"{{i}} squares", (), (("n", i), ("pause", 1.))) for i in range(40)]\n'
            'if __name__ == "__main__": do_all({folder!r}, jobs, 2, lambda s: print(s, flush=True))')
    script = tmp_path/'two.py'
    script.write_text(code.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    p = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    said = [p.stdout.readline() for _ in range(4)]
    p.kill()
    p.wait()
    lines = [line.split() for line in (tmp_path/'diary').read_text().splitlines()]
    pids = {int(pid) for _, pid in lines}
    assert all(' left, about' in s for s in said) and len(pids) == 2 and p.pid not in pids and len({n for n, _ in lines}) == len(lines)
    def alive(pid):
        try: return Path(f'/proc/{pid}/stat').read_text().split()[2] != 'Z'
        except OSError: return False
    end = time.time() + 20
    while any(map(alive, pids)) and time.time() < end: time.sleep(.1)
    assert not any(map(alive, pids))

def test_what_is_needed_is_done_before_a_run_is_begun(tmp_path):
    first, last = jobs_of(2, 0.)[1], Job('paper_jobs:squares', 'last', tuple(jobs_of(2, 0.)[1:]), (('n', 99), ('pause', 0.)))
    board = Board(tmp_path, lambda: [last], 2, print)
    assert board.ready(board.left()) == first
    board.busy[Future()] = first, 0.
    assert board.ready(board.left()) is None
    board.there.add(first)
    assert board.ready(board.left()) == last

def test_an_error_and_a_lost_process(tmp_path):
    good, bad = jobs_of(2, 0.), Job('paper_jobs:broken', 'broken')
    with pytest.raises(ZeroDivisionError): do_all(tmp_path, lambda: [*good, bad], tell=lambda s: None)
    assert [r.read(tmp_path) for r in (*good, bad)] == [[], [0], None]
    board, lost = Board(tmp_path, lambda: good, 2, print), Future()
    lost.set_exception(BrokenProcessPool('gone'))
    board.busy[lost] = good[0], 0.
    with pytest.raises(ChildProcessError, match='while it worked on 0 squares.*the same command goes on'): runs._finished(board)


# Bad input

@pytest.mark.parametrize('words, told', [
    ('', '--all'), ('tabel1', "did you mean 'table1'"), ('table1 --all', 'not both'), ('--all --full', ' '), ('table1 --full', 'not both'), ('table1 --report', 'no finished item')])
def test_bad_input(words, told, tmp_path, capsys):
    if words == '--all --full': words = '--all --full --jobs 0'
    with pytest.raises(SystemExit) as e: run(tmp_path/'x', *words.split())
    error = capsys.readouterr().err
    assert e.value.code == 2 and told in error and 'vader_paper: error:' in error and not (tmp_path/'x').exists()
