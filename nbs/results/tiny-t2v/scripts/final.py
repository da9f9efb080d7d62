"The table of an exported folder on the 200 held-out captions, guidance 3 and 1, with its own decoder and with the shipped one on the same latents"
import sys, time, json
import torch
from data import shipped_vae
from measures import RESULTS, sample_t2v, split_captions, summary, video_measures, write
from vader_nb.models import load_pipeline
from vader_nb.world import FRAMES
folder, name, guidances = sys.argv[1], sys.argv[2], [float(g) for g in sys.argv[3:]] or [3., 1.]
torch.set_num_threads(1)
pipe, captions, old, out = load_pipeline(folder), split_captions()[1][:int(__import__("os").environ.get("N", 200))], shipped_vae(), {}
decode, kept = pipe.vae.decode, []
def keep(z, *a, **k):
    kept.append(z.detach().clone())
    return decode(z, *a, **k)
pipe.vae.decode = keep
with torch.no_grad():
  for g in guidances:
    start = time.process_time(); kept.clear()
    frames = sample_t2v(pipe, captions, g)
    z = torch.cat(kept)
    torch.save(dict(frames=frames.half(), latents=z.half()), RESULTS.parent/"runs"/f"{name}_g{g:g}.pt")
    measured = video_measures(frames, captions)
    torch.save(dict(frames=frames.half(), latents=z.half(), **measured), RESULTS.parent/"runs"/f"{name}_g{g:g}.pt")
    out[f"guidance_{g:g}"] = summary(measured) | dict(cpu_seconds=round(time.process_time() - start))
    write(name, out)
    if False:
        again = (pipe.vae.__class__.decode(pipe.vae, z[:8]).sample/2 + .5).clamp(0, 1)
        print("frames are the decoded latents:", (again - frames[0]).abs().max().item())
        other = torch.cat([old.decode(y).sample for y in z.split(200)])
        out[f"guidance_{g:g}_shipped_decoder"] = summary(video_measures((other/2 + .5).clamp(0, 1).unflatten(0, (-1, FRAMES)), captions))
        write(name, out)
    else: print("latents", z.shape)
