"What a user may give, and what is wrong with it: a row for each public name, with arguments that work and strategies of those that do not"
import json, math, string
from functools import cache
from pathlib import Path
import torch
from hypothesis import strategies as st
from PIL import Image
from toy import Toy
from vader_nb.batches import batch_at
from vader_nb.checkpoints import save_state
from vader_nb.evaluate.contest import Contest, Leg
from vader_nb.evaluate.folders import find_clips, write_frames, write_vbench_results
from vader_nb.faults import write_case
from vader_nb.lora import add_lora, lora_parameters, save_lora
from vader_nb.methods.ddpo import DDPO
from vader_nb.methods.dpo import DPO
from vader_nb.methods.nft import NFT
from vader_nb.methods.vader import Vader, align
from vader_nb.models.load import load_pipeline
from vader_nb.rewards.core import green_reward
from vader_nb.savings.rollout import EXACT
from vader_nb.training import Training
from vader_nb.video import write_video

PROMPTS = ['a red circle moving left over sand', 'a blue square growing over snow', 'a green cross spinning over grass', 'a red cross moving up over sand']
ODD = [object(), b'bytes', {}, [], ('a', 'b'), lambda: 0, 1j]            # of a type that nothing here takes
LONG = 'x'*100_000
TEXTS = st.text(min_size=1, max_size=30) | st.sampled_from(['', ' ', 'ünïcödé', '‮drow', '🎬'*20, LONG, '<script>', '%s{0}', '../..', 'a\nb'])

def others(*values): return st.sampled_from([*values])
def count(least, most=None):
    "No whole number from `least` on"
    high = st.integers(most + 1, 10**30) if most is not None else st.nothing()
    return st.integers(-10**30, least - 1) | high | others(math.nan, math.inf, -math.inf, least + .5, 'three', '', True, None, *ODD)
SEED = others(math.nan, math.inf, .5, 'three', '', True, None, *ODD)
def counted(least, most=None): return count(least, most).filter(lambda v: v is not None)          # None is allowed
def real(low=-math.inf, high=math.inf, above=False):
    "No finite number in a range"
    under = st.floats(max_value=low, exclude_max=not above, allow_infinity=False) if math.isfinite(low) else st.nothing()
    over = st.floats(min_value=high, exclude_min=True, allow_infinity=False) if math.isfinite(high) else st.nothing()
    return under | over | others(math.nan, math.inf, -math.inf, 'three', '', None, *ODD)
def number(*a, **kw): return real(*a, **kw).filter(lambda v: v is not None)
def word(*known):
    "No name of a table: a misspelt one, any text, or no text at all"
    spelt = st.tuples(st.sampled_from(known), st.sampled_from(string.ascii_lowercase)).map(lambda t: t[0][:-1] + t[1] + t[0][-1])
    return (spelt | TEXTS | others(None, 3, .5, *ODD)).filter(lambda v: v not in known if isinstance(v, str) else True)
def no_reward(*known): return word(*known).filter(lambda v: not callable(v))         # any function is one
def worded(*known): return word(*known).filter(lambda v: v is not None)

NO_PATH = '', ' ', 3, 1.5, b'bytes'                                                  # no name of any file
MISSING = ['no/such/file', 'nicht_da_ä', LONG, 'nul\0byte', *NO_PATH]
def place(*wrong): return others(*MISSING, *wrong)                                     # nothing can be read there
TARGETS = others('prompts.txt/inside', 'nul\0byte', 'y'*300, *NO_PATH)                           # nothing can be written there
METHODS = (st.tuples(others(Vader, DDPO, DPO, NFT), st.integers(5, 10**30)).map(lambda m: m[0](reward_frames=m[1])) | st.integers(3, 10**30).map(lambda n: Vader(n, 1)) |
           others('vader', 'ddpo', Vader, DDPO, 3, [1]))          # more frames or steps than there are; no options
BELOW_1 = math.nextafter(1, 0)
FLAG = others('no', 'True', '', 0, 1, None, [], object())
NO_PIPE = others('tiny', None, 3, torch.nn.Linear(1, 1))
FUNCTION = others(3, 'x', [], object())
TYPES = others(None, 3, math.nan, *ODD)
FRAMES = others(None, 'frames', 3, torch.zeros(2, 3, 8, 8), torch.zeros(1, 2, 4, 8, 8), torch.full((1, 2, 3, 8, 8), math.nan), torch.full((1, 2, 3, 8, 8), 2.),
                torch.zeros(0, 2, 3, 8, 8), torch.zeros(1, 0, 3, 8, 8))
CLIPS = FRAMES.filter(lambda v: getattr(v, 'shape', ()) != (2, 3, 8, 8))      # one video is enough
NO_PROMPTS = others([], None, 3, 'one text', [''], ['a', 3], [None], [' '], {}, [b'a'])

def make_place():
    "Files of every kind, whole and broken, in the folder where the calls run; a run whose LoRA is among them"
    torch.manual_seed(0)
    pipe, frames = Toy(), torch.rand(2, 4, 3, 8, 8)
    run = align(pipe, green_reward(), PROMPTS, 2, Vader(1, None, anchor=0.), training=Training(lr=.1, batch_size=2), callbacks=[])
    run.save('run')
    Path('prompts.txt').write_text('\n'.join(PROMPTS))
    Path('junk').write_bytes(bytes(range(256)))
    for end in ('json', 'safetensors', 'mp4', 'png', 'pt', 'jsonl'): Path(f'junk.{end}').write_bytes(bytes(range(256)))
    Path('empty').mkdir()
    Path('empty.txt').write_text('')
    Path('array.json').write_text('[1]')
    save_state('state.pt', a=1)
    write_case(Training(checkpoint='case.pt', batch_size=1), [parameter()], 0, batch_at(PROMPTS, 0, 1).prompts, 'nan')
    Path('case_not_finite.pt').rename('case.pt')
    Path('texts.json').write_text(json.dumps(['a man is running', 'a cat']))
    write_vbench_results(Path('vbench.json'), {'subject_consistency': {'a-0.mp4': .5}})
    write_video('video.mp4', frames)
    Path('log.jsonl').write_text(json.dumps(dict(step=1, reward=1.)) + '\n')
    add_lora(small := load_pipeline('tiny'), 2)
    for p in lora_parameters(small): torch.nn.init.normal_(p, std=.01)
    save_lora(small, 'tiny-lora')
    Path('pictures').mkdir()
    Image.new('RGB', (32, 32)).save('pictures/one.png')
    for side in ('before', 'after'):
        for i, v in enumerate(frames): write_frames(Path(side)/f'{i:03}', v)
    return run

