"What good is: overlap with the ideal shape, constancy over frames, foreground PSNR against the nearest rendering, oracles"
import argparse, json, time
from pathlib import Path

import torch

from vader_nb.autoregressive import same_as_first
from vader_nb.models.svd import ImagePrompt
from vader_nb.world import (BACKGROUNDS, COLOURS, FRAMES, GEM, SHAPES, SIZE, _UNITS, _moments, _read_shape, footage, motion_path, parse_caption,
                            read_oracles, render, segment, shape_distance, split_captions)

RESULTS = Path(__file__).parent/"results"
_grid = torch.arange(SIZE) + .5
_x, _y = _grid.view(1, -1), _grid.view(-1, 1)

def _iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    "Intersection over union of masks (..., H, W); 1 where both are empty"
    union = (a | b).sum((-2, -1))
    return torch.where(union > 0, (a & b).sum((-2, -1))/union.clamp(min=1), 1.)

def _candidates(shape: str, cx, cy, r, steps: torch.Tensor):
    "Ideal masks (N, k, H, W) around a place and size (N,), and their parameters (N, k, 3)"
    p = torch.stack([cx, cy, r], -1)[:, None] + steps
    x, y, size = _x - p[..., 0, None, None], _y - p[..., 1, None, None], p[..., 2, None, None]
    return shape_distance(shape, *torch.broadcast_tensors(x, y, size)) < 0, p

def fit_shape(
    mask: torch.Tensor,     # (N, H, W) bool
    shape: str,             # the class whose ideal is fitted
) -> tuple[torch.Tensor, torch.Tensor]:   # best IoU (N,), place and size (N, 3)
    "Fit place and size of the ideal shape to each mask: from its moments, then three rounds of a finer and finer search"
    mx, my, area = (m[:, 0] for m in _moments(mask[:, None]))
    unit, ux, uy = _UNITS[shape]
    r = (area/unit).sqrt()
    p, best = torch.stack([mx - ux*r, my - uy*r, r], -1), None
    for scale in (1., .5, .25):
        steps = torch.cartesian_prod(*(torch.tensor([-1., -.5, 0., .5, 1.])*scale*w for w in (1., 1., .6)))
        drawn, q = _candidates(shape, *p.unbind(-1), steps)
        iou = _iou(drawn, mask[:, None])
        best, i = iou.max(1)
        p = q[torch.arange(len(q)), i]
    return torch.where(area > 0, best, 0.), p

def shape_fits(
    mask: torch.Tensor,      # (B, F, H, W) bool
    captions: list[str],     # of the B videos
) -> torch.Tensor:           # (B, F) IoU with the ideal shape of the caption's class
    "Overlap of each frame's mask with the ideal shape of its class, at the best place and size"
    out = torch.zeros(mask.shape[:2])
    for shape in SHAPES:
        rows = [i for i, c in enumerate(captions) if parse_caption(c)["shape"] == shape]
        if rows: out[rows] = fit_shape(mask[rows].flatten(0, 1), shape)[0].view(len(rows), -1)
    return out

def frame_shapes(mask: torch.Tensor) -> list[list[str]]:
    "The shape read in each frame alone, a list of F names for each video"
    names = _read_shape(mask.flatten(0, 1)[:, None])
    return [names[i:i + mask.shape[1]] for i in range(0, len(names), mask.shape[1])]

_kinds = torch.cartesian_prod(torch.linspace(.45, 1.2, 12), torch.linspace(0, .4, 9))
_corner = ((_x < 10) | (_x > SIZE - 10)) & ((_y < 10) | (_y > SIZE - 10))
def _under_footages(rgb): return footage(torch.tensor([rgb]).expand(len(_kinds), 3), _kinds[:, :1], _kinds[:, 1:], dim=1)

def _off_line(pixels, start, end):
    "Distance of colours (F, 3, H, W) to the segment between two colours (3,), the mixtures at a soft edge"
    line, rel = (end - start).view(1, 3, 1, 1), pixels - start.view(1, 3, 1, 1)
    share = ((rel*line).sum(1, keepdim=True)/line.square().sum().clamp(min=1e-6)).clamp(0, 1)
    return (rel - share*line).norm(dim=1)

