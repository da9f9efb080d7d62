"Two processes train as one does: `fit` is started twice on the CPU, killed, resumed, and compared with a single process."
import atexit, json, math, os, signal, socket, subprocess, sys, time
import forks, pytest, torch
from dataclasses import replace
from pathlib import Path
from torch.nn.parallel import DistributedDataParallel
from vader_nb.batches import average_gradients, batch_at, make_accelerator, split_batch
from vader_nb.callbacks import JSONLog, read_log
from vader_nb.ema import Ema
from vader_nb.trainer import fit
from vader_nb.training import Training
from tools.notebooks import OFFLINE, ROOT

PROMPTS = ['a', 'b', 'c', 'rare d', 'e', 'f']
TRAINING = Training(batch_size=4, lr=.05, weight_decay=.1, save_every=2, process_timeout=20)


class Toy(torch.nn.Module):
    "`w` is used by all videos, `u` by those of rare prompts, `idle` by none"
    def __init__(self, shift=0.):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([.5, -.3, .1]) + shift)
        self.u, self.idle = (torch.nn.Parameter(torch.tensor([v + shift])) for v in (.2, .7))

    def loss(self, batch):
        x = torch.stack([torch.randn(3, generator=g) for g in batch.generators]) + torch.rand(3, generator=batch.shared)
        scores = -(x@self.w - 1).square()
        rare = torch.tensor([p.startswith('rare') for p in batch.prompts])
        if rare.any(): scores = scores - rare*(self.u - 1).square()
        return -scores.mean(), dict(reward=scores)

    def values(self): return {n: p.tolist() for n, p in self.named_parameters()}

def train(model, loss_fn=None, train_steps=7, callbacks=(), **kw):
    fit(loss_fn or model.loss, model.parameters(), PROMPTS, train_steps, replace(TRAINING, **kw), callbacks=callbacks)
    return model.values()

def killing(model, number):
    "A loss function that pulls the plug in the middle of an update"
    def loss_fn(batch):
        if batch.number == number: os.kill(os.getpid(), signal.SIGKILL)
        return model.loss(batch)
    return loss_fn

def spoilt(model, rank):
    "NaN, from the second step on, in process 1 alone"
    def loss_fn(batch):
        loss, metrics = model.loss(batch)
        return (loss*math.nan if rank == 1 and batch.number else loss), metrics
    return loss_fn

class Shift:
    "Moves a weight of one process, after the second update; a callback with a memory is called in all of them"
    def __repr__(self): return 'Shift()'
    def state_dict(self): return {}
    def load_state_dict(self, state): pass
    def after_step(self, state):
        if state.step == 2 and state.accelerator.process_index == 1: state.parameters[0].data[1] += 1e-7

def sick(model, rank, error=FloatingPointError):
    "One process fails in its reward, in batch 2"
    def loss_fn(batch):
        if batch.number == 2 and rank == 1: raise error('the score of video 0 is nan')
        return model.loss(batch)
    return loss_fn

def gradients(average):
    "The gradient of one process, averaged by torch's DDP around a module that the loss reaches past, or by us"
    with make_accelerator('cpu', timeout=TRAINING.process_timeout) as acc:
        module = Toy()
        official = DistributedDataParallel(module, find_unused_parameters=True)
        batch = batch_at(PROMPTS, 0, 4, part=split_batch(4, 1, 2, acc.process_index)[0])
        official.module.loss(batch)[0].backward()           # as a sampler does: the inner module's own methods
        if average: average_gradients(list(module.parameters()), acc)
    return [g for p in module.parameters() for g in (torch.zeros_like(p) if p.grad is None else p.grad).tolist()]

def failed(fn, *errors):
    "What an error says"
    try: return fn() and 'no error'
    except errors as e: return f'{type(e).__name__}: {e}'

def faults(rank, folder):
    "What goes wrong in one of two processes, one after the other; the last loses the connection"
    from vader_nb.training import NotFinite
    res = dict(official=gradients(False), ours=gradients(True))
    shift = lambda: train(Toy(), checkpoint=f'{folder}/shift.pt', save_every=3, callbacks=[Shift()])
    res['shifted'] = failed(shift, RuntimeError)
    res['error'] = failed(lambda: train(model := Toy(), sick(model, rank, KeyError)), RuntimeError, KeyError)
    model = Toy()
    res['skipped'] = train(model, sick(model, rank, NotFinite), max_skipped=1, checkpoint=f'{folder}/skip.pt')
    if rank == 0: res['signalled'] = failed(lambda: train(signalling(0), checkpoint=f'{folder}/term.pt'), SystemExit)
    else: res['signalled'] = failed(lambda: train(Toy(), checkpoint=f'{folder}/term.pt'), SystemExit)
    model, start = Toy(), time.time()
    Path(folder, f'{rank}.json').write_text(json.dumps(res))
    res['lost'] = failed(lambda: train(model, lost(model, rank)), ConnectionError)
    res['seconds'] = time.time() - start
    Path(folder, f'{rank}.json').write_text(json.dumps(res))

