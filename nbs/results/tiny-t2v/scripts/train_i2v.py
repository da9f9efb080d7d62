"Go on training the tiny image-to-video UNet: also backwards in time, and from its own imperfect frames; resumable, best EMA kept as fp16"
import argparse, copy, json, time
from pathlib import Path

import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file, save_file
from torch import nn

from vader_nb.autoregressive import sample_long
from vader_nb.checkpoints import load_state, save_state, weights_folder
from vader_nb.diffusion import add_noise, training_target
from vader_nb.models.svd import ImageCondition
from vader_nb.tiny_i2v import load_tiny_i2v, teacher_vae
from vader_nb.world import FRAMES, render, split_captions

from measures import i2v_prompts, i2v_summary
from train import DEV, LAB, parse

DEFAULTS = dict(init="shipped", lr=3e-4, warmup=100, decay_share=.5, steps=4000, batch=16, seed=0, ema=.999, clip=1., weight_decay=.01,
                p_mean=.7, p_std=1.6, muon=False, eval_first=True, drop=.1, backwards=.5, own=.4, eval_every=250, n_eval=48, save_every=25, budget=None)

class Model:
    "UNet, its moving average and the optimiser, inside the pipeline that encodes the conditions"
    def __init__(self, c):
        torch.manual_seed(c["seed"])
        self.c, self.pipe = c, load_tiny_i2v()
        self.unet = self.pipe.denoiser.train().requires_grad_(True)
        if c["init"] != "shipped": self.unet.load_state_dict({k: v.float() for k, v in load_file(Path(c["init"])/"unet.safetensors").items()})
        self.ema = copy.deepcopy(self.unet).requires_grad_(False).eval()
        self.pipe.denoiser = self.ema
        if c["muon"]:
            from muon import Muon
            self.optimizer = Muon(self.unet, c["lr"], weight_decay=c["weight_decay"])
        else: self.optimizer = torch.optim.AdamW(self.unet.parameters(), c["lr"], betas=(.9, .99), weight_decay=c["weight_decay"], fused=True)
    def rate(self, step):
        "Learning rate: warm-up, constant, linear decay over the last share"
        return self.c["lr"]*min(1., (step + 1)/self.c["warmup"], (self.c["steps"] - step)/(self.c["decay_share"]*self.c["steps"]))
    def update(self, step, batch):
        "One optimiser step; returns the loss"
        for group in self.optimizer.param_groups: group["lr"] = self.rate(step)
        loss = (predict(self.unet, batch.noisy, batch.sigma, batch.cond) - batch.velocity).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), self.c["clip"])
        self.optimizer.step(); self.optimizer.zero_grad()
        decay = min(self.c["ema"], (2 + step)/(11 + step))
        with torch.no_grad(): torch._foreach_lerp_(list(self.ema.parameters()), list(self.unet.parameters()), 1 - decay)
        return loss.item()
    def parts(self): return dict(unet=self.unet, ema=self.ema, optimizer=self.optimizer)

def predict(unet, noisy, sigma, cond):
    "Velocities (B, 4, F, 8, 8)"
    x = noisy.transpose(1, 2)
    x = torch.cat([x, cond.image_latents[:, None].expand(x.shape)], 2)
    return unet(x, sigma.log()/4, cond.image_embeds, cond.added_time_ids).sample.transpose(1, 2)

@torch.no_grad()
def own_last_frames(pipe, vae, ema, z, cond, g):
    "The last frames (B, 3, 32, 32) of what the model makes of noisy videos z in one step: its own kind of error"
    sigma = (torch.randn(len(z), generator=g)*.7 - .5).exp()
    a = 1/(sigma**2 + 1)
    noisy = add_noise(z, torch.randn(z.shape, generator=g), a)
    v, a = predict(ema, noisy, sigma, cond), a.view(-1, 1, 1, 1, 1)
    made = a.sqrt()*noisy - (1 - a).sqrt()*v
    return (vae.decode(made[:, :, -1]/vae_factor(pipe)).sample/2 + .5).clamp(0, 1)

def vae_factor(pipe) -> float: return pipe.vae.config.scaling_factor

