"What users may give wrongly, drawn by hypothesis: every public function, option and command answers with one sentence, at once, and leaves no file. `VADER_DRAWS=40` draws more"
import dis, os, warnings
from contextlib import ExitStack
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from time import process_time
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
import bad_inputs as table
from tools.notebooks import ROOT
from tools.notebooks import settings as of_project
from vader_nb.console import _kind

DRAWS = int(os.environ.get('VADER_DRAWS', 5))
PACKAGE = ROOT/'vader_nb'
ROWS, FREE = table.rows(), ('debug', 'weights')
SCRIPTS = dict(line.strip().split('=') for line in of_project()['console_scripts'].split())
KINDS = ValueError, TypeError, OSError, RuntimeError
MOST = 1500         # characters of an answer; a list of all names is long
MOST_SECONDS = 2    # of the processor: half of it on a quiet machine
SIGNED = ('seed', 'lora_scale', 'target', 'target_weight')      # may be below 0
ZERO = {*SIGNED, *'anchor diversity_prompts ema eta eval_test eval_train guidance_scale keep max_grad_norm max_skipped minutes pictures reserve reward_frames samples_every weight_decay'.split()}

def drawn(strategy, check):
    "Call `check` with values of a strategy, the same ones in every run"
    run = settings(max_examples=DRAWS, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    run(given(strategy)(check))()

def named(name):
    "The object of a row"
    module, _, attribute = name.rpartition('.')
    return getattr(import_module(f'vader_nb.{module}'.replace('vader_nb.vader_nb', 'vader_nb')), attribute)

def called(fn, options):
    "The call, and the block if it is one"
    with ExitStack() as stack:
        found = fn(**options)
        if type(found).__name__ == '_GeneratorContextManager': stack.enter_context(found)

def on_purpose(error):
    "Was it raised by a sentence of this library, and not by what it was about to do?"
    if isinstance(error, OSError) and error.errno: return True          # the system's own: it names the file
    if 'unexpected keyword argument' in str(error) or type(error).__name__ == 'HFValidationError': return True      # clear as they are
    tb = error.__traceback__
    while tb.tb_next: tb = tb.tb_next
    code = tb.tb_frame.f_code       # a line may hold a comparison and a `raise`: what was being done tells which of them it was
    return '/vader_nb/' in code.co_filename and any(i.offset == tb.tb_lasti and i.opname == 'RAISE_VARARGS' for i in dis.get_instructions(code))

def snapshot(): return sorted((str(p), p.stat().st_mtime_ns) for p in Path('.').rglob('*') if p.is_file())

def judge(name, argument, value, error, seconds):
    "What is wrong with an answer, or None"
    given, said = f'{name}({argument}={value!r:.60})', str(error)
    if error is None: return f'{given}: accepted'
    if not isinstance(error, KINDS): return f'{given}: {type(error).__name__}: {said:.200}'
    if not on_purpose(error): return f'{given}: by accident, {type(error).__name__}: {said:.200}'
    if not 15 < len(said) <= MOST and not getattr(error, 'errno', None): return f'{given}: {len(said)} characters: {said:.100}'
    if seconds > MOST_SECONDS: return f'{given}: {seconds:.1f} s'

def answer(fn, options):
    "The error of a call and how long it took"
    start = process_time()
    try: called(fn, options)
    except Exception as e: return e, process_time() - start
    return None, process_time() - start

def faults_of(name):
    "What is wrong with the answers of a row, and how many there were"
    make, wrong = ROWS[name]
    found, fn, n = [], named(name), 0
    for argument, strategy in wrong.items():
        def check(value):
            nonlocal n
            n, before = n + 1, snapshot()
            said = judge(name, argument, value, *answer(fn, make() | {argument: value}))
            if snapshot() != before: said = f'{name}({argument}={value!r:.60}): it left files ({said})'
            if said: found.append(said)
        drawn(strategy, check)
    return found, n

class Started(BaseException): "The work of a command has begun"

def options_of(command):
    "The function of a command, and the dataclass of its options"
    where, name = SCRIPTS[command].split(':')
    module = import_module(where)
    return getattr(module, name), next(o for n, o in vars(module).items() if n.endswith('Options') and o.__module__ == where)

def wrong_words(f, texts, zero=ZERO):
    "Strategy of what is wrong for an option, as words"
    flag, kind = f"--{f.name.replace('_', '-')}", _kind(f.type)
    if f.type is bool: return st.just([f'{flag}=yes'])
    number = st.sampled_from(['three', '', 'nan', 'inf', '½', '1e', '0x1', ' ']) | st.just('1.5' if kind is int else 'nan')
    if f.name not in SIGNED: number |= st.integers(-10**30, -1).map(str)
    if f.name not in zero: number |= st.just('0')
    values = number if kind in (int, float) else texts[f.name]
    if f.metadata.get('words'): return values.map(lambda v: [v])
    return values.map(lambda v: [flag, v] if f.metadata['more'].get('nargs') else [f'{flag}={v}'])

def outcome(fn, words, capsys):
    "Exit code, what was said, and seconds"
    start = process_time()
    try: fn(words)
    except SystemExit as e: code = e.code
    except Started: code = 'started'
    except Exception as e: code = f'{type(e).__name__}: {e}'
    else: code = 0
    return code, capsys.readouterr().err, process_time() - start

def judge_words(command, words, code, said, seconds):
    "What is wrong with the answer of a command, or None"
    line, given = (said.strip().splitlines() or [''])[-1], f"{command} {' '.join(words)[:100]}"
    if code != 2: return f'{given}: {code}'
    if not line.startswith(f'{command}: error: ') or len(line) > MOST or 'Traceback' in said: return f'{given}: {said[-300:]}'
    if seconds > MOST_SECONDS: return f'{given}: {seconds:.1f} s'

def faults_of_command(command, capsys):
    "What is wrong with the answers to each wrong option, and to options that exclude each other"
    row, (fn, options), found, n = table.COMMANDS[command], options_of(command), [], 0
    def check(words):
        nonlocal n
        n, before = n + 1, snapshot()
        said = judge_words(command, words, *outcome(fn, [*row['words'].split(), *words], capsys))
        if snapshot() != before: said = f'{command} {words}: it left files ({said})'
        if said: found.append(said)
    for f in fields(options):
        if f.name in FREE: continue
        beside = row.get('beside', {}).get(f.name, '').split()
        drawn(wrong_words(f, row['texts'], ZERO - {*row.get('not_zero', '').split()}).map(lambda w: beside + w), check)
    for words in row['together']: check(words.split())
    return found, n


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder of files of every kind, in which everything runs, and no hub"
    folder, before = tmp_path_factory.mktemp('place'), os.getcwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as m, warnings.catch_warnings():
        m.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
        warnings.simplefilter('ignore')
        table.RUN.append(table.make_place())
        yield folder
    table.RUN.clear()
    os.chdir(before)

COUNTED = []

@pytest.mark.parametrize('block', range(4))
def test_wrong_arguments(place, block):
    found = [faults_of(name) for name in list(ROWS)[block::4]]
    COUNTED.append(sum(n for _, n in found))
    assert not [f for faults, _ in found for f in faults]

def test_right_arguments(place):
    "A row whose own arguments are refused would prove nothing"
    wrong = {name: error for name, (make, _) in ROWS.items() if name not in table.HUB and (error := answer(named(name), make())[0])}
    assert not wrong

@pytest.mark.parametrize('command', table.COMMANDS)
def test_wrong_words(place, command, capsys, monkeypatch):
    def begin(*a, **kw): raise Started
    for where in table.STARTS[command]: monkeypatch.setattr(where, begin if not where.endswith('PARTS') else dict.fromkeys(('vae', 'unet', 'outlines'), begin))
    assert outcome(options_of(command)[0], table.COMMANDS[command]['words'].split(), capsys)[0] == 'started'
    faults, n = faults_of_command(command, capsys)
    COUNTED.append(n)
    assert not faults

def test_there_were_enough():
    if len(COUNTED) == 4 + len(table.COMMANDS): assert sum(COUNTED) > 500

def test_every_public_name_has_a_row():
    public = {f'{m}.{n}' for m in table.MODULES for n in import_module(f'vader_nb.{m}').__all__ if callable(getattr(import_module(f'vader_nb.{m}'), n))}
    without = public - {*ROWS} - {f'{m}.{n}' for m, names in table.INSIDE.items() for n in names.split()}
    assert not without, 'give each of these a row, or say in INSIDE that no user calls it'
    assert {*SCRIPTS} == {*table.COMMANDS} == {*table.STARTS}
    gone = {f'{m}.{n}' for m, names in table.INSIDE.items() for n in names.split()} - public
    assert not gone and not [n for n in ROWS if not n.startswith('vader_nb.') and n.rpartition('.')[0] not in table.MODULES]

def test_every_module_is_public_or_said_to_be_none():
    there = {'.'.join(p.relative_to(PACKAGE).with_suffix('').parts) for p in PACKAGE.rglob('*.py') if not p.name.startswith('_')}
    assert there == {*table.MODULES} | {m for group in table.OTHER_MODULES.values() for m in group.split()}

def test_an_option_without_a_row_is_missed():
    field = next(f for f in fields(options_of('vader_sample')[1]) if f.name == 'lora')
    with pytest.raises(KeyError): wrong_words(field, {})

def test_silence_accidents_and_floods_are_found():
    assert judge('f', 'n', 1, None, 0) == 'f(n=1): accepted'
    assert 'by accident' in judge('f', 'n', 'x', answer(lambda n: n + 1, dict(n='x'))[0], 0)
    assert 'KeyError' in judge('f', 'n', 'x', KeyError('x'), 0)
    assert judge('f', 'n', -1, answer(named('sampling.last_k'), dict(k=-1))[0], 0) is None
    assert '3.0 s' in judge('f', 'n', -1, answer(named('sampling.last_k'), dict(k=-1))[0], 3)
    assert judge_words('vader_x', [], 2, 'Traceback ...', 0) and judge_words('vader_x', [], 0, '', 0) and judge_words('vader_x', [], 2, 'vader_x: error: this', 0) is None
