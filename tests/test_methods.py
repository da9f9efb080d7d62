"DDPO, Diffusion-DPO and DiffusionNFT in two processes are those in one: what is compared is compared with the whole batch"
import json, os, socket, subprocess, sys
import pytest
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

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "What both of two processes end with"
    folder = tmp_path_factory.mktemp('methods')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = os.environ | dict(WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), OMP_NUM_THREADS='1', PYTHONPATH=os.getcwd())
    ps = [subprocess.Popen([sys.executable, __file__, str(folder/f'{r}.json')], env=env | dict(RANK=str(r), LOCAL_RANK=str(r))) for r in range(2)]
    try: assert [p.wait(timeout=300) for p in ps] == [0, 0]
    finally:
        for p in ps: p.kill()
    return [json.loads((folder/f'{r}.json').read_text()) for r in range(2)]

@pytest.mark.parametrize('name', METHODS)
def test_two_processes_are_one(two, name):
    assert two[0][name] == two[1][name]
    assert abs(two[0][name] - train(name)) < 1e-5 < abs(train(name, seed=1) - train(name))

if __name__ == '__main__':
    result = {name: train(name) for name in METHODS}
    with open(sys.argv[1], 'w') as f: json.dump(result, f)
