"HPSv2, PickScore, and the paper's combination of HPS and aesthetic score"
from unittest.mock import patch

import torch
import vader_nb.rewards.clip as clip_module
from golden import SINGLE, Check
from golden_checks.aesthetic import models as aesthetic_models
from transformers import CLIPConfig, CLIPModel
from vader_nb.rewards.aesthetic import aesthetic_reward
from vader_nb.rewards.clip import image_embeds, normalise, resize_squash
from vader_nb.rewards.core import maximise, reward_loss
from vader_nb.rewards.preference import (aesthetic_hps_goal, aesthetic_hps_loss, aesthetic_hps_reward, convert_open_clip, hps_loss, hps_reward,
                                         ids_embeds, pickscore_loss, pickscore_reward, resize_unclamped)

def _tolerances(case):
    "Tolerances of float64, float32 and gradients, as the case states them"
    t = case.info['tolerance']
    return t['float64'], t['float32'], next(v for k, v in t.items() if k.startswith('grad'))

def _near_zero(want, tol, unit=1.):
    "The tolerance, relative to a tenth of the largest possible score where scores are smaller: cosines cancel, and rounding does not shrink with them"
    return tol*max(1., .1*unit/want.abs().max().clamp(min=1e-12).item())

def _frames(pixels):
    "The script's x/2 + .5, cut to [0, 1]. The vectors were made with a torch whose `clamp` passes no gradient on the edge itself; older ones pass it"
    x = pixels/2 + .5
    return torch.where((x > 0) & (x < 1), x, x.detach().clamp(0, 1))[:, None]

def _single_constants():
    "CLIP's mean and standard deviation as float32 knows them, as in PickScore's vectors also in float64 (the case says so)"
    return patch.multiple(clip_module, **{k: tuple(torch.tensor(getattr(clip_module, k)).tolist()) for k in ('CLIP_MEAN', 'CLIP_STD')})

def _numbers(ids): return lambda prompts: ids[[int(p) for p in prompts]]      # prompt 'i' is the case's i-th text

def _hps(case, dtype):
    "CLIP and reward of a case, converted from its open_clip weights"
    v, t = case.info['constructor']['vision_cfg'], case.info['constructor']['text_cfg']
    acts = 'quick_gelu' if case.info['constructor'].get('quick_gelu') else 'gelu'
    clip = convert_open_clip(case.part('sd.'), v['width']//v.get('head_width', 64), t['heads'], acts, dtype)
    return clip, hps_reward(clip, tokenizer=_numbers(case['in.tokens']), resize=resize_squash)

def hpsv2(case):
    exact, single, grad = _tolerances(case)
    prompts = [str(i) for i in range(len(case['in.pixels']))]
    for dtype, bits, tol in ((torch.float64, 64, exact), (torch.float32, 32, min(single, SINGLE))):
        clip, reward = _hps(case, dtype)
        x = case['in.pixels'].to(dtype).requires_grad_()
        frames = _frames(x)
        scores = reward(frames, prompts)
        found = dict(image_features=image_embeds(clip, frames[:, 0], resize_squash), text_features=ids_embeds(clip, case['in.tokens']), scores=scores,
                     score_mean=scores.mean(), loss_mean=reward_loss(scores, hps_loss), logit_scale_exp=clip.logit_scale.exp(),
                     preprocessed_sample=normalise(resize_squash(frames[:, 0], clip.config.vision_config.image_size))[:, :, ::16, ::16])
        for name, got in found.items():
            if (want := case.data.get(f'out{bits}.{name}')) is not None: yield Check(f'out{bits}.{name}', got, want, _near_zero(want, tol))
        if bits == 32: return
        yield from case.gradient('out64.grad_pixels_of_score_mean', torch.autograd.grad(scores.mean(), x)[0], grad)

def aesthetic_hps(case):
    exact, single, grad = _tolerances(case)
    theirs, laion = case.sibling('hpsv2'), case.sibling('laion_aesthetic')
    prompts = [str(i) for i in range(len(theirs['in.pixels']))]
    for dtype, bits, tol in ((torch.float64, 64, exact), (torch.float32, 32, min(single, SINGLE))):
        aesthetic, hps = aesthetic_reward(*aesthetic_models(laion, dtype), resize=resize_squash), _hps(theirs, dtype)[1]
        x = theirs['in.pixels'].to(dtype).requires_grad_()
        frames = _frames(x)
        loss = aesthetic_hps_loss(aesthetic(frames, prompts), hps(frames, prompts))
        goal, logged = aesthetic_hps_goal(aesthetic, hps)(frames, prompts), aesthetic_hps_reward(aesthetic, hps)(frames, prompts)
        yield Check(f'out{bits}.loss', loss, case[f'out{bits}.loss'], tol)
        yield Check(f'out{bits}.loss (as a reward to climb)', maximise(goal), case[f'out{bits}.loss'], tol)
        yield Check(f'out{bits}.reward', logged.mean(), case[f'out{bits}.reward'], tol)
        if bits == 32: return
        yield from case.gradient('out64.grad_pixels_of_loss', torch.autograd.grad(loss, x)[0], grad)

def _pickscore(case, dtype):
    c = case.info['constructor']
    clip = CLIPModel(CLIPConfig(projection_dim=c['projection_dim'], vision_config=c['vision_config'], text_config=c['text_config']))
    clip.load_state_dict(case.part('sd.'))
    return pickscore_reward(clip.to(dtype), _numbers(case['in.input_ids']), resize_unclamped)

def pickscore(case):
    with _single_constants(): yield from _check_pickscore(case)

def _check_pickscore(case):
    exact, single, grad = _tolerances(case)
    kinds = sorted({k.removeprefix('in.pixels_') for k in case.data if k.startswith('in.pixels_')})
    for dtype, bits, tol in ((torch.float64, 64, exact), (torch.float32, 32, min(single, SINGLE))):
        reward = _pickscore(case, dtype)
        size, temperature = case.info['constructor']['vision_config']['image_size'], case['sd.logit_scale'].exp().item()
        for kind in kinds:
            x = case[f'in.pixels_{kind}'].to(dtype).requires_grad_()
            frames, n, out = _frames(x), len(x), f'out{bits}.{kind}.'
            texts = len(case[out + 'score_matrix_text_by_image'])
            matrix = torch.stack([reward(frames, [str(t)]*n) for t in range(texts)])
            own = reward(frames, [str(i) for i in range(n)])
            images = normalise(resize_unclamped(frames[:, 0], size))
            found = dict(score_matrix_text_by_image=matrix, scores_official_row0=matrix[0], scores_diagonal=own, score_mean=matrix[0].mean(),
                         loss_mean=reward_loss(matrix[0], pickscore_loss), loss_mean_if_diagonal=reward_loss(own, pickscore_loss),
                         preprocessed_sample=images[:, :, ::16, ::16], preprocessed_sum_per_channel=images.sum((2, 3)))
            for name, got in found.items():
                unit = temperature if 'score' in name else 1.
                if (want := case.data.get(out + name)) is not None: yield Check(out + name, got, want, _near_zero(want, tol, unit))
            if bits == 64: yield from case.gradient(out + 'grad_pixels_of_loss', torch.autograd.grad(found['loss_mean'], x)[0], grad)

CHECKS = dict(hpsv2=hpsv2, aesthetic_hps=aesthetic_hps, pickscore=pickscore)
