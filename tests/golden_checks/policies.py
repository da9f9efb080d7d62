"Methods without a reward gradient: DDPO, Flow-GRPO, Diffusion-DPO, DiffusionNFT; their steps, losses, gradients and advantages"
import torch
from diffusers import DDIMScheduler
from golden import Check
from vader_nb.diffusion import log_prob
from vader_nb.methods.dpo import dpo_margin, dpo_objective, squared_error
from vader_nb.methods.forward import Noised, noised_videos
from vader_nb.methods.nft import nft_objective, old_decay, optimality
from vader_nb.methods.policy import Gaussian, ppo_loss, sde_step, step_kl, transition
from vader_nb.methods.scores import PromptStats, _standardised, group_advantages

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
    c = case.info['constructor']
    stats = PromptStats(c['buffer_size'], c['min_count'])
    for i, prompts in enumerate(case.info['stat_prompts']):
        rewards = case[f'in.stat.rewards_epoch{i}']
        yield Check(f'advantages_epoch{i}', stats.advantages(prompts, rewards), case[f'out64.stat.advantages_epoch{i}'], TOL)
        yield Check(f'advantages_without_tracking_epoch{i}', _standardised(rewards, rewards, 1e-8),
                    case[f'out64.stat.advantages_without_tracking_epoch{i}'], TOL)


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


def dpo_part(case, part, beta):
    "The loss of pairs, its parts and its gradient; winners are the first half"
    key, pred = f'out64.{part}', case[f'in.{part}.model_pred'].clone().requires_grad_()
    target = case[f'in.{part}.noise_half'].repeat(2, *[1]*(pred.ndim - 1))
    errors, ref = (squared_error(v, target) for v in (pred, case[f'in.{part}.ref_pred']))
    margin = dpo_margin(errors.unflatten(0, (2, -1)), ref.unflatten(0, (2, -1)), beta)
    loss = dpo_objective(margin)
    got = dict(model_losses=errors, ref_losses=ref, inside_term=margin, loss=loss, implicit_acc=(margin > 0).double().mean(),
               raw_model_loss=errors.mean(), raw_ref_loss=ref.mean())
    for k, value in got.items(): yield Check(f'{key}.{k}', value, case[f'{key}.{k}'], TOL)
    yield from case.gradient(f'{key}.grad_model_pred', torch.autograd.grad(loss, pred)[0], TOL)

def dpo_official_dims(case, beta):
    "The published mean over dim=[1,2,3], of a video"
    each = lambda v: (v - case['in.video.noise_half'].repeat(2, 1, 1, 1, 1)).square().mean(dim=[1, 2, 3]).unflatten(0, (2, -1))
    margin = dpo_margin(each(case['in.video.model_pred']), each(case['in.video.ref_pred']), beta)
    yield Check('loss_if_official_dims', dpo_objective(margin), case['out64.video.loss_if_official_dims_123_are_kept_on_5d'], TOL)
    yield Check('shape_of_that_inside_term', list(margin.shape), case['out64.video.shape_of_that_inside_term'].tolist())

def diffusion_dpo(case):
    beta = case.info['constructor']['beta_dpo']
    for part in ('image', 'video'): yield from dpo_part(case, part, beta)
    yield from dpo_official_dims(case, beta)
    scheduler = DDIMScheduler(beta_start=.00085, beta_end=.012, beta_schedule='scaled_linear')
    t, noise = case['in.image.timesteps_half'].repeat(2), case['in.image.noise_half'].repeat(2, 1, 1, 1)
    yield Check('noisy_latents', noised_videos(scheduler, case['in.image.latents'], noise, t).latents, case['out64.image.noisy_latents'], TOL)


MODES = dict(all=lambda a, c: a, positive_only=lambda a, c: a.clamp(min=0), negative_only=lambda a, c: a.clamp(max=0),
             one_only=lambda a, c: (a > 0).double(), binary=lambda a, c: a.sign())