class Batch:
    "Everything random about a step; conditions are first frames, also of videos played backwards, some of them as the model draws them"
    def __init__(self, step, model, vae, captions):
        c, g = model.c, torch.Generator().manual_seed(90_000_000*(model.c["seed"] + 1) + step)
        picks, n = torch.randint(len(captions), (c["batch"],), generator=g).tolist(), c["batch"]
        frames = render([captions[i] for i in picks], g)[0]
        back, own = (torch.rand(n, generator=g) < c["backwards"]), (torch.rand(n, generator=g) < c["own"])
        with torch.no_grad():
            z = vae.encode(frames.flatten(0, 1)*2 - 1).latent_dist.mean.unflatten(0, (n, FRAMES)).transpose(1, 2)*vae_factor(model.pipe)
            first = torch.where(back.view(-1, 1, 1, 1), frames[:, -1], frames[:, 0])
            x = torch.where(back.view(-1, 1, 1, 1, 1), z.flip(2), z)
            if own.any():      # the model draws the same video towards the frame that is continued: forwards for those played backwards, and the reverse
                other = torch.where(back.view(-1, 1, 1, 1), frames[:, 0], frames[:, -1])[own]
                first[own] = own_last_frames(model.pipe, vae, model.ema, x[own].flip(2), model.pipe.encode_images(other), g)
            e = model.pipe.encode_images(first)
        keep = (torch.rand(n, generator=g) >= c["drop"]).float()
        self.cond = ImageCondition(e.image_embeds*keep.view(-1, 1, 1), e.image_latents*keep.view(-1, 1, 1, 1), e.added_time_ids)
        self.sigma = (c["p_mean"] + c["p_std"]*torch.randn(n, generator=g)).exp().clamp(.05, 200.)
        a, noise = 1/(self.sigma**2 + 1), torch.randn(x.shape, generator=g)
        self.noisy, self.velocity = add_noise(x, noise, a), training_target(x, noise, a, "v_prediction")

def evaluate(pipe, n: int) -> dict:
    "What is kept over three chunks of `n` pictures of `DEV`"
    captions = DEV[:n]
    prompts, real = i2v_prompts(captions)
    return i2v_summary(sample_long(pipe, prompts, chunks=3, batch_size=24), captions, real)

def goodness(e: dict) -> float: return e["shape_no_gem_and_colour_1"] + e["shape_no_gem_and_colour_3"] + e["iou_1"] - max(0., .8 - e["motion_1"])

def train(name: str, keep_best: bool = False, **changes) -> list[dict]:
    "Train; goes on from lab/runs/NAME.pt if it is there"
    if wrong := [k for k, v in changes.items() if k not in DEFAULTS or isinstance(v, str) and k != "init"]: raise ValueError(f"wrong: {wrong}")
    file, c = LAB/"runs"/f"{name}.pt", DEFAULTS | changes
    model, vae, captions, step, log, spent, losses = Model(c), teacher_vae(), split_captions()[0], 0, [], 0., []
    if file.exists(): step, log, spent = (load_state(file, **model.parts())[k] for k in ("step", "log", "spent"))
    def note():
        log.append(dict(step=step, seconds=round(spent), loss=round(sum(losses)/max(1, len(losses)), 5), **evaluate(model.pipe, c["n_eval"])))
        losses.clear()
        print(name, json.dumps(log[-1]), flush=True)
        if keep_best and goodness(log[-1]) >= max(map(goodness, log)):
            folder = LAB/"best"/name
            folder.mkdir(parents=True, exist_ok=True)
            save_file({k: v.half().contiguous() for k, v in model.ema.state_dict().items()}, folder/"unet.safetensors")
            (folder/"measures.json").write_text(json.dumps(dict(config=c, **log[-1]), indent=1) + "\n")
    if step == 0 and c["eval_first"]: note()
    while step < c["steps"] and not (c["budget"] and spent > c["budget"]):
        start = time.process_time()
        losses.append(model.update(step, Batch(step, model, vae, captions)))
        step, spent = step + 1, spent + time.process_time() - start
        done = step == c["steps"] or (c["budget"] and spent > c["budget"])
        if step % c["eval_every"] == 0 or done: note()
        if step % c["save_every"] == 0 or done: save_state(file, **model.parts(), step=step, log=log, spent=spent)
    return log

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name"); parser.add_argument("changes", nargs="*", help="key=json"); parser.add_argument("--keep_best", action="store_true")
    a = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    train(a.name, a.keep_best, **{k: parse(v) for k, v in (x.split("=", 1) for x in a.changes)})
