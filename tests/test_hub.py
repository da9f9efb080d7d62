"The stand-in hub: it answers `huggingface_hub` as the hub does, and serves exactly the repositories that the library names"
import ast, re
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub import errors
from hub.repositories import DATASETS, REPOSITORIES
from hub.server import Fault
from tools.notebooks import ROOT, directives, notebooks, read, source

NO_IDS = {'L/14', 'B/16', 'N/A', 'whole/sum', 'gain/sd', 'fps_embedding/model.safetensors', 'benchmark/photo.json'}     # strings of the same form
ID = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*')


def ids_of(code):
    "Strings of the form owner/name in Python code"
    return {n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant) and isinstance(n.value, str) and ID.fullmatch(n.value)} - NO_IDS

def named_ids(root):
    "Those of every module, and of the cells that need the network"
    found = set().union(*(ids_of(p.read_text(encoding='utf-8')) for p in Path(root, 'vader_nb').rglob('*.py') if p.name != '_modidx.py'))
    cells = [source(c) for p in notebooks(root) for c in read(p)['cells'] if c['cell_type'] == 'code' and 'net' in directives(c)[0]]
    return found | set().union(*map(ids_of, cells))

def test_every_repository(): assert set(REPOSITORIES) <= named_ids(ROOT) <= set(REPOSITORIES) | set(DATASETS)

def test_planted_id(tmp_path):
    (tmp_path/'vader_nb').mkdir()
    (tmp_path/'nbs').mkdir()
    (tmp_path/'vader_nb'/'new.py').write_text("HUB = 'someone/new-model'")
    assert named_ids(tmp_path) == {'someone/new-model'}


@pytest.mark.parametrize('name', REPOSITORIES)
def test_served(name, hub, tmp_path):
    "Listed and downloaded byte for byte, weights under their SHA-256"
    folder = hub.repositories[name].commits[hub.repositories[name].refs['main']]
    got = Path(snapshot_download(name, endpoint=hub.url, cache_dir=tmp_path, max_workers=1))
    assert {p.relative_to(got).as_posix(): p.read_bytes() for p in got.rglob('*') if p.is_file()} == {k: p.read_bytes() for k, p in folder.items()}
    weights = [f for f in HfApi(hub.url).model_info(name, files_metadata=True).siblings if f.rfilename.endswith('.safetensors')]
    assert all(len(f.lfs.sha256) == 64 and f.size == folder[f.rfilename].stat().st_size for f in weights)

NAME = 'hustvl/yolos-base'
def get(hub, tmp_path, file='config.json', name=NAME, **options):
    return hf_hub_download(name, file, endpoint=hub.url, cache_dir=tmp_path, **options)

@pytest.mark.parametrize('fault, error', [(Fault(403, 'GatedRepo'), errors.GatedRepoError), (Fault(404, 'RepoNotFound'), errors.RepositoryNotFoundError)])
def test_refusals(fault, error, hub, tmp_path):
    hub.faults[NAME] = fault
    with pytest.raises(error): get(hub, tmp_path)

def test_absent(hub, tmp_path):
    with pytest.raises(errors.RepositoryNotFoundError): get(hub, tmp_path, name='someone/absent')
    with pytest.raises(errors.RevisionNotFoundError): get(hub, tmp_path, revision='v9')
    with pytest.raises(errors.EntryNotFoundError): get(hub, tmp_path, 'absent.json')

def test_cut_once(hub, tmp_path):
    "A cut in the middle of a body: the hub's own client asks again, from the start while it has less than a chunk"
    hub.faults[NAME] = Fault(cut=1000, only='safetensors', times=1)
    get(hub, tmp_path, 'model.safetensors')
    size = hub.repositories[NAME].commits[hub.repositories[NAME].refs['main']]['model.safetensors'].stat().st_size
    assert hub.sent == [[NAME, 'model.safetensors', 0, 1000], [NAME, 'model.safetensors', 0, size]]

def test_upload(hub, tmp_path):
    "A folder sent there is a new commit, and comes back"
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'weights.safetensors').write_bytes(bytes(range(100)))
    (tmp_path/'mine'/'README.md').write_text('# Mine')
    api = HfApi(hub.url, token='hf_standin')
    for _ in range(2): assert api.create_repo('me/mine', exist_ok=True).repo_id == 'me/mine'
    first = api.upload_folder(repo_id='me/mine', folder_path=tmp_path/'mine').oid
    assert Path(get(hub, tmp_path, 'weights.safetensors', 'me/mine', revision=first)).read_bytes() == bytes(range(100))
    api.upload_file(repo_id='me/mine', path_or_fileobj=b'{}', path_in_repo='config.json')
    assert {f.rfilename for f in api.model_info('me/mine').siblings} == {'weights.safetensors', 'README.md', 'config.json'}
    with pytest.raises(errors.EntryNotFoundError): get(hub, tmp_path, 'config.json', 'me/mine', revision=first)
