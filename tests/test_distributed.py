"Two processes train as one does: `fit` is started twice on the CPU, killed, resumed, and compared with a single process."
import atexit, json, math, os, signal, socket, subprocess, sys
import pytest, torch
from dataclasses import replace
from pathlib import Path
from vader_nb.callbacks import JSONLog, read_log
from vader_nb.ema import Ema
from vader_nb.trainer import fit
from vader_nb.training import Training

PROMPTS = ['a', 'b', 'c', 'rare d', 'e', 'f']
TRAINING = Training(batch_size=4, lr=.05, weight_decay=.1, save_every=2)


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

def worker(task, folder):
    "What one of the processes does"
    rank, log = int(os.environ['RANK']), JSONLog(f'{folder}/log.jsonl', times=False)
    atexit.register(lambda: Path(folder, f'{rank}.open').write_text(str(torch.distributed.is_initialized())))  # registered first: runs last
    model = Toy(shift=rank)  # they start apart: the trainer must make them equal
    if task == 'kill': return train(model, killing(model, 5), checkpoint=f'{folder}/run.pt', callbacks=[Ema(.5), log])
    resumed, whole = Ema(.5), Ema(.5)
    res = dict(resumed=train(model, checkpoint=f'{folder}/run.pt', callbacks=[resumed, log]), whole=train(Toy(shift=rank), callbacks=[whole]))
    res |= {f'average {k}': [a.tolist() for a in ema.average] for k, ema in dict(resumed=resumed, whole=whole).items()}
    model = Toy(shift=rank)
    try: train(model, spoilt(model, rank))
    except FloatingPointError as e: res |= dict(error=str(e), spoilt=model.values())
    with open(f'{folder}/{rank}.json', 'w') as f: json.dump(res, f)

def launch(task, folder, n=2):
    "Start `n` processes as `accelerate launch --cpu` does; their exit codes"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = os.environ | dict(WORLD_SIZE=str(n), LOCAL_WORLD_SIZE=str(n), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port),
                            OMP_NUM_THREADS='1', PYTHONPATH=os.getcwd())
    ps = [subprocess.Popen([sys.executable, __file__, task, str(folder)], env=env | dict(RANK=str(r), LOCAL_RANK=str(r)))
          for r in range(n)]
    try: return [p.wait(timeout=300) for p in ps]
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

def test_batch_that_two_processes_cannot_share():
    from vader_nb.batches import split_batch
    with pytest.raises(ValueError, match='give a multiple of 2'): split_batch(3, 1, num_processes=2)


if __name__ == '__main__': worker(*sys.argv[1:])
