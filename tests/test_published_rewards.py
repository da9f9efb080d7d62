"Every published network: asked for by its published name, loaded from its published layout, refused if it is something else"
import os, pickle, socket

import huggingface_hub.constants as hub
import pytest, torch
from safetensors.torch import load_file, save_file
from torch import nn
from vader_nb.downloads import REVISIONS
from vader_nb.rewards.load import CLOSED_FORMS, DOWNLOADS, REWARDS, TOYS, load_reward
from vader_nb.rewards.clip import OPENAI_CLIP, tiny_tokenizer
from vader_nb.rewards.preference import VIT_H
from vader_nb.rewards.sizes import LAION_FILE, PUBLISHED, save_hub, toy_videomae, toy_yolos, write_published

FILES = ('hpsv2', 'hpsv2.1', 'viclip', 'vjepa1')                  # published as files of torch.save, the others as hub folders
FOLDERS = [n for n in PUBLISHED if n not in FILES]
VOCABULARY = dict(clip=OPENAI_CLIP, viclip=OPENAI_CLIP, **dict.fromkeys(('hpsv2', 'hpsv2.1', 'pickscore'), VIT_H))
MILLIONS = dict(aesthetic=427.62 + .93, clip=427.62, objects=127.8, action=86.5, viclip=427.59, vjepa=326., vjepa1=633.7, depth=24.8,
                **dict.fromkeys(('hpsv2', 'hpsv2.1', 'pickscore'), 986.11))     # the sources stand in `PUBLISHED`
VIDEO, PROMPT = torch.rand(1, 16, 3, 32, 48, generator=torch.Generator().manual_seed(0)), ['a red circle moving left over sand']

class Evil:
    "Unpickling it makes a folder"
    def __init__(self, place): self.place = str(place)
    def __reduce__(self): return os.mkdir, (self.place,)