def signalling(number):
    "A model whose process gets SIGTERM in a batch"
    class Signalled(Toy):
        def loss(self, batch):
            if batch.number == number: os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(batch)
    return Signalled()

def lost(model, rank):
    "Process 1 hangs in batch 1 for longer than the other waits"
    def loss_fn(batch):
        if batch.number == 1 and rank == 1: time.sleep(60)
        return model.loss(batch)
    return loss_fn

def aligned(out, words):
    "Five updates through `vader_align` on the tiny model; the LoRA that this process ends with"
    from vader_nb.commands import align as command
    from vader_nb.lora import lora_parameters
    runs, plain_run = [], command._run_align
    command._run_align = lambda *a: runs.append(plain_run(*a)) or runs[-1]
    try: command.vader_align(['--out', str(out), *words])
    finally: command._run_align = plain_run
    return torch.cat([p.detach().flatten() for p in lora_parameters(runs[0].pipe)])

COMMAND = ('--reward green --train-steps 5 --batch-size 2 --num-inference-steps 2 --anchor 0 --savings none --eval-train 0 --eval-test 1 --diversity-prompts 0 '
           '--pictures 0 --n-train 8 --save-every 2 --witnesses edges --guard-every 3').split()
PIECES = ('--reward green --train-steps 3 --batch-size 2 --num-inference-steps 2 --anchor 1 --savings exact --eval-train 0 --eval-test 3 --eval-batch-size 1 --diversity-prompts 0 '
          '--pictures 1 --n-train 8 --tricks checkpoint_denoiser').split()

def drawn(folder, lora):
    "Three videos, and the same with a LoRA measured against those without, by the commands"
    from vader_nb.commands.eval import vader_eval
    from vader_nb.commands.sample import vader_sample
    vader_sample(f'--prompts tiny --n 3 --batch-size 2 --num-inference-steps 2 --out {folder}/videos'.split())
    vader_eval(f'--lora {lora} --n 3 --batch-size 2 --num-inference-steps 2 --measures edges --out {folder}/eval'.split())

def worker(task, folder):
    "What one of the processes does"
    rank, log = int(os.environ['RANK']), JSONLog(f'{folder}/log.jsonl', times=False)
    atexit.register(lambda: Path(folder, f'{rank}.open').write_text(str(torch.distributed.is_initialized())))  # registered first: runs last
    if task == 'faults': return faults(rank, folder)
    if task in ('align', 'pieces'): return torch.save(aligned(f'{folder}/two', COMMAND if task == 'align' else PIECES), f'{folder}/{rank}.pt')
    if task == 'draw': return drawn(f'{folder}/two', f'{folder}/lora')
    model = Toy(shift=rank)  # they start apart: the trainer must make them equal
    if task == 'kill': return train(model, killing(model, 5), checkpoint=f'{folder}/run.pt', callbacks=[Ema(.5), log])
    resumed, whole = Ema(.5), Ema(.5)
    res = dict(resumed=train(model, checkpoint=f'{folder}/run.pt', callbacks=[resumed, log]), whole=train(Toy(shift=rank), callbacks=[whole]))
    res |= {f'average {k}': [a.tolist() for a in ema.average] for k, ema in dict(resumed=resumed, whole=whole).items()}
    model = Toy(shift=rank)
    try: train(model, spoilt(model, rank))
    except FloatingPointError as e: res |= dict(error=str(e), spoilt=model.values())
    with open(f'{folder}/{rank}.json', 'w') as f: json.dump(res, f)

