"Contact sheets of kept samples: best, median, worst by overlap; and 24 held-out captions that nobody chose"
import argparse, random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from vader_nb.world import split_captions

LAB = Path(__file__).parent

def sheet(frames: torch.Tensor, labels: list[str], file: Path, zoom: int = 3) -> None:
    "A row of frames a video, with a line of text above it"
    n, f = frames.shape[:2]
    side, line = frames.shape[-1]*zoom, 13
    out = Image.new("RGB", (f*(side + 2), n*(side + line + 3)), "white")
    draw = ImageDraw.Draw(out)
    for i, (video, label) in enumerate(zip(frames.float(), labels)):
        top = i*(side + line + 3)
        draw.text((2, top), label, fill="black")
        for j, x in enumerate(video):
            a = (x.permute(1, 2, 0).clamp(0, 1)*255).round().to(torch.uint8).numpy()
            out.paste(Image.fromarray(np.repeat(np.repeat(a, zoom, 0), zoom, 1)), (j*(side + 2), top + line))
    out.save(file)

def ranked_sheet(name: str, each: int = 5) -> Path:
    "Best, median and worst of the samples that `measures.py` kept under a name"
    kept, captions = torch.load(LAB/"runs"/f"{name}.pt", weights_only=True), split_captions()[1]
    order, n = kept["iou"].argsort(descending=True).tolist(), len(kept["iou"])
    rows = order[:each] + order[n//2 - each//2:n//2 - each//2 + each] + order[-each:]
    labels = [f"{kind}: {captions[i]}   overlap {kept['iou'][i]:.2f}, shape right in {kept['right_frames'][i]:.0%} of the frames"
              for kind, part in (("best", rows[:each]), ("median", rows[each:2*each]), ("worst", rows[2*each:])) for i in part]
    sheet(kept["frames"][rows], labels, LAB/"results"/f"{name}_ranked.png")
    return LAB/"results"/f"{name}_ranked.png"

def random_sheet(name: str, n: int = 24, seed: int = 0) -> Path:
    "Held-out captions drawn by chance"
    kept, captions = torch.load(LAB/"runs"/f"{name}.pt", weights_only=True), split_captions()[1]
    rows = sorted(random.Random(seed).sample(range(len(kept["frames"])), min(n, len(kept["frames"]))))
    sheet(kept["frames"][rows], [captions[i] for i in rows], LAB/"results"/f"{name}_random.png", 2)
    return LAB/"results"/f"{name}_random.png"

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    a = parser.parse_args()
    if "iou" in torch.load(LAB/"runs"/f"{a.name}.pt", weights_only=True): print(ranked_sheet(a.name))
    print(random_sheet(a.name))
