"""A run that is killed again and again ends with the bytes of one that nobody disturbed.

    PYTHONPATH=. python tests/test_kills.py --kills 30               SIGKILL, SIGTERM and a full disk, on a toy of four weights
    PYTHONPATH=. python tests/test_kills.py --kills 30 --command     the same, through `vader_align` and the tiny model (a quarter of an hour)

A child of this process, which has imported everything already, does the work; so a start costs milliseconds.
"""
import argparse, errno, io, os, random, signal, sys, tempfile, time, warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch
import pytest, torch
from vader_nb.callbacks import JSONLog, read_log
from vader_nb.checkpoints import load_state
from vader_nb.ema import Ema
from vader_nb.trainer import fit
from vader_nb.training import Training
from test_distributed import PROMPTS, Toy

UPDATES = 40

def toy_run(folder, pause=.004, disk=None):
    "A run of 40 updates that saves after each; every update takes some milliseconds"
    model = Toy()
    def loss_fn(batch):
        time.sleep(pause)
        return model.loss(batch)
    training = Training(batch_size=4, lr=.05, checkpoint=folder/'run.pt', save_every=1, keep_checkpoints=2)
    with disk or patch.dict({}): fit(loss_fn, model.parameters(), PROMPTS, UPDATES, training, callbacks=[JSONLog(folder/'log.jsonl', times=False), Ema(.9)])

def often_full(seed, last=None):
    "A disk on which every other write of a checkpoint fails, at the start, in the middle or at the end; `last`: with that half-written file the process dies"
    rng, save, sync, halves = random.Random(seed), torch.save, os.fsync, iter(range(1, 1000))
    def full(*a): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    def write(parts, file):
        save(parts, file)
        if rng.random() < .3:
            os.truncate(file, os.path.getsize(file)//2)
            if next(halves) == last: os.kill(os.getpid(), signal.SIGKILL)
            full()
    def synced(number): return full() if rng.random() < .3 else sync(number)
    both = patch('torch.save', write), patch('os.fsync', synced)
    class Disk:
        def __enter__(self): [p.start() for p in both]
        def __exit__(self, *error): [p.stop() for p in both]
    return Disk()

def child(work):
    "Its process id; what it says is dropped"
    pid = os.fork()
    if pid: return pid
    code = 1
    try:
        torch.set_num_threads(1)
        warnings.simplefilter('ignore')
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()): work()
        code = 0
    except SystemExit as e: code = e.code or 0
    finally: os._exit(code)

def ended(pid, number, after):
    "Send a signal after some seconds, unless it has ended before; its exit code"
    end = time.time() + after
    while time.time() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found: return os.waitstatus_to_exitcode(status)
        time.sleep(.001)
    os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def readable(folder):
    "Every checkpoint that is there can be read"
    for f in folder.glob('[!.]*.pt'): assert load_state(f)['fit'] == 1

def disturb(folder, kills, number, work, longest, seed=0):
    "Start, end, and look, until the run is through; how often it was ended in the middle"
    rng, hits = random.Random(seed), 0
    while (code := ended(child(work), number, rng.uniform(0, longest) if hits < kills else 600)) != 0:
        assert code in (-number, 143), code
        readable(folder)
        hits += 1
        assert hits <= kills
    return hits

def files(folder): return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())

def same(folder, whole):
    "No stray file; weights, averages and log as those of the run that nobody disturbed"
    assert set(files(folder)) - {'run.1.pt'} == {'log.jsonl', 'run.pt'}
    a, b = load_state(folder/'run.pt'), load_state(whole/'run.pt')
    bits = lambda s: [t.numpy().tobytes() for t in (*s['parameters'], *s['kept'][0]['average'])]
    assert bits(a) == bits(b) and len(a['log']) == UPDATES
    assert read_log(folder/'log.jsonl') == read_log(whole/'log.jsonl')

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The folder of a run that nobody disturbed"
    folder = tmp_path_factory.mktemp('whole')
    assert ended(child(lambda: toy_run(folder, 0)), signal.SIGKILL, 100) == 0
    return folder

@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_killed_at_random_moments(tmp_path, whole, number, kills=5):
    longest, hits, seed = .3, 0, 0
    while hits < kills:             # a run may get through before it is hit often enough
        folder = tmp_path/f'{number}_{seed}'
        folder.mkdir()
        hits += disturb(folder, kills - hits, number, lambda: toy_run(folder), longest, seed)
        same(folder, whole)
        seed += 1
        assert seed < 20*kills