def launch(task, folder, n=2, wait=None, **more):
    "Start `n` processes as `accelerate launch --cpu` does; their exit codes, of the first `wait`"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = dict(WORLD_SIZE=str(n), LOCAL_WORLD_SIZE=str(n), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    ps = [forks.start(worker, task, str(folder), RANK=str(r), LOCAL_RANK=str(r), **env, **more) for r in range(n)]
    try: return forks.codes(ps[:wait])
    finally:
        for p in ps: p.kill()

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "Folder and results of two processes, killed and resumed"
    folder = tmp_path_factory.mktemp('two')
    codes = launch('kill', folder)
    assert -signal.SIGKILL in codes and 0 not in codes
    assert len(read_log(folder/'log.jsonl')) == 5
    assert launch('resume', folder) == [0, 0]
    return folder, [json.loads((folder/f'{r}.json').read_text()) for r in range(2)]

def close(a, b, eps=1e-6): return all(abs(x - y) < eps for k in a for x, y in zip(a[k], b[k], strict=True))

def test_two_processes_are_one(two):
    one = train(Toy())
    assert close(two[1][0]['whole'], one)
    assert one['idle'] != [.7]  # weight decay alone
    assert not close(train(Toy(), seed=1), one, 1e-3)

def test_processes_are_equal(two): assert two[1][0]['whole'] == two[1][1]['whole']

def test_killed_and_resumed(two):
    for r in two[1]: assert r['resumed'] == r['whole']

def test_average_of_the_weights(two):
    train(Toy(), callbacks=[one := Ema(.5)])
    for r in two[1]:
        assert r['average resumed'] == r['average whole'] == two[1][0]['average whole'] != list(r['whole'].values())
        assert all(abs(x - y) < 1e-6 for a, b in zip(one.average, r['average whole']) for x, y in zip(a.tolist(), b))

def test_log(two, tmp_path):
    train(Toy(), callbacks=[JSONLog(tmp_path/'log.jsonl')])
    one, both = read_log(tmp_path/'log.jsonl'), read_log(two[0]/'log.jsonl')
    assert [r['step'] for r in both] == list(range(1, 8))
    for a, b in zip(one, both):
        for k in ('loss', 'reward', 'grad_norm', 'queries'): assert abs(a[k] - b[k]) < 1e-5*max(1, abs(a[k])), k

def test_nan_in_one_process_stops_both(two):
    for r in two[1]: assert r['error'].startswith('step 2: loss is nan') and close(r['spoilt'], train(Toy(), train_steps=1))

def test_connection_is_closed_at_the_end(two):  # open, it aborts about every third process that has finished
    assert [(two[0]/f'{r}.open').read_text() for r in range(2)] == ['False', 'False']

@pytest.fixture(scope='module')
def faulty(tmp_path_factory):
    "Folder, results and exit codes of two processes in which one fault follows another"
    folder = tmp_path_factory.mktemp('faulty')
    codes = launch('faults', folder, wait=1)
    return folder, [json.loads((folder/f'{r}.json').read_text()) for r in range(2)], codes

def test_the_official_way_does_not_average(faulty):
    a, b = faulty[1]
    assert a['official'] != b['official'] and a['ours'] == b['ours']
    model = Toy()
    model.loss(batch_at(PROMPTS, 0, 4))[0].backward()
    one = [g for p in model.parameters() for g in (torch.zeros_like(p) if p.grad is None else p.grad).tolist()]
    off = lambda found: max(abs(x - y) for x, y in zip(found, one, strict=True))
    assert off(a['ours']) < 1e-6 < 1e-2 < min(off(a['official']), off(b['official']))

def test_a_perturbed_process_stops_all_before_a_checkpoint(faulty):
    for r in faulty[1]: assert r['shifted'].startswith('RuntimeError: after update 3 the weights of process 1 are not those of the others')
    assert not (faulty[0]/'shift.pt').exists()

def test_an_error_in_one_process_stops_both(faulty):
    assert faulty[1][1]['error'] == "KeyError: 'the score of video 0 is nan'"
    assert faulty[1][0]['error'].startswith('RuntimeError: step 3: another process has failed')

def test_an_update_that_is_not_finite_in_one_process_is_left_out_in_both(faulty):
    from vader_nb.faults import read_case
    from vader_nb.training import NotFinite
    model = Toy()
    one = train(model, sick(model, 1, NotFinite), max_skipped=1)
    for r in faulty[1]: assert close(r['skipped'], one) and r['skipped'] == faulty[1][0]['skipped']
    assert read_case(faulty[0]/'skip_not_finite.pt')['prompts'] == batch_at(PROMPTS, 2, 4).prompts

def test_a_signal_to_one_process_ends_both(faulty):
    for r in faulty[1]: assert r['signalled'] == 'SystemExit: 143'
    assert close(train(Toy(), checkpoint=faulty[0]/'term.pt'), train(Toy()), 1e-6)

def test_a_process_that_hangs_is_given_up(faulty):
    said = faulty[1][0]
    assert said['lost'].startswith('ConnectionError: after update 1 another process was lost or did not answer in time: process 0 stops')
    assert said['seconds'] < 40 and faulty[2][0] == 0

@pytest.fixture(scope='module')
def commanded(tmp_path_factory):
    "Folder in which two processes have run the command"
    folder = tmp_path_factory.mktemp('commanded')
    assert launch('align', folder) == [0, 0]
    return folder

def test_the_command_in_two_processes_is_the_command_in_one(commanded):
    tmp_path, one = commanded, aligned(commanded/'one', COMMAND)
    a, b = (torch.load(tmp_path/f'{r}.pt') for r in range(2))
    logs = [read_log(tmp_path/name/'log.jsonl') for name in ('one', 'two')]

    assert torch.equal(a, b) and (a - one).abs().max() < 1e-4 < one.abs().max()      # Adam divides a rounding by the gradient's own size
    for x, y in zip(*logs, strict=True):
        first = x['step'] == 1
        for k in ('loss', 'reward', 'grad_norm'): assert abs(x[k] - y[k]) < (1e-6 if first else 1e-4)*max(1, abs(x[k])), k
        assert [x[k] for k in ('queries', 'videos')] == [y[k] for k in ('queries', 'videos')]
    looks = [json.loads((tmp_path/name/'guard'/'looks.json').read_text()) for name in ('one', 'two')]
    assert [r['step'] for r in looks[0]] == [r['step'] for r in looks[1]] == [3, 5]
    here = [sorted(p.relative_to(tmp_path/name).as_posix() for p in (tmp_path/name).rglob('*')) for name in ('one', 'two')]
    assert here[0] == here[1]

def test_as_it_is_typed(commanded):
    "`accelerate launch -m`, which starts torchrun, which starts two interpreters"
    words = '-m accelerate.commands.launch --multi-gpu --num-processes 2 --num-machines 1 --main-process-port 0 --mixed-precision no --dynamo-backend no -m vader_nb.commands.align'
    env = os.environ | OFFLINE | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', HF_HOME=str(commanded/'home'))      # no config of the user's
    res = subprocess.run([sys.executable, *words.split(), '--out', 'typed', *COMMAND], cwd=commanded, env=env, capture_output=True, text=True, timeout=300)
    assert res.returncode == 0, res.stderr
    assert '2 processes x 1 micro-batches x 1 videos' in res.stdout
    typed, two = (sorted(p.relative_to(commanded/name).as_posix() for p in (commanded/name).rglob('*')) for name in ('typed', 'two'))
    assert typed == two
    lora = 'pytorch_lora_weights.safetensors'
    assert (commanded/'typed'/lora).read_bytes() == (commanded/'two'/lora).read_bytes()

def test_a_base_in_pieces_is_a_base(tmp_path):
    "FSDP2, asked for as accelerate does: LoRA, evaluation and files are those of one process"
    assert launch('pieces', tmp_path, ACCELERATE_USE_FSDP='true', FSDP_VERSION='2') == [0, 0]
    one = aligned(tmp_path/'one', PIECES)
    a, b = (torch.load(tmp_path/f'{r}.pt') for r in range(2))
    logs = [read_log(tmp_path/name/'log.jsonl') for name in ('one', 'two')]
    assert torch.equal(a, b) and (a - one).abs().max() < 1e-4 < one.abs().max()
    for k in ('loss', 'reward', 'grad_norm', 'drift'): assert abs(logs[0][0][k] - logs[1][0][k]) < 1e-5*max(1, abs(logs[0][0][k])), k
    found = [json.loads((tmp_path/name/'results.json').read_text()) for name in ('one', 'two')]
    for side in ('before', 'after'):
        for x, y in zip(*(f[side]['held_out']['scores'] for f in found), strict=True): assert abs(x - y) < 1e-4
    here = [sorted(p.relative_to(tmp_path/name).as_posix() for p in (tmp_path/name).rglob('*')) for name in ('one', 'two')]
    assert here[0] == here[1] and 'before_after.mp4' in here[0]

def test_drawing_is_shared_out(tmp_path):
    from vader_nb.lora import add_lora, lora_parameters, save_lora
    from vader_nb.models.load import load_pipeline
    add_lora(pipe := load_pipeline('tiny'), 2)
    for p in lora_parameters(pipe): torch.nn.init.normal_(p, std=.02, generator=torch.Generator().manual_seed(0))
    save_lora(pipe, tmp_path/'lora')
    assert launch('draw', tmp_path) == [0, 0]
    drawn(tmp_path/'one', tmp_path/'lora')
    files = [sorted(p.relative_to(tmp_path/name).as_posix() for p in (tmp_path/name).rglob('*') if p.is_file()) for name in ('one', 'two')]
    assert files[0] == files[1]
    for f in files[0]:
        if f.endswith('.png'): assert (tmp_path/'one'/f).read_bytes() == (tmp_path/'two'/f).read_bytes(), f
    value = lambda name: sorted(json.dumps(json.loads(l), sort_keys=True) for l in (tmp_path/name/'eval'/'values.jsonl').read_text().splitlines())
    assert value('one') == value('two')

def test_batch_that_two_processes_cannot_share():
    with pytest.raises(ValueError, match='give a multiple of 2'): split_batch(3, 1, num_processes=2)
