"Train the tiny text-to-video model under one configuration, resumable; measures every few hundred steps, best EMA kept as fp16"
import argparse, copy, json, math, time
from pathlib import Path

import torch
from diffusers import UNet3DConditionModel
from safetensors.torch import save_file
from torch import nn

from vader_nb.checkpoints import load_state, save_state
from vader_nb.diffusion import add_noise, guide, training_target
from vader_nb.tiny_unet import TinyModel, load_tiny_networks, make_scheduler, make_text_encoder, tokenize
from vader_nb.world import FRAMES, make_tokenizer, render, split_captions

from data import load_pieces, shipped_vae, small_piece
from measures import summary, video_measures

LAB = Path(__file__).parent
DEV = split_captions()[0][-96:]     # decisions are taken on these, with fresh renderings and noise; the 200 held-out captions are for the report only
DEFAULTS = dict(
    channels=[32, 64], layers=1, init="shipped", noise=.25,   # init: "shipped" (widened where needed), "none", or a folder/run file
    lr=5e-4, warmup=100, decay="linear", decay_share=1., steps=2000, batch=16, seed=0, ema=.999, clip=1., weight_decay=.01,
    power=.6, grid=0., foreground=0., stratified=False, tail=0., balance=False, muon=False, eval_first=True, drop=.1, beta2=.99,
    eval_every=250, n_eval=48, save_every=25, pieces=1, grow=0, budget=None)   # grow: 512 more videos every so many steps

# ---- networks

def make_unet(channels=(32, 64), layers: int = 1) -> UNet3DConditionModel:
    "The tiny UNet with other widths"
    unet = UNet3DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=tuple(channels), layers_per_block=layers,
        down_block_types=("CrossAttnDownBlock3D",)*len(channels), up_block_types=("CrossAttnUpBlock3D",)*len(channels),
        norm_num_groups=8, cross_attention_dim=64, attention_head_dim=16)
    for m in unet.modules():
        if isinstance(m, nn.Dropout): m.p = 0.
    return unet

def make_nets(channels=(32, 64), layers: int = 1) -> nn.ModuleDict:
    "UNet and text encoder, new"
    return nn.ModuleDict(dict(unet=make_unet(channels, layers), text_encoder=make_text_encoder(make_tokenizer())))

# ---- data

class Data:
    "Latents, captions' tokens, and where in the latents the object may be"
    def __init__(self, pieces=None):
        z, self.index = load_pieces(pieces)
        self.factor = 1/z[:4096].float().std().item()
        self.latents, self.grown = z, 0
        tok = make_tokenizer()
        self.tokens, self.empty = tokenize(tok, split_captions()[0]), tokenize(tok, [""])

    def grow(self, vae, n: int) -> None:
        "Have `n` small pieces more than at the beginning"
        while self.grown < n:
            z, index = small_piece(vae, self.grown)
            self.latents, self.index, self.grown = torch.cat([self.latents, z]), torch.cat([self.index, index]), self.grown + 1

