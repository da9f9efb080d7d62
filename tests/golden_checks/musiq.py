"MUSIQ: patches, positions, scores and gradients; VBench's imaging quality"
import torch
import torch.nn.functional as F
from golden import DOUBLE, SINGLE, Check
from golden_checks.raft import pixels
from vader_nb.evaluate.musiq import MUSIQ, grid_cells, multiscale
from vader_nb.evaluate.vbench import at_most, imaging_quality
from vader_nb.rewards.clip import central_square

def network(case, which, dtype):
    "One of the two networks of the case, `net` with one output or `net_ava` with ten; strict"
    c = case.info['constructor']['net' if which == 'spaq' else 'net_ava']
    if (c['patch_size'], c['num_scales']) != (32, 3): raise ValueError('published networks have patches of 32 and three scales')
    sizes = {k: c[k] for k in ('hidden_size', 'mlp_dim', 'num_heads', 'num_layers')}
    model = MUSIQ(**sizes, grid=c['spatial_pos_grid_size'], num_class=c.get('num_class', 1))
    model.load_state_dict(case.part(f'sd.{which}.'))
    return model.to(dtype).eval().requires_grad_(False)

def patch_checks(case):
    "The recorded table has empty patches, filled up to 49 and 144 and hidden, which the library leaves out"
    images = pixels(case, f"in.frames{case.info['constructor']['patches_for']}", torch.float64)[0, :1]
    patches, cells, sizes = multiscale(images, case.info['constructor']['net']['spatial_pos_grid_size'])
    rooms = 49, 144, int((sizes == 2).sum())
    fill = lambda x: torch.cat([F.pad(x[sizes == i], (*[0]*(2*(x.ndim - 1)), 0, n - int((sizes == i).sum()))) for i, n in enumerate(rooms)])
    full = fill(patches[0])
    got = {'out.patches.position': fill(cells), 'out.patches.scale': fill(sizes), 'out.patches.mask': fill(torch.ones_like(cells)),
           'out64.patches.mean': full.mean(1), 'out64.patches.square_mean': full.square().mean(1),
           'out64.patches.first_fourth_last_every5': full[[0, 3, -1], ::5]}
    for k, x in got.items(): yield Check(k, x, case[k], DOUBLE if k.startswith('out64') else 0.)
    for k, want in case.part('out.hash.').items(): yield Check(f'out.hash.{k}', grid_cells(int(k), 10), want)

def score_checks(case, which, model, dtype, bits, tol):
    for i in range(len(case.info['constructor']['frames'])):
        at, x = f'out{bits}.{which}.frames{i}.', pixels(case, f'in.frames{i}', dtype)[0].requires_grad_()
        yield Check(at + 'score', score := model(x), case[at + 'score'], tol)
        if at + 'distribution' in case: yield Check(at + 'distribution', model.outputs(x), case[at + 'distribution'], tol)
        key = at + 'grad_pixels_of_mean_score'
        if any(k.startswith(key) for k in case.data): yield from case.gradient(key, torch.autograd.grad(score.mean(), x)[0], 1e-7)

def vbench_checks(case, model, dtype, bits, tol):
    "Imaging quality of a wide video in the four modes of VBench, of which the library has the default, and of three videos"
    out, video = f'out{bits}.vbench.', pixels(case, 'in.video', dtype)
    shorter = at_most(video[0], measured=min)
    square = central_square(shorter, 512) if min(video.shape[-2:]) > 512 else shorter
    for mode, images in dict(longer=at_most(video[0]), shorter=shorter, shorter_centercrop=square, none=video[0]).items():
        mode = 'None' if mode == 'none' else mode
        yield Check(f'out.vbench.{mode}.size', list(images.shape[-2:]), case[f'out.vbench.{mode}.size'].tolist())
        quality = imaging_quality(video, model) if mode == 'longer' else model(images).mean()/100
        yield Check(out + mode, quality.squeeze(), case[out + mode], tol)
    each = torch.cat([imaging_quality(pixels(case, k, dtype), model) for k in ('in.video', 'in.frames0', 'in.frames1')])
    yield Check(out + 'three_videos_each_0_to_100', 100*each, case[out + 'three_videos_each_0_to_100'], tol)
    yield Check(out + 'three_videos', each.mean(), case[out + 'three_videos'], tol)

def musiq(case):
    with torch.device('meta'): published = MUSIQ().state_dict()
    yield Check('published_keys', {k: list(t.shape) for k, t in published.items()}, case.info['published_keys'])
    yield from patch_checks(case)
    for dtype, bits, tol in ((torch.float64, 64, DOUBLE), (torch.float32, 32, SINGLE)):
        for which in ('spaq', 'ava'):
            model = network(case, which, dtype)
            yield from score_checks(case, which, model, dtype, bits, tol)
            if which == 'spaq': yield from vbench_checks(case, model, dtype, bits, tol)

CHECKS = dict(musiq=musiq)
