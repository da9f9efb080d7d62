"DDPO, Diffusion-DPO and DiffusionNFT in two processes are those in one: what is compared is compared with the whole batch"
import json, os, signal, socket
import forks, pytest
from vader_nb.methods.ddpo import DDPO, ddpo_loss
from vader_nb.methods.dpo import DPO, dpo_loss
from vader_nb.methods.nft import NFT, nft_loss
from vader_nb.methods.policy import GrainyPipeline
from vader_nb.rewards.core import as_reward
from vader_nb.trainer import fit
from vader_nb.training import Training

STEPS, PROMPTS = dict(num_inference_steps=4), ['one', 'two', 'three']
METHODS = dict(ddpo=(ddpo_loss, DDPO(buffer_size=8, min_count=3)), dpo=(dpo_loss, DPO(buffer_size=6)), nft=(nft_loss, NFT(levels=1, rate=.2)))

def train(name, seed=0):
    "The weight after two batches with two updates each"
    pipe, (make, method) = GrainyPipeline(), METHODS[name]
    reward = as_reward(lambda frames, prompts: -(frames.mean((1, 2, 3, 4)) - .6).square())
    fit(make(pipe, reward, method, **STEPS), pipe.denoiser.parameters(), PROMPTS, 4, Training(batch_size=4, lr=.02, seed=seed), 2)
    return pipe.denoiser.weight.item()

def write_all(file):
    "What each of two processes does"
    result = {name: train(name) for name in METHODS}
    for name in METHODS:
        result[f'align {name}'] = lora_values(name).tolist()
        result[f'queries {name}'] = aligned(name)[1].log[-1]['queries']
    file.write_text(json.dumps(result))

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "What both of two processes end with"
    folder = tmp_path_factory.mktemp('methods')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = dict(WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    ps = [forks.start(write_all, folder/f'{r}.json', RANK=str(r), LOCAL_RANK=str(r), **env) for r in range(2)]
    try: assert forks.codes(ps) == [0, 0]
    finally:
        for p in ps: p.kill()
    return [json.loads((folder/f'{r}.json').read_text()) for r in range(2)]

@pytest.mark.parametrize('name', METHODS)
def test_two_processes_are_one(two, name):
    assert two[0][name] == two[1][name]
    assert abs(two[0][name] - train(name)) < 1e-5 < abs(train(name, seed=1) - train(name))

@pytest.mark.parametrize('name', METHODS)
def test_two_processes_are_one_through_align(two, name):
    one, other = lora_values(name), lora_values(name, seed=1)
    for values in two: assert abs(one - values[f'align {name}']).max() < 1e-4 < abs(one - other).max()
    assert two[0][f'align {name}'] == two[1][f'align {name}']
    assert two[0][f'queries {name}'] == aligned(name)[1].log[-1]['queries']

@pytest.mark.parametrize('name', METHODS)
def test_an_average_of_the_weights_changes_no_training(tmp_path, name):
    from vader_nb.ema import Ema
    from vader_nb.lora import lora_parameters
    plain, (average, run) = aligned(name)[0], aligned(name, more=(Ema(.5),))
    assert average != plain
    with run.ema.lifted(): assert b''.join(p.detach().numpy().tobytes() for p in lora_parameters(run.pipe)) == plain
    aligned(name, tmp_path/'a.pt', steps=2, more=(Ema(.5),))
    assert aligned(name, tmp_path/'a.pt', more=(Ema(.5),))[0] == average

class Plug:
    "Pulled after some updates: nothing is closed, nothing more is written"
    def __init__(self, step): self.step = step
    def after_step(self, state):
        if state.step == self.step: os.kill(os.getpid(), signal.SIGKILL)

def aligned(name, file=None, kill=0, seed=0, steps=4, more=()):
    "The run, and the bytes of the LoRA, after two batches with two updates each"
    from toy import Toy
    from vader_nb.lora import Lora, lora_parameters
    from vader_nb.methods.vader import align
    from vader_nb.savings.rollout import Savings
    training, (_, method) = Training(batch_size=4, lr=.02, seed=seed, checkpoint=file, save_every=1), METHODS[name]
    reward = as_reward(lambda frames, prompts: (frames.detach() > .6).float().mean((1, 2, 3, 4)))      # no derivative
    callbacks = (*more, Plug(kill)) if kill else more
    run = align(Toy(), reward, PROMPTS, steps, method, Lora(2), Savings(updates_per_rollout=2), training, callbacks, **STEPS)
    assert run.log[-1]['videos'] == run.log[-1]['queries'] > 0 and any(r['grad_norm'] for r in run.log)
    return b''.join(p.detach().numpy().tobytes() for p in lora_parameters(run.pipe)), run

def lora_values(name, **kw):
    "The LoRA after the same, as numbers"
    import numpy as np
    return np.frombuffer(aligned(name, **kw)[0], np.float32)

@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    "A folder with the checkpoints of runs that were killed in the middle of a batch"
    folder = tmp_path_factory.mktemp('killed')
    codes = [forks.codes([forks.start(aligned, name, folder/f'{name}.pt', 3)])[0] for name in METHODS]
    assert codes == [-signal.SIGKILL]*len(METHODS)
    return folder

@pytest.mark.parametrize('name', METHODS)
def test_killed_and_resumed_is_the_same_bytes(killed, name):
    file = killed/f'{name}.pt'
    assert file.exists()
    (resumed, a), (whole, b) = aligned(name, file), aligned(name)
    assert resumed == whole
    log, other = a.log[-1], b.log[-1]
    assert {k: log[k] for k in ('videos', 'backwards')} == {k: other[k] for k in ('videos', 'backwards')}