class Batch:
    "Everything random about a step"
    def __init__(self, step, data, c, alphas):
        g, n = torch.Generator().manual_seed(50_000_000*(c["seed"] + 1) + step), c["batch"]
        pick = torch.randint(len(data.latents), (n,), generator=g)
        drop = torch.rand(n, generator=g) < c["drop"]
        self.token_ids = torch.where(drop[:, None], data.empty, data.tokens[data.index[pick]])
        u = (torch.randperm(n, generator=g) + torch.rand(n, generator=g))/n if c["stratified"] else torch.rand(n, generator=g)
        self.t = (u**c["power"]*1000).long().clamp(max=999)
        onto = torch.rand(n, generator=g) < c["grid"]                  # onto the sampler's ten timesteps
        self.t = torch.where(onto, (self.t//100)*100 + 99, self.t)
        x, a = data.latents[pick].float()*data.factor, alphas[self.t]
        noise = torch.randn(x.shape, generator=g)
        self.noisy, self.velocity = add_noise(x, noise, a), training_target(x, noise, a, "v_prediction")
        self.weight = foreground_weight(x, c["foreground"]) if c["foreground"] else None
        if c["balance"]:   # by the inverse of the error that is usual at a timestep, so that what nobody can know at high noise does not drown the details
            w = (1/usual_error(self.t)).view(-1, 1, 1, 1, 1)
            self.weight = w*.1 if self.weight is None else self.weight*w*.1
        if c["tail"]:      # weight of the velocity error at low noise: 1 + tail at none, falling linearly to 1 at t = 400
            w = (1 + c["tail"]*(1 - self.t/400).clamp(min=0)).view(-1, 1, 1, 1, 1)
            self.weight = w/w.mean() if self.weight is None else self.weight*w/w.mean()

USUAL = torch.tensor([.2, .1, .086, .069, .063, .067, .083, .116, .182, .252, .27])     # shipped model's velocity error at t = 0, 99, 199, ..., 999 (at 0 and 99 set lower, .4 and .133 in truth: these decide outlines)
def usual_error(t):
    "The shipped model's velocity error at timesteps (N,), interpolated"
    i = ((t + 1)//100).clamp(max=9)
    return torch.lerp(USUAL[i], USUAL[i + 1], ((t + 1) - 100*i)/100)

def foreground_weight(x: torch.Tensor, extra: float) -> torch.Tensor:
    "1 on the still ground, more where a video's latents change over time or differ from the ground; mean 1"
    ground = x.median(2, keepdim=True).values
    w = 1 + extra*((x - ground).square().mean(1, keepdim=True) > .05).float()
    return w/w.mean((1, 2, 3, 4), keepdim=True)

# ---- the model in training

class Model:
    "Networks, their moving average and the optimiser"
    def __init__(self, c):
        torch.manual_seed(c["seed"])
        self.c, self.nets = c, make_nets(c["channels"], c["layers"])
        if c["init"] != "none":
            from widen import init_from
            init_from(self.nets, c["init"], c["noise"])
        self.ema = copy.deepcopy(self.nets).requires_grad_(False)
        if c["muon"]:
            from muon import Muon
            self.optimizer = Muon(self.nets, c["lr"], betas=(.9, c["beta2"]), weight_decay=c["weight_decay"])
        else: self.optimizer = torch.optim.AdamW(self.nets.parameters(), c["lr"], betas=(.9, c["beta2"]), weight_decay=c["weight_decay"], fused=True)
    def rate(self, step):
        "Learning rate: warm-up, constant, then linear or cosine decay to zero over the last share"
        c = self.c
        left = (c["steps"] - step)/(c["decay_share"]*c["steps"])
        tail = min(1., left) if c["decay"] == "linear" else .5 - .5*math.cos(math.pi*min(1., left))
        return c["lr"]*min(1., (step + 1)/c["warmup"], tail)
    def update(self, step, batch):
        "One optimiser step; returns the loss"
        for group in self.optimizer.param_groups: group["lr"] = self.rate(step)
        embeds = self.nets["text_encoder"](batch.token_ids).last_hidden_state
        error = (self.nets["unet"](batch.noisy, batch.t, embeds).sample - batch.velocity).square()
        loss = (error if batch.weight is None else error*batch.weight).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.nets.parameters(), self.c["clip"])
        self.optimizer.step(); self.optimizer.zero_grad()
        decay = min(self.c["ema"], (2 + step)/(11 + step))
        with torch.no_grad(): torch._foreach_lerp_(list(self.ema.parameters()), list(self.nets.parameters()), 1 - decay)
        return error.mean().item()
    def parts(self): return dict(nets=self.nets, ema=self.ema, optimizer=self.optimizer)

# ---- measures in training

class Validation:
    "The velocity error on videos of `DEV` with fixed noise at the sampler's ten timesteps: a paired, nearly noiseless comparison"
    def __init__(self, vae, factor, n=48):
        captions = DEV[:n]
        frames = render(captions, torch.Generator().manual_seed(7))[0]
        with torch.no_grad(): z = vae.encode(frames.flatten(0, 1)*2 - 1).latent_dist.mean.unflatten(0, (n, FRAMES)).transpose(1, 2)
        self.x, self.tokens = z*factor, tokenize(make_tokenizer(), captions)
        self.noise = torch.randn(self.x.shape, generator=torch.Generator().manual_seed(8))
    @torch.no_grad()
    def __call__(self, nets, alphas) -> dict:
        "Mean squared velocity error at high (700-999), middle (300-699) and low noise, and over all"
        embeds, by = nets["text_encoder"](self.tokens).last_hidden_state, []
        for t in range(99, 1000, 100):
            a = alphas[torch.full((len(self.x),), t)]
            pred = nets["unet"](add_noise(self.x, self.noise, a), torch.full((len(self.x),), t), embeds).sample
            by.append((pred - training_target(self.x, self.noise, a, "v_prediction")).square().mean().item())
        return dict(val=round(sum(by)/10, 5), val_low=round(sum(by[:3])/3, 5), val_mid=round(sum(by[3:7])/4, 5), val_high=round(sum(by[7:])/3, 5), by_t=[round(b, 5) for b in by])

@torch.no_grad()
def sample(nets, vae, captions, guidance_scale=3., seed=0, num_inference_steps=10, factor=1., batch_size=48) -> torch.Tensor:
    "Samples of networks in training, as `sample_tiny`; without guidance at half the cost"
    scheduler, tok, out = make_scheduler(), make_tokenizer(), []
    scheduler.set_timesteps(num_inference_steps)
    noise = torch.randn(len(captions), 4, FRAMES, 8, 8, generator=torch.Generator().manual_seed(seed))
    for i in range(0, len(captions), batch_size):
        c, x = captions[i:i + batch_size], noise[i:i + batch_size]
        embeds = nets["text_encoder"](tokenize(tok, [""]*len(c) + c)).last_hidden_state
        for t in scheduler.timesteps:
            if guidance_scale == 1: pred = nets["unet"](x, t, embeds[len(c):]).sample
            else: pred = guide(*nets["unet"](torch.cat([x, x]), t, embeds).sample.chunk(2), guidance_scale)
            x = scheduler.step(pred, t, x).prev_sample
        frames = vae.decode((x/factor).transpose(1, 2).flatten(0, 1)).sample
        out.append((frames/2 + .5).clamp(0, 1).unflatten(0, (-1, FRAMES)))
    return torch.cat(out)

def evaluate(nets, vae, factor, n: int, guidances=(3., 1.)) -> dict:
    "Short measures on the first `n` captions of `DEV`, with guidance 3 and without"
    captions, out = DEV[:n], {}
    for g in guidances:
        s = summary(video_measures(sample(nets, vae, captions, g, factor=factor), captions, psnr=False))
        out |= {f"{k}_g{g:g}": round(v, 4) for k, v in s.items()}
    return out

def goodness(e: dict) -> float:
    "One number to keep the best by: overlap, shape with and without guidance, constancy, and the rest as a floor"
    rest = min(e["colour_g3"], e["background_g3"], e["motion_g3"], e["gem_g3"])
    return e["iou_g3"] + e["right_in_all_g3"] + .5*e["shape_g1"] + rest

def save_best(nets, folder: Path, entry: dict, c: dict) -> None:
    "The networks in fp16, and what was measured"
    folder.mkdir(parents=True, exist_ok=True)
    for part in nets: save_file({k: v.half().contiguous() for k, v in nets[part].state_dict().items()}, folder/f"{part}.safetensors")
    (folder/"measures.json").write_text(json.dumps(dict(config=c, **entry), indent=1) + "\n")

# ---- the loop

def train(name: str, evaluate_last_only: bool = False, keep_best: bool = False, **changes) -> list[dict]:
    "Train; goes on from lab/runs/NAME.pt if it is there. `budget`: process seconds to stop after (for equal-time comparisons)"
    file, c = LAB/"runs"/f"{name}.pt", DEFAULTS | changes
    if wrong := [k for k, v in changes.items() if k not in DEFAULTS or isinstance(v, str) and k not in ("init", "decay")]: raise ValueError(f"wrong: {wrong}")
    data, vae, model, step, log, spent = Data(c["pieces"]), shipped_vae(), Model(c), 0, [], 0.
    alphas, valid = make_scheduler().alphas_cumprod, Validation(shipped_vae(), data.factor)
    if file.exists(): rest = load_state(file, **model.parts()); step, log, spent, curve = rest["step"], rest["log"], rest["spent"], rest.get("losses", [])
    else: curve = []
    def note():
        e = dict(step=step, seconds=round(spent), loss=round(sum(losses)/max(1, len(losses)), 5), **valid(model.ema, alphas))
        if not (evaluate_last_only and 0 < step < last): e |= evaluate(model.ema, vae, data.factor, c["n_eval"])
        log.append(e); losses.clear()
        print(name, json.dumps(e), flush=True)
        if keep_best and "iou_g3" in e and goodness(e) > max((goodness(o) for o in log[:-1] if "iou_g3" in o), default=-1): save_best(model.ema, LAB/"best"/name, e, c)
    losses, recent, last = [], [], c["steps"]
    if step == 0 and c["eval_first"]: note()
    while step < last and not (c["budget"] and spent > c["budget"]):
        start = time.process_time()
        if c["grow"]: data.grow(vae, step//c["grow"])
        loss = model.update(step, Batch(step, data, c, alphas))
        losses.append(loss)
        step, spent = step + 1, spent + time.process_time() - start
        done = step == last or (c["budget"] and spent > c["budget"])
        if done: last = step
        if step % c["eval_every"] == 0 or done: note()
        recent.append(loss)
        if step % c["save_every"] == 0 or done:
            curve.append([step, round(sum(recent)/len(recent), 5)]); recent.clear()
            save_state(file, **model.parts(), step=step, log=log, spent=spent, losses=curve)
    return log

def parse(text: str):
    "A value on the command line: JSON, or else the text itself"
    for read in (json.loads, float):
        try: return read(text)
        except ValueError: pass
    return text

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name"); parser.add_argument("changes", nargs="*", help="key=json")
    parser.add_argument("--keep_best", action="store_true"); parser.add_argument("--last_only", action="store_true")
    a = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    changes = {k: parse(v) for k, v in (x.split("=", 1) for x in a.changes)}
    train(a.name, a.last_only, a.keep_best, **changes)
