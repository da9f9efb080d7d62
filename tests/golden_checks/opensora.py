"Open-Sora 1.2: the denoiser STDiT3, rectified flow, and the layout of the published checkpoints"
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import torch
from golden import Check
from vader_nb.models import stdit3
from vader_nb.models.stdit3 import STDiT3, load_strictly, position_table, sinusoid, stdit3_config

@contextmanager
def tables(case):
    "The recorded float32 waves in place of ours: exp and cos may differ by an ulp between processors"
    known = {round(float(v), 6): row for k in case.data for name in [k.removeprefix('sinusoid_')] if k != name
             for v, row in zip(case[name], case[k])}
    def waves(values, width=256): return torch.stack([known.get(round(float(v), 6), sinusoid(v[None], width)[0]) for v in values])
    def places(h, w, dim, scale): return case['pos_emb'][0] if 'pos_emb' in case else position_table(h, w, dim, scale)
    with patch.object(stdit3, 'sinusoid', waves), patch.object(stdit3, 'position_table', places): yield

def opensora_stdit3(case):
    config = stdit3_config(case.info['constructor_args']['STDiT3Config'])
    x, height, width = case['x'], float(case['height'][0]), float(case['width'][0])
    y, patch_size = case['y'].squeeze(1), config.get('patch_size', (1, 2, 2))
    for k in case.data:
        if k.startswith('sinusoid_'): yield Check(k, sinusoid(case[k.removeprefix('sinusoid_')]), case[k], 1e-5)
    if 'pos_emb' in case:
        grid = [-(-n//p) for n, p in zip(x.shape[3:], patch_size[1:])]
        table = position_table(*grid, config['hidden_size'], (height*width)**.5/config.get('input_sq_size', 512))
        yield Check('pos_emb', table[None], case['pos_emb'], 1e-6)
    for dtype, bits, tol in ((torch.float32, 32, 2e-5), (torch.float64, 64, 1e-9)):
        net = load_strictly(STDiT3(**config), {k: v.to(dtype) for k, v in case.part("sd.").items()}).eval()
        for i, run in enumerate(case.info['runs']):
            with torch.no_grad(), tables(case) if bits == 64 else nullcontext():
                got = net(x.to(dtype), case[f'timestep_{i}'], y.to(dtype), case['mask'] if run['mask'] else None,
                          case[f'x_mask_{i}'] if run['x_mask'] else None, case['fps'], height, width).sample
            yield Check(f'out_{i}_f{bits}', got, case[f'out_{i}_f{bits}'], tol)

CHECKS = dict(opensora_stdit3=opensora_stdit3)
