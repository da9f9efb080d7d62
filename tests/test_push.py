"A run that is pushed to the stand-in hub comes back into stock diffusers"
import json, os, subprocess, sys

import pytest, torch
from hub.server import Fault
from huggingface_hub import HfApi, constants, hf_hub_download
from vader_nb import align, load_pipeline, load_prompts
from vader_nb.downloads import DownloadError
from vader_nb.hub import weights_folder
from vader_nb.lora import LORA_FILE
from vader_nb.training import Training

STOCK = """import sys, torch                # diffusers alone, in a process of its own
from diffusers import UNet3DConditionModel
from diffusers.loaders import PeftAdapterMixin
stock = UNet3DConditionModel.from_pretrained(sys.argv[1], torch_dtype=torch.float32).eval()
stock.__class__ = type('UNet3DConditionModel', (PeftAdapterMixin, UNet3DConditionModel), {})
given = torch.load(f'{sys.argv[2]}/given.pt')
with torch.no_grad():
    plain = stock(given['latents'], 10, given['text']).sample
    stock.load_lora_adapter('me/my-lora', prefix='unet', use_safetensors=True)       # as the card says
    torch.save((plain, stock(given['latents'], 10, given['text']).sample), f'{sys.argv[2]}/out.pt')
"""


@pytest.fixture(scope='module')
def run():
    "Two updates, for a LoRA that changes something"
    return align(load_pipeline('tiny'), 'green', load_prompts('tiny')[:4], 2, training=Training(batch_size=2, lr=1e-2), callbacks=(), num_inference_steps=2)

@pytest.fixture
def online(hub, tmp_path, monkeypatch):
    for name, value in dict(ENDPOINT=hub.url, HUGGINGFACE_CO_URL_TEMPLATE=hub.url + '/{repo_id}/resolve/{revision}/{filename}', HF_HUB_OFFLINE=False,
                            HF_HUB_CACHE=str(tmp_path/'cache')).items(): monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv('HF_TOKEN', 'hf_standin')
    return hub

def test_there_and_back(run, online, tmp_path):
    "All files of `save` and a card; diffusers gets the LoRA from there by its name, and computes the same"
    address = run.push_to_hub('me/my-lora', prompts=run.prompts[:1])
    assert address.startswith(f'{online.url}/me/my-lora/commit/')
    files = {f.rfilename for f in HfApi().model_info('me/my-lora').siblings}
    assert {LORA_FILE, 'README.md', 'options.json', 'log.jsonl', 'before_after.png', 'before_after.mp4'} <= files
    card = open(hf_hub_download('me/my-lora', 'README.md')).read()
    assert 'load_lora_adapter("me/my-lora", prefix="unet", use_safetensors=True)' in card and 'aligned to green' in card
    assert json.load(open(hf_hub_download('me/my-lora', 'options.json')))['train_steps'] == 2

    torch.save(dict(latents=torch.randn(1, 4, 8, 8, 8), text=torch.randn(1, 5, run.pipe.denoiser.config.cross_attention_dim)), tmp_path/'given.pt')
    env = os.environ | online.environment(tmp_path/'home')
    p = subprocess.run([sys.executable, '-c', STOCK, weights_folder('tiny')/'unet', tmp_path], env=env, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr[-2000:]
    given, (plain, theirs) = torch.load(tmp_path/'given.pt'), torch.load(tmp_path/'out.pt')
    with torch.no_grad(): ours = run.pipe.denoiser(given['latents'], 10, given['text']).sample
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(plain, theirs, atol=1e-6)

def test_refused(run, online, monkeypatch):
    "One line: no such name, no right to write there, a hub that fails"
    with pytest.raises(ValueError, match="repo='my-lora': a repository of the hub reads owner/name"): run.push_to_hub('my-lora')
    for status, told in ((403, r'log in with `hf auth login`, with a token that may write there \(status 403\)'), (500, 'the hub answered with an error; try again later')):
        online.faults['me/other'] = Fault(status)
        with pytest.raises(DownloadError, match=f'me/other could not be written on the hub: {told}') as e: run.push_to_hub('me/other', prompts=run.prompts[:1])
        assert len(str(e.value).splitlines()) == 1