PICTURE = torch.zeros(3, 32, 32)

def toy(): return Toy()
@cache
def tiny_i2v(): return load_pipeline('tiny-i2v')
def with_lora():
    add_lora(pipe := Toy(), 2)
    return pipe
def frames(): return torch.rand(2, 4, 3, 8, 8)
def parameter(): return torch.nn.Parameter(torch.ones(2))
def loss_of(p): return lambda batch: ((p.sum() - 1).square(), dict(reward=p.detach().expand(len(batch.prompts), -1).sum(1)))


# Arguments of each public function or class that a user calls, and what is wrong for each of them. A function without an argument that could be wrong stands in INSIDE.
def rows():
    from vader_nb.models.load import MODELS
    from vader_nb.rewards.load import REWARDS
    from vader_nb.methods.recipes import Recipe
    from vader_nb.evaluate.by_name import MEASURES
    lora, run_files = place('empty', 'junk.safetensors', 'junk', 'prompts.txt'), place('empty', 'junk', 'pictures')
    dtypes, devices = word('float32', 'float16', 'bfloat16'), word('cpu', 'cuda', 'mps').filter(lambda v: isinstance(v, str) and len(v) < 1000 and v not in ('cuda', 'mps'))
    return {
    'vader_nb.align': (lambda: dict(pipe=toy(), reward='green', prompts=PROMPTS, train_steps=1, callbacks=[], guidance_scale=2., eta=0., num_inference_steps=2), dict(
        pipe=NO_PIPE, lora=others(8, 'run', None, {}), savings=others('fast', None, 4, {}), training=others(1e-3, 'x', None, {}), any_world=FLAG, reward=no_reward(*REWARDS), prompts=NO_PROMPTS, train_steps=count(1), callbacks=others([int], 3, [3], 'x'), method=METHODS, guidance_scale=number(0), eta=number(0, 1), num_inference_steps=counted(1))),
    'vader_nb.load_pipeline': (lambda: dict(name='tiny'), dict(name=word(*MODELS) | place('empty', 'junk', 'pictures'), dtype=dtypes, device=devices,
        num_frames=count(8, 8), size=others((32, 32), 'x', 3, (32,), (0, 32), None))),
    'vader_nb.load_prompts': (lambda: dict(name_or_path='tiny'), dict(name_or_path=word('tiny', 'activities') | place('empty', 'empty.txt', 'junk'), split=word('all', 'train', 'test'), n=counted(1, 100_000), seed=SEED)),
    'vader_nb.load_reward': (lambda: dict(reward='green'), dict(reward=no_reward(*REWARDS) | others('green +', '2*', 'green(', 'green(1)', 'green(a=1)', 'no.py:f', 'prompts.txt:f', '+', 'green green', 'near_target()', 'objects(book)'))),

    'batches.split_batch': (lambda: dict(batch_size=4), dict(batch_size=count(1), gradient_accumulation_steps=count(1, 4), num_processes=count(1, 4))),
    'callbacks.Progress': (dict, dict(desc=others(3, None, []))),
    'callbacks.read_log': (lambda: dict(path='log.jsonl'), dict(path=place('empty', 'array.json', 'prompts.txt'))),
    'callbacks.JSONLog': (lambda: dict(path='new.jsonl'), dict(path=TARGETS | others(None), times=FLAG)),
    'callbacks.TensorBoard': (lambda: dict(folder='board'), dict(folder=TARGETS | others('prompts.txt'))),
    'callbacks.Samples': (lambda: dict(fn=frames, every=1, folder='samples'), dict(fn=others(3, None, 'x'), every=count(1), folder=TARGETS | others('prompts.txt'), scale=number(0), captions=others('one text', 3), video=FLAG)),
    'callbacks.plot_log': (lambda: dict(log=[dict(step=1, reward=1.)]), dict(log=others([], None, 'x', 3, [3], [dict(step=1, reward='x')], [dict(step=None, reward=1.)]), keys=others(('rewrad',), (), ('x', 'y'), 3, [3], [[]]), smooth=count(1), x=word('step'))),
    'checkpoints.load_state': (lambda: dict(path='state.pt'), dict(path=place('empty', 'junk.pt', 'empty.txt', 'prompts.txt'))),
    'checkpoints.save_state': (lambda: dict(path='new.pt', a=1), dict(path=TARGETS | others('empty'))),
    'checkpoints.load_newest': (lambda: dict(path='state.pt'), dict(path=others('junk.pt', 'empty.txt'), keep=count(1))),
    'checkpoints.save_newest': (lambda: dict(path='new.pt', a=1), dict(path=TARGETS | others('empty'), keep=count(1))),
    'ema.Ema': (dict, dict(decay=real(0, BELOW_1))),
    'faults.read_case': (lambda: dict(path='case.pt'), dict(path=place('empty', 'junk.pt', 'state.pt'))),
    'faults.replay': (lambda: dict(path='case.pt', loss_fn=loss_of(parameter()), parameters=[parameter()], prompts=PROMPTS), dict(path=place('empty', 'junk.pt', 'state.pt'))),
    'live.live_view': (lambda: dict(pipe=toy(), prompts=PROMPTS), dict(pipe=NO_PIPE, prompts=NO_PROMPTS, every=count(1), folder=others('prompts.txt', 'prompts.txt/x'), seed=count(0))),
    'live.LiveView': (dict, dict(every=count(1), smooth=count(1), refresh=real(0), look=FUNCTION, save=FUNCTION, captions=others('one text', 3), keys=others(3, None))),
    'lora.Lora': (dict, dict(start=others(*NO_PATH), rank=count(1), alpha=number(0, above=True), target_modules=others('', (), 3, [3], (3,), {}))),
    'lora.add_lora': (lambda: dict(model=toy(), lora=2), dict(lora=count(1), seed=SEED, model=TYPES)),
    'lora.load_lora': (lambda: dict(model=toy(), path='run'), dict(path=lora, scale=real(), prefix=others('vae', 'no'), model=TYPES)),
    'lora.save_lora': (lambda: dict(model=with_lora(), path='new'), dict(path=TARGETS | others('prompts.txt'), model=TYPES | others(toy()))),
    'lora.set_lora_scale': (lambda: dict(model=with_lora(), scale=1.), dict(scale=real(), model=others(toy()))),
    'lora.lora_scale': (lambda: dict(model=with_lora(), scale=1.), dict(scale=real(), model=others(toy()))),
    'lora.remove_lora': (lambda: dict(model=with_lora()), dict(model=TYPES)),
    'lora.lora_parameters': (lambda: dict(model=with_lora()), dict(model=TYPES | others(toy()))),
    'lora.lora_state': (lambda: dict(model=with_lora()), dict(model=TYPES | others(toy()))),
    'lora.without_lora': (lambda: dict(model=with_lora()), dict(model=TYPES | others(toy()))),
    'lora.folded': (lambda: dict(model=with_lora()), dict(model=TYPES | others(toy()))),
    'lora.write_safetensors': (lambda: dict(path='new.safetensors', tensors=dict(a=torch.ones(1))), dict(path=TARGETS)),
    'pictures.load_image_prompts': (lambda: dict(folder_or_files='pictures'), dict(folder_or_files=place('empty', 'junk', 'junk.png', 'prompts.txt') | others([], ['no.png'], [3], None, 3), size=others(0, -1, 'x', (3,), (0, 8), 1.5, math.nan))),
    'pictures.check_image': (lambda: dict(image=torch.zeros(3, 8, 8)), dict(image=TYPES | others(torch.zeros(8, 8), torch.full((3, 8, 8), 2.), torch.full((3, 8, 8), math.nan)))),
    'pictures.fit_image': (lambda: dict(image=torch.zeros(3, 8, 8), size=(4, 4)), dict(image=TYPES | others(torch.zeros(8, 8)), size=others(0, -1, 'x', (3,), (0, 8), None, math.nan))),
    'pictures.ImagePrompt': (lambda: dict(text='a', image=torch.zeros(3, 8, 8)), dict(text=others(3, None, b'a'), image=TYPES | others(torch.zeros(8, 8)))),
    'pipeline.check_prompts': (lambda: dict(prompts=['a']), dict(prompts=NO_PROMPTS)),
    'prompts.read_prompts': (lambda: dict(path='prompts.txt'), dict(path=place('empty', 'empty.txt', 'junk'))),
    'prompts.split_prompts': (lambda: dict(prompts=PROMPTS), dict(prompts=others([], None, ['a']), test_fraction=real(0, 1, above=True))),
    'prompts.sample_prompts': (lambda: dict(prompts=PROMPTS, n=1), dict(n=count(1, 4), prompts=others([], None), seed=SEED)),
    'prompts.load_pictures': (lambda: dict(name_or_folder='pictures'), dict(name_or_folder=word('tiny-circle').filter(lambda v: v != '../..') | place('empty', 'junk'), n=counted(1, 1))),
    'prompts.prompt_batch': (lambda: dict(prompts=PROMPTS, step=0, batch_size=1), dict(prompts=others([], None), batch_size=count(1))),
    'prompts.hpsv2_action_prompts': (lambda: dict(file='texts.json'), dict(file=place('empty', 'junk', 'array.json').filter(bool))),
    'sampling.last_k': (lambda: dict(k=1), dict(k=count(1))),
    'sampling.random_k': (lambda: dict(max_k=1), dict(max_k=count(1))),
    'sampling.explicit': (lambda: dict(steps=[0]), dict(steps=others(3, None, 'x', [-1], [.5], ['a']))),
    'sampling.parse_grad_steps': (lambda: dict(text='1'), dict(text=word('random_start', '1').filter(lambda v: isinstance(v, str) and len(v) < 1000 and not v.isdecimal()))),
    'sampling.SamplerSettings': (lambda: dict(num_inference_steps=1, guidance_scale=1., eta=0.), dict(num_inference_steps=count(1), guidance_scale=real(0), eta=real(0, 1))),
    'savings.rollout.averaged': (lambda: dict(loss_fn=loss_of(parameter()), draws=1), dict(draws=count(1))),
    'savings.rollout.rollout': (lambda: dict(pipe=toy(), savings=EXACT), dict(savings=others('fast', None, 3))),
    'savings.rollout.rehearse': (lambda: dict(pipe=toy(), num_inference_steps=2), dict(savings=others('fast', None, 3), num_inference_steps=counted(1), eta=number(0, 1))),
    'savings.rollout.attention_broadcast': (dict, dict(skip=count(1))),
    'sampling.choose_frames': (lambda: dict(num_frames=4, k=2), dict(k=counted(1, 4))),
    'sampling.sample_videos': (lambda: dict(pipe=toy(), prompts=['a'], num_inference_steps=1), dict(pipe=NO_PIPE, prompts=NO_PROMPTS, seed=SEED, batch_size=count(1), frames_at_once=counted(1), num_inference_steps=counted(1), guidance_scale=number(0), eta=number(0, 1))),
    'trainer.fit': (lambda: dict(loss_fn=loss_of(p := parameter()), parameters=[p], prompts=['a', 'b'], train_steps=1), dict(
        loss_fn=others(3, None, lambda b: None, lambda b: 3, lambda b: (torch.ones(()), {}), lambda b: (torch.ones(1, requires_grad=True), {})), parameters=others([], [3], None, [torch.ones(1)], 3),
        prompts=NO_PROMPTS, train_steps=count(1), updates_per_rollout=count(1), callbacks=others(3, [3], [int], None, 'x'), training=others(None, 3, 'x', {}))),
    'trainer.check_file': (lambda: dict(path='new.pt'), dict(path=TARGETS | others('empty'))),
    'training.check_count': (lambda: dict(name='n', n=1), dict(n=count(1))),
    'training.Training': (dict, dict(batch_size=count(1), gradient_accumulation_steps=count(1), lr=real(0, above=True), weight_decay=real(0), max_grad_norm=number(0, above=True), seed=count(0), save_every=count(1),
        mixed_precision=worded('no', 'bf16', 'fp16'), loss_scale=number(0, above=True), optimizer=others(3, None, 'AdamW'), schedule=others(3, 'linear'), max_skipped=count(0), keep_checkpoints=count(1),
        process_timeout=number(0, above=True), checkpoint=others(3, .5, object(), []))),
    'training.linear_decay': (dict, dict(final=real(0, 1), start=real(0, BELOW_1))),
    'video.check_pixels': (lambda: dict(frames=frames()), dict(frames=FRAMES)),
    'video.to_uint8': (lambda: dict(frames=frames()), dict(frames=CLIPS)),
    'video.from_uint8': (lambda: dict(array=torch.zeros(1, 2, 8, 8, 3, dtype=torch.uint8).numpy()), dict(array=others(None, 3, 'x', torch.zeros(3, 3).numpy()))),
    'video.contact_sheet': (lambda: dict(frames=frames()), dict(frames=FRAMES, captions=others(['one'], 3), every=count(1), scale=real(0, above=True), pad=count(0))),
    'video.before_after': (lambda: dict(before=frames(), after=frames()), dict(before=FRAMES, after=FRAMES, every=count(1), scale=real(0, above=True), pad=count(0))),
    'video.check_out_dir': (lambda: dict(path='out'), dict(path=TARGETS | others('prompts.txt'))),
    'video.write_video': (lambda: dict(path='new.mp4', frames=frames()), dict(path=TARGETS | others('new.txt', 'new'), frames=CLIPS, fps=real(0, above=True), scale=real(0, above=True), pad=count(0))),
    'video.write_image': (lambda: dict(path='new.png', image=Image.new('RGB', (4, 4))), dict(path=TARGETS)),
    'video.read_video': (lambda: dict(path='video.mp4'), dict(path=place('empty', 'junk.mp4', 'empty.txt', 'prompts.txt'))),
    'video.show_video': (lambda: dict(frames=frames()), dict(frames=CLIPS, fps=real(0, above=True), scale=real(0, above=True), captions=others(['one'], 3))),
    'video.show_pair': (lambda: dict(before=frames(), after=frames()), dict(before=FRAMES, after=FRAMES, fps=real(0, above=True), scale=real(0, above=True))),
    'downloads.check_place': (lambda: dict(name='run'), dict(name=place('no such folder'))),
    'downloads.revisions': (lambda: dict(versions={}), dict(versions=others('a/b@main', None, 3))),
    'downloads.plan_download': (lambda: dict(repo='a/b'), dict(repo=TEXTS.filter(lambda t: '/' not in t) | others(None, 3), revision=others(3, b'main', []), repo_type=word('model', 'dataset', 'space'))),
    'downloads.fetch_url': (lambda: dict(url='http://127.0.0.1:9/x'), dict(url=TEXTS | others(None, 3, 'ftp://x/y', 'file:///etc/passwd'))),
    'downloads.plan_url': (lambda: dict(url='http://127.0.0.1:9/x'), dict(url=TEXTS | others(None, 3, 'ftp://x/y'))),
    'downloads.parse_revisions': (lambda: dict(text='a/b@c'), dict(text=others('a', 'a@', '@b', 'a/b', 'a/b@c d', 3, b'a/b@c'))),
    'downloads.check_hub_id': (lambda: dict(repo='a/b'), dict(repo=TEXTS.filter(lambda t: '/' not in t) | others(None, 3, 'a/b/c', '/', 'a/', '../b'))),
    'downloads.push_folder': (lambda: dict(folder='run', repo='a/b'), dict(folder=place('junk'), repo=others('', 'a/b/c', 'a b/c', None, 3), private=others('no', 2, []), message=others(3, None))),
    'downloads.fetch_files': (lambda: dict(place='run', local_files_only=True), dict(place=place('nobody/has-this', 'no such folder', 'a/b/c'), revision=others(3, b'main', []), repo_type=word('model', 'dataset', 'space'))),
    'models.load.check_device': (lambda: dict(device='cpu'), dict(device=devices)),
    'models.load.model_downloads': (lambda: dict(name='tiny'), dict(name=word(*MODELS).filter(lambda v: v != '../..'), dtype=others('float23', 3))),
    'rewards.load.reward_names': (lambda: dict(text='green'), dict(text=TEXTS.filter(lambda t: t.strip() not in REWARDS))),
    'rewards.core.as_reward': (lambda: dict(reward=green_reward()), dict(reward=others(None, 3, 'x', []))),
    'rewards.core.near_target': (lambda: dict(reward=green_reward(), target=1.), dict(reward=others(None, 3), target=real(), weight=real())),
    'rewards.core.at_least': (lambda: dict(reward=green_reward(), floor=1.), dict(reward=others(None, 3), floor=real(), weight=real())),
    'rewards.core.distance_to': (lambda: dict(target=1.), dict(target=real(), weight=real())),
    'rewards.guards.compressibility_reward': (dict, dict(quality=count(1, 100))),
    'savings.rollout.Savings': (dict, dict(updates_per_rollout=count(1), draws=count(1), reuse=count(1), fresh_noise=FLAG, cache_prompts=FLAG, unconditional_gradient=FLAG, guidance_interval=others((1., 0.), (0, 2), 3, None, 'x', (0,), (math.nan, 1), ('a', 'b')), prefix=others(3, 'x', (3,), None))),
    'savings.planner.Device': (lambda: dict(vram=2**30), dict(vram=real(0, above=True), speed=real(0, above=True), bus=real(0, above=True), reserve=real(0))),
    'savings.planner.card': (lambda: dict(name='t4', utilisation=.2), dict(name=worded('t4', 'l4', 'a6000', 'a100', 'h100'), utilisation=real(0, 1, above=True))),
    'savings.planner.dry_model': (lambda: dict(name='svd'), dict(name=word('modelscope', 'videocrafter2', 'opensora', 'svd', 'wan'), size=others('x', 64, (64,), (0, 64), (63, 64)), num_frames=counted(1), dtype=dtypes.filter(lambda v: v is not None), batch_size=count(1), lora_rank=count(1))),
    'savings.fitting.parse_bytes': (lambda: dict(text='8GB'), dict(text=TEXTS.filter(lambda t: not t.strip()[:1].isdecimal()) | others(0, -1, '0GB', 'GB', '8XB', 'nan', 'inf'))),
    'savings.fitting.trick_names': (lambda: dict(text='none'), dict(text=others('slice_decode', 'compiled,nothing', ['x'], 'no such trick', LONG))),
    'methods.vader.Vader': (dict, dict(anchor=real(0), grad_steps=count(1).filter(lambda v: not callable(v)), reward_frames=counted(1), form=FUNCTION)),
    'methods.ddpo.DDPO': (dict, dict(noise_level=number(0, above=True), clip=number(0, above=True), max_advantage=real(0, above=True), reward_frames=counted(1), steps_per_update=counted(1), batch_ratio=FLAG, buffer_size=count(1), min_count=count(1), videos_per_prompt=count(1), minibatches=count(1), anchor=real(0))),
    'methods.dpo.DPO': (dict, dict(reward_frames=counted(1), official_dims=FLAG, official_pairs=FLAG, beta=real(0, above=True), buffer_size=count(0), videos_per_prompt=count(2))),
    'methods.nft.NFT': (dict, dict(reward_frames=counted(1), global_std=FLAG, mix=real(0, above=True), anchor=real(0), max_advantage=real(0, above=True), videos_per_prompt=count(2), levels=count(1), flat=count(0), rate=real(0), hold=real(0, 1))),
    'methods.long_video.Chain': (dict, dict(chunks=count(1), grad_chunks=others((9,), (-1,), (.5,), ('a',), 'x', 2), through_border=FLAG, offload=FLAG)),
    'methods.long_video.sample_long': (lambda: dict(pipe=tiny_i2v(), prompts=PICTURE, chunks=1, num_inference_steps=1), dict(prompts=others([], 3, None, ['a text'], 'a text', torch.zeros(2, 32, 32)), chunks=count(1), seed=SEED, batch_size=count(1), pipe=others(toy()))),
    'methods.long_video.autoregressive_sample': (lambda: dict(pipe=tiny_i2v(), image=PICTURE, chain=1, num_inference_steps=1), dict(image=others([], 3, None, ['a text']), chain=count(1), grad_steps=others('x', -1, 2, .5, None), savings=others('fast', None, 3))),
    'methods.long_video.straddling_windows': (lambda: dict(num_frames=8), dict(num_frames=count(8), chunks=count(2), length=count(2, 8) | others(3, 7))),
    'methods.long_video.over_windows': (lambda: dict(reward=green_reward(), windows=[[0, 1]]), dict(reward=others(None, 3, 'green'), windows=others([], [[]], 3, [3], [[-1]], [[.5]], [[0], [0, 1]], [['a']]), given=FLAG)),
    'methods.long_video.half_masks': (lambda: dict(grid=(4, 4, 4)), dict(grid=others(3, (4, 4), 'abc', (0, 4, 4), (4, 4, .5)))),
    'methods.long_video.chain_loss': (lambda: dict(pipe=tiny_i2v(), reward=green_reward()), dict(reward=others('green', None, 3), chain=others(3, None, 'x'), savings=others('fast', None, 3))),
    'methods.recipes.load_recipe': (lambda: dict(name='tiny'), dict(name=TEXTS, reciep=others(1), model_=others(2))),
    'methods.recipes.sources': (lambda: dict(name='tiny'), dict(name=TEXTS)),
    'methods.recipes.recipe_values': (lambda: dict(name='tiny'), dict(name=TEXTS)),
    'methods.recipes.parse_size': (lambda: dict(text='32'), dict(text=others('x', '32x', 'x32', '-1', '3.5', '', 'axb', '1x2x3', '0', '0x8', LONG))),
    'methods.recipes.best_device': (lambda: dict(name='best'), {}),
    'methods.recipes.long_sampler': (lambda: dict(chunks=2), dict(chunks=count(1))),
    'methods.sharing.save_run': (lambda: dict(run=RUN[0], folder='new'), dict(folder=TARGETS | others('prompts.txt'), prompts=NO_PROMPTS.filter(lambda v: v is not None and v != []), seed=SEED, details=others(3, None, []))),
    'methods.sharing.push_run': (lambda: dict(run=RUN[0], repo='a/b'), dict(repo=others('', 'a/b/c', 'a b/c', '../x'))),
    'methods.sharing.file_name': (lambda: dict(text='a'), {}),
    'methods.saved_runs.read_run': (lambda: dict(folder='run'), dict(folder=run_files)),
    'methods.saved_runs.load_run': (lambda: dict(place='run', pipe=toy(), local_files_only=True), dict(place=run_files, reward=no_reward(*REWARDS).filter(lambda v: v is not None), scale=real(), pipe=others(3, 'x', torch.nn.Linear(1, 1)))),
    'methods.saved_runs.find_runs': (lambda: dict(folder='.'), dict(folder=run_files)),
    'methods.saved_runs.write_gallery': (lambda: dict(folder='.'), dict(folder=run_files, out=others('empty', 'prompts.txt/x', 'nul\0byte', *NO_PATH))),
    'methods.lora_formats.read_lora': (lambda: dict(path='run', model=toy()), dict(path=lora, alpha=others(-1., 0., math.nan, 'x'))),
    'methods.lora_formats.convert_lora': (lambda: dict(model=toy(), source='run', target='new'), dict(source=lora, target=TARGETS, layout=worded('diffusers', 'kohya', 'comfyui', 'vader'))),
    'methods.lora_formats.load_any_lora': (lambda: dict(model=toy(), source='run'), dict(source=lora, scale=real())),
    'methods.lora_formats.mix_loras': (lambda: dict(model=toy(), sources={'run': 1.}, target='new'), dict(sources=others({}, {'no/such': 1.}, {'run': 'x'}, {'run': math.nan}, {'run': None}, ['run'], 'run'), target=TARGETS, layout=worded('diffusers', 'kohya', 'comfyui', 'vader'))),
    'methods.lora_formats.lora_effect': (lambda: dict(model=with_lora()), dict(model=others(toy()))),
    'evaluate.measures.evaluate': (lambda: dict(pipe=toy(), reward='green', prompts=PROMPTS, diversity_prompts=0), dict(pipe=NO_PIPE, reward=no_reward(*REWARDS).filter(lambda v: v is not None), prompts=NO_PROMPTS, seed=SEED, batch_size=count(1), diversity_prompts=count(0), diversity_seeds=count(2))),
    'evaluate.guard.Limits': (dict, dict(fall=number(0), diversity=number(0), motion=others(3, 'x', (1,), (2., 1.), (math.nan, 1)), distance=number(0))),
    'evaluate.guard.Guard': (lambda: dict(pipe=toy(), reward='green', prompts=PROMPTS, witnesses='edges'), dict(reward=no_reward(*REWARDS), witnesses=no_reward(*REWARDS) | others('green'), prompts=NO_PROMPTS, every=count(1), act=word('warn', 'slow', 'stop'), seeds=count(2), pipe=NO_PIPE, limits=others(.3, None, {}), settings=others(None, 3, 'x'), embed=FUNCTION, draw=FUNCTION, folder=others('prompts.txt', 'prompts.txt/x'))),
    'evaluate.folders.find_clips': (lambda: dict(folder='before'), dict(folder=place('empty', 'junk'), prompts=others(['one'], 3, []))),
    'evaluate.folders.read_vbench_results': (lambda: dict(path='vbench.json'), dict(path=place('empty', 'junk', 'array.json'))),
    'evaluate.by_name.measure_names': (lambda: dict(asked=['tiny']), dict(asked=st.lists(TEXTS, min_size=1, max_size=2) | others([], None, [3]))),
    'evaluate.by_name.load_measure': (lambda: dict(name='edges'), dict(name=no_reward(*MEASURES).filter(lambda v: not isinstance(v, str) or v not in REWARDS), weights=others(*NO_PATH), device=devices)),
    'evaluate.compare.compare': (lambda: dict(before=find_clips('before'), after=find_clips('after'), measures=['edges'], out='new'), dict(measures=others([], ['edgse'], None, 3), out=TARGETS | others('prompts.txt'), batch_size=count(1), before=others([], None), after=others([], None), device=devices, weights=others(*NO_PATH))),
    'evaluate.study.make_study': (lambda: dict(before=find_clips('before'), after=find_clips('after')), dict(checks=count(0), seed=SEED, before=others([], None))),
    'evaluate.study.check_rater': (lambda: dict(name='ann'), dict(name=others('', '../x', 'a/b', LONG, '.'))),
    'evaluate.study_page.write_page': (lambda: dict(study=STUDY(), folder='new'), dict(study=others(None, 3, 'x'), folder=TARGETS | others('prompts.txt'), fps=real(0, above=True), title=others(3, None, []))),
    'evaluate.contest.Contest': (dict, dict(train=count(1), test=count(1), every=count(1), rank=count(1), reward=word(*REWARDS), diversity_prompts=count(0, 24), sampler=others(4, None, 'x'), model=others(*NO_PATH, None))),
    'evaluate.contest.Opponent': (lambda: dict(method=None), dict(method=others('VADER', 3, []), prompts=count(1), queries=count(1), savings=others('fast', None, 3))),
    'evaluate.contest.Leg': (lambda: dict(opponent='VADER'), dict(opponent=word('VADER', 'DDPO', 'DPO', 'NFT'), lr=real(0, above=True), seed=count(0))),
    'evaluate.contest.leg_file': (lambda: dict(folder='.', contest=Contest(), leg=Leg('base')), dict(folder=others(*NO_PATH), contest=others(None, 'x'), leg=others('VADER', None))),
    'evaluate.contest.read_leg': (lambda: dict(file='array.json'), dict(file=others('junk', 'prompts.txt', *NO_PATH))),
    'evaluate.contest.train_leg': (lambda: dict(folder='legs', contest=Contest(train=2, test=2, every=16, diversity_prompts=0), leg=Leg('base'), queries=16), dict(folder=TARGETS, contest=others(None, 'x'), leg=others('VADER', None))),
    }

