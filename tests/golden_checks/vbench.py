"VBench's formulas on recorded features, flows and frames; its aesthetic quality on a CLIP"
import torch
import torch.nn.functional as F
from golden import DOUBLE, SINGLE, Check
from golden_checks.raft import pixels
from vader_nb.evaluate.raft import unpad
from vader_nb.evaluate.vbench import (aesthetic_quality, at_most, clip_embedder, clip_view, consistency, dynamic_degree, guessed_frames, imaging_quality,
    is_dynamic, laion_score, mean_of_videos, motion_smoothness, temporal_flicker, top_speed)
from vader_nb.rewards.clip import normalise
from vader_nb.rewards.open_clip import convert_open_clip

def consistency_checks(case, key, name):
    "A measure of consistency from features of videos of several lengths"
    features = [case[f'in.{key}.v{i}'].double()[None] for i in range(len(case.info['constructor']['lens']))]
    each = torch.cat([consistency(f) for f in features])
    yield Check(f'out64.{name}_per_video', each, case[f'out64.{name}_per_video'], DOUBLE)
    yield Check(f'out64.{name}', mean_of_videos(each, [f.shape[1] - 1 for f in features]), case[f'out64.{name}'], DOUBLE)

def flow_checks(case):
    moves, flows = [], case.info['constructor']['flow']
    for i, c in enumerate(flows):
        speeds = top_speed(case[f'in.flow{i}'].double())[None]
        yield Check(f'dynamic_degree.flow{i}.top5_mean_per_pair', speeds[0], case[f'out32.dynamic_degree.flow{i}.top5_mean_per_pair'], SINGLE)
        moves.append(is_dynamic(speeds, (c['h'], c['w'])))
    moves = torch.cat(moves)
    yield Check('out.dynamic_degree.moves', moves.bool().tolist(), case['out.dynamic_degree.moves'].tolist())
    yield Check('out64.dynamic_degree', moves.mean(), case['out64.dynamic_degree'], DOUBLE)
    # which frames are used: a flow that says how far apart the frames are that it was given
    ramp = torch.linspace(0, 1, 61, dtype=torch.double).view(1, 61, 1, 1, 1).expand(1, 61, 3, 1, 40)
    for fps, want in zip(case.info['constructor']['fps'], case['out.dynamic_degree.frame_interval_for_fps'].tolist()):
        seen = []
        dynamic_degree(ramp, lambda a, b: (seen.append(((b - a)[0, 0, 0, 0]*60).round().item()), torch.zeros(len(a), 2, 1, 40))[1], fps)
        yield Check(f'out.dynamic_degree.frame_interval_for_fps {fps}', seen[0], float(want))

def motion_checks(case):
    smooth, flicker = [], []
    for i, c in enumerate(case.info['constructor']['motion']):
        frames, guesses = pixels(case, f'in.motion{i}.frames', torch.float64), case[f'in.motion{i}.interpolated_padded'].double()
        between = lambda a, b: unpad(guesses, (c['h'], c['w']))
        guess = (255*guessed_frames(frames, between)[0]).round().permute(0, 2, 3, 1)
        yield Check(f'out.motion{i}.interpolated_uint8', guess, case[f'out.motion{i}.interpolated_uint8'])
        smooth.append(motion_smoothness(frames, between)); flicker.append(temporal_flicker(frames))
    yield Check('out64.motion_smoothness_per_video', torch.cat(smooth), case['out64.motion_smoothness_per_video'], DOUBLE)
    yield Check('out64.motion_smoothness', torch.cat(smooth).mean(), case['out64.motion_smoothness'], DOUBLE)
    yield Check('out64.temporal_flickering_per_video', torch.cat(flicker), case['out64.temporal_flickering_per_video'], SINGLE)   # the official function works in float32

def quality_checks(case):
    lens = case.info['constructor']['lens']
    said = lambda numbers: lambda images: numbers[:len(images)]
    blank = lambda n: torch.zeros(1, n, 3, 2, 2, dtype=torch.double)
    scores = [case[f'in.musiq.v{i}'].double() for i in range(len(lens))]
    each = torch.cat([imaging_quality(blank(len(s)), lambda x, it=iter(s.split(4)): next(it)) for s in scores])
    yield Check('out64.imaging_quality_per_video_0_to_100', 100*each, case['out64.imaging_quality_per_video_0_to_100'], SINGLE)
    yield Check('out64.imaging_quality', each.mean(), case['out64.imaging_quality'], SINGLE)
    weight, bias = case['in.aes.weight'].double(), case['in.aes.bias'].double()
    points = [F.linear(F.normalize(case[f'in.aes.v{i}'].double(), dim=-1), weight, bias)[:, 0] for i in range(len(lens))]
    each = torch.cat([aesthetic_quality(blank(len(p)), said(p)) for p in points])
    # the official function works in float32
    yield Check('out64.aesthetic_quality_per_video', each, case['out64.aesthetic_quality_per_video'], SINGLE)
    yield Check('out64.aesthetic_quality', each.mean(), case['out64.aesthetic_quality'], SINGLE)
    big = case['in.musiq.big_image'].float()
    for mode, side in (('longer', max), ('shorter', min)):
        yield Check(f'out32.musiq_transform_{mode}', at_most(big, measured=side)/255, case[f'out32.musiq_transform_{mode}'], SINGLE)

def vbench_metrics(case):
    yield from consistency_checks(case, 'dino', 'subject_consistency')
    yield from consistency_checks(case, 'clip', 'background_consistency')
    for part in (flow_checks, motion_checks, quality_checks): yield from part(case)

def linear_aesthetic(case):
    c, n = case.info['constructor']['clip'], len(case.info['constructor']['videos'])
    heads = dict(vision_heads=c['vision_width']//64, text_heads=c['transformer_heads'], hidden_act='quick_gelu')
    for dtype, bits, tol in ((torch.float64, 64, DOUBLE), (torch.float32, 32, SINGLE)):
        out, clip = f'out{bits}.', convert_open_clip({k: t.float() for k, t in case.part('sd.clip.').items()}, **heads).to(dtype)
        head = torch.nn.Linear(c['embed_dim'], 1)
        head.load_state_dict(case.part('sd.linear.'))
        score, values = laion_score(clip, head.to(dtype)), []
        for i in range(n):
            frames = pixels(case, f'in.video{i}', dtype)
            first = frames[0, :3].clone().requires_grad_()
            points = score(first)
            yield Check(f'{out}video{i}.scores_0_to_10', points, case[f'{out}video{i}.scores_0_to_10'], tol)
            yield Check(f'{out}video{i}.image_features', clip_embedder(clip)(first), case[f'{out}video{i}.image_features'], tol)
            values.append(aesthetic_quality(frames, score))
            if bits == 32: continue
            yield Check(f'{out}video{i}.preprocessed_every16', normalise(clip_view(frames[0], 224))[:3, :, ::16, ::16], case[f'{out}video{i}.preprocessed_every16'], tol)
            yield from case.gradient(f'{out}video{i}.grad_frames01_of_mean_score', torch.autograd.grad(points.mean()/10, first)[0], 1e-7)
        each = torch.cat(values)
        yield Check(out + 'aesthetic_quality_per_video', each, case[out + 'aesthetic_quality_per_video'], tol)
        yield Check(out + 'aesthetic_quality', each.mean(), case[out + 'aesthetic_quality'], tol)

CHECKS = dict(vbench_metrics=vbench_metrics, linear_aesthetic=linear_aesthetic)
