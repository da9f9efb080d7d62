"LAION's aesthetic predictor"
import torch
from golden import SINGLE, Check
from transformers import CLIPConfig, CLIPModel
from vader_nb.rewards.aesthetic import AestheticHead, aesthetic_loss, aesthetic_reward
from vader_nb.rewards.clip import image_embeds, resize_squash
from vader_nb.rewards.core import reward_loss

def models(case, dtype):
    "CLIP and head of a case, from its own configuration"
    c, mlp = case.info['constructor'], case.part('sd.mlp.')
    clip = CLIPModel(CLIPConfig(projection_dim=c['projection_dim'], vision_config=c['vision_config'], text_config=c['text_config']))
    clip.load_state_dict(case.part('sd.clip.'))
    head = AestheticHead(mlp['layers.0.weight'].shape[1], tuple(mlp[f'layers.{i}.weight'].shape[0] for i in (0, 2, 4, 6)))
    head.load_state_dict(mlp)
    return clip.to(dtype), head.to(dtype)

def laion_aesthetic(case):
    for dtype, bits, tol in ((torch.float64, 64, 1e-8), (torch.float32, 32, SINGLE)):
        clip, head = models(case, dtype)
        x = case['in.pixels'].to(dtype).requires_grad_()
        frames = (x/2 + .5).clamp(0, 1)[:, None]
        scores = aesthetic_reward(clip, head, resize=resize_squash)(frames, ['']*len(x))
        loss = reward_loss(scores, aesthetic_loss)
        for name, got in dict(rewards=scores, reward_mean=scores.mean(), loss_target10=loss, loss_maximise=-.1*scores.mean()).items():
            yield Check(f'out{bits}.{name}', got, case[f'out{bits}.{name}'], tol)
        if bits == 32: return
        yield Check('out64.image_embeds_before_norm', image_embeds(clip, frames[:, 0], resize_squash, unit=False),
                    case['out64.image_embeds_before_norm'], tol)
        # the norm looser: a pixel may lie exactly on the clamp's edge, where versions of torch differ
        yield from case.gradient('out64.grad_pixels_of_loss_target10', torch.autograd.grad(loss, x)[0], 1e-6, 1e-5)

CHECKS = dict(laion_aesthetic=laion_aesthetic)
