import json, os, re, shlex, subprocess, sys
from dataclasses import asdict
from pathlib import Path
import pytest
from conftest import edit, markdown, notebook
from tools import pages
from tools.notebooks import ROOT

README = (ROOT/'README.md').read_text(encoding='utf-8')


def command(name):
    "The one command that stands under its marker in the README"
    found = re.findall(rf'<!-- {name} command -->\n```sh\n(.+?)\n```', README, re.S)
    assert len(found) == 1
    return found[0]

def test_pages_are_up_to_date(): assert pages.out_of_date(ROOT) == []

def test_faultless(project): assert pages.out_of_date(project) == []

def test_edited_readme(project):
    edit(project/'README.md', 'What it teaches', 'What it costs')
    assert pages.out_of_date(project) == ['README.md']

def test_edited_index(project):
    edit(project/'nbs'/'index.ipynb', '> What it teaches', '> All')
    assert pages.out_of_date(project) == ['README.md']

def test_new_notebook(project):
    notebook(project/'nbs'/'core'/'new.ipynb', title='New')
    edit(project/'nbs'/'book.yml', 'show]', 'show, new]')
    assert pages.out_of_date(project) == [n for n in pages.PAGES if n != 'nbs/footer.yml']

def test_new_version(project):
    edit(project/'settings.ini', 'version = ', 'version = 9')
    assert pages.out_of_date(project) == ['nbs/footer.yml']

def test_notebook_that_the_book_does_not_list(project):
    notebook(project/'nbs'/'intro.ipynb')
    with pytest.raises(ValueError, match=r"lists no \['intro.ipynb'\]"): pages.out_of_date(project)

def test_listed_notebook_that_is_not_there(project):
    edit(project/'nbs'/'book.yml', 'show]', 'show, gone]')
    with pytest.raises(ValueError, match=r"lists \['core/gone.ipynb'\], which are not there"): pages.out_of_date(project)

def test_links_of_the_readme_lead_from_the_top_folder():
    targets = re.findall(r'\]\((?!https?:|#)([^)]+)\)', README)
    assert targets and all((ROOT/t).is_file() for t in targets)

@pytest.mark.parametrize('name, extras, run', [('main', '-e .', 'vader_align --out out'),
                                               ('test', '-e ".[dev]"', 'python -m pytest -n 2 --dist worksteal')])
def test_commands_do_all_their_set_up(name, extras, run):
    venv, install, job = command(name).split(' && ')
    assert venv == 'python3 -m venv .venv'
    assert install == f'.venv/bin/pip install -q -c constraints.txt {extras}'
    assert job == f'.venv/bin/{run}'

def test_ci_runs_the_test_command():
    ci = subprocess.run(['bash', ROOT/'.ci'/'run', '--print'], capture_output=True, text=True, check=True)
    assert ci.stdout.strip() == command('test')


# Numbers

def evaluation(reward, colour): return dict(held_out=dict(reward=reward, reward_std=.5, parts={'tiny-clip': .8}, accuracy=dict(colour=colour)))

RUN = dict(options=dict(out='a', train_steps=52, savings='fast'), seconds=171, queries=208, before=evaluation(17.5, 1.), after=evaluation(18.25, .99))
TEMPLATE = ('<!-- numbers of results/main.json: {queries} queries in {minutes:.0f} minutes: {before[held_out][reward]:.2f} -> {after[held_out][reward]:.2f}, '
            '{gain:+.1f} sd, clip {after[held_out][parts][tiny-clip]:.1f}, colour {after[held_out][accuracy][colour]:.0%} -->')

@pytest.fixture
def told(project):
    "A project whose index tells the numbers of a run"
    notebook(project/'nbs'/'index.ipynb', markdown('## The notebooks'), markdown(f'Text.\n\n{TEMPLATE}\nold\n<!-- end of numbers -->\n\nText.'), title='vader_nb')
    (project/'nbs'/'results').mkdir()
    (project/'nbs'/'results'/'main.json').write_text(json.dumps(RUN))
    return project

def test_numbers_are_made(told):
    assert pages.out_of_date(told) == ['nbs/index.ipynb', 'README.md']
    for n, made in pages.derived(told): (told/n).write_text(made, encoding='utf-8')
    assert '-->\n208 queries in 3 minutes: 17.50 -> 18.25, +1.5 sd, clip 0.8, colour 99%\n<!-- end of numbers -->\n\nText.' in (told/'README.md').read_text()
    assert pages.out_of_date(told) == []