HUB = ('downloads.push_folder', 'downloads.plan_download', 'downloads.fetch_url', 'downloads.plan_url', 'methods.sharing.push_run')       # their own arguments want a hub
RUN = []
def STUDY():
    from vader_nb.evaluate.study import make_study
    return make_study(find_clips('before'), find_clips('after'))

# Names of public modules that no user calls: what takes only what the library made itself (its arguments are checked where they come in), and results. A new name stands here or has a row.
INSIDE = {
    'batches': 'Batch batch_at batch_text make_accelerator average_gradients weights_hash odd_ones check_equal worst connected',
    'checkpoints': 'kept_files', 'ema': 'average_rate take_average',
    'downloads': 'is_hub_id DownloadError hub_error diffusers_files choose_files fetched Remote human_bytes Download cache_dir downloads_text carry_out',
    'evaluate.by_name': 'Network load_clip_b network_file Measure direction is_motion least_frames check_size measure_downloads fetch_measures list_measures',
    'evaluate.compare': 'Interval student_quantile bootstrap_interval whole_lines read_values measure_clips Comparison comparison_rows plot_changes extremes extremes_sheet check_shapes',
    'evaluate.contest': 'leg_config leg_pipeline rounded write_found CPUClock threads',
    'evaluate.folders': 'Clip frame_files prompt_of_name read_clip digest write_frames at_once frames_of lora_hash drawn_with check_drawn note_drawn draw_missing pair_clips vbench_files write_vbench_videos write_vbench_results',
    'evaluate.guard': 'thumbnails Look seeds_apart compare alarms',
    'evaluate.measures': 'diversity clip_embedder in_tiny_world read_accuracy chance_levels read_gems gem_rates Evaluation gain gain_error Table format_table comparison_table',
    'evaluate.study': 'Study Trial plan_trials trial_videos Answer answers_file replay Session read_answers oracle_answers', 'evaluate.study_page': 'read_key page_text read_page_answers',
    'faults': 'in_a_row left_out case_file write_case hearing', 'lora': 'with_peft lora_layers lora_targets lora_file', 'methods.ddpo': 'DDPOLoss ddpo_loss',
    'methods.dpo': 'squared_error dpo_margin dpo_objective best_and_worst Pairs DPOLoss dpo_loss',
    'methods.long_video': 'first_images constant same_as_first drift_curves picture_colour picture_likeness consistency',
    'methods.lora_formats': 'original_names Layout spellings Part find_lora lora_parts write_lora Effect', 'methods.nft': 'optimality old_decay TwoSided nft_objective NFTLoss nft_loss',
    'methods.recipes': 'Recipe recipe_list preset model_settings method_of lora_of training_of sampler_of check_pictures train_and_test downloads_of arguments load align_long',     # through the options of vader_align
    'methods.saved_runs': 'Records NotLoaded gallery_text', 'methods.sharing': 'plain_line in_code fenced publishable base_of card_head usage run_card write_curve',
    'methods.vader': 'vader_loss drift try_prompts check_alignment Run align',          # align: at the front door
    'models.load': 'load_pipeline check_dtype check_shape', 'pipeline': 'Condition VideoPipeline check_pipeline check_latents check_frames Networks seeded best_device on_cpu GreyPipeline',
    'prompts': 'with_article activity_prompts instrument_prompts clothing_prompts object_prompts tells_action prompt_downloads texts_of prompt_key remark_on_cut load_prompts',
    'rewards.core': 'world_of per_frame Scorer reads_pictures Reward map_reward add_rewards check_scorable scorer_name check_worlds maximise reward_loss green_reward motion_energy motion_reward colourfulness_reward',
    'rewards.guards': 'grey_levels edge_strength edge_reward quantisation_tables dct_matrix jpeg_coefficients jpeg_kilobytes depth_steadiness depth_size depth_maps load_depth depth_reward',
    'rewards.load': 'load_reward reward_downloads', 'sampling': 'from_random_start sampler_settings Plan plan_sampling GradStep sample_latents seeded start_noise Rollout plain_rollout',
    'savings.fitting': 'StepShape step_shape float_latents Fit dry_step smaller_plan shrinking limit_of find_fit place fitted',
    'savings.planner': 'full_size full_size_reward possible_tricks ladder seconds Card Plan fits make_plan advice',
    'savings.rollout': 'encode_once guidance_at carry_over one_sided sample_thriftily renoise Kept ThriftyRollout',
    'trainer': 'part_metrics FitState Callback', 'training': 'NotFinite hashed names_in plain model_facts', 'video': 'atomic_path shown_scale'}
