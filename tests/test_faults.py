"Faults that users met, one test a kind, each with the smallest input that shows it"
import ast, json, os, sys, textwrap, warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
import diffusers, pytest, torch
from accelerate import Accelerator
from torch import nn
from toy import FLOWS, SCHEDULERS, Toy
from vader_nb.batches import batch_at
from vader_nb.callbacks import Samples, read_log
from vader_nb.evaluate.measures import evaluate
from vader_nb.lora import LORA_FILE, Lora, add_lora, folded, load_lora, lora_layers, lora_parameters, lora_scale, remove_lora, save_lora, without_lora
from vader_nb.methods.vader import Vader, align, check_alignment, vader_loss, try_prompts
from vader_nb.models.modelscope import tiny_random_modelscope
from vader_nb.models.rflow import RFlowScheduler
from vader_nb.pictures import ImagePrompt, load_image_prompts
from vader_nb.rewards.core import Reward, distance_to, green_reward
from vader_nb.rewards.load import load_reward
from vader_nb.sampling import last_k, sample_latents, sample_videos, start_noise
from vader_nb.savings.rollout import NONE, Savings, averaged, encode_once, rehearse, rollout
from vader_nb.schedulers import level, step_of
from vader_nb.trainer import fit
from vader_nb.training import Training
from vader_nb.video import atomic_path, read_video, write_video
from vader_nb.world import split_captions

ROOT = Path(__file__).parents[1]
PROMPTS = split_captions()[0][:8]
GREEN = green_reward()

def shake(pipe, std=.05):
    "A LoRA that does something"
    g = torch.Generator().manual_seed(1)
    for p in lora_parameters(pipe): nn.init.normal_(p, std=std, generator=g)

def loss_of(pipe, savings=NONE, anchor=3., K=1, reward=GREEN, **settings):
    method = Vader(K, None, anchor=anchor)
    return averaged(vader_loss(pipe, reward, method, rollout(pipe, savings), **settings), savings.draws)

def quick(pipe, reward='green', prompts=PROMPTS, train_steps=1, callbacks=(), checkpoint=None, **kw):
    "A run of `align` on a toy"
    options = {k: kw.pop(k) for k in list(kw) if k in Training.__dataclass_fields__}
    training = Training(**dict(lr=1e-2, batch_size=2, checkpoint=checkpoint) | options)
    return align(pipe, reward, prompts, train_steps, training=training, callbacks=callbacks, **kw)

def gradient(pipe, loss_fn, batch):
    for p in lora_parameters(pipe): p.grad = None
    loss, metrics = loss_fn(batch)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in lora_parameters(pipe)]), metrics

# 1
class Broken(Exception): "Whatever may go wrong"

def options_of(out, *more):
    return ['--out', out, '--reward', 'green', '--train-steps', '1', '--batch-size', '1', '--num-inference-steps', '2', '--anchor', '0',
            '--savings', 'none', '--eval-train', '0', '--eval-test', '1', '--diversity-prompts', '0', '--pictures', '1', *more]

def test_irreversible_step_before_one_that_can_fail(tmp_path, monkeypatch, capsys):
    from vader_nb.commands import align as command
    words = [str(w) for w in options_of(tmp_path/'o')]
    def interrupted(*a, **kw): raise KeyboardInterrupt
    with monkeypatch.context() as m, pytest.warns(UserWarning, match='not all pictures: OSError: no encoder'):
        m.setattr('vader_nb.video._encode', lambda *a, **kw: (_ for _ in ()).throw(OSError('no encoder')))
        m.setattr('vader_nb.evaluate.measures.evaluate', interrupted)
        with pytest.raises(SystemExit) as left: command.vader_align(words)
    assert left.value.code == 130
    here = {p.name for p in (tmp_path/'o').iterdir()}
    assert {LORA_FILE, 'log.jsonl', 'options.json', 'checkpoint.pt'} <= here and 'results.md' not in here
    done, updates = (tmp_path/'o'/LORA_FILE).read_bytes(), []
    monkeypatch.setattr('vader_nb.trainer._update', lambda *a: updates.append(1))       # nothing is done again
    command.vader_align(words)
    here = {p.name for p in (tmp_path/'o').iterdir()}
    assert not updates and (tmp_path/'o'/LORA_FILE).read_bytes() == done
    assert {'results.md', 'before_after.mp4'} <= here and 'checkpoint.pt' not in here

def test_irreversible_step_before_one_that_can_fail_samples_on_the_way(tmp_path, monkeypatch):
    "A full disk, or an encoder that fails, ends no training; what is asked for at the start is still refused there"
    samples = Samples(lambda: torch.zeros(1, 4, 3, 8, 8), 2, tmp_path)
    def full(*a, **kw): raise OSError(28, 'No space left on device')
    def broken(*a, **kw): raise RuntimeError('no encoder')
    with monkeypatch.context() as m, pytest.raises(OSError, match='No space'):
        m.setattr('vader_nb.callbacks.write_image', full)
        quick(Toy(), callbacks=[samples])
    samples.before_fit = lambda state: None
    for name, fails in (('write_image', full), ('write_video', broken)):
        with monkeypatch.context() as m, pytest.warns(UserWarning, match='lacks samples of update 2, the training goes on'):
            m.setattr(f'vader_nb.callbacks.{name}', fails)
            assert len(quick(Toy(), callbacks=[samples], train_steps=3).log) == 3

def test_temporary_files_of_dead_processes_are_swept(tmp_path):
    child = os.fork()
    if child == 0: os._exit(0)
    os.waitpid(child, 0)
    with atomic_path(tmp_path/'checkpoint.pt') as mine: mine.write_bytes(b'new')
    dead = mine.with_name(mine.name.replace(f'-{os.getpid()}-', f'-{child}-'))
    living = mine.with_name(mine.name.replace(f'-{os.getpid()}-', f'-{os.getppid()}-'))
    for p in (dead, living): p.write_bytes(b'half')
    with atomic_path(tmp_path/'checkpoint.pt') as mine: mine.write_bytes(b'newer')
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([living.name, 'checkpoint.pt'])

