"Every reward that `load_reward` makes without a network keeps the contract; a reward that does not is told what it breaks"
import pytest, torch
from vader_nb.rewards.load import CLOSED_FORMS, TOYS, load_reward
from vader_nb.rewards.contract import check_contract
from vader_nb.rewards.core import Reward
from vader_nb.world import render

PROMPTS = ['a red circle moving left over sand with a gem', 'a blue square growing over night']
FRAMES, _ = render(PROMPTS, torch.Generator().manual_seed(0))

@pytest.mark.parametrize('name', sorted(CLOSED_FORMS | TOYS))
def test_contract(name): assert all(f.ok for f in check_contract(load_reward(name), FRAMES, PROMPTS))

@pytest.mark.parametrize('fn, message', [
    (lambda f, p: f.mean((1, 2, 3, 4))*len(p[0]), 'permuting the batch'),
    (lambda f, p: f[:, :1].mean((1, 2, 3, 4)), r'no gradient at \(video, frame\)'),
    (lambda f, p: (f + ((f*255).round()/255 - f).detach()).square().mean((1, 2, 3, 4)), 'gradient is the derivative')])
def test_broken(fn, message):
    with pytest.raises(AssertionError, match=message): check_contract(Reward(fn), FRAMES, PROMPTS)
