"""A short trip through the installed package, for environments other than the one that the tests run with: tools/versions.py runs it there.

Every module imports, a short alignment trains, stock diffusers loads its LoRA, a video is written and read.
"""
import importlib, pkgutil, sys, tempfile, warnings
from pathlib import Path


def every_module():
    import vader_nb
    names = [m.name for m in pkgutil.walk_packages(vader_nb.__path__, 'vader_nb.') if not m.name.endswith('_modidx')]
    for n in names: importlib.import_module(n)
    print(f'{len(names)} modules import')

def aligned(folder):
    "Two updates of the tiny model, saved"
    from vader_nb import align, load_pipeline, load_prompts
    from vader_nb.trainer import Training
    pipe = load_pipeline('tiny')
    run = align(pipe, 'tiny-aesthetic', load_prompts('tiny')[:4], train_steps=2, training=Training(batch_size=2, lr=1e-3), callbacks=(), num_inference_steps=4)
    assert len(run.log) == 2 and all(r['loss'] == r['loss'] for r in run.log)
    run.save(folder)
    print(f'two updates, loss {run.log[0]["loss"]:.4f} and {run.log[1]["loss"]:.4f}')
    return pipe

def stock_lora(pipe, folder):
    "Stock diffusers classes load the LoRA, with the same output"
    import torch
    from diffusers import UNet3DConditionModel
    from diffusers.loaders import PeftAdapterMixin
    stock = UNet3DConditionModel.from_config(pipe.denoiser.config)
    state = {k.replace('.base_layer', ''): v for k, v in pipe.denoiser.state_dict().items() if 'lora_' not in k}
    stock.eval().load_state_dict(state)
    stock.__class__ = type('UNet3DConditionModel', (PeftAdapterMixin, UNet3DConditionModel), {})
    latents, text = torch.randn(1, 4, 8, 8, 8), torch.randn(1, 5, stock.config.cross_attention_dim)
    with torch.no_grad():
        ours, plain = pipe.denoiser(latents, 10, text).sample, stock(latents, 10, text).sample
        stock.load_lora_adapter(str(Path(folder)/'pytorch_lora_weights.safetensors'), prefix='unet')
        theirs = stock(latents, 10, text).sample
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(plain, theirs, atol=1e-6)
    print(f'stock diffusers loads the LoRA: {(ours - theirs).abs().max():.1e} apart')

def video(folder):
    import torch
    from vader_nb.video import read_video, write_video
    frames = torch.linspace(0, 1, 8)[:, None, None, None].expand(8, 3, 32, 32)
    back = read_video(write_video(Path(folder)/'ramp.mp4', frames))
    assert back.shape == frames.shape and (back - frames).abs().max() < .06
    print(f'mp4 written and read: {(back - frames).abs().max():.3f} apart')

def versions():
    from importlib.metadata import version
    names = 'torch diffusers transformers peft accelerate huggingface_hub safetensors tokenizers fastcore numpy pillow matplotlib mediapy imageio-ffmpeg'
    print(f'Python {sys.version.split()[0]}, ' + ', '.join(f'{n} {version(n)}' for n in names.split()))

if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    versions()
    every_module()
    with tempfile.TemporaryDirectory() as folder:
        stock_lora(aligned(folder), folder)
        video(folder)
    print('passed')