# 2
def test_toy_constant_at_real_size(tmp_path, monkeypatch):
    run, told = quick(Toy()), {}
    monkeypatch.setattr(type(run), 'before_after', lambda self, prompts, seed: [torch.zeros(4, 1, 3, 576, 1024)]*2)
    monkeypatch.setattr('vader_nb.methods.sharing.write_video', lambda path, frames, **kw: told.update(video=kw.get('scale', 1), shape=frames.shape))
    monkeypatch.setattr('vader_nb.methods.sharing.write_image', lambda path, image: told.update(sheet=image.size))
    run.save(tmp_path)
    assert told['video'] == 1 and told['shape'][-1] == 1024
    assert told['sheet'][0] < 1024 and told['sheet'][1] < 8*576

# 3
@contextmanager
def largest(pipe):
    "The largest batch of the denoiser, and the most frames decoded at once, inside the block"
    found, decode = dict(videos=0, frames=0), pipe.decode
    def watched(latents, frames=None):
        found['frames'] = max(found['frames'], len(latents)*(pipe.num_frames if frames is None else len(frames)))
        return decode(latents, frames)
    hook = pipe.denoiser.register_forward_pre_hook(lambda m, args: found.update(videos=max(found['videos'], len(args[0]))))
    pipe.decode = watched
    yield found
    del pipe.decode
    hook.remove()

def test_memory_options_end_with_the_training(tmp_path):
    pipe = Toy()
    with largest(pipe) as training: run = quick(pipe, batch_size=4, gradient_accumulation_steps=4, method=Vader(1, 1))
    with largest(pipe) as saving: run.save(tmp_path)
    with largest(pipe) as evaluation:
        evaluate(pipe, GREEN, PROMPTS, batch_size=run.batch_size, frames_at_once=run.frames_at_once, diversity_prompts=0)
    assert training == saving == evaluation == dict(videos=1, frames=1)
    pieces, whole = (sample_videos(pipe, PROMPTS[:3], batch_size=b, frames_at_once=n) for b, n in ((1, 1), (16, None)))
    assert (pieces - whole).abs().max() < 1e-6

def test_memory_options_end_with_the_training_the_witnesses(monkeypatch):
    "What watches lies on the GPU too: the plan is for what is left"
    from vader_nb.commands.align import AlignOptions, _room
    witness = Reward(lambda frames, prompts: frames.mean((1, 2, 3, 4)), networks=[nn.Linear(1024, 1024)])
    assert _room(AlignOptions(vram='1GB'), None) - _room(AlignOptions(vram='1GB'), witness) == 4*(1024 + 1)*1024
    assert _room(AlignOptions(), witness) is None

def test_state_that_is_assumed_where_the_embedder_is():
    "A video of a GPU goes to where CLIP is"
    from vader_nb.evaluate.measures import clip_embedder
    from vader_nb.rewards.clip import load_clip
    assert clip_embedder(load_clip('tiny').to('meta'))(torch.zeros(2, 2, 3, 32, 32)).shape[0] == 2

def test_memory_options_end_with_the_training_a_live_view():
    from vader_nb.live import live_view
    pipe = Toy()
    for name, settings, most in (('tiny toy', {}, 3), ('svd', {}, 1), ('svd', dict(batch_size=2), 2)):
        pipe.name = name
        with largest(pipe) as found: live_view(pipe, PROMPTS[:3], **settings).look()
        assert found['videos'] == most