def object_mask(
    frames: torch.Tensor,    # pixels (B, 8, 3, 32, 32)
    captions: list[str],     # of the B videos
) -> torch.Tensor:           # (B, 8, 32, 32) bool
    """Where the object is: `segment`, without the gem. `segment` takes a pink gem for a part of a purple, yellow, red or cyan object.
    Vividness and haze are fitted to the colours of ground and object, so the gem's colour is known; pixels of a corner nearer to it go"""
    seg = segment(frames.float())
    mask = seg.mask.clone()
    for i, c in enumerate(captions):
        p = parse_caption(c)
        off = ((_under_footages(BACKGROUNDS[p["background"]]) - seg.background[i]).square().sum(1)
               + (_under_footages(COLOURS[p["colour"]]) - seg.colour[i]).square().sum(1))
        gem, video = _under_footages(GEM)[off.argmin()], frames[i].float()
        nearer = _off_line(video, seg.background[i], gem) < _off_line(video, seg.background[i], seg.colour[i])
        mask[i] &= ~(nearer & _corner)
    return mask

def _path_fit(mask, shape, motion):
    "Opacity (F, H, W) of the rendering of this shape and motion that overlaps best with a video's mask"
    path = motion_path(motion, torch.linspace(-1, 1, FRAMES))
    area = mask.sum((-2, -1)).float()
    _, p = fit_shape(mask, shape)
    ok = area > 4
    centre = (p[ok, :2] - path[:2].T[ok]).median(0).values if ok.any() else torch.tensor([16., 16.])
    size = (p[ok, 2]/path[2][ok]).median() if ok.any() else torch.tensor(6.)
    q = torch.cat([centre, size[None]])
    for scale in (1., .5, .25):
        steps = torch.cartesian_prod(*(torch.tensor([-1., -.5, 0., .5, 1.])*scale*w for w in (1., 1., .6)))
        place = (q + steps).clamp(min=torch.tensor([13.5, 13.5, 6.]), max=torch.tensor([18.5, 18.5, 7.5]))   # what the renderer draws
        x = _x - (place[:, None, 0] + path[0])[..., None, None]
        y = _y - (place[:, None, 1] + path[1])[..., None, None]
        r = (place[:, None, 2]*path[2])[..., None, None]
        opacity = (.5 - shape_distance(shape, *torch.broadcast_tensors(x, y, r))).clamp(0, 1)
        iou = _iou(opacity > .5, mask[None]).mean(1)
        q = place[iou.argmax()]
    return opacity[iou.argmax()]

def _footages(parsed):
    "Colours of object and ground (k, 3) under k kinds of footage"
    kinds = torch.cartesian_prod(torch.linspace(.45, 1, 12), torch.linspace(0, .35, 8))
    look = lambda c: torch.stack([footage(torch.tensor([c]), v, h, dim=1)[0] for v, h in kinds])
    return look(COLOURS[parsed["colour"]]), look(BACKGROUNDS[parsed["background"]])

def foreground_psnr(
    frames: torch.Tensor,    # pixels (B, 8, 3, 32, 32)
    mask: torch.Tensor,      # (B, 8, 32, 32) segmented
    captions: list[str],
) -> torch.Tensor:           # (B,) decibels, where the object is or should be
    "PSNR of the object against the nearest rendering of the caption: place, size, vividness and haze are fitted"
    out = []
    for video, m, c in zip(frames, mask, captions):
        p = parse_caption(c)
        opacity = _path_fit(m, p["shape"], p["motion"])[:, None]
        where = ((opacity[:, 0] > .5) | m)[:, None].float()
        ink, ground = _footages(p)
        error = [((ground[k].view(1, 3, 1, 1)*(1 - opacity) + ink[k].view(1, 3, 1, 1)*opacity - video).square().mean(1, keepdim=True)*where).sum()
                 for k in range(len(ink))]
        out.append(-10*(torch.stack(error).min()/where.sum()).log10())
    return torch.stack(out)

