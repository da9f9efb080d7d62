"VideoCrafter2: its UNet (all weights stored, or by formula), its DDIM, and the names of the published checkpoint"
import hashlib, math
import numpy as np
import torch
from diffusers import AutoencoderKL
from golden import DOUBLE, SINGLE, Check, wave_tolerance
from torch import nn
from vader_nb.models.videocrafter2 import (VC2DDIMScheduler, convert_unet, convert_vae, make_unet, set_fps, vae_config,
                                           vc2_timesteps)
from vader_nb.pipeline import GreyPipeline
from vader_nb.sampling import explicit, sample_latents

# Weights by formula, as the vectors' README gives it

def formula_tensor(seed, name, shape, kind, gain):
    "A tensor computed from its name: a counter-based generator, scaled by the kind of the tensor"
    start = int.from_bytes(hashlib.sha256(f'{seed}:{name}'.encode()).digest()[:8], 'little')
    with np.errstate(over='ignore'):
        z = np.uint64(start) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64)*np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30)))*np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27)))*np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = ((z >> np.uint64(41)).astype(np.float64)*2 + 1)/float(1 << 23) - 1.
    scale = dict(norm_weight=.35, norm_bias=.35, bias=.175, weight=gain*math.sqrt(3./math.prod(shape[1:])))[kind]
    return (u*scale + (kind == 'norm_weight')).astype(np.float32).reshape(shape)

def formula_weights(w):
    "The state dict, and whether its bytes have the recorded hash"
    tensors = {k: formula_tensor(w['seed'], k, s, kind, w['gain']) for k, (s, kind) in w['state_dict_in_order'].items()}
    h = hashlib.sha256()
    for v in tensors.values(): h.update(v.tobytes())
    return {k: torch.from_numpy(v) for k, v in tensors.items()}, h.hexdigest()

class Recorded(nn.Module):
    "In the place of a sinusoid: the recorded table of these numbers, and of no others"
    def __init__(self, values, table): super().__init__(); self.values, self.table = values, table
    def forward(self, t):
        if not torch.equal(t.double(), self.values[:len(t)].double()): raise ValueError(f'embeds {t.tolist()}, not {self.values.tolist()}')
        return self.table[:len(t)]

def vc2_unet(case):
    w, sizes = case.info['weights'], case.info['constructor_args']
    if w['stored']: tensors = {k: v.float() for k, v in case.part(w['key_prefix']).items()}
    else:
        tensors, digest = formula_weights(w)
        yield Check('weights.sha256', digest, w['sha256_of_all_float32_bytes_in_this_order'])
    with torch.device('meta'): unet = make_unet(**sizes).eval().requires_grad_(False)
    unet.load_state_dict(convert_unet(tensors, **sizes), assign=True)
    yield Check('tensors consumed', len(unet.state_dict()), len(tensors))
    sinusoids = unet.time_proj, unet.time_embedding.fps_proj
    for dtype, bits, tol in ((torch.float32, 32, SINGLE), (torch.float64, 64, DOUBLE)):
        unet.to(dtype)
        for i, run in enumerate(case.info['runs']):
            t, rate = torch.tensor(run['timesteps']), run['fps']
            set_fps(unet, rate)
            told = dict(timesteps=t, fps=torch.as_tensor(rate).expand(len(t)))
            if bits == 32:      # our own sinusoids, in float32 as everywhere
                for (k, v), wave in zip(told.items(), sinusoids):
                    yield Check(f'sinusoid_{k}_{i}', wave(v), case[f'sinusoid_{k}_{i}'], wave_tolerance(v.max()))
            unet.time_proj, unet.time_embedding.fps_proj = (Recorded(v, case[f'sinusoid_{k}_{i}']) for k, v in told.items())
            with torch.no_grad(): out = unet(case['x'].to(dtype), t, case['context'].to(dtype)).sample
            yield Check(f'out_{i}_f{bits}', out, case[f'out_{i}_f{bits}'], tol)


def trajectory(scheduler, run, x, noise):
    "Sample with the fake network of the case; x and predicted x_0 after each step"
    eps = lambda x, t, s: .1*x*math.cos(int(t)/1000) + .05*s
    xs, x0s = [], []
    for t, z in zip(scheduler.timesteps, noise, strict=True):
        pred = eps(x, t, run['s_cond'])
        if run['cfg'] != 1: pred = (u := eps(x, t, run['s_uncond'])) + run['cfg']*(pred - u)
        x, x0 = scheduler.step(pred, t, x, eta=run['eta'], variance_noise=z, return_dict=False)
        xs.append(x); x0s.append(x0)
    return torch.stack(xs), torch.stack(x0s)