def test_memory_options_end_with_the_training_a_guard():
    "It scores as many videos at a time as it samples; of a full-size model one, if nothing is said"
    from vader_nb.evaluate.guard import Guard
    at_once, looks = [], []
    def watched(frames, prompts):
        at_once.append(len(frames))
        return frames.mean((1, 2, 3, 4))
    for world, settings in (('tiny', {}), ('tiny', dict(batch_size=2)), ('published', {})):
        (pipe := Toy()).world = world
        looks.append(Guard(pipe, Reward(watched, 'watched'), PROMPTS[:3], 'green', settings=settings).look())
    assert at_once == [6, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    for other in looks[1:]:
        for one, two in zip(looks[0], other): torch.testing.assert_close(one, two)

def long_run(chunks=2, **kw):
    "A run of a chain of chunks on a toy"
    from vader_nb.methods.recipes import align_long
    from vader_nb.models.svd import tiny_random_svd
    kw = dict(reward='green', seed=0, n=1, checkpoint=None, lora=Lora(2)) | kw
    g = torch.Generator().manual_seed(0)
    pictures = [ImagePrompt(f'picture {i}', torch.rand(3, 32, 32, generator=g)) for i in range(2)]
    training = Training(batch_size=2, gradient_accumulation_steps=2, checkpoint=kw['checkpoint'])
    groups = dict(method=Vader(1, None, anchor=0.), lora=kw['lora'], savings=NONE, training=training)
    return align_long(tiny_random_svd(kw['seed']), kw['reward'], pictures, kw['n'], chunks, groups, any_world=True, num_inference_steps=1)

def test_memory_options_end_with_the_training_other_ways_to_a_run(tmp_path):
    "A chain of chunks, and a run that is read again, sample a micro-batch at a time too"
    from vader_nb.methods.saved_runs import load_run
    long = long_run()
    assert (long.batch_size, long.options['reward'], long.options['kind']) == (1, 'green', 'Vader')
    quick(Toy(), batch_size=4, gradient_accumulation_steps=2, method=Vader(1, 1)).save(tmp_path, [])
    again = load_run(tmp_path, Toy())
    assert (again.batch_size, again.frames_at_once) == (2, 1)

# 4
def settled(name, prediction): return SCHEDULERS[name](prediction)

@pytest.mark.parametrize('name', SCHEDULERS)
def test_hidden_state_of_a_scheduler(name):
    for prediction in ('epsilon', 'v_prediction')[:1 if name in FLOWS else 2]:
        pipe = Toy(settled(name, prediction))
        add_lora(pipe, 2)
        fresh = lambda: batch_at(PROMPTS, 0, 2)
        free, _ = gradient(pipe, loss_of(pipe, anchor=0.), fresh())
        held, metrics = gradient(pipe, loss_of(pipe), fresh())
        assert metrics['drift'].abs().max() == 0, prediction
        assert torch.equal(free, held), prediction
        sample_videos(pipe, PROMPTS[:1], num_inference_steps=7)                             # something else before
        pipe.scheduler.set_timesteps(5)
        t = pipe.scheduler.timesteps[0]
        pipe.scheduler.step(torch.ones(1, 1), t, torch.ones(1, 1))   # and left in the middle
        again, _ = gradient(pipe, loss_of(pipe), fresh())
        assert torch.equal(again, held), prediction

@pytest.mark.parametrize('name', ['EulerDiscrete', 'HeunDiscrete'])
def test_hidden_state_of_a_scheduler_in_a_real_network(name):
    pipe = tiny_random_modelscope(num_frames=2, scheduler=getattr(diffusers, f'{name}Scheduler'))
    add_lora(pipe, 2)
    assert loss_of(pipe, num_inference_steps=2)(batch_at(PROMPTS, 0, 1))[1]['drift'].abs().max() == 0

# 5
WAYS = dict(updates=Savings(updates_per_rollout=2), draws=Savings(draws=2), same=Savings(updates_per_rollout=2, fresh_noise=False),
            reuse=Savings(reuse=2), part=Savings(guidance_interval=(.3, .7)), all=Savings(2, 2, True, (0., .9), 2, (folded,), True))
REFUSED = {(n, w) for n in ('pndm', 'ipndm') for w in ('updates', 'draws', 'all')}
REFUSED |= {(n, w, 'v_prediction') for n in ('edm', 'edm_dpm') for w in ('reuse', 'all')}

@pytest.mark.parametrize('name', SCHEDULERS)
def test_one_api_assumed_of_all_schedulers(name):
    for prediction in ('epsilon', 'v_prediction')[:1 if name in FLOWS else 2]:
        for way, savings in WAYS.items():
            pipe = Toy(settled(name, prediction))
            if {(name, way), (name, way, prediction)} & REFUSED:
                with pytest.raises(ValueError, match=type(pipe.scheduler).__name__): quick(pipe, savings=savings)
                assert not lora_layers(pipe)
                continue
            check_alignment(pipe, GREEN, PROMPTS, Vader(1, None), savings)
            add_lora(pipe, 2)
            for K in (1, 2):
                loss_fn, found = loss_of(pipe, savings, K=K), []
                for _ in range(2):
                    batch = batch_at(PROMPTS, 0, 2)
                    found.append([gradient(pipe, loss_fn, batch) for _ in range(savings.updates_per_rollout)])
                for (a, drift), (b, _) in zip(*found):
                    assert torch.equal(a, b) and a.isfinite().all() and a.abs().max() > 0 and drift['drift'].abs().max() == 0, (way, K)

@pytest.mark.parametrize('name', [n for n in SCHEDULERS if n not in ('ddpm', 'euler_ancestral', 'kdpm2_ancestral', 'dpm_sde', 'sa', 'lcm', 'tcd')])
def test_one_api_assumed_the_same_latents_are_the_same(name):
    "A solver goes on with its memory: without new noise, a second update of the same weights is the first one"
    pipe = Toy(settled(name, 'epsilon'), num_inference_steps=4)
    add_lora(pipe, 2)
    shake(pipe)
    for K in (1, 2, 3):
        batch, loss_fn = batch_at(PROMPTS, 0, 2), loss_of(pipe, WAYS['same'], K=K)
        (a, _), (b, _) = (gradient(pipe, loss_fn, batch) for _ in range(2))
        assert torch.equal(a, b), K

PERFECT = [n for n in SCHEDULERS if n not in ('edm', 'edm_dpm', 'ipndm')]        # EDM's networks predict something else

class Perfect(Toy):
    "Its network knows the one clean video: whatever the sampler does, it must end there"
    CLEAN = .5
    def denoise(self, latents, t, cond, guidance_scale):
        signal, noise, scale = level(self.scheduler, step_of(self.scheduler, t))
        eps = (latents*scale - signal*self.CLEAN)/noise
        kind = self.scheduler.config.get('prediction_type', 'epsilon')
        if isinstance(self.scheduler, RFlowScheduler): return self.CLEAN - eps
        if 'FlowMatch' in type(self.scheduler).__name__ or kind == 'flow_prediction': return eps - self.CLEAN
        return signal*eps - noise*self.CLEAN if kind == 'v_prediction' else eps

@pytest.mark.parametrize('name', PERFECT)
def test_one_api_assumed_of_all_schedulers_where_it_must_end(name):
    for prediction in ('epsilon', 'v_prediction')[:1 if name in FLOWS else 2]:
        for way in ('updates', 'same', 'reuse'):
            if (name, way) in REFUSED: continue
            pipe, savings = Perfect(settled(name, prediction), num_inference_steps=6), WAYS[way]
            walk, batch = rollout(pipe, savings), batch_at(PROMPTS, 0, 2)
            for n in range(savings.updates_per_rollout):
                out = walk(pipe, batch, 1)
                assert (out.latents - Perfect.CLEAN).abs().max() < .3, (prediction, way, n)
                if (way, n) != ('updates', 1): continue                         # that one started from fresh noise
                signal, noise, scale = level(pipe.scheduler, out.steps[0].index)
                assert .6 < ((out.steps[0].latents*scale - signal*Perfect.CLEAN)/noise).std() < 1.5, (prediction, way, n)

@pytest.mark.parametrize('name', ['ddim', 'ddim_parallel', 'euler', 'euler_leading', 'heun', 'dpm', 'deis', 'unipc'])
def test_one_api_assumed_of_all_schedulers_a_prediction_used_twice(name):
    "Where the network is right everywhere, its prediction at one step, brought to the next, is the one at the next"
    for prediction in ('epsilon', 'v_prediction'):
        pipe = Perfect(settled(name, prediction), num_inference_steps=6)
        plain, twice = (rollout(pipe, s)(pipe, batch_at(PROMPTS, 0, 2), 1).steps[0].latents for s in (NONE, Savings(reuse=2)))
        assert (plain - twice).abs().max() < 1e-3*plain.abs().max(), prediction

def test_zero_that_means_none():
    "eta=0 is no noise, also for a scheduler whose own default is another"
    pipe = Toy(settled('tcd', 'epsilon'))
    noise = start_noise(pipe, 1, torch.Generator().manual_seed(0))
    cond = pipe.encode_prompt(PROMPTS[:1])
    videos = [sample_latents(pipe, cond, noise, generator=torch.Generator().manual_seed(s), eta=e) for s, e in ((1, 0.), (2, 0.), (2, .5))]
    assert torch.equal(videos[0], videos[1]) and not torch.equal(videos[1], videos[2])

# 6
def judge(power):
    def score(frames, prompts): return frames[:, :, 1].pow(power).mean((1, 2, 3))
    return score

def by_mean(frames, prompts): return frames.mean((1, 2, 3, 4))
def by_max(frames, prompts): return frames.amax((1, 2, 3, 4))

def headed(weight):
    net = nn.Linear(3, 1)
    nn.init.constant_(net.weight, weight), nn.init.zeros_(net.bias)
    return Reward(lambda frames, prompts: net(frames.mean((1, 3, 4)))[:, 0], 'head', [net])

BASE = dict(reward=Reward(by_mean, 'mine'), method=Vader(1, None), lora=Lora(2))
OTHERS = dict(
    target=dict(method=Vader(1, None, distance_to(10., .1))), form=dict(method=Vader(1, None, distance_to(5., .1))),
    selection=dict(method=Vader(last_k(2), None)), frames=dict(method=Vader(1, 2)), code=dict(reward=Reward(by_max, 'mine')),
    closure=dict(reward=Reward(judge(2), 'mine')), anchor=dict(method=Vader(1, None, anchor=2.)), rank=dict(lora=Lora(3)),
    alpha=dict(lora=Lora(2, 1.)), layers=dict(lora=Lora(2, None, ('to_q',))), savings=dict(savings=Savings(reuse=2)), eta=dict(eta=.5),
    steps=dict(num_inference_steps=5), seed=dict(seed=1), weights=dict(pipe=dict(seed=1)), dtype=dict(pipe=dict(dtype=torch.bfloat16)),
    scheduler=dict(pipe=dict(scheduler=SCHEDULERS['ddim']('v_prediction'))), defaults=dict(pipe=dict(guidance_scale=3.)),
    length=dict(pipe=dict(num_frames=5)), prompts=dict(prompts=PROMPTS[1:]))
EQUALS = dict(
    anchor=dict(method=Vader(1, None, anchor=3)), alpha=dict(lora=Lora(2, 2.)), layers=dict(lora=Lora(2, None, ('to_v', 'to_q'))),
    frames=dict(method=Vader(1, 4)), told=dict(guidance_scale=2., eta=0., num_inference_steps=4), pieces=dict(gradient_accumulation_steps=2),
    often=dict(save_every=1), defaults=dict(pipe=dict(guidance_scale=7.), guidance_scale=2))

def written(how):
    "A function of one name, with the code that is given"
    names = {}
    exec(f'def mine(frames, prompts): return frames.{how}((1, 2, 3, 4))', names)
    return dict(reward=Reward(names['mine']))

DIFFERENT = ((written('mean'), written('amax')), (dict(reward=Reward(judge(1), 'mine')), dict(reward=Reward(judge(2), 'mine'))),
             (dict(reward=headed(1.)), dict(reward=headed(2.))), (dict(method=Vader(last_k(1), None)), dict(method=Vader(last_k(2), None))),
             (dict(method=Vader(1, None, distance_to(5., .1))), dict(method=Vader(1, None, distance_to(6., .1)))))

def resumed(file, kw):
    kw = BASE | kw
    return quick(Toy(**kw.pop('pipe', {})), checkpoint=file, **kw)

def test_incomplete_fingerprint(tmp_path):
    file = tmp_path/'c.pt'
    resumed(file, {})
    bytes_ = file.read_bytes()
    for what, kw in OTHERS.items():
        with pytest.raises(ValueError, match='of a run with other settings'):
            resumed(file, kw)
            pytest.fail(f'went on with another {what}')
        assert file.read_bytes() == bytes_
    for what, kw in EQUALS.items(): resumed(file, kw)
    for one, other in DIFFERENT:
        file.unlink()
        resumed(file, one)
        with pytest.raises(ValueError, match='other settings'): resumed(file, other)
    file.unlink()
    for target in (10, 10.): resumed(file, dict(method=Vader(1, None, distance_to(target, .1))))

def test_incomplete_fingerprint_another_file(tmp_path):
    "What a contest keeps of a reward of one's own is of the code, and of a model in a folder is of the weights in it"
    from vader_nb.evaluate import contest
    file = tmp_path/'mine.py'
    def legs(text):
        file.write_text(f'def r(frames, prompts): return {text}.mean((1, 2, 3, 4))')
        return contest.leg_file(tmp_path, contest.Contest(f'{file}:r'), contest.Leg('VADER'))
    assert legs('frames') == legs('frames') != legs('-frames')
    (tmp_path/'model').mkdir()
    stamps = []
    for time in (1, 2):
        (tmp_path/'model'/'weights').touch()
        os.utime(tmp_path/'model'/'weights', ns=(time, time))
        stamps.append(contest._stamp(tmp_path/'model'))
    assert stamps[0] != stamps[1] and not contest._stamp('tiny')

def test_incomplete_fingerprint_of_a_measured_value(tmp_path):
    "A value in the record is of the network, or of the code, that it was measured with"
    from vader_nb.evaluate.compare import compare
    from vader_nb.evaluate.folders import find_clips, write_frames
    for side, grey in (('before', .2), ('after', .6)):
        for name in 'ab': write_frames(tmp_path/side/name, torch.full((2, 3, 32, 32), grey))
    sides, file = [find_clips(tmp_path/side, ['one', 'two']) for side in ('before', 'after')], tmp_path/'mine.py'
    def measured(text):
        file.write_text(f'def r(frames, prompts): return {text}.mean((1, 2, 3, 4))')
        return compare(*sides, [f'{file}:r'], tmp_path/'out').after[f'{file}:r'][0]
    assert [round(measured(text), 2) for text in ('frames', '10*frames', '10*frames')] == [.6, 6, 6]

def test_incomplete_fingerprint_networks_of_a_folder(tmp_path):
    from vader_nb.evaluate.by_name import MEASURES, NETWORKS
    from vader_nb.evaluate.compare import _kept_as
    name, keys = 'vbench_imaging_quality', []
    for size in (1, 2):
        (tmp_path/NETWORKS[MEASURES[name].networks[0]].file).write_bytes(bytes(size))
        keys.append(_kept_as(name, tmp_path))
    assert len({name, *keys}) == 3 and _kept_as(name, None) == _kept_as(name, tmp_path/'empty') == name

def test_incomplete_fingerprint_of_a_long_video(tmp_path):
    file = tmp_path/'c.pt'
    long_run(checkpoint=file)
    for other in (dict(reward='edges'), dict(seed=1), dict(chunks=3)):
        with pytest.raises(ValueError, match='of a run with other settings'): long_run(checkpoint=file, n=2, **other)
    assert len(long_run(checkpoint=file, n=2).log) == 2

# 7
def test_key_that_does_not_determine_its_value():
    from vader_nb.pipeline import Condition
    class Sees:
        def encode_prompt(self, prompts):
            x = torch.stack([p.image.mean().view(1, 1) for p in prompts])
            return Condition(x, 0*x)
    dark, light = (ImagePrompt('a dog', torch.full((3, 8, 8), v)) for v in (.1, .9))
    encode = encode_once(Sees())
    assert encode([dark]).prompt_embeds.item() == pytest.approx(.1) and encode([light]).prompt_embeds.item() == pytest.approx(.9)

def test_key_that_does_not_determine_its_value_two_sizes_of_svd(tmp_path):
    "A run of SVD-XT says so, whatever else the process has read from the hub, and is loaded on SVD-XT again"
    from hub.repositories import write_svd_xt
    from vader_nb.methods.saved_runs import _model_of
    from vader_nb.methods.sharing import base_of
    from vader_nb.models.svd import load_svd
    write_svd_xt(tmp_path)
    pipe = load_svd(tmp_path, size=(32, 32))
    run = type('', (), dict(pipe=pipe, options=dict(model=pipe.name, hub=dict.fromkeys(('stabilityai/stable-video-diffusion-img2vid', 'x/y')))))
    assert base_of(run) == 'stabilityai/stable-video-diffusion-img2vid-xt' and _model_of(tmp_path, run.options) == 'svd-xt'

# 8
class Counts:
    "Updates that were done"
    def __init__(self): self.n = 0
    def after_step(self, state): self.n += 1

@pytest.mark.parametrize('checks, encoded', [(True, 1), (False, 3)])
def test_prompts_before_work(checks, encoded):
    "A pipeline that can check a prompt encodes one of them, another one all; a bad last one is refused by both"
    pipe, seen = Toy(), []
    def check(prompt):
        if prompt == 'bad': raise ValueError('a bad prompt')
    def encode(prompts):
        seen.extend(prompts)
        for p in prompts: check(p)
    pipe.encode_prompt = encode
    if checks: pipe.check_prompt = check
    try_prompts(pipe, ['a', 'b', 'c'])
    assert len(seen) == encoded
    with pytest.raises(ValueError, match='a bad prompt'): try_prompts(pipe, ['a', 'b', 'bad'])
    with pytest.raises(ValueError, match='prompts\\[1\\] is empty'): try_prompts(pipe, ['a', ' '])

def test_refused_late():
    action, counts, pipe = load_reward('tiny-action'), Counts(), Toy(num_frames=8)
    fits = ['a red circle moving left', 'a red circle moving up']
    with pytest.raises(ValueError, match='class'):
        quick(pipe, action, [*fits, 'a red circle'], 3, [counts], method=Vader(1, None), batch_size=1)
    assert counts.n == 0 and not lora_layers(pipe)
    with pytest.raises(ValueError, match='class'): check_alignment(pipe, 2*action + GREEN, [*fits, 'a red circle'], Vader(1, None))
    def no_third(frames, prompts):
        if 'third' in prompts: raise ValueError('no third')
        return frames.mean((1, 2, 3, 4))
    with pytest.raises(ValueError, match='no third'): quick(pipe, no_third, ['first', 'second', 'third'], 3, [counts])
    assert counts.n == 0

def test_refused_late_held_out_prompts(tmp_path, capsys):
    from vader_nb.commands.align import vader_align
    for name, text in (('train', PROMPTS[0]), ('test', 'no caption of this world')): (tmp_path/f'{name}.txt').write_text(text)
    files = '--prompts', tmp_path/'train.txt', '--test-prompts', tmp_path/'test.txt'
    with pytest.raises(SystemExit) as left: vader_align([str(w) for w in options_of(tmp_path/'o', *files)])
    assert left.value.code == 2 and 'no caption' in capsys.readouterr().err and not (tmp_path/'o').exists()

def test_refused_late_what_is_read_only_after_the_training(tmp_path, monkeypatch, capsys):
    "The network that measures the diversity, and the witnesses, are there before the first update"
    from vader_nb.commands import align as command
    from vader_nb.downloads import DownloadError
    def offline(*a): raise DownloadError('the hub was not reached')
    monkeypatch.setattr(command, '_embedder', offline)
    with pytest.raises(SystemExit) as left: command.vader_align([str(w) for w in options_of(tmp_path/'o')])
    assert left.value.code == 2 and 'not reached' in capsys.readouterr().err and not (tmp_path/'o').exists()
    fetched = {}
    monkeypatch.setattr(command, '_witnesses', lambda a: fetched.update({'me/witness': 'c0'}))
    monkeypatch.setattr('vader_nb.downloads.fetched', lambda: fetched)
    with pytest.raises(SystemExit): command.vader_align([str(w) for w in options_of(tmp_path/'o', '--revision', 'me/witness@main')])
    assert 'not reached' in capsys.readouterr().err         # and not that nothing is read of it

def test_refused_late_an_evaluation():
    drawn = []
    def draw(*a, **kw): drawn.append(1)
    with pytest.raises(ValueError, match='class'):
        evaluate(Toy(num_frames=8), 'tiny-action', ['a red circle moving left', 'a red circle'], batch_size=1, draw=draw)
    assert not drawn

# 9
NET = nn.Linear(3, 1)

def test_search_that_is_silently_incomplete():
    net = nn.Linear(3, 1)
    def generator(frames, prompts): return torch.stack(list(net(f.mean((0, 2, 3)))[0] for f in frames))
    def inner(frames, prompts): return (lambda x: net(x)[:, 0])(frames.mean((1, 3, 4)))
    def world(frames, prompts): return torch.stack(list((lambda x: NET(x))(f.mean((0, 2, 3)))[0] for f in frames))
    def default(frames, prompts, net=net): return net(frames.mean((1, 3, 4)))[:, 0]
    for fn in (generator, inner, world, default):
        with pytest.raises(ValueError, match='holds a Linear that it does not declare'): Reward(fn)
        with pytest.raises(ValueError, match='holds a Linear'): GREEN + fn
    net.train()
    declared = Reward(generator, networks=[net])
    assert not net.training and not net.weight.requires_grad and (2*declared + GREEN).networks == [net]

# 10
def test_two_units_under_one_name(tmp_path):
    saved, looked = [], Samples(lambda: torch.zeros(1, 1, 3, 8, 8), 4, tmp_path, video=False)
    class Saves:
        def after_step(self, state): saved.append((state.step, (tmp_path/'c.pt').exists()))
    p = nn.Parameter(torch.ones(1))
    loss = lambda batch: (p.sum(), {})
    fit(loss, [p], PROMPTS, 8, Training(checkpoint=tmp_path/'c.pt', save_every=4), 4, [looked, Saves()])
    assert sorted(f.name for f in tmp_path.glob('*.png')) == ['step_0000.png', 'step_0004.png', 'step_0008.png']
    assert [s for s, there in saved if there][0] == 4

# 11
def test_name_collisions():
    def reward(frames, prompts): return frames.mean((1, 2, 3, 4))
    drift, loss = Reward(by_mean, 'drift'), Reward(by_max, 'loss')
    run = quick(Toy(), Reward(reward) + GREEN + drift + loss + Reward(by_max, 'green'))
    (record,) = run.log
    parts = {'reward 2', 'green', 'drift 2', 'loss 2', 'green 2'}
    assert parts <= set(record) and record['drift'] == 0 and record['reward'] == pytest.approx(sum(record[k] for k in parts))

# 12
def test_hand_made_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    for name in ('mine', 'neighbour'): monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path/'neighbour.py').write_text('SHARE = .5')
    (tmp_path/'mine.py').write_text(textwrap.dedent('''
        from __future__ import annotations
        from dataclasses import dataclass
        from neighbour import SHARE
        @dataclass
        class Weights: green: float = SHARE
        def r(frames, prompts): return Weights().green*frames.mean((1, 2, 3, 4))'''))
    assert load_reward(f'{tmp_path}/mine.py:r')(torch.ones(1, 1, 3, 8, 8), ['x']).item() == .5
    (tmp_path/'json.py').write_text('def r(frames, prompts): return frames.mean((1, 2, 3, 4))')
    assert load_reward(f'{tmp_path}/json.py:r')(torch.ones(1, 1, 3, 8, 8), ['x']).item() == 1 and sys.modules['json'] is json
    (tmp_path/'my.v2.py').write_text('def r(frames, prompts): return frames.mean((1, 2, 3, 4))')
    assert load_reward(f'{tmp_path}/my.v2.py:r')(torch.ones(1, 1, 3, 8, 8), ['x']).item() == 1
    (tmp_path/'broken.py').write_text('raise RuntimeError("no")')
    with pytest.raises(RuntimeError, match='no'): load_reward(f'{tmp_path}/broken.py:r')
    assert 'broken' not in sys.modules