def nft_run(case, column, setting, mode, now, old=None, base=None):
    "The loss at one timestep; r, the noised video, and the parts"
    data, noise, old, base = (v.double() for v in (case['in.x0'], case['in.noise'], case['in.old_prediction'] if old is None else old,
                                                   case['in.ref_prediction'] if base is None else base))
    t, c = case['in.timesteps'][:, column].double()/1000, setting['clip']
    wide = t.reshape(-1, *[1]*(data.ndim - 1))
    n = Noised((1 - wide)*data + wide*noise, t, noise - data, t, 'flow')
    r = optimality(MODES[mode](case['in.advantages'][:, column].double().clamp(-c, c), c), c)
    return n, r, nft_objective(n, data, now, old, base, r, setting['mix'], setting['ref'], c)

def nft_setting(case, i, setting):
    "One setting: both timesteps with all parts, and other modes"
    v_old, data = case['in.old_prediction'].double(), case['in.x0'].double()
    for j in range(case['in.timesteps'].shape[1]):
        key, now = f'out64.s{i}.t{j}', case['in.forward_prediction'].double().requires_grad_()
        n, r, out = nft_run(case, j, setting, 'all', now)
        b = setting['mix']
        up, down = b*now + (1 - b)*v_old, (1 + b)*v_old - b*now
        size = lambda v: (n.x0(v) - data).flatten(1).abs().mean(1).clamp(min=1e-5)
        got = dict(r=r, total=out.total, policy_loss=out.policy.mean(), policy_loss_per_sample=out.policy,
                   unweighted_policy_loss=out.policy.mean()/setting['clip'], positive_loss=out.positive, negative_loss=out.negative,
                   weight_positive=size(up), weight_negative=size(down), positive_prediction=up, negative_prediction=down,
                   x0_positive=n.x0(up), x0_negative=n.x0(down), xt=n.latents)
        for k, value in got.items():
            if f'{key}.{k}' in case: yield Check(f'{key}.{k}', value.flatten() if case[f'{key}.{k}'].ndim == 1 else value, case[f'{key}.{k}'], TOL)
        yield from case.gradient(f'{key}.grad_forward_prediction', torch.autograd.grad(out.total, now)[0], TOL)
    for mode in MODES:
        if f'out64.s{i}.{mode}.total' not in case: continue
        _, r, out = nft_run(case, 0, setting, mode, case['in.forward_prediction'].double())
        yield Check(f's{i}.{mode}.r', r, case[f'out64.s{i}.{mode}.r'], TOL)
        yield Check(f's{i}.{mode}.total', out.total, case[f'out64.s{i}.{mode}.total'], TOL)

def diffusion_nft(case):
    settings = case.info['constructor']['settings']
    for i, setting in enumerate(settings): yield from nft_setting(case, i, setting)
    now = case['in.old_prediction'].double().requires_grad_()
    first = nft_run(case, 0, settings[1], 'all', now)[2]
    yield Check('first_step.total', first.total, case['out64.first_step.total'], TOL)
    yield from case.gradient('out64.first_step.grad_forward_prediction', torch.autograd.grad(first.total, now)[0], TOL)
    perfect = case['in.noise'].double() - case['in.x0'].double()
    yield Check('perfect.total', nft_run(case, 0, settings[0], 'all', perfect, perfect, perfect)[2].total, case['out64.perfect.total'], TOL)
    ids, rewards = [str(int(i)) for i in case['in.prompt_ids']], case['in.rewards'].double()
    for name, over_all in (('global_std', True), ('group_std', False)):
        yield Check(f'advantages.{name}', group_advantages(ids, rewards, over_all), case[f'out64.advantages.{name}'], TOL)
    decays = dict(type0=dict(rate=0.), type1={}, type2=dict(flat=75, rate=.0075, hold=.999))
    for name, kw in decays.items():
        got = torch.tensor([old_decay(s, **kw) for s in case.info['constructor']['steps']], dtype=torch.float64)
        yield Check(f'decay.{name}', got, case[f'out64.decay.{name}'], TOL)


CHECKS = dict(ddpo=ddpo, flow_grpo=flow_grpo, diffusion_dpo=diffusion_dpo, diffusion_nft=diffusion_nft)
