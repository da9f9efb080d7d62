"The paper's items with the published models: each printed line is one that its command reads, dry runs and the baselines' updates against the stand-in hub, the counts behind the hours, refusals"
import json, re, shlex
from dataclasses import asdict
from types import SimpleNamespace
import pytest
from test_downloads import cache  # this process uses the stand-in hub
from tools.notebooks import ROOT
from vader_nb.commands import align, paper, sample
from vader_nb.commands.align import AlignOptions, groups_of, vader_align
from vader_nb.commands.eval import EvalOptions
from vader_nb.commands.paper import vader_paper
from vader_nb.commands.plan import PlanOptions, model_settings
from vader_nb.commands.sample import SampleOptions
from vader_nb.console import parse_options
from vader_nb.evaluate.by_name import measure_names
from vader_nb.methods import rehearsal
from vader_nb.methods.recipes import sampler_of, train_and_test
from vader_nb.names import resolve
from vader_nb.models.load import MODELS
from vader_nb.models.modelscope import DPMSolverMultistepScheduler, scheduler_class, tiny_random_modelscope
from vader_nb.paper import published, scaling
from vader_nb.paper.published import AESTHETIC, SCALED, Align, Draw, against, at_size, published_lines, trainings_of
from vader_nb.paper.scaling import Work, cost_table, counted, published_text, store_work
from vader_nb.savings.planner import card

WORK = ROOT/'nbs'/'results'/'scaling'/'work.json'
COMMANDS = dict(vader_align=(AlignOptions, align._preset), vader_sample=(SampleOptions, sample._preset), vader_eval=(EvalOptions, None), vader_plan=(PlanOptions, None))
LINES = [shlex.split(l) for l in published_lines()]
OF = {name: [words[1:] for words in LINES if words[0] == name] for name in COMMANDS}


def read(name, words):
    "The options of a line, by the command's own parser"
    options, preset = COMMANDS[name]
    try: return parse_options(options, words, name, preset)
    except SystemExit as e: pytest.fail(f'{name} {" ".join(words)}: ended with code {e.code}')

def as_typed(value):
    "The words of an option's value; a switch has none"
    if value is True: return []
    return [str(x) for x in value] if isinstance(value, (list, tuple)) else [str(value)]

def told(words):
    "Name of an option -> its words"
    starts = [i for i, w in enumerate(words) if w.startswith('--')]
    return {words[i][2:].replace('-', '_'): words[i + 1:j] for i, j in zip(starts, [*starts[1:], len(words)])}

def test_every_line_is_of_a_command(): assert len(LINES) > 50 and {words[0] for words in LINES} == {*COMMANDS} and all(OF.values())

@pytest.mark.parametrize('name', COMMANDS)
def test_lines_are_read(name):
    "Nothing is lost on the way: what a line tells is what the options hold"
    for words in OF[name]:
        a = asdict(read(name, words))
        for k, v in told(words).items(): assert as_typed(a[k]) == v, (name, k)

def test_trainings_are_possible():
    "The options of each go together, the loader knows what it is told, and its settings are those that the cost is taken from"
    for t in trainings_of(SCALED.values()):
        a = read('vader_align', shlex.split(t.line('x'))[1:])
        groups = groups_of(a)
        if 'method' in dict(t.options): groups['method'].check(SimpleNamespace(scheduler=scheduler_of(a)), ['a prompt'], groups['savings'], sampler_of(a))
        same = 'recipe method train_steps batch_size size num_frames chunks reward reward_frames grad_steps eval_train eval_test num_inference_steps samples_every target'.split()
        assert {k: getattr(a, k) for k in same} == {k: getattr(t.settings, k) for k in same}, t.place
        assert (groups['savings'].updates_per_rollout, groups['method'].reward_gradient) == (t.updates, 'method' not in dict(t.options))

def scheduler_of(a):
    "That of a miniature of ModelScope, as the options of its loader say"
    assert a.model == 'modelscope'
    return tiny_random_modelscope(scheduler=scheduler_class(align.model_settings(a).get('scheduler', DPMSolverMultistepScheduler))).scheduler