# 13
def test_global_that_is_changed_and_not_restored():
    theirs = Accelerator(cpu=True, mixed_precision='bf16', gradient_accumulation_steps=4)
    path, rng = list(sys.path), torch.get_rng_state()
    quick(Toy())
    assert (theirs.mixed_precision, theirs.gradient_accumulation_steps, Accelerator().mixed_precision) == ('bf16', 4, 'bf16')
    assert torch.equal(rng, torch.get_rng_state()) and sys.path == path and torch.is_grad_enabled()

def test_global_that_is_changed_and_not_restored_threads_of_torch(tmp_path, monkeypatch):
    "Commands that measure with one thread, called from a notebook"
    from vader_nb.commands.bench import BenchOptions, bench
    from vader_nb.commands.race import RaceOptions, race_methods
    seen, before = [], torch.get_num_threads()
    def seen_at_work(a):
        seen.append(torch.get_num_threads())
        raise Broken
    monkeypatch.setattr('vader_nb.commands.bench._rehearsal', seen_at_work)
    monkeypatch.setattr('vader_nb.commands.race._report', lambda a, *more: seen_at_work(a))
    try:
        torch.set_num_threads(3)
        for call, options in ((bench, BenchOptions(recipe='tiny')), (race_methods, RaceOptions(out=str(tmp_path/'r'), report=True))):
            with pytest.raises(Broken): call(options)
            assert seen.pop() == 1 and torch.get_num_threads() == 3
    finally: torch.set_num_threads(before)

