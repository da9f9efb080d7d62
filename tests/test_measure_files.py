"""The networks of the published measures, read by name from files of the published layout and size with random weights; a file that holds code is refused"""
import json, pickle
import pytest, torch
from transformers import CLIPConfig, CLIPModel

from vader_nb.evaluate import by_name
from vader_nb.evaluate.amt import AMT
from vader_nb.evaluate.dino import DINO
from vader_nb.evaluate.musiq import MUSIQ
from vader_nb.evaluate.raft import RAFT

MAKE = dict(dino=DINO, clip_b=lambda: CLIPModel(CLIPConfig()), linear=lambda: torch.nn.Linear(768, 1), amt=AMT, raft=RAFT, musiq=MUSIQ)

def published(name, state):
    "What the published file holds: prefixes, and what stands beside the weights"
    if name == 'raft': return {f'module.{k}': v for k, v in state.items()}
    if name == 'amt': return dict(state_dict=state, epoch=300)
    if name == 'clip_b': return state | {f'{m}_model.embeddings.position_ids': torch.arange(n)[None] for m, n in (('text', 77), ('vision', 50))}
    return state

def place(name, folder):
    "Where the file belongs in a folder of weights; beside the one of CLIP lies its config.json"
    file = folder/by_name.NETWORKS[name].file
    if name != 'clip_b': return file
    file.mkdir()
    (file/'config.json').write_text(json.dumps(CLIPConfig().to_dict()))
    return file/'pytorch_model.bin'

@pytest.fixture(autouse=True)
def forget():
    yield
    by_name._network.cache_clear()

@pytest.mark.parametrize('name', MAKE)
def test_a_file_of_the_published_layout_and_size(name, tmp_path):
    torch.manual_seed(0)
    state = MAKE[name]().state_dict()
    torch.save(published(name, state), file := place(name, tmp_path))
    said = dict(MB=1e6, kB=1e3)[by_name.NETWORKS[name].size.split()[1]]*float(by_name.NETWORKS[name].size.split()[0])
    if name != 'raft': assert abs(file.stat().st_size - said) < .05*said + 2000      # RAFT comes in an archive of five
    loaded = by_name._network(name, str(tmp_path), 'cpu')
    assert loaded.state_dict().keys() >= state.keys() and all(torch.equal(v, loaded.state_dict()[k]) for k, v in state.items())
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert by_name._network(name, str(tmp_path), 'cpu') is loaded

@pytest.mark.parametrize('name', MAKE)
def test_code_is_refused(name, tmp_path):
    place(name, tmp_path).write_bytes(pickle.dumps(print, 2))
    with pytest.raises(ValueError, match='tensors only'): by_name._network(name, str(tmp_path), 'cpu')
