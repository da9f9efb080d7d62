"Every recipe from its name to a LoRA and to videos, against the stand-in hub, from an empty cache, interrupted on the way"
import json, os, subprocess, sys
from pathlib import Path

import pytest
from hub.server import Hub
from recipe_runs import WHOLE
from vader_nb.methods.experiments import RECIPE_TABLE
from vader_nb.methods.recipes import load_recipe
from vader_nb.models.load import DOWNLOADS

LORA = 'pytorch_lora_weights.safetensors'


@pytest.fixture(scope='module')
def runs(served, tmp_path_factory):
    "All of them in one process: what each left, by name, and the folder"
    hub, folder = Hub(served[0], mirror=served[1]).start(), tmp_path_factory.mktemp('recipes')
    for name in ('home', 'tmp', 'out'): (folder/name).mkdir()
    env = {k: v for k, v in os.environ.items() if k not in ('HF_HUB_CACHE', 'TRANSFORMERS_CACHE')} | hub.environment(folder/'home') | dict(TMPDIR=str(folder/'tmp'))
    words = [sys.executable, Path(__file__).with_name('recipe_runs.py'), folder/'out']
    p = subprocess.run(words, env=env, cwd=folder/'tmp', capture_output=True, text=True, timeout=1500)
    hub.stop()
    found = [json.loads(l[2:]) for l in p.stdout.splitlines() if l.startswith('@@')]
    return {r['recipe']: r for r in found}, folder/'out', p.stdout[-3000:] + p.stderr[-3000:]

def read(folder, file): return json.loads((folder/file).read_text())

@pytest.mark.parametrize('name', RECIPE_TABLE)
def test_from_a_name_to_videos(name, runs):
    "Stopped after the first update with a checkpoint, went on to the second, saved, and sampled with the LoRA"
    found, folder, log = runs
    r, out = found.get(name) or pytest.fail(log), folder/name
    assert not r['error'], r['error']
    learnt = any(json.loads(line)['grad_norm'] for line in (out/'log.jsonl').read_text().splitlines())   # random detectors may see nothing
    assert (r['stopped'], r['went_on'], r['sampled']) == (130, 0, 0 if learnt else 2), log      # a LoRA that changes nothing is refused
    assert learnt or 'objects' in name
    assert 'checkpoint.pt' in r['left'] and LORA not in r['left']
    assert len((out/'log.jsonl').read_text().splitlines()) == 2 and not (out/'checkpoint.pt').exists()
    assert (out/LORA).is_file() and len(list((out/'videos').glob('000_*.mp4'))) == learnt
    settings = read(out, 'results.json')['settings']
    assert (settings['recipe'], settings['train_steps']) == (name, 2)

@pytest.mark.parametrize('name', WHOLE)
def test_interrupted_is_the_same(name, runs):
    "The bytes of an uninterrupted run"
    found, folder, log = runs
    assert found[name]['whole'] == 0, log
    assert (folder/name/LORA).read_bytes() == (folder/f'{name}-whole'/LORA).read_bytes()

@pytest.mark.parametrize('name', RECIPE_TABLE)
def test_no_toy(name, runs):
    "No weights of a toy are read by a published recipe, and no toy is named in what it saved; in a tiny recipe both are seen"
    found, folder, _ = runs
    options, tiny = read(folder/name, 'options.json'), name.startswith('tiny')
    assert bool(found[name]['toys']) == tiny
    assert ('tiny' in options['model'] + read(folder/name, 'results.json')['settings']['reward']) == tiny

@pytest.mark.parametrize('name', [n for n in RECIPE_TABLE if not n.startswith('tiny')])
def test_versions_are_saved(name, runs):
    "Which commit of which repository was read, in the options and on the card of the LoRA"
    read_from, card = read(runs[1]/name, 'options.json')['hub'], (runs[1]/name/'README.md').read_text()
    assert {*DOWNLOADS[load_recipe(name).model]} <= {*read_from} and all(len(commit) == 40 for commit in read_from.values())
    assert all(f'`{repo}` at `{commit}`' in card for repo, commit in read_from.items())