def test_videos_and_measures_are_possible():
    for words in OF['vader_sample']:
        a = read('vader_sample', words)
        if a.prompts or a.prompt: assert len(sample._prompts_to_sample(a)) == next(d.videos for d in published.things(SCALED.values()) if isinstance(d, Draw) and shlex.split(d.line('paper'))[1:] == words)
        else: assert a.image == ['maltese'] and a.chunks == 3 and a.model == 'svd'
    for words in OF['vader_eval']: assert set(measure_names(read('vader_eval', words).measures))
    for words in OF['vader_plan']: assert model_settings(read('vader_plan', words))['num_frames'] == 16


# Against the stand-in hub

def test_dry_runs(cache, capsys, monkeypatch):
    "Each training says what it would download; planning, which takes long at full size, is left out but for the next test"
    monkeypatch.setattr(rehearsal, 'dry_pipeline', lambda a: SimpleNamespace(defaults={}))
    monkeypatch.setattr(rehearsal, 'dry_reward', str)
    monkeypatch.setattr(rehearsal, 'plan_text', lambda pipe, reward, shape, *rest: f'planned for {shape.num_inference_steps} steps')
    for words in OF['vader_align']:
        vader_align([*words, '--dry-run'])
        said = capsys.readouterr().out
        a = read('vader_align', words)
        assert 'to download' in said and f'planned for {a.num_inference_steps} steps' in said, words

def test_a_whole_dry_run(cache, capsys, monkeypatch):
    "With its plan, on miniatures of the same classes"
    monkeypatch.setattr(rehearsal, 'dry_pipeline', lambda a: tiny_random_modelscope())
    monkeypatch.setattr(rehearsal, 'dry_reward', lambda text: rehearsal.random_reward(text, toy=True))
    vader_align([*shlex.split(AESTHETIC.line('x'))[1:], '--dry-run'])
    assert re.search(r'plan: tricks: none; predicted peak 0\.\d\d GB', capsys.readouterr().out)

SMALL = shlex.split('--size 32x32 --num-frames 4 --dtype float32 --num-inference-steps 3 --batch-size 2 --gradient-accumulation-steps 2 --train-steps 2 --eval-train 0 --eval-test 0 --pictures 0 --samples-every 0 --n-train 2')

@pytest.mark.parametrize('t', against(AESTHETIC, ['DDPO', 'DPO on-policy'])[1:], ids=lambda t: t.place)
def test_baselines_make_updates(t, cache, tmp_path):
    "The line as it is printed, but for the sizes, on miniature networks; its queries are those of the formula"
    vader_align([*shlex.split(t.line(tmp_path))[1:], *SMALL])
    last = json.loads((tmp_path/t.place/'log.jsonl').read_text().splitlines()[-1])
    small = Align(t.recipe, t.options + (('train_steps', 2), ('batch_size', 2), ('gradient_accumulation_steps', 2)))
    assert last['step'] == 2 and last['queries'] == published.queries(small) and (tmp_path/t.place/'pytorch_lora_weights.safetensors').is_file()

def test_dpm_multistep_is_no_policy(cache, tmp_path, capsys):
    "Without the other sampler DDPO's line would be refused"
    words = shlex.split(against(AESTHETIC)[1].line(tmp_path))[1:]
    at = words.index('--model-options')
    with pytest.raises(SystemExit): vader_align([*words[:at], *words[at + 2:], *SMALL])
    assert 'is no policy' in capsys.readouterr().err

def test_an_unknown_scheduler_is_refused_before_a_download(hub, cache):
    with pytest.raises(ValueError, match="unknown scheduler 'dmp'; did you mean 'dpm'"): resolve(MODELS['modelscope'])(scheduler='dmp')
    assert not hub.sent


# Costs

def toy(r): return Work(1e15, 3e15, (0., 0.), (0., 0.), 0., 2**30)

