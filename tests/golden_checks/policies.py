"Policy gradients: the steps of DDPO and Flow-GRPO with their log-probabilities, PPO's loss and its gradient"
import torch
from diffusers import DDIMScheduler
from golden import DOUBLE, Check
from vader_nb.diffusion import log_prob
from vader_nb.methods.policy import Gaussian, ppo_loss, sde_step, step_kl, transition

TOL = 1e-6      # in float64; what is compared only passes through a schedule in float32

def refuses(fn):
    "Is it refused, as a step without a density must be?"
    try: fn()
    except ValueError: return True
    return False

def scheduler_of(step):
    "DDPO's: in float64, its last step to the first entry of the table"
    scheduler = DDIMScheduler(**step['scheduler'])
    scheduler.set_timesteps(step['n'])
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    return scheduler

def ddim_gaussian(step, timesteps, pred, x):
    "Each video at a timestep of its own"
    scheduler = scheduler_of(step)
    each = [transition(scheduler, pred[i:i + 1], t, x[i:i + 1], step['eta']) for i, t in enumerate(timesteps)]
    return Gaussian(torch.cat([g.mean for g in each]), torch.stack([g.std for g in each]).reshape(-1, *[1]*(x.ndim - 1)))

def ddpo_step(case, name, step):
    "Sampling, the log-probabilities of two results, and their gradient"
    x, noise = case[f'in.{name}.sample'], case[f'in.{name}.noise']
    pred = case[f'in.{name}.model_output'].clone().requires_grad_()
    timesteps = scheduler_of(step).timesteps[torch.tensor(step['idx'])[:len(x)]]
    yield Check(f'{name}.timesteps', timesteps.tolist(), case[f'out64.{name}.timesteps'].tolist())
    mean, std = ddim_gaussian(step, timesteps, pred, x)
    after = (mean + std*noise).detach()
    yield Check(f'{name}.prev_sample_sampled', after, case[f'out64.{name}.prev_sample_sampled'], TOL)
    given = case[f'in.{name}.prev_sample_given']
    if not (std > 0).all():
        yield Check(f'{name}.refused', refuses(lambda: log_prob(given, mean, std)), True)
        return
    yield Check(f'{name}.log_prob_sampled', log_prob(after, mean, std), case[f'out64.{name}.log_prob_sampled'], TOL)
    new = log_prob(given, mean, std)
    yield Check(f'{name}.log_prob_given', new, case[f'out64.{name}.log_prob_given'], TOL)
    key = f'out64.{name}.grad_model_output_of_sum_log_prob_given'
    yield from case.gradient(key, torch.autograd.grad(new.sum(), pred, retain_graph=True)[0], TOL)
    yield from ddpo_ppo(case, name, pred, new)

def ddpo_ppo(case, name, pred, new):
    "PPO at two clip ranges"
    c = case.info['constructor']
    old, advantages = new.detach() - case['in.ppo.log_ratio'][:len(new)], case['in.ppo.advantages'][:len(new)]
    ratio = (new - old).exp()
    for clip in ('clip_range', 'wide_clip_range'):
        key, loss = f'out64.{name}.ppo_{clip}', ppo_loss(new, old, advantages, c[clip], c['adv_clip_max'])
        yield Check(f'{key}.loss', loss, case[f'{key}.loss'], TOL)
        yield from case.gradient(f'{key}.grad_model_output', torch.autograd.grad(loss, pred, retain_graph=True)[0], TOL)
        yield Check(f'{key}.clipfrac', ((ratio - 1).abs() > c[clip]).double().mean(), case[f'{key}.clipfrac'], TOL)
        yield Check(f'{key}.approx_kl', (new - old).square().mean()/2, case[f'{key}.approx_kl'], TOL)

def ddpo(case):
    for name, step in case.info['steps'].items(): yield from ddpo_step(case, name, step)