def test_a_disk_that_is_often_full(tmp_path, whole, kills=3):
    for seed in range(kills):
        folder = tmp_path/f'{seed}'
        folder.mkdir()
        disturb(folder, 2, signal.SIGKILL, lambda: toy_run(folder, disk=often_full(seed)), .3, seed)
        readable(folder)
        if (folder/'run.pt').exists() and len(load_state(folder/'run.pt')['log']) == UPDATES: same(folder, whole)
        assert ended(child(lambda: toy_run(folder)), signal.SIGKILL, 100) == 0          # room again
        same(folder, whole)

def command_run(folder):
    "A short `vader_align` on the tiny model"
    from vader_nb.commands.align import vader_align
    vader_align(['--out', str(folder), '--reward', 'green', '--train-steps', '12', '--batch-size', '1', '--num-inference-steps', '2', '--anchor', '0',
                 '--savings', 'none', '--eval-train', '0', '--eval-test', '1', '--diversity-prompts', '0', '--save-every', '1', '--pictures', '0', '--n-train', '8'])

def same_command(out, whole):
    "The LoRA of the command, and its files, as those of the call that nobody disturbed"
    weights = 'pytorch_lora_weights.safetensors'
    assert (out/weights).read_bytes() == (whole/weights).read_bytes() and files(out) == files(whole)

def kill_command(folder, number, kills, whole, longest):
    "`kills` signals to `vader_align`, in as many runs as it takes, each to its end"
    hits, seed = 0, 0
    while hits < kills:
        out = folder/f'{number}_{seed}'
        hits += disturb(out, kills - hits, number, lambda: command_run(out), longest, seed)
        same_command(out, whole)
        seed += 1
    print(f'{hits} times {signal.Signals(number).name} to vader_align in {seed} runs of {longest:.1f} s: the same bytes, the same files', flush=True)

def fill_disk_of_command(folder, times, whole):
    "`vader_align` on a disk that is often full, until it dies with a half-written checkpoint or is through; then again with room"
    codes = []
    for seed in range(times):
        out = folder/f'full_{seed}'
        def work():
            with often_full(seed, last=1 + seed % 3): command_run(out)
        codes.append(ended(child(work), signal.SIGKILL, 300))
        assert codes[-1] in (0, -signal.SIGKILL), codes
        readable(out)
        assert ended(child(lambda: command_run(out)), signal.SIGKILL, 300) == 0
        same_command(out, whole)
    assert -signal.SIGKILL in codes
    print(f'{times} times vader_align on a disk that is often full, {codes.count(-signal.SIGKILL)} of them killed with half a checkpoint; then with room: the same bytes, the same files', flush=True)

def disturb_command(folder, times):
    "All that a run of `vader_align` has to survive"
    started, whole = time.time(), folder/'whole'
    assert ended(child(lambda: command_run(whole)), signal.SIGKILL, 300) == 0
    longest = time.time() - started
    for number in (signal.SIGKILL, signal.SIGTERM): kill_command(folder, number, times, whole, longest)
    fill_disk_of_command(folder, times, whole)

def test_command_on_a_full_disk(tmp_path):
    "Once, in the tests; with signals and thirty times by hand"
    assert ended(child(lambda: command_run(tmp_path/'whole')), signal.SIGKILL, 300) == 0
    fill_disk_of_command(tmp_path, 1, tmp_path/'whole')

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--command', action='store_true')
    given, started = parser.parse_args(), time.time()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if given.command: disturb_command(folder, given.kills)
        else:
            whole = folder/'whole'
            whole.mkdir()
            ended(child(lambda: toy_run(whole, 0)), signal.SIGKILL, 100)
            for number in (signal.SIGKILL, signal.SIGTERM): test_killed_at_random_moments(folder, whole, number, given.kills)
            (folder/'full').mkdir()
            test_a_disk_that_is_often_full(folder/'full', whole, given.kills)
            print(f'{given.kills} times SIGKILL, SIGTERM, and a disk that is often full: the same bytes, the same files')
    print(f'{time.time() - started:.0f} s')

if __name__ == '__main__': main()
