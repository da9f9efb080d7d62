"""Seconds that each published measure takes for one video, with networks of the published sizes and random weights, on one core

    OMP_NUM_THREADS=1 python nbs/results/eval-cost/cost.py [FILE]

A measure that is in FILE (beside this script: cpu.json) is not measured again."""
import json, platform, sys, time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel

from vader_nb.evaluate import by_name
from vader_nb.evaluate.amt import AMT
from vader_nb.evaluate.dino import DINO
from vader_nb.evaluate.musiq import MUSIQ
from vader_nb.evaluate.raft import RAFT

FILE = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("cpu.json"))
SHAPE = 1, 16, 3, 320, 512

def clip_l():
    "CLIP ViT-L/14"
    text = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    image = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=768))

MAKE = dict(dino=DINO, clip_b=lambda: CLIPModel(CLIPConfig()), clip_l=clip_l, linear=lambda: torch.nn.Linear(768, 1),
            amt=AMT, raft=RAFT, musiq=MUSIQ)

def processor():
    "Its name"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((l.split(":")[1].strip() for l in lines if l.startswith("model name")), platform.processor())

@torch.no_grad()
def cost(name, video):
    "Seconds of processor and of clock, FLOPs, and parameters"
    torch.manual_seed(0)
    nets = [MAKE[n]().eval() for n in by_name.MEASURES[name].networks]
    measure = by_name.MEASURES[name].make(*nets)
    start, clock = time.process_time(), time.perf_counter()
    with FlopCounterMode(display=False) as flops: measure(video)
    return dict(cpu_seconds=round(time.process_time() - start, 2), clock_seconds=round(time.perf_counter() - clock, 2),
                teraflops=round(flops.get_total_flops()/1e12, 4), parameters=sum(p.numel() for n in nets for p in n.parameters()))

def main():
    torch.set_num_threads(1)
    found = json.loads(FILE.read_text()) if FILE.is_file() else dict(
        processor=processor(), threads=1, torch=torch.__version__, shape=list(SHAPE), measures={})
    video = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    for name in [n for n in by_name.MEASURES if n.startswith(("vbench_", "evalcrafter_"))]:
        if name in found["measures"]: continue
        found["measures"][name] = cost(name, video)
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        print(name, found["measures"][name], flush=True)

if __name__ == "__main__": main()
