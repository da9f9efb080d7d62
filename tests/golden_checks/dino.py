"DINO: tokens, features, gradients; VBench's subject consistency on it"
import torch
from golden import DOUBLE, SINGLE, Check
from golden_checks.raft import pixels
from vader_nb.evaluate.dino import DINO
from vader_nb.evaluate.vbench import at_short_side, dino_embedder, mean_of_videos, subject_consistency
from vader_nb.rewards.clip import imagenet_normalise

def network(case, dtype):
    c = case.info['constructor']['net']
    if not c['qkv_bias']: raise ValueError('published DINOs have biases in attention')
    model = DINO(c['embed_dim'], c['depth'], c['num_heads'], c['patch_size'], mlp_ratio=c['mlp_ratio'])
    model.load_state_dict(case.part('sd.'))
    return model.to(dtype).eval().requires_grad_(False)

def dino_vit(case):
    with torch.device('meta'): published = DINO().state_dict()
    yield Check('published_keys', {k: list(t.shape) for k, t in published.items()}, case.info['published_keys'])
    for dtype, bits, tol in ((torch.float64, 64, DOUBLE), (torch.float32, 32, SINGLE)):
        model, out, values = network(case, dtype), f'out{bits}.', []
        for i in range(len(case.info['constructor']['images'])):
            x = imagenet_normalise(pixels(case, f'in.image{i}', dtype)[0]).requires_grad_()
            yield Check(f'{out}image{i}.features', feature := model(x), case[f'{out}image{i}.features'], tol)
            if bits == 32: continue
            yield Check(f'{out}image{i}.tokens_after_positions_every97', model.tokens(x).flatten()[::97],
                        case[f'{out}image{i}.tokens_after_positions_every97'], tol)
            yield from case.gradient(f'{out}image{i}.grad_input_of_mean_square', torch.autograd.grad(feature.square().mean(), x)[0], 1e-7)
        videos = [pixels(case, f'in.video{i}', dtype) for i in range(len(case.info['constructor']['videos']))]
        for i, frames in enumerate(videos):
            small = at_short_side(frames[0])
            yield Check(f'{out}video{i}.features', dino_embedder(model)(frames[0]), case[f'{out}video{i}.features'], tol)
            if bits == 64:
                yield Check(f'out.video{i}.size', list(small.shape[-2:]), case[f'out.video{i}.size'].tolist())
                yield Check(f'{out}video{i}.preprocessed_every16', imagenet_normalise(small)[..., ::16, ::16],
                            case[f'{out}video{i}.preprocessed_every16'], tol)
            values.append(subject_consistency(frames, dino_embedder(model)))
        each = torch.cat(values)
        yield Check(out + 'subject_consistency_per_video', each, case[out + 'subject_consistency_per_video'], tol)
        overall = mean_of_videos(each, [v.shape[1] - 1 for v in videos])
        yield Check(out + 'subject_consistency', overall, case[out + 'subject_consistency'], tol)

CHECKS = dict(dino_vit=dino_vit)