# 14
def test_mode_that_is_not_passed_on(tmp_path):
    from peft import LoraConfig
    from vader_nb.lora import with_peft
    pipe = Toy()
    with_peft(pipe.denoiser).add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=['to_q', 'to_v'], lora_dropout=.5))
    shake(pipe, .5)
    save_lora(pipe, tmp_path)
    for mode in (False, True):
        fresh = Toy()
        fresh.denoiser.train(mode)
        load_lora(fresh, tmp_path)
        assert not any(m.training for m in fresh.denoiser.modules())
        a, b = (sample_videos(fresh, PROMPTS[:1]) for _ in range(2))
        assert torch.equal(a, b)

# 15
def test_state_that_is_assumed():
    pipe = Toy()
    add_lora(pipe, 2)
    shake(pipe)
    pipe.denoiser.fuse_lora()
    before = sample_videos(pipe, PROMPTS[:1])
    for context in (lambda: lora_scale(pipe, 0.), lambda: without_lora(pipe), lambda: folded(pipe)):
        with pytest.raises(ValueError, match='fused into its weights'), context(): pass
    with pytest.raises(ValueError, match='fused into its weights'): remove_lora(pipe)
    assert torch.equal(sample_videos(pipe, PROMPTS[:1]), before)
    pipe.denoiser.unfuse_lora()
    with lora_scale(pipe, 0.): assert not torch.equal(sample_videos(pipe, PROMPTS[:1]), before)
    with lora_scale(pipe, .5):
        half = sample_videos(pipe, PROMPTS[:1])
        with lora_scale(pipe, 0.): pass
        with without_lora(pipe): pass
        with folded(pipe): pass
        assert torch.equal(sample_videos(pipe, PROMPTS[:1]), half)              # each block leaves what it found
    with without_lora(pipe):
        with without_lora(pipe): base = sample_videos(pipe, PROMPTS[:1])
        assert torch.equal(sample_videos(pipe, PROMPTS[:1]), base)
    with folded(pipe), pytest.raises(ValueError, match='leave the block'), folded(pipe): pass