@pytest.fixture
def repository(tmp_path, monkeypatch):
    "No network, and a hub cache of our own; a function that makes the folder of a repository in it"
    def refuse(*args, **kwargs): raise AssertionError(f'the network was asked for: {args}')
    for owner, call in (socket.socket, 'connect'), (socket, 'getaddrinfo'): monkeypatch.setattr(owner, call, refuse)
    monkeypatch.setattr(hub, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(hub, 'HF_HUB_CACHE', str(tmp_path/'hub'))
    def make(name):
        folder, commit = tmp_path/'hub'/f'models--{name.replace("/", "--")}', REVISIONS.get(name, '0'*40)      # what is pinned is what is read
        (snapshot := folder/'snapshots'/commit).mkdir(parents=True, exist_ok=True)
        (folder/'refs').mkdir(exist_ok=True)
        (folder/'refs'/'main').write_text(commit)
        return snapshot
    return make

def publish(name, repository):
    "A small network in the published layout where the hub keeps it: the file of its weights, and the call that loads it by its name"
    p = PUBLISHED[name]
    options = write_published(name, repository(p.model), toy=True)
    file = options['model'] if name in FILES else options['model']/'model.safetensors'
    if '/' in p.model: options['model'] = p.model                 # a hub id; V-JEPA 1 is on no hub
    if name in VOCABULARY: tiny_tokenizer().save_pretrained(repository(VOCABULARY[name]))
    return file, lambda: load_reward(name, **{k: v for k, v in p.options.items() if k != 'tokenizer'}, **options)

def same_weights(reward, net):
    "Does the reward hold the network's parameters, up to half precision?"
    have, want = [p for m in reward.networks for p in m.parameters()], list(net.parameters())
    return len(have) == len(want) and all(any(h.shape == w.shape and torch.allclose(h, w, atol=2e-3) for h in have) for w in want)

def toy(name, seed=0):
    torch.manual_seed(seed)
    return PUBLISHED[name].toy()


def test_complete(): assert set(PUBLISHED) | set(CLOSED_FORMS) | set(TOYS) == set(REWARDS)

@pytest.mark.parametrize('name', DOWNLOADS)
def test_download(name):
    "The table of what is fetched agrees with the networks: the repository, and the size of their float32 or half-precision weights"
    repo, _, size = DOWNLOADS[name]
    width = 2 if name.startswith('hpsv2') else 4
    assert repo == PUBLISHED[name].model and float(size.split()[0]) == pytest.approx(PUBLISHED[name].parameters*width/1e9, abs=.06)

def test_not_here(repository):
    "Asked for by its plain name without a network: the repository, the size, and the toy"
    for name, (repo, _, size) in DOWNLOADS.items():
        with pytest.raises(FileNotFoundError) as e: load_reward(f'green + 2*{name}')
        assert repo in str(e.value) and size in str(e.value) and (f'tiny-{name}' in str(e.value)) == (f'tiny-{name}' in TOYS)

@pytest.mark.parametrize('name', PUBLISHED)
def test_published_name(name, repository):
    "Its name is enough: the weights are those of the file, and the score has a gradient at every frame it looks at"
    reward, x = publish(name, repository)[1](), VIDEO.clone().requires_grad_()
    assert same_weights(reward, toy(name)) and not same_weights(reward, toy(name, seed=1))
    score = reward(x, PROMPT)
    score.sum().backward()
    assert score.shape == (1,) and torch.isfinite(score).all() and torch.isfinite(x.grad).all() and x.grad.abs().max() > 0

@pytest.mark.parametrize('name', [n for n in PUBLISHED if '/' in PUBLISHED[n].model])
def test_nowhere(name, repository):
    "Neither network nor cache: one error that names what is wanted"
    own = {k: v for k, v in PUBLISHED[name].options.items() if k != 'tokenizer'} | (dict(head=nn.Identity()) if name == 'aesthetic' else {})
    if name in VOCABULARY: own['tokenizer'] = tiny_tokenizer()
    with pytest.raises((ValueError, FileNotFoundError), match=PUBLISHED[name].model): load_reward(name, model=PUBLISHED[name].model, **own)

@pytest.mark.parametrize('name', PUBLISHED)
def test_real_size(name):
    "From the configuration alone, on the meta device: as many parameters as were published"
    with torch.device('meta'): net = PUBLISHED[name].network()
    n = sum(p.numel() for p in net.parameters())
    assert all(p.is_meta for p in net.parameters()) and n == PUBLISHED[name].parameters
    assert n/1e6 == pytest.approx(MILLIONS[name], abs=.06)

def test_trap(tmp_path):
    "What the next tests lay out does run when it is unpickled"
    pickle.loads(pickle.dumps(Evil(tmp_path/'ran'), 2))
    assert (tmp_path/'ran').exists()

@pytest.mark.parametrize('name', FILES)
def test_pickled_file(name, repository, tmp_path):
    "A file whose tensors are all there, and code beside them"
    file, load = publish(name, repository)
    torch.save(torch.load(file, weights_only=True) | dict(args=Evil(tmp_path/'ran')), file)
    with pytest.raises(ValueError, match='so it is refused'): load()
    file.write_bytes(pickle.dumps(Evil(tmp_path/'ran'), 2))
    with pytest.raises(ValueError, match='so it is refused'): load()
    assert not (tmp_path/'ran').exists()

@pytest.mark.parametrize('name', FOLDERS)
def test_pickled_folder(name, repository, tmp_path):
    "A pickle under the name of a safetensors file, then a repository that has nothing but a pickle"
    file, load = publish(name, repository)
    file.write_bytes(pickle.dumps(Evil(tmp_path/'ran'), 2))
    with pytest.raises(ValueError, match='safetensors only'): load()
    file.unlink()
    torch.save(dict(weight=Evil(tmp_path/'ran')), file.with_name('pytorch_model.bin'))
    with pytest.raises(ValueError, match='safetensors only'): load()
    assert not (tmp_path/'ran').exists()

def test_pickled_head(repository, tmp_path):
    file, load = publish('aesthetic', repository)
    torch.save(Evil(tmp_path/'ran'), file.with_name(LAION_FILE))
    with pytest.raises(ValueError, match='so it is refused'): load()
    assert not (tmp_path/'ran').exists()

@pytest.mark.parametrize('name', FILES)
def test_file_of_another_model(name, repository):
    file, load = publish(name, repository)
    saved = torch.load(file, weights_only=True)
    part = next((k for k in ('state_dict', 'model', 'predictor') if k in saved))
    norm = next(k for k in saved[part] if 'ln_post' in k or 'predictor_norm' in k)
    torch.save(saved | {part: {k: v for k, v in saved[part].items() if k != norm}}, file)
    with pytest.raises(ValueError, match='1 missing, such as'): load()
    torch.save(nn.Linear(2, 2).state_dict(), file)
    with pytest.raises(ValueError, match="not a CLIP|no checkpoint of a ViCLIP|no encoder, predictor, target_encoder in it"): load()

@pytest.mark.parametrize('name', FOLDERS)
def test_folder_of_another_model(name, repository):
    file, load = publish(name, repository)
    tensors = load_file(file)
    norm = next(k for k in tensors if 'norm' in k and 'proj' not in k)
    save_file({k: v for k, v in tensors.items() if k != norm}, file, dict(format='pt'))
    with pytest.raises(ValueError, match='1 missing, such as'): load()
    save_hub(toy_yolos() if name == 'action' else toy_videomae(), file.parent)
    with pytest.raises(ValueError, match='is a model of type|do not load as'): load()
