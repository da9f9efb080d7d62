"The table of experiments, and the options and the help of the command that takes it"
from dataclasses import fields
import pytest
from vader_nb.commands.align import AlignOptions, with_recipe
from vader_nb.console import make_parser
from vader_nb.methods.experiments import RECIPE_TABLE
from vader_nb.methods.recipes import Recipe, load_recipe, preset

@pytest.mark.parametrize('name', RECIPE_TABLE)
def test_options_of_a_recipe(name):
    "The command with this recipe has its values, and what is typed wins"
    words = ['--recipe', name, '--lr', '0.5']
    a = AlignOptions(**vars(make_parser(AlignOptions, 'vader_align', preset(words, AlignOptions)).parse_args(words)))
    assert a == with_recipe(name, lr=.5)
    assert {f.name: getattr(a, f.name) for f in fields(Recipe) if f.name != 'lr'} == {f.name: getattr(load_recipe(name), f.name) for f in fields(Recipe) if f.name != 'lr'}

@pytest.mark.parametrize('name', ['tiny', 'svd-vjepa', 'videocrafter2-hps-aesthetic'])
def test_help_fits_two_screens(name, monkeypatch):
    "96 lines of 100 columns, also with the longest defaults"
    monkeypatch.setenv('COLUMNS', '100')
    lines = make_parser(AlignOptions, 'vader_align', preset(['--recipe', name], AlignOptions)).format_help().splitlines()
    assert len(lines) <= 96 and max(map(len, lines)) <= 100

def test_no_published_recipe_scores_with_a_toy():
    "A toy scorer stands in tiny recipes alone, and its diversity is not measured with the tiny CLIP"
    for name, e in RECIPE_TABLE.items():
        r = load_recipe(name)
        assert ('tiny-' in r.reward) == name.startswith('tiny'), name
        if not name.startswith('tiny'): assert r.diversity_prompts == 0, name