def test_state_that_is_assumed_another_name(tmp_path):
    pipe, base = Toy(), sample_videos(Toy(), PROMPTS[:1])
    add_lora(pipe, 2)
    shake(pipe, .5)
    save_lora(pipe, tmp_path)
    other = Toy()
    from vader_nb.lora import with_peft
    with_peft(other.denoiser).load_lora_adapter(tmp_path, weight_name=LORA_FILE, prefix='unet', adapter_name='style')
    other.denoiser.eval()
    with lora_scale(other, 0.): assert torch.equal(sample_videos(other, PROMPTS[:1]), base)
    assert not torch.equal(sample_videos(other, PROMPTS[:1]), base)
    assert save_lora(other, tmp_path/'again').read_bytes()[-1000:] == (tmp_path/LORA_FILE).read_bytes()[-1000:]
    with_peft(other.denoiser).load_lora_adapter(tmp_path, weight_name=LORA_FILE, prefix='unet', adapter_name='second')
    with pytest.raises(ValueError, match='carries the adapters second, style'): save_lora(other, tmp_path/'both')

# 16
def test_memory_by_the_size_of_the_input(tmp_path):
    from PIL import Image
    for n in 'ab': Image.new('RGB', (3000, 2000), 'red').save(tmp_path/f'{n}.jpg')
    with warnings.catch_warnings():
        warnings.simplefilter('error', ResourceWarning)
        kept, fitted = load_image_prompts(tmp_path), load_image_prompts(tmp_path, 32)
    assert all(max(p.image.shape) <= 2048 and p.image.untyped_storage().nbytes() <= 2048*1366*12 for p in kept)
    assert all(p.image.shape == (3, 32, 32) and p.image.untyped_storage().nbytes() < 2**20 for p in fitted)

