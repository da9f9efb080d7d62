"The aesthetic reward against the recorded vectors of the official code"
import json
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel
from vader_nb.rewards.aesthetic import AestheticHead, aesthetic_loss, aesthetic_reward
from vader_nb.rewards.clip import image_embeds, resize_crop, resize_squash
from vader_nb.rewards.core import reward_loss

GOLDEN = Path(__file__).parents[2]/'shared'/'golden'
pytestmark = pytest.mark.skipif(not (GOLDEN/'laion_aesthetic.json').is_file(), reason=f'the recorded vectors are not at {GOLDEN}')


def part(data, prefix): return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}

def models(data, case, dtype):
    "CLIP and head of a case, from its own configuration"
    c = case['constructor']
    clip = CLIPModel(CLIPConfig(projection_dim=c['projection_dim'], vision_config=c['vision_config'], text_config=c['text_config']))
    clip.load_state_dict(part(data, 'sd.clip.'))
    mlp = part(data, 'sd.mlp.')
    head = AestheticHead(mlp['layers.0.weight'].shape[1], tuple(mlp[f'layers.{i}.weight'].shape[0] for i in (0, 2, 4, 6)))
    head.load_state_dict(mlp)
    return clip.to(dtype), head.to(dtype)

def largest(a, b): return ((a - b).abs().max()/b.abs().max()).item()

@pytest.mark.parametrize('dtype, bits, tol', [(torch.float64, 64, 1e-8), (torch.float32, 32, 5e-5)])
def test_official_score_loss_and_gradient(dtype, bits, tol):
    case, data = json.loads((GOLDEN/'laion_aesthetic.json').read_text()), load_file(GOLDEN/'laion_aesthetic.safetensors')
    clip, head = models(data, case, dtype)
    reward = aesthetic_reward(clip, head, resize=resize_squash)
    x = data['in.pixels'].to(dtype).requires_grad_()
    frames = (x/2 + .5).clamp(0, 1)[:, None]
    scores = reward(frames, [''] * len(x))
    loss, maximise = reward_loss(scores, aesthetic_loss), -.1*scores.mean()
    for name, got in dict(rewards=scores, reward_mean=scores.mean(), loss_target10=loss, loss_maximise=maximise).items():
        assert largest(got, data[f'out{bits}.{name}']) < tol, name
    if bits == 32: return
    before = image_embeds(clip, frames[:, 0], resize_squash, unit=False)
    assert largest(before, data['out64.image_embeds_before_norm']) < tol
    grad = torch.autograd.grad(loss, x)[0].flatten()
    key = next(k for k in data if k.startswith('out64.grad_pixels_of_loss_target10.every'))
    assert largest(grad[::int(key.rsplit('every')[1])], data[key].double()) < 1e-6
    # looser: a pixel lies exactly on the clamp's edge, where versions of torch differ
    assert abs(grad.norm()/data['out64.grad_pixels_of_loss_target10.l2norm'] - 1) < 1e-5

def test_the_published_preprocessing_differs_from_the_official_port():
    case, data = json.loads((GOLDEN/'laion_aesthetic.json').read_text()), load_file(GOLDEN/'laion_aesthetic.safetensors')
    clip, head = models(data, case, torch.float64)
    frames = (data['in.pixels'].double()/2 + .5).clamp(0, 1)[:, None]
    scores = aesthetic_reward(clip, head, resize=resize_crop)(frames, [''] * len(frames))
    assert largest(scores, data['out64.rewards']) > 1e-6
