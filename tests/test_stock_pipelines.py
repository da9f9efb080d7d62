"""A LoRA that `run.save` wrote, in the stock diffusers pipeline of its base model, by the lines of its card: from the same noise the same latents.

The networks are those of the stand-in hub, at toy size with random weights, and the two toys that ship. Open-Sora 1.2 has no pipeline in diffusers: there the
counterpart is what the card says, `load_run` with the classes of `models/stdit3`, which the chapter compares with the official ones.
"""
import copy, re
from dataclasses import asdict
from pathlib import Path
import pytest, torch
from PIL import Image
from huggingface_hub import constants
from vader_nb import load_pipeline
from vader_nb.downloads import fetch_files
from vader_nb.lora import Lora, add_lora, lora_parameters, lora_scale
from vader_nb.methods.saved_runs import NotLoaded
from vader_nb.methods.vader import Run
from vader_nb.pictures import ImagePrompt
from vader_nb.sampling import SamplerSettings, sample_latents
from vader_nb.video import from_uint8, to_uint8

SMALL = dict(modelscope=dict(size=(32, 32), num_frames=4), videocrafter2=dict(size=(32, 32), num_frames=4, converted='videocrafter2'), svd=dict(size=(32, 32), num_frames=3),
             wan=dict(size=(32, 32), num_frames=5), opensora=dict(size=(32, 32), num_frames=17, dtype=torch.float32))
TEXTS, T, SCALE = ['a red circle moving left over sand', 'a blue square growing over grass'], 4, 3.
MOST = 1e-5         # of a difference, relative to the largest latent; all is computed in float64

@pytest.fixture
def online(hub, tmp_path, monkeypatch):
    for name, value in dict(ENDPOINT=hub.url, HUGGINGFACE_CO_URL_TEMPLATE=hub.url + '/{repo_id}/resolve/{revision}/{filename}', HF_HUB_OFFLINE=False,
                            HF_HUB_CACHE=str(tmp_path/'cache')).items(): monkeypatch.setattr(constants, name, value)
    monkeypatch.chdir(tmp_path)
    return hub

def saved(name):
    "A base model with a LoRA that changes something, and the lines of the card that its run wrote into `lora`"
    pipe = load_pipeline(name, **SMALL.get(name, {}))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        add_lora(pipe, Lora(4, 2.))
        for p in lora_parameters(pipe): torch.nn.init.normal_(p, std=.1)
    sampler = SamplerSettings(T, SCALE, 0.)
    Run(pipe, NotLoaded('green'), prompts_of(pipe), [], sampler, dict(model=name, sampler=asdict(sampler))).save('lora', [])
    return pipe.to(torch.float64), re.search('```python\n(.+?)```', Path('lora/README.md').read_text(), re.S)[1]

def typed(lines):
    "What the lines make. diffusers asks another hub than the stand-in, so it gets the folder of what we have read of the repository"
    names, base = {}, re.search(r'from_pretrained\("(.+?/.+?)"\)', lines)
    if base: lines = lines.replace(base[1], str(fetch_files(base[1], 'model_index.json')))
    exec(lines.replace('"lora"', '"./lora"'), names)
    names['pipe'].set_progress_bar_config(disable=True)
    return names['pipe'].to(torch.float64)

def prompts_of(pipe):
    "Texts, or pictures as a file would hold them"
    if not hasattr(pipe, 'encode_images'): return TEXTS
    draw = torch.rand(2, 3, *pipe.size, generator=torch.Generator().manual_seed(2))
    return [ImagePrompt(t, from_uint8(to_uint8(x))) for t, x in zip(TEXTS, draw)]

def of_stock(stock, pipe, noise):
    "The latents (B, C, f, h, w) that a stock pipeline ends with"
    prompts, told = prompts_of(pipe), dict(num_inference_steps=T, output_type='latent', num_frames=pipe.num_frames)
    if hasattr(pipe, 'encode_images'):
        generators = [torch.Generator().manual_seed(pipe.noise_seed) for _ in prompts]
        pictures = [Image.fromarray(to_uint8(p.image)) for p in prompts]
        own = dict(zip(('height', 'width'), pipe.size), fps=pipe.fps, motion_bucket_id=pipe.motion_bucket_id, noise_aug_strength=pipe.noise_aug_strength)
        return stock(pictures, max_guidance_scale=SCALE, generator=generators, latents=noise.transpose(1, 2), **own, **told).frames.transpose(1, 2)
    if pipe.name == 'modelscope': stock.scheduler = copy.deepcopy(pipe.scheduler)       # the repository's own is DDIM
    if pipe.name == 'wan': told |= dict(max_sequence_length=pipe.text_length, height=pipe.size[0], width=pipe.size[1])
    else: told |= {k: n*stock.vae_scale_factor for k, n in zip(('height', 'width'), noise.shape[-2:])}
    return stock(prompts, latents=noise, guidance_scale=SCALE, **told).frames

def of_ours(pipe, noise):
    start = noise*getattr(pipe, 'init_sigma', 1.)
    with torch.no_grad(): return sample_latents(pipe, pipe.encode_prompt(prompts_of(pipe)), start, num_inference_steps=T, guidance_scale=SCALE, eta=0.)

def apart(a, b): return ((a - b).abs().max()/b.abs().max()).item()

@pytest.mark.parametrize('name', ['tiny', 'tiny-i2v', 'modelscope', 'videocrafter2', 'svd', 'wan'])
def test_same_latents(online, name):
    pipe, lines = saved(name)
    stock, noise = typed(lines), torch.randn(2, *pipe.latent_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, theirs = of_ours(pipe, noise), of_stock(stock, pipe, noise)
    with lora_scale(pipe, 0.): base = of_ours(pipe, noise)
    assert apart(ours, theirs) < MOST < 1e-3 < apart(base, theirs)

def test_opensora_by_its_own_classes(online):
    pipe, lines = saved('opensora')
    names = {}
    exec(lines.replace('load_run("lora"', 'load_run("lora", num_frames=17, size=(32, 32)'), names)
    again = names['pipe'].to(torch.float64)
    noise = torch.randn(2, *pipe.latent_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with lora_scale(pipe, 0.): base = of_ours(pipe, noise)
    assert apart(of_ours(again, noise), of_ours(pipe, noise)) < MOST < 1e-3 < apart(base, of_ours(pipe, noise))