# 17
def _opens(tree):
    "Calls that read or write text, with the encoding that they name"
    for n in ast.walk(tree):
        if not isinstance(n, ast.Call): continue
        name = n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, 'id', '')
        modes = [a.value for a in n.args + [k.value for k in n.keywords] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if name == 'open' and isinstance(n.func, ast.Attribute) and getattr(n.func.value, 'id', '') in ('Image', 'os'): continue
        if name == 'open' and any('b' in m and len(m) <= 3 for m in modes): continue
        if name in ('open', 'read_text', 'write_text'): yield n.lineno, {k.arg for k in n.keywords}

def test_machine_locale():
    wrong = [f'{p.relative_to(ROOT)}:{line}' for folder in ('vader_nb', 'tools') for p in sorted((ROOT/folder).rglob('*.py'))
             for line, names in _opens(ast.parse(p.read_text(encoding='utf-8'))) if 'encoding' not in names]
    assert not wrong, f'text without encoding="utf-8" depends on the locale: {wrong}'

# 18
def test_advice_that_ignores_what_was_asked(monkeypatch):
    from vader_nb.commands.plan import PlanOptions, _as_code
    from vader_nb.savings import footprint, memory
    from vader_nb.savings.planner import Device, Plan
    for kw in (dict(speed=0.), dict(bus=0.), dict(vram=0.), dict(reserve=-1.)):
        with pytest.raises(ValueError, match='must be'): Device(**dict(vram=8.) | kw)
    asked, told = PlanOptions(batch_size=3, num_inference_steps=5, reward_frames=2, lora_rank=3), {}
    pipe = tiny_random_modelscope(num_frames=2)
    def short(*a, **kw):
        told.update(kw)
        return align(*a, train_steps=1, callbacks=(), **kw)
    names = dict(vars(memory), torch=torch, pipe=pipe, reward=GREEN, prompts=PROMPTS, align=short, Vader=Vader, Lora=Lora, Training=Training)
    exec(_as_code(asked, Plan(('checkpoint_denoiser', 'sliced_decode'), None, 1., torch.float32)), names)
    training = told['training']
    assert training.batch_size//training.gradient_accumulation_steps == 3 and told['num_inference_steps'] == 5
    assert told['method'].reward_frames == 2 and told['lora'].rank == 3

def test_advice_that_is_wrong_what_a_shell_would_change():
    import shlex
    from vader_nb.commands.align import AlignOptions, typed_as
    for text in ('d\u00e9but.txt', 'a$HOME.txt', 'a`b`', 'c\\d', 'e"f', '2*green - 0.5*edges'):
        assert shlex.split(typed_as(AlignOptions(prompts=text)))[-1] == text
    assert typed_as(AlignOptions(lr=.1, tensorboard=True)) == 'vader_align --lr 0.1 --tensorboard'

def test_advice_that_is_wrong():
    vjepa, video = load_reward('tiny-vjepa'), torch.rand(1, 8, 3, 32, 32)
    for f in (1, 2, 3, 5):
        with pytest.raises(ValueError, match='such as') as told: vjepa(video[:, :f], ['x'])
        advised = int(str(told.value).split('such as ')[1])
        assert advised > f and vjepa(video[:, :advised], ['x']).isfinite().all()

# 19
def test_one_naming_scheme(tmp_path):
    from safetensors.torch import load_file, save_file
    pipe = Toy()
    add_lora(pipe, 2)
    shake(pipe)
    tensors, want = load_file(save_lora(pipe, tmp_path)), sample_videos(pipe, PROMPTS[:1])
    down = lambda a, b: lambda k: k.replace('lora_A', a).replace('lora_B', b)
    ways = dict(old=down('lora_down', 'lora_up'), dotted=down('lora.down', 'lora.up'), linear=down('lora_linear_layer.down', 'lora_linear_layer.up'),
                kohya=lambda k: down('lora_down', 'lora_up')(k.replace('unet.', 'lora_unet_')))
    for name, rename in ways.items():
        save_file({rename(k): v for k, v in tensors.items()}, tmp_path/f'{name}.safetensors')
        fresh = Toy()
        load_lora(fresh, tmp_path/f'{name}.safetensors')
        assert torch.equal(sample_videos(fresh, PROMPTS[:1]), want), name
    text = {'text_encoder.q.lora_A.weight': torch.zeros(2, 2)}
    save_file(tensors | text, tmp_path/'both.safetensors')
    with pytest.raises(ValueError, match='holds more than the LoRA'): load_lora(Toy(), tmp_path/'both.safetensors')
    load_lora(Toy(), tmp_path/'both.safetensors', ignore=('text_encoder',))
    save_file({f'unet.to_q.lokr_{i}': torch.zeros(2, 2) for i in 'ab'}, tmp_path/'lokr.safetensors')
    with pytest.raises(ValueError, match="named like 'unet.to_q.lokr_a'"): load_lora(Toy(), tmp_path/'lokr.safetensors')

# Awkward situations
def test_gradient_that_is_0_is_remarked_on():
    with pytest.warns(UserWarning, match='gradient was exactly 0 in all of the first 3 updates'):
        quick(Toy(), Reward(lambda f, p: 0*f.mean((1, 2, 3, 4)), 'flat'), train_steps=3, method=Vader(1, None, anchor=0.))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        quick(Toy(), train_steps=3)

def test_going_on_from_a_lora(tmp_path):
    first = quick(Toy(), train_steps=2)
    file = save_lora(first.pipe, tmp_path)
    second = quick(Toy(), train_steps=1, lora=Lora(start=tmp_path))
    assert second.log[0]['drift'] > 0 and len(lora_parameters(second.pipe)[0]) == 8
    options = second.options['lora']
    assert quick(Toy(), lora=Lora(start=file)).options['lora'] == options != first.options['lora']
    with pytest.raises(FileNotFoundError): quick(Toy(), lora=Lora(start=tmp_path/'nowhere'))

def test_text_that_the_encoder_cuts_off(recwarn):
    pipe = tiny_random_modelscope(num_frames=2)
    pipe.tokenizer.model_max_length = 4
    with pytest.warns(UserWarning, match='1 of 2 prompts are longer than the 4 tokens'):
        from vader_nb.prompts import remark_on_cut
        remark_on_cut(pipe, ['a red', 'a red circle moving left over sand'])

def test_two_runs_in_one_folder(tmp_path):
    from vader_nb.console import out_folder
    with out_folder(tmp_path), pytest.raises(ValueError, match='another run writes into'), out_folder(tmp_path): pass
    with out_folder(tmp_path): pass
    assert not list(tmp_path.iterdir())

def test_full_disk_in_words(tmp_path, monkeypatch):
    from vader_nb.checkpoints import save_state
    def full(*a): raise RuntimeError('[enforce fail at inline_container.cc:668] . unexpected pos 128 vs 22')
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(OSError, match='is the disk full'): save_state(tmp_path/'c.pt', a=1)
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match='no checkpoint after update 1'): run = quick(Toy(), train_steps=1, checkpoint=tmp_path/'c.pt')
    assert len(run.log) == 1 and lora_layers(run.pipe)

