"Start a wider UNet from a trained one: every channel twice, the same function (Net2Net), symmetry broken by how the two share their outgoing weights"
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from vader_nb.tiny_unet import load_tiny_networks

HEAD = 16

def _doubled(n: int, heads: bool) -> torch.Tensor:
    "Old number of each of 2n new channels; attention repeats whole heads"
    if not heads: return torch.arange(n).repeat_interleave(2)
    return torch.arange(n).view(-1, HEAD).repeat_interleave(2, 0).flatten()

def _share(w: torch.Tensor, index: torch.Tensor, spread: float, g: torch.Generator) -> torch.Tensor:
    "Repeat the inputs of `w`; the two copies of an input share its weight unevenly: a and 1 - a"
    first = torch.zeros(len(index), dtype=torch.bool)
    seen = set()
    for j, i in enumerate(index.tolist()): first[j] = i not in seen; seen.add(i)
    a = .5 + spread*torch.randn(w.shape, generator=g)
    return torch.where(first.view(1, -1, *[1]*(w.ndim - 2)), a[:, index], 1 - a[:, index])*w[:, index]

def widen_tensor(name: str, old: torch.Tensor, shape: tuple, spread: float, g: torch.Generator) -> torch.Tensor:
    "A weight of the network of twice the width"
    new, heads = old, ".attn" in name and "transformer_in" not in name
    if old.ndim and shape[0] == 2*old.shape[0]:
        new = new[_doubled(old.shape[0], heads and any(f".to_{k}." in name for k in "qkv"))]
    if name == "time_embedding.linear_1.weight" and shape[1] == 2*old.shape[1]:                    # the sines of every second frequency are the old ones
        wide = torch.zeros(shape)
        wide[:, ::2] = new
        return wide
    if old.ndim > 1 and shape[1] == 2*old.shape[1]: new = _share(new, _doubled(old.shape[1], heads and ".to_out." in name), spread, g)
    return new

def widen_state(old: dict, new: dict, spread: float = .25, seed: int = 0) -> dict:
    "The old weights in the shapes of `new`: equal, or twice as wide"
    g, out = torch.Generator().manual_seed(seed), {}
    for k, v in new.items():
        out[k] = widen_tensor(k, old[k].float(), tuple(v.shape), spread, g)
        if out[k].shape != v.shape: raise ValueError(f"{k}: {tuple(old[k].shape)} does not become {tuple(v.shape)} by doubling")
    return out

def trained(source: str) -> nn.ModuleDict | dict:
    "State dicts of UNet and text encoder: shipped, or of a folder with unet.safetensors and text_encoder.safetensors"
    if source == "shipped": return {k: m.state_dict() for k, m in load_tiny_networks()[0].items()}
    return {k: {n: t.float() for n, t in load_file(Path(source)/f"{k}.safetensors").items()} for k in ("unet", "text_encoder")}

def init_from(nets: nn.ModuleDict, source: str, spread: float = .25) -> None:
    "Put trained weights into new networks of the same or twice the width"
    state = trained(source)
    nets["text_encoder"].load_state_dict(state["text_encoder"])
    nets["unet"].load_state_dict(widen_state(state["unet"], nets["unet"].state_dict(), spread))

if __name__ == "__main__":
    from train import make_nets
    small, wide = make_nets((32, 64)), make_nets((64, 128))
    init_from(small, "shipped"); init_from(wide, "shipped")
    x, t, e = torch.randn(2, 4, 8, 8, 8), torch.tensor([500, 100]), torch.randn(2, 12, 64)
    with torch.no_grad(): a, b = small["unet"](x, t, e).sample, wide["unet"](x, t, e).sample
    print("widened: relative difference", ((a - b).norm()/a.norm()).item(), sum(p.numel() for p in wide["unet"].parameters())/1e6, "M")
    assert (a - b).norm() < 1e-3*a.norm()