def flow_gaussian(case, index, v, x, level):
    "At one index of the schedule, or at one a video"
    sigmas = case['in.sigmas'].double()
    at = lambda i: sigmas[torch.as_tensor(i)].reshape(-1, *[1]*(x.ndim - 1))
    return sde_step(v, x, at(index), at(torch.as_tensor(index) + 1), level, sigmas[1]), at(torch.as_tensor(index) + 1) - at(index)

def flow_step(case, key, index, part, level):
    "A step and its log-probability"
    x, v, noise = (case[f'in.{part}.{k}'].double() for k in ('sample', 'model_output', 'noise'))
    g, dt = flow_gaussian(case, index, v, x, level)
    after = g.mean + g.std*noise
    got = dict(mean=g.mean, prev_sample=after, log_prob=log_prob(after, *g), pred_original_sample=x - v*case['in.sigmas'].double()[index].reshape(-1, *[1]*(x.ndim - 1)),
               std_dev_t=(g.std/(-dt).sqrt()).flatten().expand(len(x)))
    for k, value in got.items():
        if f'{key}.{k}' in case: yield Check(f'{key}.{k}', value, case[f'{key}.{k}'], TOL)

def flow_video(case, level):
    "Five dimensions, Euler's step, and the log-probability under another prediction"
    x, v = (case[f'in.video.{k}'].double() for k in ('sample', 'model_output'))
    for i in case.info['constructor']['video_index']:
        key = f'out64.video.step{i}'
        yield from flow_step(case, key, i, 'video', level)
        yield Check(f'{key}.prev_sample_noise0', flow_gaussian(case, i, v, x, 0.)[0].mean, case[f'{key}.prev_sample_noise0'], TOL)
        other = (case['in.video.model_output'] + 1/16).half().double().requires_grad_()
        new = log_prob(case[f'{key}.prev_sample'], *flow_gaussian(case, i, other, x, level)[0])
        yield Check(f'{key}.log_prob_of_shifted_output', new, case[f'{key}.log_prob_of_shifted_output'], TOL)
        yield from case.gradient(f'{key}.grad_log_prob_sum_shifted_output', torch.autograd.grad(new.sum(), other)[0], TOL)

def flow_ppo(case, level):
    "PPO with a penalty, which is the Gaussians' KL divergence over |dt|"
    c, x, index = case.info['constructor'], case['in.image.sample'].double(), case['in.image.mixed_index']
    v, ref = case['in.image.new_output'].double().requires_grad_(), case['in.image.ref_output'].double()
    (g, dt), base = flow_gaussian(case, index, v, x, level), flow_gaussian(case, index, ref, x, level)[0]
    new, old = log_prob(case['out64.image.mixed.prev_sample'], *g), case['out64.image.mixed.log_prob']
    kl = (step_kl(g, base)*-dt.flatten()).mean()
    for name, clip, beta in (('ppo', c['clip_range'], c['beta']), ('ppo_wide', c['clip_range_wide'], c['beta']), ('ppo_no_ref', c['clip_range_wide'], 0.)):
        policy = ppo_loss(new, old, case['in.advantages'].double(), clip, c['adv_clip_max'])
        got = dict(policy_loss=policy, loss=policy + beta*kl, kl_loss=kl, log_prob_new=new, ratio=(new - old).exp())
        for k, value in got.items():
            if f'out64.{name}.{k}' in case: yield Check(f'{name}.{k}', value, case[f'out64.{name}.{k}'], TOL)
        yield from case.gradient(f'out64.{name}.grad_new_output', torch.autograd.grad(policy + beta*kl, v, retain_graph=True)[0], TOL)

def flow_grpo(case):
    c = case.info['constructor']
    for level in c['noise_levels']:
        for i in c['indices']: yield from flow_step(case, f'out64.image.noise{level}.step{i}', i, 'image', level)
    yield from flow_step(case, 'out64.image.mixed', case['in.image.mixed_index'], 'image', c['noise_levels'][0])
    yield from flow_video(case, c['noise_levels'][0])
    yield from flow_ppo(case, c['noise_levels'][0])


CHECKS = dict(ddpo=ddpo, flow_grpo=flow_grpo)
