"Open-Sora 1.2: the denoiser STDiT3, rectified flow, and the layout of the published checkpoints"
from contextlib import contextmanager
from unittest.mock import patch

import torch
from golden import DOUBLE, SINGLE, Check, wave_tolerance
from vader_nb.checkpoints import load_strict
from vader_nb.models import stdit3
from vader_nb.models.opensora import RFlowScheduler, guided_velocity, sample_masked, timestep_transform
from vader_nb.models.opensora_vae import OpenSoraVAE, convert_opensora_vae
from vader_nb.models.stdit3 import STDiT3, position_table, sinusoid, stdit3_config
from vader_nb.sampling import explicit, last_k

@contextmanager
def tables(case):
    "The recorded float32 waves, looked up by the number that they embed, in place of ours, which are compared by themselves"
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
        if k.startswith('sinusoid_'):
            values = case[k.removeprefix('sinusoid_')]
            yield Check(k, sinusoid(values), case[k], wave_tolerance(values.max()))
    if 'pos_emb' in case:
        grid = [-(-n//p) for n, p in zip(x.shape[3:], patch_size[1:])]
        scale = (height*width)**.5/config.get('input_sq_size', 512)
        yield Check('pos_emb', position_table(*grid, config['hidden_size'], scale)[None], case['pos_emb'], wave_tolerance(max(grid)/scale))
    for dtype, bits, tol in ((torch.float32, 32, SINGLE), (torch.float64, 64, DOUBLE)):
        net = load_strict(STDiT3(**config), {k: v.to(dtype) for k, v in case.part("sd.").items()}).eval()
        for i, run in enumerate(case.info['runs']):
            with torch.no_grad(), tables(case):
                got = net(x.to(dtype), case[f'timestep_{i}'], y.to(dtype), case['mask'] if run['mask'] else None,
                          case[f'x_mask_{i}'] if run['x_mask'] else None, case['fps'], height, width).sample
            yield Check(f'out_{i}_f{bits}', got, case[f'out_{i}_f{bits}'], tol)

def rflow_run(case, r, dtype):
    "The sampler on a run of the case: timesteps, what the network saw, and the result"
    run, z, seen, masks = case.info['runs'][r], case['z'], [], []
    scheduler = RFlowScheduler(height=run['height'], width=run['width'], num_frames=run['num_frames'],
                               use_timestep_transform=run['transform'], use_discrete_timesteps=run['discrete'])
    scheduler.set_timesteps(run['steps'], dtype=dtype)
    def velocity(z, t, active):
        seen.append(z)
        if active is not None: masks.append(active.repeat(2, 1))
        def network(z2, t2):
            s = torch.tensor([run['s_cond'], run['s_uncond']], dtype=torch.float64).repeat_interleave(len(z2)//2)
            v = .1*z2*torch.cos(t2.double()/1000).view(-1, 1, 1, 1, 1) + .05*s.view(-1, 1, 1, 1, 1)
            if active is not None: v = v + .02*masks[-1].double()[:, None, :, None, None]
            return torch.cat([v, torch.full_like(v, 7.)], 1)
        return guided_velocity(network, z, t, run['cfg'])
    mask = None if run['mask'] is None else torch.tensor(run['mask'], dtype=dtype)
    final = sample_masked(velocity, z, scheduler, mask, noise=case.data.get(f'r{r}.noise'))
    out = dict(timesteps=scheduler.timesteps[:, None].expand(-1, len(z)), model_inputs=torch.stack(seen), final=final)
    return out | (dict(x_masks=torch.stack(masks)) if masks else {})

def refused(height, width, frames):
    try: timestep_transform(torch.tensor([1000.]), height, width, frames)
    except ValueError: return True

def transform_table(case):
    table = case.info['transform_table']
    rows, steps, nan = table['rows_height_width_frames'], table['steps'], table['rows_giving_nan']
    yield Check('rows refused (NaN in the official code)', [i for i, row in enumerate(rows) if refused(*row)], nan)
    for kind, dtype, size_dtype, tol in (('f64', torch.float64, None, 1e-11), ('f32args', torch.float32, None, 1e-6),
                                         ('bf16args', torch.float32, torch.bfloat16, 1e-6)):
        t = torch.tensor([(1 - i/steps)*1000 for i in range(steps)], dtype=torch.float64).to(dtype)
        got = torch.stack([timestep_transform(t, *row, size_dtype=size_dtype) for i, row in enumerate(rows) if i not in nan])
        yield Check(f'transform_table_{kind}', got, case[f'transform_table_{kind}_finite_rows'], tol)

def opensora_rflow(case):
    for r in range(len(case.info['runs'])):
        for kind, dtype, tol in (('official', torch.float32, 1e-6), ('f64', torch.float64, 1e-11)):
            for name, got in rflow_run(case, r, dtype).items():
                if f'r{r}.{kind}.{name}' in case: yield Check(f'r{r}.{kind}.{name}', got, case[f'r{r}.{kind}.{name}'], tol)
    if 'transform_table' in case.info: yield from transform_table(case)
    for name, want in case.info.get('lora_requires_grad_per_iteration', {}).items():
        mode, steps = name.split('/steps=')
        select = {'last': last_k(1), 'specific': explicit(range(15, int(steps)))}.get(mode)
        if select: yield Check(f'gradient steps, {name}', sorted(select(int(steps))), want['true_at'])

def opensora_real_keys(case):
    with torch.device('meta'):
        ours = dict(stdit3=STDiT3(**stdit3_config(case.info['stdit3_config'])), vae=OpenSoraVAE())
    for part, net in ours.items():
        official = case.info[part]
        if part == 'vae': official = convert_opensora_vae(official)
        got = {k: list(v.shape) for k, v in net.state_dict().items()}
        yield Check(f'{part}: tensors left over', sorted(official.keys() - got.keys()), [])
        yield Check(f'{part}: places without a tensor', sorted(got.keys() - official.keys()), [])
        yield Check(f'{part}: shapes of {len(official)}', got, {k: list(v) for k, v in official.items()})

CHECKS = dict(opensora_stdit3=opensora_stdit3, opensora_rflow=opensora_rflow, opensora_real_keys=opensora_real_keys)
