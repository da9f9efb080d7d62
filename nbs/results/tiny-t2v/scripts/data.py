"Latents of training videos, encoded once and kept on disk in pieces"
import sys, time
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from vader_nb.checkpoints import weights_folder
from vader_nb.video import atomic_path
from vader_nb.world import FRAMES, render, split_captions

CACHE = Path(__file__).parent/"cache"
PIECE = 4096     # videos in a file
SMALL = 512      # videos in a file that a training adds as it goes

def shipped_vae() -> AutoencoderKL:
    "The shipped frame-wise VAE, float32, frozen"
    return AutoencoderKL.from_pretrained(weights_folder("tiny")/"vae", dtype=torch.float32).eval().requires_grad_(False)

@torch.no_grad()
def encode_piece(vae: AutoencoderKL, number: int, n: int = PIECE, seed: int = 100) -> dict:
    "Latents (n, 4, 8, 8, 8) in fp16 and caption numbers of piece `number`; its renderer has seed `seed` + number"
    captions, g = split_captions()[0], torch.Generator().manual_seed(seed + number)
    index, batches = (torch.arange(n) + number*n) % len(captions), []
    for i in index.split(64):
        frames = render([captions[k] for k in i.tolist()], g)[0]
        z = vae.encode(frames.flatten(0, 1)*2 - 1).latent_dist.mean
        batches.append(z.unflatten(0, (-1, FRAMES)).transpose(1, 2).half())
    return dict(latents=torch.cat(batches), index=index)

def make_pieces(numbers, folder: Path = CACHE) -> None:
    "Encode the pieces that are not there yet"
    vae = shipped_vae()
    for n in numbers:
        if (folder/f"piece{n}.pt").exists(): continue
        start = time.time()
        piece = encode_piece(vae, n)
        with atomic_path(folder/f"piece{n}.pt") as tmp: torch.save(piece, tmp)
        print(f"piece {n}: {time.time() - start:.0f} s", flush=True)

def load_pieces(n: int | None = None, folder: Path = CACHE) -> tuple[torch.Tensor, torch.Tensor]:
    "Latents and caption numbers of the first `n` pieces (all there are)"
    files = [folder/f"piece{i}.pt" for i in range(n)] if n else sorted(folder.glob("piece*.pt"), key=lambda p: int(p.stem[5:]))
    pieces = [torch.load(f, weights_only=True) for f in files]
    return torch.cat([p["latents"] for p in pieces]), torch.cat([p["index"] for p in pieces])

def small_piece(vae: AutoencoderKL, number: int, folder: Path = CACHE) -> tuple[torch.Tensor, torch.Tensor]:
    "Latents and caption numbers of 512 more videos; encoded once, then read from disk"
    file = folder/f"small{number}.pt"
    if not file.exists():
        with atomic_path(file) as tmp: torch.save(encode_piece(vae, number, SMALL, 10_000), tmp)
    piece = torch.load(file, weights_only=True)
    return piece["latents"], piece["index"]

if __name__ == "__main__":
    torch.set_num_threads(1)
    make_pieces(range(int(sys.argv[1])))