def test_counts_are_kept_for_the_same_settings(tmp_path):
    file, asked = tmp_path/'work.json', []
    def work(r):
        asked.append(r)
        return toy(r)
    first = store_work(file, work)
    assert len(asked) == len(set(asked)) == len(first) == len(json.loads(file.read_text()))
    assert store_work(file, lambda r: 1/0) == {r: Work(w.forward, w.gradient, [0., 0.], [0., 0.], 0., w.peak) for r, w in first.items()}
    data = json.loads(file.read_text())
    data['modelscope-aesthetic-128']['of']['size'] = '64x64'        # counted with other settings
    file.write_text(json.dumps(data))
    store_work(file, work)
    assert asked[len(first):] == [counted(at_size(128)[0])]

def test_hours_of_an_item():
    "Table 9 by hand: 3,600 queries with K = 1, 2,400 with K = 10, and the videos beside them; on another card and with three seeds"
    beside = 2*(4 + 8 + 4) + 4*9, 2*(4 + 8 + 4) + 4*6
    work = (3600*(24 + 3) + beside[0]*25 + 2400*(15 + 30) + beside[1]*25)*1e15
    row = lambda *a: [c.strip() for c in cost_table(['table9'], *a, work=toy).splitlines()[2].strip('|').split('|')]
    hours = lambda peak, share=.2, n=1: f'{n*work/(peak*share)/3600:,.0f}'
    assert row() == ['table9', '2', '6,000', '0', f'{work/1e18:.2f}', hours(154.8e12), f'{hours(154.8e12, .4)} to {hours(154.8e12, .1)}', hours(154.8e12, n=3), '1']
    assert row('h100', .5)[5] == hours(989.5e12, .5) and card('h100', .5).speed == 989.5e12/2

def test_what_is_shared_is_counted_once():
    rows = {l.split('|')[1].strip(): l.split('|')[3:6] for l in cost_table(['table4', 'table5', 'figure11'], work=toy).splitlines()[2:]}
    assert len({tuple(r) for r in rows.values()}) == 1 and 'together' in rows

def test_the_command(tmp_path, capsys, monkeypatch):
    "Table, lines and notes of all items; nothing is written"
    paper._counting.cache_clear()
    stored = store_work(WORK, lambda r: 1/0)
    monkeypatch.setattr(scaling, 'count_work', stored.__getitem__)
    vader_paper(['--all', '--models', 'published', '--out', str(tmp_path/'x')])
    said = capsys.readouterr()
    assert said.out.strip() == published_text(out=str(tmp_path/'x'), work=stored.__getitem__) and all(f'| {n} ' in said.out for n in SCALED)
    assert said.out.count('\nvader_') == len(LINES) and len(said.err.splitlines()) == len(stored) and not (tmp_path/'x').exists()
    assert 'No such run was made' in said.out

@pytest.mark.parametrize('words, message', [
    ('table1 --models other', "unknown kind of models 'other'"), ('--models published', 'give names of items'), ('table1 --all --models published', 'not both'), ('tabel1 --models published', "did you mean 'table1'"),
    *((f'table1 --models published --{k}', 'runs nothing') for k in ('full', 'smoke', 'list', 'report', 'runs=x')), ('table1 --card a100', 'give --models published'), ('table1 --utilisation 0.3', 'give --models published'),
    ('table1 --models published --card a10', "unknown card 'a10'"), ('table1 --models published --utilisation 0', 'utilisation=0'), ('table1 --models published --utilisation nan', 'utilisation=nan'),
    ('table1 --models published --jobs 0', 'jobs=0')])
def test_refusals(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaling, 'count_work', lambda r: pytest.fail('work was begun'))
    with pytest.raises(SystemExit) as e: vader_paper([*words.split(), '--out', str(tmp_path/'x')])
    error = capsys.readouterr().err
    assert e.value.code == 2 and message in error and len(error.splitlines()) == 1 and not (tmp_path/'x').exists()