def video_measures(
    frames: torch.Tensor,    # pixels (B, 8, 3, 32, 32)
    captions: list[str],
    psnr: bool = True,       # the foreground's too (slower)
) -> dict[str, torch.Tensor]:   # (B,) each
    "Everything that is measured of each video"
    parsed, read = [parse_caption(c) for c in captions], read_oracles(frames)
    mask = object_mask(frames, captions)
    iou, shapes = shape_fits(mask, captions), frame_shapes(mask)
    out = {k: torch.tensor([float(a == p[k]) for a, p in zip(read[k], parsed)]) for k in read}
    out["shape_no_gem"] = torch.tensor([float(a == p["shape"]) for a, p in zip(_read_shape(mask), parsed)])
    out |= dict(iou=iou.mean(1), iou_worst_frame=iou.amin(1),
                constant=torch.tensor([float(len(set(s)) == 1 and s[0] != "none") for s in shapes]),
                right_in_all=torch.tensor([float(set(s) == {p["shape"]}) for s, p in zip(shapes, parsed)]),
                right_frames=torch.tensor([sum(n == p["shape"] for n in s)/len(s) for s, p in zip(shapes, parsed)]))
    if psnr: out["psnr_fg"] = foreground_psnr(frames, mask, captions)
    return out

def summary(measured: dict[str, torch.Tensor]) -> dict[str, float]:
    "Means; of the overlap and the PSNR also median and the worst tenth"
    out = {k: round(v.mean().item(), 4) for k, v in measured.items()}
    for k in ("iou", "psnr_fg"):
        if k in measured: out |= {f"{k}_median": round(measured[k].median().item(), 4), f"{k}_p10": round(measured[k].quantile(.1).item(), 4)}
    return out

@torch.no_grad()
def sample_t2v(pipe, captions, guidance_scale: float = 3., batch_size: int = 50, seed: int = 0) -> torch.Tensor:
    "Samples of a text-to-video pipeline at its default sampler; video i starts from seed + i"
    from vader_nb.sampling import sample_videos
    return sample_videos(pipe, captions, seed=seed, batch_size=batch_size, guidance_scale=guidance_scale)

# ---- image to video

def i2v_measures(
    frames: torch.Tensor,    # pixels (B, 22, 3, 32, 32): three chunks
    captions: list[str],     # what the first pictures show
    chunks: int = 3,
) -> dict[str, torch.Tensor]:   # name -> (B, frames a chunk) of each chunk, the given frame left out
    "What is kept of the condition, frame by frame and chunk by chunk"
    same, n = same_as_first(frames, captions), FRAMES - 1
    mask = object_mask(frames.flatten(0, 1)[:, None], [c for c in captions for _ in range(frames.shape[1])]).view(*frames.shape[:2], SIZE, SIZE)
    values = {k: same[k].float() for k in ("colour", "shape", "background", "all")} | dict(iou=shape_fits(mask, captions))
    values["shape_no_gem"] = torch.tensor([[float(n == parse_caption(c)["shape"]) for n in names] for names, c in zip(frame_shapes(mask), captions)])
    values["shape_and_colour"] = values["shape"]*values["colour"]
    values["shape_no_gem_and_colour"] = values["shape_no_gem"]*values["colour"]
    return {f"{k}_{c + 1}": v[:, 1 + c*n:1 + (c + 1)*n] for k, v in values.items() for c in range(chunks)}

def i2v_summary(frames: torch.Tensor, captions: list[str], real: torch.Tensor, chunks: int = 3) -> dict[str, float]:
    "Shares of frames, median overlap, and the motion energy of each chunk against real videos'"
    measured, n = i2v_measures(frames, captions, chunks), FRAMES - 1
    out = {k: round(v.mean().item(), 4) for k, v in measured.items()}
    out |= {f"iou_median_{c + 1}": round(measured[f"iou_{c + 1}"].median().item(), 4) for c in range(chunks)}
    energy = lambda v: (v[:, 1:] - v[:, :-1]).square().mean().item()
    return out | {f"motion_{c + 1}": round(energy(frames[:, c*n:c*n + FRAMES])/energy(real), 3) for c in range(chunks)}

def i2v_prompts(captions, seed: int = 6):
    "First frames of held-out captions, as prompts, and the real videos"
    real = render(captions, torch.Generator().manual_seed(seed))[0]
    return [ImagePrompt(c, v) for c, v in zip(captions, real[:, 0])], real

# ---- the tables