OTHER_MODULES = {
    'commands, through their words': 'commands.align commands.bench commands.eval commands.own_model commands.paper commands.plan commands.race commands.sample commands.train_tiny',
    'what modules share': 'console counting explore hub names private schedulers shared world', 'mathematics on tensors': 'diffusion methods.forward methods.gradients methods.policy methods.scores savings.timing',
    'networks and scorers, loaded by name': 'models.modelscope models.opensora models.opensora_vae models.rflow models.stdit3 models.svd models.unet3d models.vc2_scheduler models.videocrafter2 models.wan rewards.action rewards.aesthetic rewards.clip '
        'rewards.contract rewards.objects rewards.open_clip rewards.preference rewards.sizes rewards.viclip rewards.vjepa rewards.vjepa1',
    'networks and measures, by name': 'evaluate.all_rewards evaluate.amt evaluate.degradations evaluate.dino evaluate.evalcrafter evaluate.musiq evaluate.raft evaluate.stand_ins evaluate.standings evaluate.study_results evaluate.study_widget evaluate.vbench',
    'behind options of commands': 'methods.experiments methods.full_size methods.rehearsal savings.footprint savings.memory savings.meter savings.sharding',
    'the items of vader_paper': 'paper.efficiency paper.items paper.judged paper.long_table paper.memory_table paper.published paper.report paper.resolutions paper.runs paper.scaling paper.sheets',
    'how the toys were taught': 'tiny.action tiny.aesthetic tiny.clip tiny.i2v tiny.objects tiny.outlines tiny.preference tiny.t2v tiny.teach tiny.temporal_vae tiny.vae tiny.viclip tiny.vjepa'}
