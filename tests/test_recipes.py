"The table of experiments against the chapters of the models, and the help of the command that takes it"
from dataclasses import fields
import pytest
from vader_nb.commands.align import AlignOptions, preset, with_recipe
from vader_nb.console import make_parser
from vader_nb.methods.experiments import RECIPE_TABLE
from vader_nb.methods.recipes import Recipe, load_recipe, lora_of, method_of, model_settings, sampler_of, training_of
from vader_nb.names import resolve

# name of a recipe -> the dictionary in the chapter of its model that says the same
CHAPTERS = {
    'modelscope-aesthetic': 'vader_nb.models.modelscope:MODELSCOPE_RECIPE',
    'videocrafter2-hps-aesthetic': 'vader_nb.models.videocrafter2:VIDEOCRAFTER2_RECIPE',
    'opensora-hpsv2.1': 'vader_nb.models.opensora:OPENSORA_RECIPE',
    'svd-aesthetic': 'vader_nb.models.svd:SVD_RECIPE',
    'wan-hpsv2.1': 'vader_nb.models.wan:WAN_RECIPE',
}

def differing(r, said):
    "Names of the values in which a recipe parts from what a chapter says"
    from vader_nb.lora import Lora
    own = dict(grad_steps=method_of(r).grad_steps, reward_frames=r.reward_frames, anchor=r.anchor)
    training = {k: getattr(training_of(r), k) for k in ('batch_size', 'gradient_accumulation_steps', 'lr')}
    loaded = model_settings(r)
    if 'height' in said.get('load', {}): loaded = loaded | dict(zip(('height', 'width'), loaded['size']))
    told = {k: v for k, v in said.get('load', {}).items() if k in loaded and 'dtype' not in k}
    pairs = [(own, said['method']), (training, {k: v for k, v in said['training'].items() if k in training}),
             (sampler_of(r), said.get('sampler', {})), (loaded, told), (dict(steps=r.train_steps), {'steps': said.get('train_steps', r.train_steps)}),
             (dict(rank=r.lora_rank, scale=lora_of(r).scale), dict(rank=said['lora']['rank'], scale=Lora(**said['lora']).scale))]
    return [k for mine, theirs in pairs for k, v in theirs.items() if mine[k] != v]

@pytest.mark.parametrize('name', CHAPTERS)
def test_chapter_says_the_same(name): assert differing(load_recipe(name), resolve(CHAPTERS[name])) == []

def test_a_chapter_that_parts_is_seen():
    said = resolve(CHAPTERS['wan-hpsv2.1'])
    assert differing(load_recipe('wan-hpsv2.1', lr=1.), said) == ['lr']
    assert differing(load_recipe('wan-hpsv2.1', lora_alpha=16.), said) == ['scale']
    assert differing(load_recipe('wan-hpsv2.1', size='64x64'), said) == ['size']

@pytest.mark.parametrize('name', RECIPE_TABLE)
def test_options_of_a_recipe(name):
    "The command with this recipe has its values, and what is typed wins"
    words = ['--recipe', name, '--lr', '0.5']
    a = AlignOptions(**vars(make_parser(AlignOptions, 'vader_align', preset(words)).parse_args(words)))
    assert a == with_recipe(name, lr=.5)
    assert {f.name: getattr(a, f.name) for f in fields(Recipe) if f.name != 'lr'} == {f.name: getattr(load_recipe(name), f.name) for f in fields(Recipe) if f.name != 'lr'}

@pytest.mark.parametrize('name', ['tiny', 'svd-vjepa', 'videocrafter2-hps-aesthetic'])
def test_help_fits_two_screens(name, monkeypatch):
    "96 lines of 100 columns, also with the longest defaults"
    monkeypatch.setenv('COLUMNS', '100')
    lines = make_parser(AlignOptions, 'vader_align', preset(['--recipe', name])).format_help().splitlines()
    assert len(lines) <= 96 and max(map(len, lines)) <= 100

def test_no_published_recipe_scores_with_a_toy():
    "A toy scorer stands in tiny recipes alone, and its diversity is not measured with the tiny CLIP"
    for name, e in RECIPE_TABLE.items():
        r = load_recipe(name)
        assert ('tiny-' in r.reward) == name.startswith('tiny'), name
        if not name.startswith('tiny'): assert r.diversity_prompts == 0, name
