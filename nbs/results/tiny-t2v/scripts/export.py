"Make a folder in diffusers' layout of the best weights of a run, so that `load_pipeline(folder)` and stock pipelines open it"
import argparse, json, shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from vader_nb.checkpoints import weights_folder

LAB = Path(__file__).parent

def export(run: str, kind: str = "tiny", vae: Path | None = None, log: bool = True) -> Path:
    "Copy the shipped folder and put the run's networks in; `kind` is tiny or tiny_i2v"
    best, to = LAB/"best"/run, LAB/"export"/run
    shutil.rmtree(to, ignore_errors=True); shutil.copytree(weights_folder(kind), to)
    put = lambda a, b: (save_file(load_file(a), b, metadata=dict(format="pt")), b.chmod(0o644))
    put(best/"unet.safetensors", to/"unet"/"diffusion_pytorch_model.safetensors")
    if kind == "tiny": put(best/"text_encoder.safetensors", to/"text_encoder"/"model.safetensors")
    channels = json.loads((best/"measures.json").read_text())["config"].get("channels")
    if channels:
        config = json.loads((to/"unet"/"config.json").read_text()) | dict(block_out_channels=channels)
        (to/"unet"/"config.json").write_text(json.dumps(config, indent=2) + "\n")
    if vae: shutil.copy(vae/"diffusion_pytorch_model.safetensors", to/"vae"/"diffusion_pytorch_model.safetensors")
    if log and (LAB/"results"/f"{run}_log.json").exists():     # the shipped log goes on: its last step is 5100
        keys = ("loss", "val", "val_low", "colour_g3", "background_g3", "shape_g3", "motion_g3", "gem_g3", "shape_g1", "iou_g3", "iou_g1", "right_in_all_g3", "right_in_all_g1")
        old = json.loads((to/"log.json").read_text())
        new = [dict(step=old[-1]["step"] + e["step"]) | {k.removesuffix("_g3"): e[k] for k in keys if k in e} for e in json.loads((LAB/"results"/f"{run}_log.json").read_text())]
        (to/"log.json").write_text(json.dumps(old + new) + "\n")
    return to

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run"); parser.add_argument("--kind", default="tiny"); parser.add_argument("--vae", type=Path)
    a = parser.parse_args()
    print(export(a.run, a.kind, a.vae))
