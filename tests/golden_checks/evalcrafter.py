"EvalCrafter's formulas on recorded flows and features"
import torch
import torch.nn.functional as F
from golden import DOUBLE, SINGLE, Check
from golden_checks.raft import pixels
from vader_nb.evaluate.amt import warp
from vader_nb.evaluate.evalcrafter import (combined_scores, flow_score, motion_agrees, neighbour_similarity, occluded, pair_errors,
    similarity_to_first, similarity_to_text)
from vader_nb.evaluate.raft import pad_to

def clip_checks(case):
    each = [(case[f'in.clip{i}.frame_features'].double()[None], case[f'in.clip{i}.text_features'].double()) for i in range(len(case.info['constructor']['clip_lens']))]
    got = dict(clip_temp_score=[neighbour_similarity(f) for f, _ in each], face_consistency_score=[similarity_to_first(f) for f, _ in each],
               clip_score=[similarity_to_text(f, t) for f, t in each])
    for k, x in got.items(): yield Check(f'out64.{k}_per_video', torch.cat(x), case[f'out64.{k}_per_video'], DOUBLE)

def warping_checks(case):
    errors, scores = [], []
    for i, _ in enumerate(case.info['constructor']['videos']):
        frames, flows, at = pixels(case, f'in.video{i}.frames_rgb', torch.float32), case[f'in.video{i}.flow_half_padded_fw_bw'], f'out32.video{i}.'
        half = pad_to(F.interpolate(frames[0], scale_factor=.5, mode='bilinear'))
        yield Check(at + 'first_image_half_padded', half[:-1], case[at + 'first_image_half_padded'], SINGLE)
        yield Check(at + 'warped_second_image', warp(half[1:], flows[:, 0]), case[at + 'warped_second_image'], SINGLE)
        differ = occluded(flows[:, 0], flows[:, 1]) != case[f'out.video{i}.occlusion_mask'].bool()
        yield Check(f'out.video{i}.occlusion_mask', int(differ.sum()) <= differ.numel()//1000, True)
        errors.append(pair_errors(half[:-1], half[1:], flows[:, 0], flows[:, 1]).mean())
        full = case[f'in.video{i}.flow_full_padded'].double()
        scores.append(flow_score(frames, lambda a, b, it=iter(full.split(4)): next(it))[0])
    yield Check('out64.warping_error_per_video_float32_math', torch.stack(errors), case['out64.warping_error_per_video_float32_math'], SINGLE)
    scores = torch.stack(scores)
    yield Check('out64.flow_score_per_video', scores, case['out64.flow_score_per_video'], SINGLE)     # the official script works in float32
    labels = torch.stack([motion_agrees(scores, torch.full_like(scores, large, dtype=torch.bool)) for large in (True, False)], 1)
    yield Check('out.motion_ac_score_large_slow_per_video', labels, case['out.motion_ac_score_large_slow_per_video'])

def evalcrafter_metrics(case):
    for part in (clip_checks, warping_checks): yield from part(case)
    finals = [combined_scores(row) for row in case.info['metric_rows']]
    got = torch.tensor([[*(f[k] for k in ('quality', 'alignment', 'motion', 'temporal')), sum(f.values())] for f in finals], dtype=torch.double)
    yield Check('out64.final_quality_align_motion_temporal_total', got, case['out64.final_quality_align_motion_temporal_total'], DOUBLE)

CHECKS = dict(evalcrafter_metrics=evalcrafter_metrics)
