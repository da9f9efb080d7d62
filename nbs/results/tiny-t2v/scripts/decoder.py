"Teach the decoder alone to draw clean outlines from what the UNet really makes of a noisy video; the encoder, so the latents, stay"
import argparse, copy, json, time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from vader_nb.checkpoints import load_state, save_state
from vader_nb.diffusion import add_noise, guide
from vader_nb.tiny_unet import make_scheduler, tokenize
from vader_nb.tiny_vae import psnr
from vader_nb.world import FRAMES, make_tokenizer, render, split_captions

from data import shipped_vae
from measures import summary, video_measures
from train import DEV, LAB, make_nets, sample
from widen import init_from

STARTS = (99, 199, 299, 399)     # the sampler's own last timesteps

@torch.no_grad()
def made_latents(nets, vae, captions, g, start: int | None = None, guidance: float | None = None, clean: float = .2) -> tuple:
    """Real videos, noised to one of the sampler's last timesteps and brought back by the sampler itself:
    latents (B*F, 4, 8, 8), real frames, opacity of the object. The share `clean` stays as the encoder made it"""
    frames, opacity = render(captions, g)
    z = vae.encode(frames.flatten(0, 1)*2 - 1).latent_dist.mean.unflatten(0, (-1, FRAMES)).transpose(1, 2)
    factor, scheduler = vae.config.scaling_factor, make_scheduler()
    scheduler.set_timesteps(10)
    if start is None: start = STARTS[torch.multinomial(torch.tensor([.3, .3, .25, .15]), 1, generator=g).item()]
    if guidance is None: guidance = 3. if torch.rand((), generator=g) < .6 else 1.
    x = add_noise(z*factor, torch.randn(z.shape, generator=g), scheduler.alphas_cumprod[torch.full((len(z),), start)])
    embeds = nets["text_encoder"](tokenize(make_tokenizer(), [""]*len(captions) + captions)).last_hidden_state
    for t in [t for t in scheduler.timesteps if t <= start]:
        if guidance == 1: pred = nets["unet"](x, t, embeds[len(captions):]).sample
        else: pred = guide(*nets["unet"](torch.cat([x, x]), t, embeds).sample.chunk(2), guidance)
        x = scheduler.step(pred, t, x).prev_sample
    keep = torch.rand(len(z), 1, 1, 1, 1, generator=g) < clean
    return torch.where(keep, z, x/factor).transpose(1, 2).flatten(0, 1), frames.flatten(0, 1), opacity.flatten(0, 1)

def decoder_loss(vae, z, frames, opacity) -> torch.Tensor:
    "Weighted reconstruction error from given latents: the object counts thrice, the pixels about its outline more"
    error = vae.decode(z).sample - (frames*2 - 1)
    outline = F.max_pool2d(opacity, 3, 1, 1) + F.max_pool2d(-opacity, 3, 1, 1)
    return ((.5*error.abs() + error.square())*(1 + 2*opacity + 4*outline)).mean()

@torch.no_grad()
def evaluate_both(nets, new, old, n: int) -> dict:
    "Short measures on DEV, guidance 3 and 1, with both decoders on the same latents"
    out, kept = {}, []
    class Keep:
        def decode(self, z): kept.append(z); return old.decode(z)
    for g in (3., 1.):
        kept.clear()
        before = sample(nets, Keep(), DEV[:n], g, factor=new.config.scaling_factor)
        after = (new.decode(torch.cat(kept)).sample/2 + .5).clamp(0, 1).unflatten(0, (-1, FRAMES))
        for name, frames in (("before", before), ("after", after)):
            s = summary(video_measures(frames, DEV[:n]))
            out |= {f"{k}_g{g:g}_{name}": s[k] for k in ("shape_no_gem", "iou", "iou_median", "iou_worst_frame", "constant", "right_in_all", "psnr_fg")}
    return out

def train_decoder(name: str, source: str = "shipped", channels=(32, 64), steps: int = 600, lr: float = 5e-4, videos: int = 8, n_eval: int = 24, save_every: int = 50, eval_first: bool = False):
    "Train; goes on from lab/runs/NAME.pt. Each step: `videos` videos through the UNet, half of their frames through the decoder"
    file, vae, step, log, spent = LAB/"runs"/f"{name}.pt", shipped_vae(), 0, [], 0.
    nets, train_captions = make_nets(channels), split_captions()[0]
    init_from(nets, source); nets.requires_grad_(False)
    weights = [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()]
    for p in weights: p.requires_grad_(True)
    ema, old = copy.deepcopy(vae).requires_grad_(False), shipped_vae()
    opt = torch.optim.AdamW(weights, lr, betas=(.9, .99), weight_decay=.01, fused=True)
    if file.exists(): step, log, spent = (load_state(file, vae=vae, ema=ema, optimizer=opt)[k] for k in ("step", "log", "spent"))
    def note():
        captions, g = DEV[-24:], torch.Generator().manual_seed(5)
        with torch.no_grad():
            z, frames, opacity = made_latents(nets, vae, captions, g, 199, 3., 0.)
            report = dict(psnr_made=psnr((ema.decode(z).sample/2 + .5).clamp(0, 1), frames, (opacity > .5).float()))
            clean = ema.decode(vae.encode(frames*2 - 1).latent_dist.mean).sample
            report |= dict(psnr_clean=psnr((clean/2 + .5).clamp(0, 1), frames, (opacity > .5).float()))
        log.append(dict(step=step, seconds=round(spent), **{k: round(v, 3) for k, v in report.items()}, **evaluate_both(nets, ema, old, n_eval)))
        print(name, json.dumps(log[-1]), flush=True)
    if step == 0 and eval_first: note()
    while step < steps:
        start = time.process_time()
        g = torch.Generator().manual_seed(70_000_000 + step)
        picks = torch.randint(len(train_captions), (videos,), generator=g).tolist()
        z, frames, opacity = made_latents(nets, vae, [train_captions[i] for i in picks], g)
        half = torch.randperm(len(z), generator=g)[:len(z)//2]
        for group in opt.param_groups: group["lr"] = lr*min(1, (step + 1)/50, (steps - step)/(.7*steps))
        decoder_loss(vae, z[half], frames[half], opacity[half]).backward()
        nn.utils.clip_grad_norm_(weights, 1.)
        opt.step(); opt.zero_grad()
        with torch.no_grad(): torch._foreach_lerp_(list(ema.parameters()), list(vae.parameters()), 1 - min(.99, (2 + step)/(11 + step)))
        step, spent = step + 1, spent + time.process_time() - start
        if step == steps: note()
        if step % save_every == 0 or step == steps: save_state(file, vae=vae, ema=ema, optimizer=opt, step=step, log=log, spent=spent)
    ema.half().save_pretrained(LAB/"best"/name/"vae")
    (LAB/"results"/f"{name}_log.json").write_text(json.dumps(log, indent=0) + "\n")
    return log

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name"); parser.add_argument("--source", default="shipped"); parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--videos", type=int, default=8); parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--channels", type=int, nargs=2, default=[32, 64])
    a = parser.parse_args()
    torch.set_num_threads(1)
    train_decoder(a.name, a.source, a.channels, a.steps, a.lr, a.videos)