def check_measures(n: int = 200, seed: int = 2) -> dict[str, dict]:
    "The measures on real renderings, on VAE reconstructions, and on spoilt videos"
    from data import shipped_vae
    from vader_nb.tiny_vae import reconstruct
    captions = split_captions()[1][:n]
    real = render(captions, torch.Generator().manual_seed(seed))[0]
    with torch.no_grad(): vae = reconstruct(shipped_vae(), real.flatten(0, 1)).unflatten(0, real.shape[:2])
    other = [c.replace(f" {s} ", f" {SHAPES[(SHAPES.index(s) + 1) % 4]} ") for c in captions for s in [parse_caption(c)["shape"]]]
    half = real.clone()
    half[:, 4:] = render(other, torch.Generator().manual_seed(seed))[0][:, 4:]
    wobble = torch.nn.functional.interpolate(torch.randn(n*FRAMES, 2, 8, 8, generator=torch.Generator().manual_seed(0)), 32, mode="bicubic")
    warp = lambda size: torch.nn.functional.grid_sample(real.flatten(0, 1), torch.stack(torch.meshgrid(*[(_grid/16 - 1)]*2, indexing="xy"), -1) + wobble.permute(0, 2, 3, 1)*size/16,
                                                        align_corners=False, padding_mode="border").unflatten(0, real.shape[:2])
    kinds = dict(real=real, vae=vae, another_shape=render(other, torch.Generator().manual_seed(seed))[0], changes_half_way=half,
                 outlines_bent_1px=warp(1.), outlines_bent_2px=warp(2.))
    return {k: summary(video_measures(v, captions)) for k, v in kinds.items()}

def write(name: str, result: dict) -> None:
    "Keep a result, and print it"
    (RESULTS/f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    for k, v in result.items(): print(name, k, json.dumps(v), flush=True)

def measure_t2v(folder=None, n: int = 200, guidances=(3., 1.), name: str = "t2v_shipped", keep: bool = True) -> dict:
    "The table of a text-to-video model, shipped or in a folder; the samples are kept for pictures"
    from vader_nb.models import load_pipeline
    pipe, captions, out = load_pipeline(str(folder) if folder else "tiny"), split_captions()[1][:n], {}
    for g in guidances:
        start = time.time()
        frames = sample_t2v(pipe, captions, g)
        measured = video_measures(frames, captions)
        out[f"guidance_{g:g}"] = summary(measured) | dict(seconds=round(time.time() - start))
        if keep: torch.save(dict(frames=frames.half(), **measured), RESULTS.parent/"runs"/f"{name}_g{g:g}.pt")
    write(name, out)
    return out

def remeasure_t2v(name: str, guidances=(3., 1.)) -> dict:
    "Measure kept samples again, after the measures changed"
    captions, out = split_captions()[1], {}
    for g in guidances:
        file = RESULTS.parent/"runs"/f"{name}_g{g:g}.pt"
        frames = torch.load(file, weights_only=True)["frames"].float()
        measured = video_measures(frames, captions[:len(frames)])
        torch.save(dict(frames=frames.half(), **measured), file)
        out[f"guidance_{g:g}"] = summary(measured)
    write(name, out)
    return out

def measure_i2v(folder=None, n: int = 200, name: str = "i2v_shipped", keep: bool = True) -> dict:
    "The table of an image-to-video model over three chunks, at its own sampler"
    from vader_nb.autoregressive import sample_long
    from vader_nb.tiny_i2v import load_tiny_i2v
    pipe, captions = load_tiny_i2v(folder), split_captions()[1][:n]
    prompts, real = i2v_prompts(captions)
    start = time.time()
    frames = sample_long(pipe, prompts, chunks=3, batch_size=40)
    out = dict(model=i2v_summary(frames, captions, real) | dict(seconds=round(time.time() - start)))
    again = torch.cat([real, real.flip(1)[:, 1:], real[:, 1:]], 1)      # there, back and there again
    out["real_there_and_back"] = i2v_summary(again, captions, real)
    if keep: torch.save(dict(frames=frames.half()), RESULTS.parent/"runs"/f"{name}.pt")
    write(name, out)
    return out

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["check", "t2v", "again", "i2v"]); parser.add_argument("--folder"); parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--name")
    a = parser.parse_args()
    torch.set_num_threads(1)
    if a.what == "check": write("check", check_measures(a.n))
    elif a.what == "t2v": measure_t2v(a.folder, a.n, name=a.name or "t2v_shipped")
    elif a.what == "again": remeasure_t2v(a.name or "t2v_shipped")
    else: measure_i2v(a.folder, a.n, name=a.name or "i2v_shipped")
