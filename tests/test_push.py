"A run that is pushed to the stand-in hub comes back into stock diffusers"
import json, os, re, subprocess, sys
from dataclasses import asdict
from types import SimpleNamespace

import pytest, torch
from hub.server import Fault
from huggingface_hub import HfApi, constants, hf_hub_download
from vader_nb import align, load_pipeline, load_prompts
from vader_nb.downloads import DownloadError, fetch_files
from vader_nb.hub import weights_folder
from vader_nb.lora import LORA_FILE, Lora, add_lora, lora_parameters, save_lora
from vader_nb.methods.saved_runs import NotLoaded, load_run
from vader_nb.methods.sharing import usage
from vader_nb.methods.vader import Run
from vader_nb.sampling import SamplerSettings
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

def test_there_and_back(run, online, tmp_path, capfd):
    "All files of `save` and a card; diffusers gets the LoRA from there by its name, and computes the same. The token is nowhere"
    address = run.push_to_hub('me/my-lora', prompts=run.prompts[:1])
    assert address.startswith(f'{online.url}/me/my-lora/commit/')
    files = {f.rfilename for f in HfApi().model_info('me/my-lora').siblings}
    assert {LORA_FILE, 'README.md', 'options.json', 'log.jsonl', 'before_after.png', 'before_after.mp4'} <= files
    card = open(hf_hub_download('me/my-lora', 'README.md')).read()
    assert 'load_lora_adapter("me/my-lora", prefix="unet", use_safetensors=True)' in card and 'aligned to `green`' in card
    assert json.load(open(hf_hub_download('me/my-lora', 'options.json')))['train_steps'] == 2
    for name in files: assert b'hf_standin' not in open(hf_hub_download('me/my-lora', name), 'rb').read(), name
    assert 'hf_standin' not in ''.join(capfd.readouterr())

    torch.save(dict(latents=torch.randn(1, 4, 8, 8, 8), text=torch.randn(1, 5, run.pipe.denoiser.config.cross_attention_dim)), tmp_path/'given.pt')
    env = os.environ | online.environment(tmp_path/'home')
    p = subprocess.run([sys.executable, '-c', STOCK, weights_folder('tiny')/'unet', tmp_path], env=env, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr[-2000:]
    given, (plain, theirs) = torch.load(tmp_path/'given.pt'), torch.load(tmp_path/'out.pt')
    with torch.no_grad(): ours = run.pipe.denoiser(given['latents'], 10, given['text']).sample
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(plain, theirs, atol=1e-6)

def test_loaded_again(run, online, tmp_path, capsys):
    "A run from the hub by its name: records, LoRA, and the same videos; a repository that is no run is refused in a line"
    run.push_to_hub('me/my-run', prompts=[])
    again = load_run('me/my-run')
    assert 'a LoRA of rank 8 on' in capsys.readouterr().out
    assert (again.log, again.prompts, again.sampler, again.options) == (run.log, run.prompts, run.sampler, run.options)
    assert all(torch.equal(a, b) for a, b in zip(lora_parameters(run.pipe), lora_parameters(again.pipe), strict=True))
    assert torch.equal(run.sample(run.prompts[:1]), again.sample(run.prompts[:1]))
    with pytest.raises(ValueError, match="base model 'x', which is none of tiny"):
        run.options['model'], told = 'x', run.options['model']
        try: run.push_to_hub('me/stranger', prompts=[])
        finally: run.options['model'] = told
        load_run('me/stranger')
    with pytest.raises(DownloadError, match='hustvl/yolos-base holds none of'): load_run('hustvl/yolos-base')

def test_commands_take_it_from_the_hub(run, online, tmp_path, capsys):
    "`--lora` of `vader_sample` and `vader_eval`: a repository is as good as the folder that was pushed, and another drawing than without"
    from vader_nb.commands.eval import vader_eval
    from vader_nb.commands.sample import vader_sample
    run.push_to_hub('me/my-lora', prompts=[])
    run.save(tmp_path/'lora', [])
    sheets, found, short = {}, {}, ['--n', '2', '--num-inference-steps', '2']
    for name, lora in dict(hub=['--lora', 'me/my-lora'], folder=['--lora', str(tmp_path/'lora')], without=[]).items():
        vader_sample(['--prompts', 'tiny', *short, *lora, '--out', str(tmp_path/name)])
        sheets[name] = (tmp_path/name/'contact_sheet.png').read_bytes()
        if not lora: continue
        vader_eval([*lora, *short, '--measures', 'edges', '--out', str(tmp_path/f'{name}-eval')])
        found[name] = json.loads((tmp_path/f'{name}-eval'/'comparison.json').read_text())
    assert sheets['hub'] == sheets['folder'] != sheets['without']
    assert found['hub'] == found['folder'] and found['hub']['before'] != found['hub']['after']
    assert (tmp_path/'cache'/'models--me--my-lora').is_dir()
    for command in (vader_sample, vader_eval):
        with pytest.raises(SystemExit) as stopped: command(['--prompts', 'tiny', *short, '--lora', 'me/absent', '--out', str(tmp_path/'none')])
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert stopped.value.code == 2 and 'me/absent' in told and 'the hub has no such repository' in told
    assert not (tmp_path/'none').exists()

def test_opensora_by_our_lines(online, tmp_path, monkeypatch):
    "Its transformer is in no version of diffusers: the card tells to use load_run"
    monkeypatch.chdir(tmp_path)
    pipe = load_pipeline('opensora', num_frames=17, size=(32, 32))
    for p in add_lora(pipe, Lora(2)): torch.nn.init.normal_(p)
    sampler = SamplerSettings(2, 1., 0.)
    Run(pipe, NotLoaded('green'), ['a fox'], [], sampler, dict(model='opensora', sampler=asdict(sampler))).save('lora', [])
    text, typed = (tmp_path/'lora'/'README.md').read_text(), {}
    exec(re.search('```python\n(.+?)```', text, re.S)[1], typed)
    assert all(torch.equal(a, b) for a, b in zip(lora_parameters(pipe), lora_parameters(typed['pipe']), strict=True))

def test_refused(run, online, monkeypatch):
    "One line, before anything is drawn: no such name, no right to write there, a hub that fails"
    monkeypatch.setattr(type(run), 'before_after', lambda *a: pytest.fail('drew first'))
    with pytest.raises(ValueError, match="repo='my-lora': a repository of the hub reads owner/name"): run.push_to_hub('my-lora')
    for status, told in ((403, r'log in with `hf auth login`, with a token that may write there \(status 403\)'), (500, 'the hub answered with an error; try again later')):
        online.faults['me/other'] = Fault(status)
        with pytest.raises(DownloadError, match=f'me/other could not be written on the hub: {told}') as e: run.push_to_hub('me/other', prompts=run.prompts[:1])
        assert len(str(e.value).splitlines()) == 1

INPUTS = dict(      # what the denoiser of a model is called with
    modelscope=lambda net: ((torch.randn(1, 4, 4, 8, 8), 10, torch.randn(1, 5, net.config.cross_attention_dim)), {}),
    videocrafter2=lambda net: ((torch.randn(1, 4, 4, 8, 8), 10, torch.randn(1, 5, net.config.cross_attention_dim)), {}),
    svd=lambda net: ((torch.randn(1, 3, 8, 8, 8), torch.tensor(1.5), torch.randn(1, 1, net.config.cross_attention_dim)), dict(added_time_ids=torch.ones(1, 3))),
    wan=lambda net: ((torch.randn(1, 16, 3, 4, 4), torch.tensor([10.]), torch.randn(1, 5, net.config.text_dim)), {}))

def computed(net, args, kwargs):
    double = lambda x: x.double() if isinstance(x, torch.Tensor) else x
    with torch.no_grad(): return net.double()(*map(double, args), **{k: double(v) for k, v in kwargs.items()}, return_dict=False)[0]

@pytest.mark.parametrize('name', INPUTS)
def test_lines_of_the_card(online, tmp_path, monkeypatch, name):
    "What the card tells to type, typed: the stock pipeline of each base model predicts what ours predicts"
    monkeypatch.chdir(tmp_path)
    pipe = load_pipeline(name, **(dict(converted='videocrafter2') if name == 'videocrafter2' else {}))
    add_lora(pipe, Lora(4, 2.))
    for p in lora_parameters(pipe): torch.nn.init.normal_(p, std=.1)
    save_lora(pipe, tmp_path/'lora')
    lines, typed = usage(SimpleNamespace(pipe=pipe, options={}), 'lora'), {}
    assert len([l for l in lines.splitlines() if not l.startswith('#')]) <= 4 + 2*(name == 'videocrafter2')      # its sampler is not in diffusers
    base = re.search(r'from_pretrained\("(.+)"\)', lines)[1]     # diffusers asks another hub than the stand-in, so it gets what we have read of the repository
    exec(lines.replace(base, base if base == name else str(fetch_files(base, 'model_index.json'))).replace('"lora"', '"./lora"'), typed)
    stock = getattr(typed['pipe'], 'unet', None) or typed['pipe'].transformer
    torch.manual_seed(0)
    args, kwargs = INPUTS[name](pipe.denoiser)
    ours, theirs = (computed(net, args, kwargs) for net in (pipe.denoiser, stock))
    stock.disable_lora()
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(computed(stock, args, kwargs), theirs, atol=1e-4)