def test_video_file_that_was_cut_off(tmp_path):
    whole = write_video(tmp_path/'v.mp4', torch.rand(8, 3, 32, 32)).read_bytes()
    for n in (0, 100, len(whole)//2, len(whole) - 100):
        (tmp_path/'cut.mp4').write_bytes(whole[:n])
        try: read_video(tmp_path/'cut.mp4')
        except ValueError as e: assert 'cannot be read as a video' in str(e)

def test_threads_and_pickles():
    import copy, pickle
    from concurrent.futures import ThreadPoolExecutor
    def state(pipe): return torch.cat([p.flatten() for p in add_lora(pipe, 4, seed=3)])
    toys = [Toy() for _ in range(8)]
    with ThreadPoolExecutor(4) as pool: found = list(pool.map(state, toys))
    assert all(torch.equal(found[0], x) for x in found)
    pipe = Toy()
    add_lora(pipe, 2)
    for twin in (pickle.loads(pickle.dumps(pipe.denoiser)), copy.deepcopy(pipe.denoiser)):
        assert type(twin) is type(pipe.denoiser) and all(torch.equal(a, b) for a, b in zip(twin.parameters(), pipe.denoiser.parameters()))
    remove_lora(pipe)
    assert pickle.loads(pickle.dumps(pipe.denoiser)).state_dict().keys() == Toy().denoiser.state_dict().keys()

def test_unknown_words(tmp_path):
    from vader_nb.models.load import load_pipeline
    with pytest.raises(ValueError, match="unknown device 'gpu'"): load_pipeline('tiny', device='gpu')
    with pytest.raises(TypeError, match='put it in a list'): quick(Toy()).show('a prompt')

def test_older_videos_between_the_new_ones(tmp_path, capsys):
    from vader_nb.commands.sample import vader_sample
    (tmp_path/'001_an_older_one.mp4').write_bytes(b'')
    words = ['--prompt', PROMPTS[0], '--out', str(tmp_path), '--num-inference-steps', '1']
    with pytest.raises(SystemExit) as left: vader_sample(words)
    assert left.value.code == 2 and 'videos of another call' in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ['001_an_older_one.mp4']