def vc2_ddim(case):
    s = case.info['schedule']
    make = lambda **kw: VC2DDIMScheduler(s['timesteps'], s['linear_start'], s['linear_end'], mid_step=s['mid_step'], **kw)
    for i, run in enumerate(case.info['runs']):
        sch = make(use_scale=run['use_scale'], scale_b=run['scale_b'])
        sch.set_timesteps(run['S'])
        yield Check(f'r{i}.timesteps_in_order', sch.timesteps.tolist(), run['timesteps_in_order'])
        xs, x0s = trajectory(sch, run, case['x_T'], case[f'r{i}.noise'])
        up = sch.timesteps.flip(0)
        prev = [max(sch.previous_timestep(t), 0) for t in up]
        var = torch.stack([sch._get_variance(int(t), sch.previous_timestep(t)) for t in up])
        a, scale = sch.alphas_cumprod, sch.scale_arr
        got = dict(timesteps=sch.timesteps, xs=xs, pred_x0s=x0s, final=xs[-1], alphas=a[up], alphas_prev=a[prev], scale=scale[up],
                   sigmas=run['eta']*var.sqrt(), sqrt_one_minus_alphas=(1 - a[up]).sqrt(), scale_prev=scale[prev])
        for kind, tol in (('official', 1e-6), ('f64', 1e-11)):     # the official coefficients are rounded to float32
            for k, v in got.items():
                if f'r{i}.{kind}.{k}' in case: yield Check(f'r{i}.{kind}.{k}', v, case[f'r{i}.{kind}.{k}'], 0. if k == 'timesteps' else tol)
    for S, steps in case.info['ddim_timesteps_ascending_for_S'].items():
        if max(steps) < s['timesteps']: yield Check(f'timesteps for S={S}', vc2_timesteps(int(S), s['timesteps']), steps)
        else: yield Check(f'S={S} refused', refused(int(S), s['timesteps']), True)
    for mode, want in case.info['lora_requires_grad_per_iteration'].items():
        kind, S = mode.split('/S=')
        flags = gradient_flags(make(), int(S), dict(last=int(S) - 1, specific=15)[kind])
        yield Check(f'{mode}.n_iterations', len(flags), want['n_iterations'])
        yield Check(f'{mode}.true_at', [i for i, f in enumerate(flags) if f], want['true_at'])
    sch = make()
    yield Check('betas', sch.betas, case['betas'], 1e-12)
    yield Check('alphas_cumprod', sch.alphas_cumprod, case['alphas_cumprod'], 1e-12)
    yield Check('alphas_cumprod_buffer_f32', sch.alphas_cumprod.float(), case['alphas_cumprod_buffer_f32'])
    yield Check('scale_arr_buffer_f32', sch.scale_arr.float(), case['scale_arr_buffer_f32'][:len(sch.scale_arr)], 1e-7)
    x_t = sch.add_noise(case['q_sample.x0'], case['q_sample.noise'], case['q_sample.t'])
    yield Check('q_sample.x_t_f64', x_t, case['q_sample.x_t_f64'], 1e-11)

def gradient_flags(scheduler, S, first):
    "Whether gradients were on, at each call of the network by our sampler, where the steps from `first` on shall carry gradient"
    pipe, flags = GreyPipeline(scheduler=scheduler), []
    pipe.denoise = lambda *args: flags.append(torch.is_grad_enabled()) or GreyPipeline.denoise(pipe, *args)
    select = lambda n, generator=None: explicit(range(first, n))(n)
    sample_latents(pipe, pipe.encode_prompt(['grey']), pipe.init_latents(1), select, num_inference_steps=S, eta=1.)
    return flags

def refused(S, T):
    try: vc2_timesteps(S, T)
    except ValueError: return True
    return False


def vc2_real_keys(case):
    "Every published name and shape, at full size on the meta device; the converters are strict"
    for part, convert, sizes, make in (
            ('unet', convert_unet, case.info['unet_constructor_args'], make_unet),
            ('first_stage', convert_vae, case.info['first_stage_ddconfig'], lambda **kw: AutoencoderKL(**vae_config(**kw)))):
        tensors = {k: torch.empty(s, device='meta') for k, s in case.info[part].items()}
        with torch.device('meta'): wanted = {k: list(v.shape) for k, v in make(**sizes).state_dict().items()}
        got = convert(tensors, **sizes)
        yield Check(f'{part}: tensors consumed', len(got), len(tensors))
        yield Check(f'{part}: names and shapes', {k: list(v.shape) for k, v in got.items()}, wanted)

CHECKS = dict(vc2_unet=vc2_unet, vc2_ddim=vc2_ddim, vc2_real_keys=vc2_real_keys)
