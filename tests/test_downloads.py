"""Downloads against the stand-in hub: what is said first, what is kept when a download is killed, and one line for each thing that can go wrong"""
import json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest, torch
from huggingface_hub import constants
from hub.server import Fault
from tools.notebooks import ROOT
from vader_nb import downloads
from vader_nb.downloads import DownloadError, NETWORK, REVISIONS, fetch_files, fetch_url, fetched, plan_download, revisions
from vader_nb.hub import fetch_file
from vader_nb.models.load import load_pipeline, model_downloads
from vader_nb.rewards.load import DOWNLOADS, load_reward, reward_downloads
from vader_nb.rewards.objects import load_yolos
from vader_nb.rewards.vjepa1 import VJEPA1_URL

YOLOS, MODEL, WAN = 'hustvl/yolos-base', 'model.safetensors', 'Wan-AI/Wan2.1-T2V-1.3B-Diffusers'


@pytest.fixture
def cache(hub, tmp_path, monkeypatch):
    "This process uses the stand-in hub, with an empty cache"
    for name, value in dict(ENDPOINT=hub.url, HUGGINGFACE_CO_URL_TEMPLATE=hub.url + '/{repo_id}/resolve/{revision}/{filename}', HF_HUB_OFFLINE=False,
                            HF_HOME=str(tmp_path/'home'), HF_HUB_CACHE=str(tmp_path/'home'/'hub')).items(): monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv('VADER_NB_MIRROR', f'{hub.url}/mirror')
    monkeypatch.setattr(downloads, 'time', type('', (), dict(sleep=lambda s: None)))
    return tmp_path/'home'/'hub'

def published(hub, repo=YOLOS): return hub.repositories[repo].commits[hub.repositories[repo].refs['main']]
def size(hub, repo=YOLOS, file=MODEL): return published(hub, repo)[file].stat().st_size
def bodies(hub, file=MODEL): return [tuple(s[2:]) for s in hub.sent if s[1] == file]
def parts(cache): return [p for p in cache.rglob('*') if p.name.endswith(('.part', '.incomplete'))]

def refused(match, call=lambda: fetch_files(YOLOS, *NETWORK)):
    "One clear line"
    with pytest.raises(DownloadError, match=match) as e: call()
    assert len(str(e.value).splitlines()) == 1
    return str(e.value)

def test_a_server_that_does_not_say_the_size(cache, monkeypatch):
    from types import SimpleNamespace
    answer = SimpleNamespace(headers={}, raise_for_status=lambda: None)
    monkeypatch.setattr(downloads, 'hf_raise_for_status', lambda a: None)
    monkeypatch.setattr(downloads, 'get_session', lambda: SimpleNamespace(head=lambda *a, **kw: answer))
    for call in (fetch_url, downloads.plan_url): refused('does not say how large', lambda: call(VJEPA1_URL))