MODULES = sorted({*INSIDE, 'callbacks', 'live', 'pictures'})

# Commands: the words of a call that works, beside which one option is wrong; what is wrong for a text; options that exclude each other; and numbers that may not be 0, though they may elsewhere
TEXT = others('no such thing', 'ünïcödé', '🎬'*20, LONG, '<script>', '%s{0}', 'tinny', 'a b c')
FILE = others('no/such/file', LONG, 'empty', 'junk', 'junk.safetensors', 'prompts.txt')
FOLDER = others('prompts.txt', 'prompts.txt/inside', '', ' ')
DEVICES, DTYPES = others('cdua', 'cpu:x', 'gpu', 'xpuu', LONG), others('float23', 'int8', '16', LONG)
SIZES = others('x', '32x', 'axb', '-8', '0', '3.5', '1x2x3', LONG)
COMMANDS = dict(
    vader_align=dict(
        words='--out out --reward green --train-steps 1 --batch-size 2 --num-inference-steps 2 --anchor 0 --savings none --eval-train 0 --eval-test 1 --diversity-prompts 0 --pictures 0 --n-train 8 --witnesses edges',
        texts=dict(recipe=TEXT, model=TEXT | others('empty', 'pictures'), model_options=others('x', 'a=', 'nothing=3', '=', LONG), size=SIZES, lora_targets=others('to_x', 'to_q nothing', LONG), dtype=DTYPES, device=DEVICES,
                   reward=TEXT | others('green +', 'green(', 'no.py:f'), prompts=TEXT | others('no.txt', 'empty.txt', 'junk'), test_prompts=TEXT | others('no.txt', 'empty.txt', 'tiny'), images=TEXT | others('pictures', 'empty'),
                   test_images=TEXT, method=TEXT, method_options=others('x', 'clip=', 'nothing=3', LONG), grad_steps=TEXT | others('0', '99', '-1', '1.5', 'random:0', 'random:x', '5-1-2', '0,99'), mixed_precision=TEXT, savings=TEXT,
                   lora=FILE, revision=others('x', 'a@', '@', 'a/b', 'owner/other@main', LONG), guidance_interval=others('x', '1', '0.8-0.2', '-1-2', '0-9', LONG), vram=others('x', '0', '-8GB', '8XB', 'nan', LONG), tricks=TEXT,
                   out=FOLDER, checkpoint=others('empty', 'junk.pt', 'prompts.txt/x'), witnesses=TEXT | others('green', 'edges +'), guard=TEXT),
        together=['--method ddpo --anchor 3', '--method dpo --target 1', '--method nft --grad-steps 2', '--method vader --method-options clip=1', '--images pictures', '--model tiny-i2v', '--model tiny --size 64', '--model tiny --num-frames 4',
                  '--chunks 2', '--batch-size 3 --gradient-accumulation-steps 2', '--test-prompts tiny --prompts tiny', '--witnesses green', '--nothing 1', 'word'],
        beside=dict(target_weight='--target 1', lora_rank='', images='--model tiny-i2v --reward green', test_images='--model tiny-i2v --images pictures')),
    vader_sample=dict(
        words='--prompts tiny --n 1 --out out --num-inference-steps 2',
        texts=dict(prompt=others(''), prompts=TEXT | others('no.txt', 'empty.txt', 'junk'), image=others('no.png', 'junk.png', 'empty', LONG), split=TEXT, out=FOLDER, recipe=TEXT, model=TEXT | others('empty', 'pictures'),
                   model_options=others('x', 'a=', 'nothing=3', LONG), size=SIZES, lora=FILE, dtype=DTYPES, device=DEVICES),
        together=['--prompt a', '--image pictures/one.png', '--chunks 2', '--model tiny-i2v', '--lora-scale 2', '--nothing 1', 'word']),
    vader_eval=dict(
        words='--lora tiny-lora --n 2 --measures edges --out out --num-inference-steps 2',
        texts=dict(before=FILE | others('before'), after=FILE | others('after'), lora=FILE, recipe=TEXT, model=TEXT | others('empty', 'tiny-i2v'), model_options=others('x', 'a=', 'nothing=3', LONG), size=SIZES,
                   prompts=TEXT | others('no.txt', 'empty.txt', 'junk'), split=TEXT, dtype=DTYPES, vbench_results=others('no'),
                   measures=TEXT, out=FOLDER, device=DEVICES),
        together=['--before before --after after', '--before before --after after --lora ', '--vbench-results a b', '--vbench-results array.json array.json', '--nothing 1', 'word']),
    vader_plan=dict(
        words='--model svd', not_zero='reward_frames', texts=dict(model=TEXT, vram=others('x', '0', '-8GB', '8XB', 'nan', LONG), size=SIZES, dtype=DTYPES), together=['--reward-frames 99', '--nothing 1', 'word']),
    vader_bench=dict(
        not_zero='eval_test diversity_prompts', words='--out out --train-steps 1', texts=dict(out=FOLDER, reward=TEXT, racers=TEXT, recipe=TEXT, size=SIZES, vram=others('x', '0', '-8GB', '8XB', 'nan', LONG), tricks=TEXT, dtype=DTYPES),
        together=['--nothing 1', 'word', '--random-weights', '--miniature', '--through-align', '--size 64', '--vram 8GB', '--tricks none', '--dtype float16', '--num-frames 4', '--diversity-prompts 25',
                  '--recipe svd-aesthetic --random-weights --miniature --size 64', '--recipe svd-aesthetic --random-weights --seeds 2'],
        beside=dict.fromkeys(('recipe', 'size', 'num_frames', 'vram', 'tricks', 'dtype'), '--recipe svd-aesthetic --random-weights')),
    vader_race=dict(
        words='--out out', texts=dict(out=FOLDER, rewards=TEXT | others(';', ' '), opponents=TEXT, lrs=others('x', '', '-1', '1e-3 x', '0', 'nan', 'inf')),
        together=['--queries 100 --every 128', '--every 20 --queries 20', '--train 9999', '--test 9999', '--test 2', '--opponents base', '--rewards green;green', '--report', '--nothing 1', 'word']),
    vader_paper=dict(
        words='--smoke --out out table1', texts=dict(items=TEXT, out=FOLDER, runs=others('prompts.txt', 'prompts.txt/inside'), models=TEXT | others('published'), card=TEXT | others('a6000')), together=['--all', '--full', '--models published', '--card a6000', '--utilisation 0.2', '--nothing 1', 'figure99']),
    vader_train_tiny=dict(
        words='--out out', texts=dict(part=TEXT, out=FOLDER, vae=FILE, init=FILE), together=['--part vae --init run', '--part vae --n-eval 3', '--part vae --eval-every 3', '--part outlines', '--n-eval 999', '--nothing 1', 'word']),
)
STARTS = dict(       # where the work of a command begins
    vader_align=['vader_nb.trainer._updates'], vader_sample=['vader_nb.sampling.sample_videos', 'vader_nb.methods.long_video.sample_long'],
    vader_eval=['vader_nb.commands.eval._measured', 'vader_nb.commands.eval._both_sides'], vader_plan=['vader_nb.commands.plan.dry_model'], vader_bench=['vader_nb.commands.bench._time_and_race', 'vader_nb.commands.bench.rehearse_by_name'],
    vader_race=['vader_nb.commands.race.train_leg'], vader_paper=['vader_nb.commands.paper._run'], vader_train_tiny=['vader_nb.commands.train_tiny.PARTS'])