def test_typed_numbers(told):
    for n, made in pages.derived(told): (told/n).write_text(made, encoding='utf-8')
    edit(told/'README.md', '208 queries', '136 queries')
    assert pages.out_of_date(told) == ['README.md']

def test_another_run(told):
    for n, made in pages.derived(told): (told/n).write_text(made, encoding='utf-8')
    (told/'nbs'/'results'/'main.json').write_text(json.dumps(RUN | dict(queries=136)))
    assert pages.out_of_date(told) == ['nbs/index.ipynb', 'README.md']

def test_without_a_run_the_text_stays(told):
    (told/'nbs'/'results'/'main.json').unlink()
    assert '-->\nold\n<!-- end' in pages.readme(told)

@pytest.mark.parametrize('options, names', [
    (dict(out='b', train_steps=52, savings='fast'), []), (dict(out='b', train_steps=34, savings='fast'), ['train_steps']),
    (dict(out='b', train_steps=52, savings='fast', lr=.1), ['lr']), (dict(out='b', savings='fast'), ['train_steps'])])
def test_options_that_part(options, names): assert pages.differing(RUN, options) == names

def test_numbers_are_those_of_the_command_above_them():
    "The stored run was made by the README's command, with the defaults that the command has now; an option that came later had its default then"
    stored = ROOT/'nbs'/'results'/'main.json'
    assert stored.exists(), 'nbs/results/main.json: results.json of the main command'
    from vader_nb.commands.align import AlignOptions
    from vader_nb.console import parse_options
    words = shlex.split(command('main').split(' && ')[-1])[1:]
    run, plain = json.loads(stored.read_text()), lambda a: json.loads(json.dumps(asdict(a)))
    assert pages.differing(run | dict(options=plain(AlignOptions(**run['options']))), plain(parse_options(AlignOptions, words, 'vader_align'))) == []
    assert '<!-- numbers of results/main.json: ' in README.split('<!-- main command -->')[1].split('<!-- test command -->')[0]

def test_the_stand_in_command(tmp_path):
    "As it stands, in a shell, with nothing downloaded before: a LoRA of the miniature of a published model, in a few minutes"
    words = command('stand-in').replace('.venv/bin/', f'{Path(sys.executable).parent}/').replace('--out miniature', f'--out {tmp_path}/miniature')
    p = subprocess.run(words, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=600, env=os.environ | dict(PYTHONPATH=str(ROOT), TMPDIR=str(tmp_path)))
    assert p.returncode == 0, p.stderr[-3000:]
    assert 'damo-vilab/text-to-video-ms-1.7b' in p.stderr and 'held_out: reward' in p.stdout
    assert (tmp_path/'miniature'/'pytorch_lora_weights.safetensors').is_file()
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith('vader-hub')]       # the server and its files are gone

def test_the_walk_of_own_model():
    "Each line of the walk is one that its command takes, with the abbreviations as the shell replaces them"
    from vader_nb.commands.align import AlignOptions
    from vader_nb.commands.eval import EvalOptions
    from vader_nb.commands.sample import SampleOptions
    from vader_nb.console import parse_options
    book = json.loads((ROOT/'nbs'/'commands'/'own_model.ipynb').read_text(encoding='utf-8'))
    text = next(s for c in book['cells'] if (s := ''.join(c['source'])).startswith('## The whole walk'))
    lines = text.split('```sh\n')[1].split('```')[0].splitlines()
    short = dict(re.fullmatch(r'(\w+)="(.*)"', l).groups() for l in lines if re.match(r'\w+="', l))
    options = dict(vader_align=AlignOptions, vader_sample=SampleOptions, vader_eval=EvalOptions)
    typed = [shlex.split(re.sub(r'\$(\w+)', lambda m: short[m[1]], l)) for l in lines if l.startswith('vader_')]
    assert [w[0] for w in typed] == ['vader_align']*2 + ['vader_sample']*2 + ['vader_eval']
    parsed = [parse_options(options[w[0]], w[1:], w[0]) for w in typed]
    assert parsed[1].out == parsed[2].lora == parsed[3].lora
    assert (parsed[4].before, parsed[4].after) == (parsed[2].out, parsed[3].out)