def test_two_processes_at_one_file_of_a_server(hub, cache, monkeypatch):
    "The second waits, and finds it there"
    from threading import Thread
    append, at_once, most = downloads._append, [], []
    def slow(*call):
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(.2)
        append(*call)
        at_once.pop()
    monkeypatch.setattr(downloads, '_append', slow)
    found = []
    threads = [Thread(target=lambda: found.append(fetch_url(VJEPA1_URL))) for _ in range(2)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(set(found)) == 1 and len(found) == 2 and most == [1]

def test_said_first(hub, cache, capfd):
    "Repository, version, files, bytes, room; then nothing when all is here"
    plan = plan_download(YOLOS, *NETWORK)
    assert plan.bytes == sum(size(hub, file=f) for f in ('config.json', 'preprocessor_config.json', MODEL)) and not hub.sent
    folder = fetch_files(YOLOS, *NETWORK)
    said = capfd.readouterr().err
    assert said.startswith(f'{YOLOS} (main, now {plan.commit[:8]}): 3 of 3 files, {downloads.human_bytes(plan.bytes)} to download; ')
    assert {p.name for p in folder.iterdir()} == {'config.json', 'preprocessor_config.json', MODEL} and fetched()[YOLOS] == plan.commit == folder.name
    sent = len(hub.sent)
    assert fetch_files(YOLOS, *NETWORK) == folder and len(hub.sent) == sent and capfd.readouterr().err == ''

@pytest.mark.parametrize('name', ['modelscope', 'svd', 'wan', 'opensora', 'videocrafter2'])
def test_models_read_what_is_said(name, hub, cache):
    "The files that a model fetches are those that its plan names, in half precision SVD's small copies; all of them, and once"
    small = dict(svd=dict(size=(64, 64)), videocrafter2=dict(height=64, width=64), modelscope=dict(size=(64, 64))).get(name, {})
    dtype = torch.bfloat16 if name == 'svd' else torch.float32
    told = {(p.repo, f) for p in model_downloads(name, dtype) for f in p.files}
    load_pipeline(name, dtype, **small)
    assert sorted((s[0], s[1]) for s in hub.sent) == sorted(told) and all(not p.missing for p in model_downloads(name, dtype))

@pytest.mark.parametrize('name', DOWNLOADS)
def test_rewards_read_what_is_said(name, hub, cache):
    options = dict(objects=dict(categories='class 1'), action=dict(label='class 1')).get(name, {})
    told = {(p.repo, f) for p in reward_downloads(name) for f in p.files}
    load_reward(name, **options)
    assert sorted((s[0], s[1]) for s in hub.sent) == sorted(told) and all(not p.missing for p in reward_downloads(name))


def test_dataset(hub, cache):
    "A file of a data set, by the same reader"
    assert json.loads(fetch_file('zhwang/HPDv2', 'benchmark/photo.json', repo_type='dataset').read_text())[-1] == 'a quiet lake at dawn'
    refused('no such repository', lambda: fetch_file('zhwang/HPDv2', 'benchmark/photo.json'))


# What goes wrong

def test_gated(hub, cache):
    hub.faults[YOLOS] = Fault(403, 'GatedRepo')
    refused("accept the terms at https://huggingface.co/hustvl/yolos-base and log in with `hf auth login`")
    hub.faults.clear()
    fetch_files(YOLOS, *NETWORK)
    hub.faults[YOLOS] = Fault(403, 'GatedRepo')
    assert fetch_files(YOLOS, *NETWORK).is_dir()        # what is here stays usable

def test_missing_repository(hub, cache): refused('no such repository, or it is private', lambda: fetch_files('someone/absent', 'config.json'))
def test_missing_file(hub, cache): refused('holds none of absent.json', lambda: fetch_files(YOLOS, 'absent.json'))

def test_wrong_revision(hub, cache, monkeypatch):
    refused('no such branch, tag or commit; give another revision', lambda: fetch_files(YOLOS, *NETWORK, revision='v9'))
    fetch_files(YOLOS, *NETWORK)
    refused('no such branch, tag or commit', lambda: fetch_files(YOLOS, *NETWORK, revision='v9'))      # not what is here under another name
    hub.repositories[YOLOS].refs['old'] = hub.repositories[YOLOS].refs['main']
    fetch_files(YOLOS, *NETWORK, revision='old')
    del hub.repositories[YOLOS].refs['old']             # a branch that is no more, though the cache still knows it
    for revision in ('v9', 'old'):
        monkeypatch.setitem(REVISIONS, YOLOS, revision)
        refused('no such branch, tag or commit', lambda: load_yolos(YOLOS))

def test_pinned(hub, cache, monkeypatch, tmp_path):
    "A commit in `REVISIONS` is what a reward reads, whatever `main` is by then"
    old = hub.repositories[YOLOS].refs['main']
    (tmp_path/'config.json').write_text('{"model_type": "clip"}')
    hub.repositories[YOLOS].commit(published(hub) | {'config.json': tmp_path/'config.json'})
    with pytest.raises(ValueError, match="of type 'clip', not 'yolos'"): load_yolos(YOLOS)
    monkeypatch.setitem(REVISIONS, YOLOS, old)
    assert load_yolos(YOLOS).config.model_type == 'yolos' and fetched()[YOLOS] == old

def newer(hub, tmp_path, repo, name='config.json', text='{"model_type": "clip"}'):
    "`main` moves on to a commit with another file; the number of the one before"
    old = hub.repositories[repo].refs['main']
    (tmp_path/'newer').write_text(text)
    hub.repositories[repo].commit(published(hub, repo) | {name: tmp_path/'newer'})
    return old

def test_revision_of_a_reward(hub, cache, tmp_path):
    "Among its options, also in a text; only while it is read"
    old = newer(hub, tmp_path, YOLOS)
    for make in (lambda: load_reward('objects', categories='book', revision=old), lambda: load_reward(f'2*objects(book, revision={old})')): make()
    assert fetched()[YOLOS] == old and YOLOS not in REVISIONS
    assert [p.commit for p in reward_downloads(f'objects(book, revision={old}) - green')] == [old]
    with pytest.raises(ValueError, match="of type 'clip'"): load_reward('objects', categories='book')
    refused('no such branch, tag or commit', lambda: load_reward('objects', categories='book', revision='v9'))

def test_revision_of_a_model(hub, cache, tmp_path):
    old = newer(hub, tmp_path, WAN, 'scheduler/scheduler_config.json', '{"_class_name": "DDIMScheduler"}')
    assert load_pipeline('wan', size=(32, 32), num_frames=5, revision=old).name == 'wan' and fetched()[WAN] == old
    assert [p.commit for p in model_downloads('wan', revision=old)] == [old]
    load_pipeline('wan', size=(32, 32), num_frames=5)       # the pinned one
    assert old == REVISIONS[WAN] == fetched()[WAN]
    with revisions({WAN: 'main'}), pytest.raises(ValueError, match='DDIMScheduler is no sampler for Wan'): load_pipeline('wan', size=(32, 32), num_frames=5)

@pytest.mark.parametrize('repo', REVISIONS)
def test_pins(repo, hub, cache, tmp_path):
    "Each pinned commit is one of a repository that the library reads, is what is asked for, and another version wins over it"
    assert plan_download(repo).revision == plan_download(repo).commit == REVISIONS[repo]
    newer(hub, tmp_path, repo)
    assert plan_download(repo).commit == REVISIONS[repo] != plan_download(repo, revision='main').commit
    with revisions({repo: 'main'}): assert plan_download(repo).commit == hub.repositories[repo].refs['main']

def test_a_pin_that_is_not_there(hub, cache, monkeypatch):
    "Should a pinned commit vanish from the hub, one line says how to read the repository all the same"
    monkeypatch.setitem(REVISIONS, WAN, '0'*40)
    told = refused('no such branch, tag or commit', lambda: load_pipeline('wan', size=(32, 32), num_frames=5))
    assert f'{WAN}@main' in told
    with revisions({WAN: 'main'}): load_pipeline('wan', size=(32, 32), num_frames=5)


# --dry-run

def typed(capsys, *words):
    "What `vader_align --dry-run` ends with, and what it prints"
    from vader_nb.commands.align import vader_align
    code = 0
    try: vader_align(['--dry-run', *map(str, words)])
    except SystemExit as e: code = e.code
    return code, *capsys.readouterr()

def test_dry_run(hub, cache, tmp_path, capsys, monkeypatch):
    "Repositories, files, bytes and room of model, reward and prompts, then the plan, here on a miniature; nothing is downloaded, nothing written"
    from vader_nb.methods import rehearsal
    from vader_nb.methods.recipes import downloads_of, load_recipe
    from vader_nb.models.modelscope import tiny_random_modelscope
    monkeypatch.setattr(rehearsal, 'dry_pipeline', lambda a: tiny_random_modelscope())
    monkeypatch.setattr(rehearsal, 'dry_reward', lambda text: rehearsal.random_reward(text, toy=True))
    code, said, err = typed(capsys, '--recipe', 'modelscope-hpsv2', '--size', '64x64', '--num-frames', 4, '--out', tmp_path/'out')
    plans = downloads_of(load_recipe('modelscope-hpsv2'))
    assert {p.repo for p in plans} == {'damo-vilab/text-to-video-ms-1.7b', 'xswu/HPSv2', 'laion/CLIP-ViT-H-14-laion2B-s32B-b79K', 'zhwang/HPDv2'}, err
    for p in plans: assert f'{p.repo} (' in said and all(f'  {name}' in said for name in p.files)
    total = downloads.human_bytes(sum(p.bytes for p in plans))
    assert f'in all {total} to download; ' in said and f' are free in {cache}' in said
    assert 'plan: tricks: none; predicted peak' in said and code == 0
    assert not hub.sent and not cache.exists() and not (tmp_path/'out').exists()

def test_dry_run_of_the_long_video(hub, cache, tmp_path, capsys):
    "The longer SVD, and V-JEPA 1, which comes from a server of its own: as any other"
    from PIL import Image
    (tmp_path/'dogs').mkdir()
    for name in ('rex', 'fido'): Image.new('RGB', (64, 64)).save(tmp_path/'dogs'/f'{name}.png')
    code, said, err = typed(capsys, '--recipe', 'svd-vjepa', '--model', 'svd-xt', '--reward', 'vjepa1', '--images', tmp_path/'dogs', '--size', '64x64',
                            '--num-frames', 16, '--lora-rank', 4, '--dtype', 'float32')
    assert code == 0 and 'stabilityai/stable-video-diffusion-img2vid-xt (' in said and 'plan: tricks: none; predicted peak' in said, err
    assert VJEPA1_URL.partition('://')[2] + ': 1 of 1 files' in said and '  vitl16.pth.tar\n' in said and not hub.sent

@pytest.mark.parametrize('repo, fault, told', [('xswu/HPSv2', Fault(403, 'GatedRepo'), 'accept the terms'), ('zhwang/HPDv2', Fault(404, 'RepoNotFound'), 'no such repository'),
                                               ('damo-vilab/text-to-video-ms-1.7b', Fault(500), 'answered with an error')])
def test_dry_run_refused(repo, fault, told, hub, cache, capsys):
    hub.faults['datasets/' + repo if repo == 'zhwang/HPDv2' else repo] = fault
    code, said, err = typed(capsys, '--recipe', 'modelscope-hpsv2')
    assert code == 2 and not said and repo in err and told in err and len(err.strip().splitlines()) == 1

def test_dry_run_offline(hub, cache, capsys, monkeypatch):
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')        # where nobody listens
    assert 'the connection broke off or was refused' in typed(capsys, '--recipe', 'modelscope-hpsv2')[2]
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    code, said, err = typed(capsys, '--recipe', 'modelscope-hpsv2')
    assert code == 2 and 'switched off (HF_HUB_OFFLINE=1)' in err and len(err.strip().splitlines()) == 1

def test_revision_option(hub, cache, tmp_path, capsys):
    "`--revision` reaches every repository; what is not read, or not there, is refused"
    words = '--recipe', 'modelscope-hpsv2', '--revision'
    assert 'no such branch, tag or commit' in typed(capsys, *words, 'xswu/HPSv2@v9')[2]
    assert 'this run reads nothing of it' in typed(capsys, *words, f'{YOLOS}@main')[2]
    assert 'write owner/name@version' in typed(capsys, *words, 'v9')[2]
    old = newer(hub, tmp_path, 'xswu/HPSv2')
    from vader_nb.commands.align import with_recipe, revisions_of
    from vader_nb.methods.recipes import downloads_of
    a = with_recipe('modelscope-hpsv2', revision=f'xswu/HPSv2@{old}')
    with revisions_of(a): assert {p.repo: p.commit for p in downloads_of(a)}['xswu/HPSv2'] == old

def test_server_error(hub, cache):
    hub.faults[YOLOS] = Fault(500)
    refused('the hub answered with an error; try again later')

def test_offline(hub, cache, monkeypatch):
    "A machine without a network, and one whose hub is switched off: what is here is used, what is not is refused"
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    refused(r'switched off \(HF_HUB_OFFLINE=1\)')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    folder = fetch_files(YOLOS, *NETWORK)
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')        # where nobody listens
    assert fetch_files(YOLOS, *NETWORK) == folder
    refused('the connection broke off or was refused', lambda: fetch_files(DOWNLOADS['depth'][0], *NETWORK))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert fetch_files(YOLOS, *NETWORK) == folder

def test_broken_off(hub, cache):
    "Cut at each attempt: what has arrived is kept and continued; the next run asks only for the rest"
    hub.faults[YOLOS] = Fault(cut=10_000, only=MODEL)
    refused('the connection broke off or was refused; run it again: what has arrived is kept')
    assert bodies(hub) == [(0, 10_000), (10_000, 10_000), (20_000, 10_000)] and [p.stat().st_size for p in parts(cache)] == [30_000]
    hub.faults.clear()
    assert plan_download(YOLOS, MODEL).bytes == size(hub) - 30_000
    folder = fetch_files(YOLOS, *NETWORK)
    assert bodies(hub)[-1] == (30_000, size(hub) - 30_000) and (folder/MODEL).read_bytes() == published(hub)[MODEL].read_bytes() and not parts(cache)

@pytest.mark.parametrize('fault, told', [(Fault(short=1000, only=MODEL), 'bytes, not'), (Fault(damaged=True, only=MODEL), 'SHA-256 is not the one')])
def test_damaged(fault, told, hub, cache):
    "A truncated file, and one with a wrong byte: refused and removed, and not trusted by the next run"
    hub.faults[YOLOS] = fault
    for _ in range(2):
        refused(f'arrived damaged: .*{told}')
        assert not parts(cache) and not list(cache.rglob(f'*/{MODEL}'))
    hub.faults.clear()
    assert (fetch_files(YOLOS, *NETWORK)/MODEL).stat().st_size == size(hub)

def test_damaged_in_the_cache(hub, cache):
    "A file that lost bytes since it was downloaded is fetched again"
    folder = fetch_files(YOLOS, *NETWORK)
    (folder/MODEL).resolve().write_bytes(b'half')
    assert list(plan_download(YOLOS, *NETWORK).missing) == [MODEL]
    assert (fetch_files(YOLOS, *NETWORK)/MODEL).stat().st_size == size(hub)

def test_no_room(hub, cache, monkeypatch):
    "Known before the first byte"
    monkeypatch.setattr(downloads.shutil, 'disk_usage', lambda p: type('', (), dict(free=50_000)))
    refused(r'needs 126 kB more on the disk, and 50.0 kB are free')
    assert not hub.sent

def test_reward_says_its_toy(hub, cache):
    hub.faults[YOLOS] = Fault(500)
    assert 'load_reward("tiny-objects")' in refused('published network hustvl/yolos-base .*the hub answered with an error', lambda: load_reward('objects', categories='book'))

def test_command(hub, cache, tmp_path, capsys):
    "From the shell: one line, code 2, no folder left behind"
    from vader_nb.commands.align import vader_align
    hub.faults['damo-vilab/text-to-video-ms-1.7b'] = Fault(403, 'GatedRepo')
    with pytest.raises(SystemExit) as e: vader_align(['--model', 'modelscope', '--reward', 'aesthetic', '--out', str(tmp_path/'out')])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert e.value.code == 2 and last.startswith("vader_align: error: the list of files of 'damo-vilab/text-to-video-ms-1.7b' could not be had from the hub: its authors")
    assert not (tmp_path/'out').exists()

def test_elsewhere(hub, cache):
    "V-JEPA 1 comes from a server of its own, with the same care"
    hub.faults['mirror'] = Fault(cut=5000)
    refused('vitl16.pth.tar of .* could not be had: the connection broke off', lambda: fetch_url(VJEPA1_URL))
    hub.faults.clear()
    reward = load_reward('vjepa1')
    assert hub.sent[-1][2] == 15_000 and reward.scorers == {'vjepa1'} and not parts(cache.parent)
    sent = len(hub.sent)
    assert fetch_url(VJEPA1_URL).is_file() and len(hub.sent) == sent


# In processes of their own

FETCH = "import sys; from vader_nb.downloads import *; print(fetch_files(sys.argv[1], 'model*', 'config.json'))"

def start(hub, home, repo=YOLOS, **more):
    return subprocess.Popen([sys.executable, '-c', FETCH, repo], env=os.environ | hub.environment(home) | dict(PYTHONPATH=str(ROOT)) | more,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def test_killed(hub, tmp_path):
    "Killed in the middle of a file: nothing half-written has a name that is read, and the next run fetches the rest"
    repo = 'yuvalkirstain/PickScore_v1'
    hub.faults[repo] = Fault(seconds=.5, only=MODEL)
    p = start(hub, tmp_path/'home', repo)
    while not any(s[3] for s in hub.sent if s[1] == MODEL): time.sleep(.05)
    time.sleep(.3)
    p.send_signal(signal.SIGKILL)
    p.communicate()
    left = parts(tmp_path/'home')
    assert len(left) == 1 and 0 < left[0].stat().st_size < size(hub, repo) and not list((tmp_path/'home').rglob(MODEL))
    have = left[0].stat().st_size
    hub.faults.clear()
    out, err = start(hub, tmp_path/'home', repo).communicate()
    assert (Path(out.strip())/MODEL).read_bytes() == published(hub, repo)[MODEL].read_bytes(), err
    assert bodies(hub)[-1] == (have, size(hub, repo) - have) and not parts(tmp_path/'home')

@pytest.mark.parametrize('named', [False, True])
def test_killed_after_the_last_byte(named, hub, cache):
    "Everything has arrived, but the file was not checked yet, or not linked yet: nothing is fetched again, and nothing half-done stays"
    folder = fetch_files(YOLOS, MODEL)
    link, want = folder/MODEL, (folder/MODEL).read_bytes()
    blob = link.resolve()
    link.unlink()
    if not named: blob.rename(blob.with_name(f'{blob.name}.part'))
    sent = len(hub.sent)
    plan = plan_download(YOLOS, MODEL)
    assert plan.bytes == 0 and not plan.missing
    assert (fetch_files(YOLOS, MODEL)/MODEL).read_bytes() == want and len(hub.sent) == sent and not parts(cache)

def test_killed_after_the_last_byte_and_damaged(hub, cache):
    "What has arrived whole gets its name only after its SHA-256 was compared"
    link = fetch_files(YOLOS, MODEL)/MODEL
    want, blob = link.read_bytes(), link.resolve()
    link.unlink()
    blob.rename(blob.with_name(f'{blob.name}.part')).write_bytes(bytes(len(want)))
    refused('SHA-256 is not the one', lambda: fetch_files(YOLOS, MODEL))
    assert (fetch_files(YOLOS, MODEL)/MODEL).read_bytes() == want and not parts(cache)

@pytest.mark.skipif(not sys.platform.startswith('linux') or os.getuid() != 0, reason='mounts a small disk, which only root may do')
def test_full_disk(hub, tmp_path):
    "A disk that somebody else fills while the file arrives: one line, and the next run, with room again, goes on"
    repo, disk = 'VideoCrafter/VideoCrafter2', tmp_path/'disk'
    disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk], capture_output=True).returncode: pytest.skip('no mount allowed')
    try:
        fill = "from vader_nb import downloads; downloads._check_room = lambda plan: None; downloads.fetch_files('VideoCrafter/VideoCrafter2', 'model.ckpt')"
        env = os.environ | hub.environment(disk) | dict(PYTHONPATH=str(ROOT))
        p = subprocess.run([sys.executable, '-c', fill], env=env, capture_output=True, text=True)
        last = p.stderr.strip().splitlines()[-1]
        assert p.returncode and 'the disk is full; make room, or move the cache with HF_HOME, and run it again: what has arrived is kept' in last
        assert not list(disk.rglob('model.ckpt'))
        plain = fill.replace('downloads._check_room = lambda plan: None; ', '')
        p = subprocess.run([sys.executable, '-c', plain], env=env, capture_output=True, text=True)
        assert 'more on the disk, and' in p.stderr.strip().splitlines()[-1]
        subprocess.run(['mount', '-o', 'remount,size=64m', disk], check=True)
        p = subprocess.run([sys.executable, '-c', plain], env=env, capture_output=True, text=True)
        assert p.returncode == 0 and bodies(hub, 'model.ckpt')[-1][0] > 1_000_000, p.stderr
    finally: subprocess.run(['umount', disk])
