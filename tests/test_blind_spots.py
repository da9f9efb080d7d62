"""Closed forms for faults that a chapter would notice late or not at all, on pieces small enough for a second; a test's name begins with its module's.

tools/planted_faults.yml names the faults.
"""
import json, math
from types import SimpleNamespace
import pytest, torch
from torch import nn


# A pipeline whose denoiser takes a LoRA and heeds guidance, in closed form

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.kept = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
        for i, p in enumerate(self.parameters()): p.data = torch.linspace(-.53, .47, p.numel()).view_as(p).roll(i)
        self.requires_grad_(False)
    def forward(self, x): return self.to_q(x) + self.kept(x)

def toy(watch=None, **options):
    "A grey pipeline with `Net`; `watch` gets (gradients on?, guidance) of each evaluation"
    from vader_nb.pipeline import GreyPipeline
    class Toy(GreyPipeline):
        def denoise(self, latents, t, cond, guidance_scale):
            if watch is not None: watch.append((torch.is_grad_enabled(), guidance_scale))
            return (.5 + .5*guidance_scale)*self.denoiser(latents.movedim(1, -1)).movedim(-1, 1)*(1 + cond.prompt_embeds[..., None, None])/2
    pipe = Toy(**options)
    pipe.denoiser = Net()
    return pipe

def with_lora(pipe, moved=True, rank=2, **options):
    from vader_nb.lora import Lora, add_lora
    params = add_lora(pipe, Lora(rank, target_modules=('to_q',), **options))
    for n, p in pipe.denoiser.named_parameters():
        if moved and 'lora_B' in n: p.data.fill_(.3)
    return params

def batch_of(prompts=('a', 'b'), number=0):
    from vader_nb.batches import batch_at
    return batch_at(list(prompts), number, len(prompts))


# Foundations

def test_sampling_gradient_only_at_chosen_steps():
    from vader_nb.sampling import explicit, sample_latents
    pipe = toy(seen := [])
    cond, noise = pipe.encode_prompt(['a']), pipe.init_latents(1, torch.Generator().manual_seed(0))
    sample_latents(pipe, cond, noise, explicit({0, 3}), num_inference_steps=5)
    assert [g for g, _ in seen] == [True, False, False, True, False]

def test_sampling_selections():
    from vader_nb.sampling import choose_frames, last_k, parse_grad_steps, random_k
    g = torch.Generator().manual_seed(0)
    assert last_k(2)(5) == {3, 4} and parse_grad_steps('1-2,4')(6) == {1, 2, 4}
    assert {len(random_k(3)(5, g)) for _ in range(60)} == {1, 2, 3}
    assert all(len(set(choose_frames(6, 5, g))) == 5 for _ in range(20))

def test_sampling_the_scheduler_says_how_many_steps():
    from vader_nb.models.vc2_scheduler import VC2DDIMScheduler
    from vader_nb.sampling import plan_sampling
    plan = plan_sampling(toy(scheduler=VC2DDIMScheduler()), 1, num_inference_steps=30)
    assert len(plan.timesteps) == 31 and plan.grad_steps == {30}

def test_sampling_zero_is_a_setting():
    from vader_nb.sampling import sampler_settings
    assert sampler_settings(toy(), guidance_scale=0.).guidance_scale == 0

def test_sampling_noise_and_choices_come_from_the_given_generators():
    from vader_nb.sampling import from_random_start, plain_rollout, sample_videos
    def all_of():
        steps = [[s.index for s in plain_rollout(toy(), batch_of(number=n), from_random_start()).steps] for n in range(4)]
        return steps, sample_videos(toy(), ['a', 'b', 'c'], 3, eta=1., num_inference_steps=3)
    first = all_of()
    torch.manual_seed(11)
    second = all_of()
    assert first[0] == second[0] and torch.equal(first[1], second[1])

def test_sampling_batches_do_not_change_videos():
    from vader_nb.sampling import sample_videos
    whole, single = (sample_videos(toy(), ['a', 'b', 'c'], 3, batch_size=n, num_inference_steps=3) for n in (3, 1))
    assert torch.allclose(whole, single, atol=1e-6) and not torch.allclose(whole[0], whole[1])

def test_lora_contexts_restore_what_was():
    from vader_nb.lora import lora_layers, lora_scale, set_lora_scale, without_lora
    pipe = toy()
    with_lora(pipe, alpha=1.)
    layer, x = lora_layers(pipe)[0], torch.ones(2, 3)
    assert layer.scaling['default'] == .5
    set_lora_scale(pipe, .6)
    with lora_scale(pipe, 0.), lora_scale(pipe, 2.): pass
    assert layer.scaling['default'] == pytest.approx(.3)
    with without_lora(pipe):
        base = pipe.denoiser(x)
        with without_lora(pipe): pass
        assert torch.equal(pipe.denoiser(x), base)
    assert not torch.allclose(pipe.denoiser(x), base)

def test_lora_folded():
    from vader_nb.lora import folded, lora_layers
    pipe = toy()
    with_lora(pipe)
    weight, x = lora_layers(pipe)[0].get_base_layer().weight, torch.ones(2, 3)
    before, out = weight.clone(), pipe.denoiser(x)
    with folded(pipe):
        assert not torch.is_grad_enabled() and torch.allclose(pipe.denoiser(x), out, atol=1e-6) and not torch.equal(weight, before)
    assert torch.equal(weight, before) and torch.equal(pipe.denoiser(x), out)

def test_lora_shape_seed_and_parameters():
    from vader_nb.lora import Lora, add_lora
    lora, pipes = Lora(4, 8., ('to_q',)), [toy() for _ in range(3)]
    state = torch.get_rng_state()
    a, b, c = (add_lora(pipe, lora, seed) for pipe, seed in zip(pipes, (0, 0, 1)))
    assert torch.equal(torch.get_rng_state(), state)
    assert lora.scale == 2 and len(a) == 2 and torch.equal(a[0], b[0]) and not torch.equal(a[0], c[0])

def test_lora_saved_and_loaded_at_a_strength(tmp_path):
    from vader_nb.lora import load_lora, lora_layers, save_lora, write_safetensors
    pipe, other = toy(), toy()
    with_lora(pipe)
    load_lora(other, save_lora(pipe, tmp_path), .25)
    assert lora_layers(other)[0].scaling['default'] == .25
    for n in range(8):
        write_safetensors(tmp_path/'a.safetensors', dict(a=torch.ones(1)), dict(k='x'*n))
        assert int.from_bytes((tmp_path/'a.safetensors').read_bytes()[:8], 'little') % 8 == 0


# The trainer on one number: the loss is c*p for a video, so the gradient of an update is the mean of c

def fitted(train_steps=4, factor=1., updates=1, callbacks=(), settings=None, seen=None, start=0., **options):
    "(the number after a training, its log)"
    from vader_nb.trainer import fit
    from vader_nb.training import Training
    p = nn.Parameter(torch.tensor([start]))
    def loss(batch):
        if seen is not None: seen.append(batch.number)
        values = factor*torch.arange(1., len(batch.prompts) + 1)
        return (values*p).mean(), dict(value=values*p.detach())
    options = dict(batch_size=2, optimizer=lambda ps, lr, weight_decay: torch.optim.SGD(ps, lr), lr=1., max_grad_norm=None) | options
    log = fit(loss, [p], ['a', 'b', 'c'], train_steps, Training(**options), updates, callbacks, settings)
    return p.item(), log

def test_trainer_closed_form():
    from vader_nb.training import linear_decay
    moved, log = fitted(4, 10.)
    assert moved == -4*15 and [r['queries'] for r in log] == [2, 4, 6, 8] and log[1]['loss'] == pytest.approx(-15*15)
    moved, log = fitted(4, schedule=linear_decay(.1, 0.))     # factors 1, .775, .55, .325: the number before each update is in the loss
    assert [r['loss'] for r in log] + [1.5*moved] == pytest.approx([-2.25*n for n in (0, 1, 1.775, 2.325, 2.65)])
    assert fitted(1, 10., max_grad_norm=3.)[0] == pytest.approx(-3, abs=1e-4)

def test_trainer_micro_batches_and_loss_scale_change_nothing():
    assert fitted(2, batch_size=2, gradient_accumulation_steps=2)[0] == pytest.approx(-2*1.)    # each piece: one video, c = 1
    assert fitted(2, 10., loss_scale=1024., max_grad_norm=3.)[0] == pytest.approx(fitted(2, 10., max_grad_norm=3.)[0], abs=1e-4)

def test_trainer_an_older_gradient_is_not_added():
    from vader_nb.trainer import fit
    from vader_nb.training import Training
    p = nn.Parameter(torch.zeros(1))
    p.grad = torch.full((1,), 100.)
    fit(lambda b: (p.sum(), {}), [p], ['a'], 1, Training(batch_size=1, lr=1., max_grad_norm=None, optimizer=lambda ps, lr, weight_decay: torch.optim.SGD(ps, lr)))
    assert p.item() == -1

def test_trainer_a_rollout_serves_several_updates():
    fitted(4, updates=2, seen=(seen := []))
    assert seen == [0, 0, 1, 1]

@pytest.mark.parametrize('options', [dict(optimizer=torch.optim.AdamW, lr=.1), dict(factor=1e30, loss_scale=2.**100)])
def test_trainer_resumed_is_not_told_from_uninterrupted(tmp_path, options):
    whole = fitted(4, **options)
    fitted(2, checkpoint=tmp_path/'c.pt', **options)
    again = fitted(4, checkpoint=tmp_path/'c.pt', **options)
    strip = lambda log: [{k: v for k, v in r.items() if k != 'seconds'} for r in log]
    assert whole[0] == again[0] and strip(whole[1]) == strip(again[1])
    if 'loss_scale' in options: assert [r['loss_scale'] for r in again[1]] == [2.**(100 - n) for n in range(4)]

def test_trainer_saves_when_due_and_at_the_end(tmp_path):
    from vader_nb.checkpoints import load_state
    path, found = tmp_path/'c.pt', []
    class Look:
        def after_step(self, state): found.append(len(load_state(path)['log']) if path.exists() else 0)
    fitted(7, updates=2, checkpoint=path, save_every=3, callbacks=[Look()])
    assert found == [0, 0, 0, 4, 4, 6, 7]

def test_trainer_refuses_settings_that_only_one_run_has(tmp_path):
    fitted(2, checkpoint=tmp_path/'c.pt', settings=dict(eta=.5))
    with pytest.raises(ValueError, match='eta'): fitted(4, checkpoint=tmp_path/'c.pt')

def test_trainer_names_the_prompt_of_a_number_that_is_none():
    from vader_nb.trainer import fit
    p = nn.Parameter(torch.zeros(1))
    with pytest.raises(FloatingPointError, match="reward is nan for the prompt 'only'"):
        fit(lambda b: (p.sum(), dict(reward=torch.tensor([math.nan]*len(b.prompts)))), [p], ['only'], 1)

def test_batches_each_video_its_own_noise_wherever_it_is_drawn():
    from vader_nb.batches import batch_at, split_batch
    draw = lambda g: torch.rand(1, generator=g).item()
    whole = [draw(g) for g in batch_at(['a', 'b', 'c'], 1, 4).generators]
    parts = [draw(g) for s in split_batch(4, 2) for g in batch_at(['a', 'b', 'c'], 1, 4, part=s).generators]
    other, shared = batch_at(['a', 'b', 'c'], 2, 4), [draw(batch_at(['a'], n, 1).shared) for n in (0, 1)]
    assert whole == parts and len({*whole, *map(draw, other.generators)}) == 8 and shared[0] != shared[1]
    assert split_batch(8, 2, 2, 1) == [slice(4, 6), slice(6, 8)] and split_batch(8, 2, 2, 0) == [slice(0, 2), slice(2, 4)]

def test_batches_no_gradient_is_a_gradient_of_zero():
    from vader_nb.batches import average_gradients
    p = nn.Parameter(torch.ones(3))
    average_gradients([p], SimpleNamespace(num_processes=1))
    assert torch.equal(p.grad, torch.zeros(3))
    p.grad.fill_(4.)
    average_gradients([p], SimpleNamespace(num_processes=2, reduce=lambda g, how: dict(mean=g/2, sum=g)[how]))
    assert torch.equal(p.grad, torch.full((3,), 2.))

def test_training_closed_forms():
    from vader_nb.training import Training, linear_decay, plain
    assert linear_decay(.2, .75)(.9) == pytest.approx(1 - .8*.6) and linear_decay(.2, .25)(.25) == 1
    assert plain(dict(a=.5, b=3.)) == dict(a=.5, b=3)
    for bad in (dict(lr=0.), dict(max_grad_norm=0.)):
        with pytest.raises(ValueError): Training(**bad)
    with pytest.raises(ValueError): linear_decay(.1, 1.)

def test_checkpoints_restore_generators_and_return_the_rest(tmp_path):
    from vader_nb.checkpoints import load_state, save_state
    g = torch.Generator().manual_seed(5)
    torch.rand(3, generator=g)
    save_state(tmp_path/'a.pt', g=g, step=7)
    want, h = torch.rand(2, generator=g), torch.Generator()
    assert load_state(tmp_path/'a.pt', g=h) == dict(step=7) and torch.equal(torch.rand(2, generator=h), want)
    with pytest.raises(Exception): save_state(tmp_path/'a.pt', g=g, step=lambda: 0)      # cannot be written
    assert load_state(tmp_path/'a.pt', g=h) == dict(step=7)

class Evil:
    def __reduce__(self): return (dict, ())

def test_checkpoints_unpickle_no_code(tmp_path):
    from vader_nb.checkpoints import load_state
    torch.save(dict(a=Evil(), b=SimpleNamespace()), tmp_path/'a.pt')
    with pytest.raises(ValueError): load_state(tmp_path/'a.pt')

def test_callbacks_of_a_resumed_run_go_on(tmp_path):
    from vader_nb.callbacks import JSONLog, Progress, TensorBoard, read_log
    state, progress, log, board = SimpleNamespace(step=3, train_steps=9, log=[dict(step=3)]), Progress(), JSONLog(tmp_path/'l'), object.__new__(TensorBoard)
    board.folder, board.make = tmp_path, lambda folder, purge_step: purge_step
    for c in (progress, log, board): c.before_fit(state)
    for c in (log, log): c.after_step(state)
    progress.bar.close()
    assert progress.bar.n == 3 and board.writer == 4 and len(read_log(tmp_path/'l')) == 3

def test_callbacks_curve_and_moments():
    import matplotlib
    matplotlib.use('Agg')
    from vader_nb.callbacks import Samples, plot_log
    ax = plot_log([dict(step=i, reward=float(r)) for i, r in enumerate((1, 3, 8), 1)], smooth=2)
    assert list(ax.lines[-1].get_ydata()) == [1, 2, 5.5]
    written = []
    class Quiet(Samples):
        def __init__(self): self.every = 2
        def _write(self, step): written.append(step)
    for n in range(5): (Quiet().after_step if n else Quiet().before_fit)(SimpleNamespace(step=n))
    Quiet().before_fit(SimpleNamespace(step=3))     # of a resumed run
    assert written == [0, 2, 4]

def test_video_pixels_as_bytes_and_back():
    from vader_nb.video import check_pixels, from_uint8, to_uint8
    x = torch.tensor([.6/255, 1.4/255, 1.0009])[None, :, None, None, None].expand(1, 3, 3, 1, 1)
    assert to_uint8(x)[0, :, 0, 0, 0].tolist() == [1, 1, 255] and from_uint8(to_uint8(x))[0, 2].max() == 1
    with pytest.raises(ValueError, match='zero'): check_pixels(torch.zeros(1, 2, 3, 0, 4))

def test_video_enlarged_by_neighbours_reduced_by_means():
    import numpy as np
    from vader_nb.video import _enlarge, contact_sheet
    x = torch.tensor([[0., 1.], [1., 0.]]).expand(1, 1, 3, 2, 2)
    big, small = (np.asarray(contact_sheet(x, scale=s))[..., 0] for s in (2, .5))
    assert big.tolist() == [[0, 0, 255, 255]]*2 + [[255, 255, 0, 0]]*2 and small.tolist() in ([[127]], [[128]])
    assert (_enlarge(np.full((1, 3, 3, 3), 200, np.uint8), 1) == 200).all()
    frames = torch.arange(4.).view(1, 4, 1, 1, 1).expand(1, 4, 3, 2, 2)/4
    assert sorted(set(np.asarray(contact_sheet(frames, every=2, scale=1, pad=0))[..., 0].ravel())) == [0, 128]

def test_video_a_failed_file_leaves_nothing(tmp_path):
    from vader_nb.video import atomic_path
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path/'a.txt') as tmp:
        tmp.write_text('half')
        1/0
    assert list(tmp_path.iterdir()) == []

def test_prompts_both_sides_have_some():
    from vader_nb.prompts import split_prompts
    for share in (.01, .5, .99):
        sides = split_prompts(['a', 'b', 'c'], share)
        assert all(sides) and sorted(sum(sides, [])) == ['a', 'b', 'c']

def test_prompts_orders_and_choices():
    from vader_nb.pictures import ImagePrompt
    from vader_nb.prompts import load_prompts, prompt_batch, prompt_key, sample_prompts
    names = [f'p{i}' for i in range(9)]
    epochs = [sum((prompt_batch(names, s, 3) for s in range(3*e, 3*e + 3)), []) for e in range(3)]
    assert all(sorted(e) == names for e in epochs) and epochs[0] != epochs[1]
    few = sample_prompts(names, 4)
    assert few == sorted(few) and any(sample_prompts(names, 4, s) != few for s in (1, 2)) and sample_prompts(names[::-1], 4) == few[::-1]
    a, b = (ImagePrompt('dog', torch.full((3, 8, 8), v)) for v in (.1, .2))
    assert prompt_key(a) != prompt_key(b) != 'dog'
    train, test = (load_prompts('clothing', s) for s in ('train', 'test'))
    assert not {p.split()[1] for p in train} & {p.split()[1] for p in test} and len(test) < len(train)

def test_prompts_a_byte_order_mark_is_no_part_of_a_prompt(tmp_path):
    from vader_nb.prompts import read_prompts
    (tmp_path/'p.txt').write_text('\ufeffa dog\na cat\n', encoding='utf-8')
    assert read_prompts(tmp_path/'p.txt') == ['a dog', 'a cat']

def test_pipeline_conditions_and_refusals():
    from vader_nb.pipeline import Condition, Networks, check_frames, check_prompts
    cond = Condition(torch.ones(2, 1, 1), torch.zeros(2, 1, 1))[:1]
    assert cond.negative_prompt_embeds.item() == 0 and check_frames(None, 3) == [0, 1, 2]
    for bad in ([-1], [3], []):
        with pytest.raises(ValueError): check_frames(bad, 3)
    with pytest.raises(ValueError): check_prompts(['  '])
    nets = Networks()
    nets.denoiser, nets.vae = nn.Linear(1, 1), nn.Linear(1, 1)
    assert nets.to(torch.float64).vae.weight.dtype == torch.float64

def test_pipeline_the_grey_pipeline_draws_its_grey():
    from vader_nb.pipeline import GreyPipeline
    from vader_nb.sampling import sample_videos
    assert torch.allclose(sample_videos(GreyPipeline(grey=.5), ['a']), torch.tensor(.75), atol=1e-5)

def test_pictures_fit_covers_keeps_range_and_centre():
    from vader_nb.pictures import LARGEST, _shrunk, fit_image
    x = torch.zeros(3, 40, 100)
    x[:, 18:22, 48:52] = 1
    y = fit_image(x, (20, 20))
    at = [((y.mean(0).sum(d)*torch.arange(20.)).sum()/y.mean(0).sum()).item() for d in (1, 0)]
    assert y.min() >= 0 and y.max() <= 1 and at == pytest.approx([9.5, 9.5], abs=.1)
    tall = torch.zeros(3, 100, 20)
    tall[:, 48:52] = 1
    assert fit_image(tall, (20, 20))[0].sum(1).nonzero()[:, 0].tolist() == [8, 9, 10, 11]
    calls, resized = [], fit_image.__globals__['F']
    fit_image.__globals__['F'] = SimpleNamespace(interpolate=lambda x, to, **k: calls.append((tuple(to), k)) or resized.interpolate(x, to, **k))
    try: fit_image(torch.zeros(3, 30, 29), (20, 19))
    finally: fit_image.__globals__['F'] = resized
    assert calls[0][0] == (20, 19) and calls[0][1]['antialias']
    assert tuple(_shrunk(torch.zeros(3, 16, 2*LARGEST)).shape) == (3, 8, LARGEST)

def test_pictures_files_of_every_kind():
    import numpy as np
    from PIL import Image
    from vader_nb.pictures import _to_rgb
    assert np.asarray(_to_rgb(Image.fromarray(np.full((2, 2), 65535, np.uint16)))).max() == 255
    assert np.asarray(_to_rgb(Image.fromarray(np.full((2, 2), 257*100, np.uint16)))).max() == 100
    assert np.asarray(_to_rgb(Image.new('RGBA', (2, 2), (0, 0, 0, 0)))).min() == 255
    turned = Image.new('RGB', (2, 4))
    turned.getexif()[0x0112] = 6
    assert _to_rgb(turned).size == (4, 2)

def test_schedulers_levels():
    from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
    from vader_nb.schedulers import begin_at, level, noised, scale_input, solver_start, step_of
    euler, ddim, heun = EulerDiscreteScheduler(), DDIMScheduler(), HeunDiscreteScheduler()
    for s in (euler, ddim, heun): s.set_timesteps(4)
    a = ddim.alphas_cumprod[ddim.timesteps[1]]
    assert [float(v) for v in level(ddim, 1)] == pytest.approx([a.sqrt().item(), (1 - a).sqrt().item(), 1])
    sigma = euler.sigmas[2].item()
    scale = 1/(sigma**2 + 1)**.5
    assert [float(v) for v in level(euler, 2)] == pytest.approx([scale, sigma*scale, scale], rel=1e-4)
    one = torch.ones(1)
    scale_input(euler, one, euler.timesteps[0])         # what was called before does not matter
    assert scale_input(euler, one, euler.timesteps[2]).item() == pytest.approx(scale, rel=1e-4)
    assert noised(euler, 0*one, one, 2).item() == pytest.approx(sigma, rel=1e-4)
    twice = [i for i in range(1, len(heun.timesteps)) if heun.timesteps[i] == heun.timesteps[i - 1]]
    assert [step_of(heun, heun.timesteps[i]) for i in twice] == [i - 1 for i in twice]
    assert [solver_start(heun, 3), solver_start(ddim, 3)] == [2, 3]
    begin_at(euler, 2)
    assert euler.begin_index == 2

def test_private_costs_and_adapters():
    from vader_nb.private import adapters_off, flop_table
    layer = SimpleNamespace(_disable_adapters=True)
    with adapters_off([layer]): pass
    assert layer._disable_adapters
    assert torch.ops.aten._scaled_dot_product_flash_attention_for_cpu in flop_table()

def test_console_words_and_folders(tmp_path):
    from vader_nb.console import _hyphenated, check_least, given, out_folder
    assert _hyphenated('--n_train=a_b') == '--n-train=a_b' and given(SimpleNamespace(a=0, b=None), 'a', 'b') == dict(a=0)
    check_least(SimpleNamespace(n=1), n=1)
    with pytest.raises(ZeroDivisionError), out_folder(tmp_path): 1/0     # it was there before
    assert tmp_path.is_dir()


# Memory and time

def test_savings_rollout_what_is_evaluated_and_how():
    from contextlib import contextmanager
    from vader_nb.savings.rollout import Savings, rollout
    seen = []
    @contextmanager
    def mark(pipe):
        seen.append('in')
        yield
        seen.append('out')
    pipe = toy(seen)
    out = rollout(pipe, Savings(guidance_interval=(0., .5), prefix=(mark,)))(pipe, batch_of(), 1, num_inference_steps=4, guidance_scale=3.)
    assert seen == ['in', (False, 3.), (False, 3.), (False, 1.), 'out', (True, 1.)] and out.steps[0].guidance_scale == 1
    seen.clear()
    rollout(pipe, Savings(reuse=2))(pipe, batch_of(), 2, num_inference_steps=6)
    assert [g for g, _ in seen] == [False, False, True, True]      # steps 0 and 2, then 4 and 5

def test_savings_rollout_further_updates():
    from vader_nb.savings.rollout import Kept, Savings, renoise, rollout
    def twice(fresh):
        pipe, batch = toy(), batch_of()
        walk = rollout(pipe, Savings(updates_per_rollout=2, fresh_noise=fresh))
        return pipe, batch, walk, walk(pipe, batch, 2, num_inference_steps=4)
    pipe, batch, walk, first = twice(False)
    again = walk(pipe, batch, 2, num_inference_steps=4)
    assert [s.index for s in again.steps] == [2, 3] and torch.equal(again.latents, first.latents)
    pipe, batch, walk, first = twice(True)
    other = twice(True)[1]
    again, wanted = walk(pipe, batch, 2, num_inference_steps=4), renoise(pipe, first.latents.detach(), 2, other.generators, num_inference_steps=4)
    assert torch.allclose(again.steps[0].latents, wanted)
    assert [Kept(None, None, None, steps, 4).were_last for steps in ([2, 3], [1, 3])] == [True, False]

def test_savings_rollout_closed_forms():
    from diffusers import DDIMScheduler, EulerDiscreteScheduler
    from vader_nb.pictures import ImagePrompt
    from vader_nb.pipeline import Condition
    from vader_nb.savings.rollout import averaged, carry_over, encode_once
    values = iter((1., 3.))
    loss, told = averaged(lambda b: (v := next(values), dict(m=2*v)), 2)(batch_of())
    assert (loss, told) == (2, dict(m=4))
    x0, eps = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    for scheduler in (DDIMScheduler(prediction_type='v_prediction'), EulerDiscreteScheduler(prediction_type='v_prediction')):
        scheduler.set_timesteps(4)
        t, now = scheduler.timesteps[:2]
        a, b = ((scheduler.alphas_cumprod[int(t)].sqrt(), (1 - scheduler.alphas_cumprod[int(t)]).sqrt()) for t in (t, now))
        x = (a[0]*x0 + a[1]*eps)/(a[0] if isinstance(scheduler, EulerDiscreteScheduler) else 1)
        got = carry_over(scheduler, a[0]*eps - a[1]*x0, x, t, now)
        assert torch.allclose(got, b[0]*eps - b[1]*x0, atol=1e-3), type(scheduler)
    class Eyes:
        def encode_prompt(self, prompts): return Condition(*[torch.stack([p.image.mean().view(1, 1) for p in prompts])]*2)
    twins = [ImagePrompt('dog', torch.full((3, 8, 8), v)) for v in (.25, .5)]
    assert encode_once(Eyes())(twins).prompt_embeds.flatten().tolist() == [.25, .5]

def test_savings_timing_parts(monkeypatch):
    from vader_nb import load_reward
    from vader_nb.lora import lora_parameters
    from vader_nb.savings import timing
    ticks = iter([(0, 0), (1, 1), (0, 0), (2, 2), (0, 0), (9, 9)])
    with monkeypatch.context() as m:
        m.setattr(timing, '_now', lambda: next(ticks))
        assert timing.interleaved(dict(a=lambda: None), 3)['a'] == (2, 2)
    pipe = toy()
    with_lora(pipe)
    parts = timing.step_parts(pipe, load_reward('green'), ['a'], 2, num_inference_steps=5)
    before = [p.clone() for p in lora_parameters(pipe)]
    parts.work['update']()
    assert all(map(torch.equal, before, lora_parameters(pipe))) and parts.count['forward, folded'] == 4
    with parts.around['forward, base model'](): assert not torch.is_grad_enabled()

def test_savings_meter_counts_each_storage_once():
    from vader_nb.savings.meter import LiveBytes, SavedBytes, _nbytes
    x, net = torch.ones(1000, requires_grad=True), nn.Linear(1000, 7)
    with SavedBytes() as saved: y = x.view(10, 100)*x.view(10, 100)
    assert saved.total == 4000 and _nbytes([x, x.view(10, 100)]) == 4000
    with SavedBytes(net) as saved: y = net(x[None])
    assert saved.total == 4000
    z = torch.ones(1, 1000, requires_grad=True)
    with SavedBytes(net, offload=True, min_bytes=0) as saved: y = net(z)
    y.sum().backward()
    assert saved.moved == 4000 and torch.allclose(z.grad[0], net.weight.sum(0))
    with LiveBytes(norm := nn.BatchNorm1d(10)) as live:
        assert live.now == 4*10*4 + 8
        big = torch.ones(1000)
        del big
        small = torch.ones(10)
    assert live.peak == 168 + 4000 and live.now == 168 + 40 and len(small) == norm.num_features

def test_savings_meter_the_optimiser_counts():
    from vader_nb.savings.meter import peak_memory
    pipe = toy()
    params = with_lora(pipe)
    for p in params: p.grad = torch.ones_like(p)
    optimizer = torch.optim.Adam(params)
    optimizer.step()
    with peak_memory(pipe) as bare: pass
    with peak_memory(pipe, None, optimizer) as full: pass
    assert full.optimizer >= 2*4*sum(p.numel() for p in params) and full.peak == bare.peak + full.optimizer

NO_REWARD = SimpleNamespace(networks=[], name='none')

def test_savings_memory_sliced_decode_keeps_the_order():
    from vader_nb.savings.memory import sliced_decode, use_tricks
    pipe, z = toy(), torch.linspace(-1, 1, 4).view(1, 1, 4, 1, 1).expand(1, 3, 4, 8, 8)
    want = pipe.decode(z, [3, 0, 2])
    for chunk in ({}, dict(decode_chunk_size=2)):
        vars(pipe).update(chunk)
        with use_tricks(pipe, NO_REWARD, sliced_decode(1)): assert torch.equal(pipe.decode(z, [3, 0, 2]), want)

def test_savings_memory_offloading_tells_tensors_apart():
    from vader_nb.savings.memory import offload_graph, use_tricks
    w, total = nn.Parameter(torch.ones(100)), 0.
    with use_tricks(toy(), NO_REWARD, offload_graph(min_bytes=400)) as told:
        b = torch.ones(100)
        y = (w*b).sum()
        b.mul_(2)                            # the same tensor with other numbers
        y = y + (w*b).sum()
        for i in range(5):                   # other tensors at the same address
            c = torch.full((100,), float(i))
            y = y + (w*c).sum()
            del c
    y.backward()
    moved, = told.values()
    assert torch.equal(w.grad, torch.full((100,), 13.)) and moved.tensors == 7 and total == 0

def test_savings_memory_everything_is_put_back():
    from vader_nb.savings.memory import _checkpointed, half_weights, replaced, text_on_cpu, use_tricks
    pipe = toy()
    before = [p.clone() for p in pipe.denoiser.parameters()]
    with use_tricks(pipe, NO_REWARD, half_weights()): assert pipe.denoiser.to_q.weight.dtype == torch.bfloat16
    assert all(map(torch.equal, before, pipe.denoiser.parameters()))
    with replaced(thing := SimpleNamespace(x=1), x=2): assert thing.x == 2
    assert thing.x == 1
    class On(nn.Module):
        _supports_gradient_checkpointing, is_gradient_checkpointing = True, True
        def enable_gradient_checkpointing(self): self.is_gradient_checkpointing = True
        def disable_gradient_checkpointing(self): self.is_gradient_checkpointing = False
    with _checkpointed(net := On()): pass
    assert net.is_gradient_checkpointing
    pipe.text_encoder = nn.Linear(1, 1)
    with use_tricks(pipe, NO_REWARD, text_on_cpu()): pass
    assert not pipe.text_encoder._forward_hooks and not pipe.text_encoder._forward_pre_hooks

def test_savings_memory_the_rest_of_a_step(monkeypatch):
    from vader_nb.savings import memory
    clock = iter(range(99))
    monkeypatch.setattr(memory, '_synchronized', lambda: next(clock))
    with memory.step_times(pipe := toy(), SimpleNamespace(fn=None)) as seconds: pipe.encode_prompt(['a'])
    assert seconds['prompts'] == 1 and seconds['rest'] == 2

def dry(parts, pipe=None, weights=(0, 0)):
    "A step whose parts are given: (name, tricks) -> Part; the weights are those of the encoder and of the rest"
    frozen = [nn.Linear(1, n//4, bias=False).requires_grad_(False) if n else nn.Identity() for n in weights]
    pipe = pipe or toy()
    if not any('lora_A' in n for n, _ in pipe.denoiser.named_parameters()): with_lora(pipe)
    pipe.text_encoder, pipe.vae, pipe.dtype = frozen[0], nn.Identity(), torch.float32
    return SimpleNamespace(pipe=pipe, modules=frozen, half=None, part=lambda name, tricks=(), frames=None: parts(name, frozenset(tricks)))

def test_savings_footprint_parts_of_a_step():
    from vader_nb.savings.footprint import Part, estimate, weight_bytes
    given = dict(first=Part(100, 0, 150, 10, 30), later=Part(70, 0, 90, 10, 40), decode=Part(20, 0, 50, 5, 15), reward=Part(30, 0, 60, 3, 9))
    step = dry(lambda name, tricks: given[name], weights=(400, 4000))
    e = estimate(step, (), 3, None, 10)
    trainable = 16*(2*3 + 2*3)
    assert e.trainable == trainable and e.denoiser == 240 and e.saved == 290
    assert e.peak == 4400 + trainable + 240 + 20 + 60 and e.at == 'reward' and e.flops == 7*10 + 30 + 2*40 + 15 + 9
    assert weight_bytes([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False).requires_grad_(False)]) == 16

def test_savings_footprint_measured_parts():
    from vader_nb.savings.footprint import DryStep, run_part
    x = torch.ones(1000, requires_grad=True)
    alone, beside = run_part(lambda x: x*x, [x], []), run_part(lambda x: x*x, [x], [], weights=[torch.ones(10**6)])
    assert alone.peak == beside.peak >= 8000
    step = object.__new__(DryStep)
    step._parts, step._run = {}, lambda *key: key
    assert [step.part(n, frames=2)[2] for n in ('first', 'later', 'decode', 'reward')] == [None, None, 2, 2]
    pipe = toy()
    pipe.lora_targets = ('to_q',)
    assert DryStep(pipe, guidance_scale=5.).guidance_scale == 5

def test_savings_planner_fits_and_seconds():
    from vader_nb.savings.footprint import Estimate, Part
    from vader_nb.savings.planner import Device, _smaller, fits, full_size, seconds
    e = Estimate(0, 0, 0, 0, 0, 1000, 'reward', 0.)
    assert fits(e, Device(1010, reserve=10)) and not fits(e, Device(1009, reserve=10))
    given = dict(first=Part(100, 0, 0, 10, 30), decode=Part(20, 0, 0, 5, 15), reward=Part(30, 0, 0, 3, 9))
    step, device = dry(lambda name, tricks: given[name]), Device(1., speed=1., bus=10.)
    assert seconds(step, (), device, 2, None, 10) == 8*10 + 2*30 + 15 + 9
    assert seconds(step, ('checkpoint_denoiser', 'offload_graph'), device, 2, None, 10) == 164 + 2*10 + 2*50/10
    assert '--size 128x256' in _smaller((320, 512), 12, 1, 1, 1, True)
    with pytest.raises(ValueError, match='multiples of 8'): full_size('modelscope', (250, 256))

def test_savings_planner_the_fastest_set_that_fits_is_chosen():
    from vader_nb.savings.footprint import Part
    from vader_nb.savings.planner import Device, make_plan
    def parts(name, tricks):    # recomputing the denoiser is slow and enough; decoder and reward together are quick and enough
        if name == 'first': return Part(0 if 'checkpoint_denoiser' in tricks else 300, 0, 0, 1000., 3000.)
        small = f'checkpoint_{"decoder" if name == "decode" else "reward"}' in tricks
        return Part(0 if small else 200, 0, 0 if small else 200, 1., 3.)
    allowed = 'checkpoint_denoiser', 'checkpoint_decoder', 'sliced_decode', 'checkpoint_reward'
    plan = make_plan(dry(parts), Device(192 + 420, speed=1., reserve=0.), num_inference_steps=10, allowed=allowed)
    assert set(plan.tricks) <= {'checkpoint_decoder', 'checkpoint_reward', 'sliced_decode'} and len(plan.tricks) == 2


# Alignment

def rolled(K=2, moved=True, **settings):
    from vader_nb.sampling import plain_rollout
    pipe = toy()
    with_lora(pipe, moved)
    return pipe, plain_rollout(pipe, batch_of(), K, **dict(num_inference_steps=4, guidance_scale=3.) | settings)

def test_methods_vader_drift_closed_form():
    from vader_nb.lora import without_lora
    from vader_nb.methods.vader import drift
    pipe, out = rolled()
    with without_lora(pipe), torch.no_grad(): base = [pipe.denoise(s.latents, s.t, out.cond, 3.) for s in out.steps]
    each = [(s.pred - b).square().mean((1, 2, 3, 4)) for s, b in zip(out.steps, base)]
    assert each[0].min() > 0 and torch.allclose(drift(pipe, out.cond, out.steps), sum(each)/2)
    pipe, out = rolled(moved=False)
    assert drift(pipe, out.cond, out.steps).abs().max() == 0

def test_methods_vader_loss_closed_form():
    from vader_nb import load_reward
    from vader_nb.methods.vader import Vader, vader_loss
    def loss(anchor, seed=0):
        pipe = toy()
        with_lora(pipe)
        return vader_loss(pipe, load_reward('green'), Vader(anchor=anchor), num_inference_steps=3, guidance_scale=3.)(batch_of())
    (none, _), (two, told), (four, _) = map(loss, (0., 2., 4.))
    assert set(told) == {'reward', 'drift'} and none.item() == pytest.approx(-told['reward'].mean().item())
    assert (two - none).item() == pytest.approx(2*told['drift'].mean().item()) and (four - two).item() == pytest.approx((two - none).item())

def test_methods_vader_run_samples_as_it_was_told():
    from vader_nb.methods.vader import Run
    from vader_nb.sampling import SamplerSettings, sample_videos
    pipe = toy(seen := [])
    with_lora(pipe)
    run = Run(pipe, None, ['a'], [], SamplerSettings(3, 2., 0.))
    before, after = run.before_after()
    assert [s for _, s in seen] == [2.]*6
    assert torch.equal(before, sample_videos(toy(), ['a'], num_inference_steps=3, guidance_scale=2.)) and not torch.equal(before, after)

def test_methods_vader_align_uses_its_seed_and_cleans_up():
    from vader_nb import align
    from vader_nb.lora import Lora, add_lora, lora_layers
    from vader_nb.training import Training
    lora, training = Lora(2, target_modules=('to_q',)), Training(batch_size=1, seed=5)
    pipe, other = toy(), toy()
    align(pipe, 'green', ['a'], 1, lora=lora, training=training, callbacks=(), num_inference_steps=2)
    assert torch.equal(dict(pipe.denoiser.named_parameters())['to_q.lora_A.default.weight'], add_lora(other, lora, 5)[0])
    class Boom:
        def after_step(self, state): raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError): align(third := toy(), 'green', ['a'], 1, lora=lora, training=training, callbacks=(Boom(),), num_inference_steps=2)
    assert lora_layers(third) == []

def continuing(watch=None):
    "A pipeline that continues pictures: what it is told is the picture's mean"
    from diffusers.utils.torch_utils import randn_tensor
    from vader_nb.pipeline import Condition
    pipe = toy(watch)
    draw, pipe.device = pipe.init_latents(1, torch.Generator().manual_seed(0)).shape[1:], torch.device('cpu')
    pipe.size, pipe.init_latents = (8, 8), lambda n, generator=None: randn_tensor((n, *draw), generator=generator)
    pipe.encode_images = lambda images: Condition(*[images.mean((1, 2, 3)).view(-1, 1, 1)]*2)
    return pipe

def test_methods_long_video_chunks_share_a_frame():
    from vader_nb.methods.long_video import Chain, autoregressive_sample, sample_long
    from vader_nb.pictures import ImagePrompt
    images, options = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), dict(num_inference_steps=3)
    pipe = continuing(seen := [])
    with_lora(pipe)
    def run(chain, K=1): return autoregressive_sample(pipe, images, chain, K, generator=torch.Generator().manual_seed(1), **options)
    assert run(3, 0).shape[1] == 3*3 + 1
    seen.clear()
    run(Chain(2, (0,)))
    assert [g for g, _ in seen] == [False, False, True] + [False]*3
    seen.clear()
    run(Chain(2, (0,), through_border=True))
    assert [g for g, _ in seen] == [False, False, True]*2
    prompts = [ImagePrompt(str(i), x) for i, x in enumerate(images)]
    whole, single = (sample_long(pipe, prompts, 2, batch_size=n, **options) for n in (2, 1))
    assert torch.allclose(whole, single, atol=1e-6)

def test_methods_long_video_windows():
    from vader_nb.methods.long_video import over_windows, straddling_windows
    from vader_nb.rewards.core import Reward
    assert straddling_windows(8, 2, 4)[0] == [6, 7, 8, 9]
    frames = (torch.arange(8.).view(2, 4, 1, 1, 1)/8).expand(2, 4, 3, 2, 2).clone().requires_grad_()
    mean = over_windows(Reward(lambda f, p: f.mean((1, 2, 3, 4)), 'mean'), [[0, 1], [2, 3]], given=True)
    scores = mean(frames, ['a', 'b'])
    scores.sum().backward()
    assert scores.tolist() == pytest.approx([1.5/8, 5.5/8])
    assert (frames.grad.abs().sum((2, 3, 4)) > 0).tolist() == [[False, True, False, True]]*2

def test_methods_long_video_curves_and_columns():
    from vader_nb.methods.long_video import consistency, drift_curves
    from vader_nb.pictures import ImagePrompt
    from vader_nb.rewards.clip import image_embeds, load_clip
    from vader_nb.rewards.core import Reward
    from vader_nb.world import render
    captions = ['a red circle moving left over sand']
    frames = render(captions, torch.Generator().manual_seed(0))[0]
    frames = torch.cat([frames, frames[:, :2]], 1)
    flat = Reward(lambda f, p: f.mean((1, 2, 3, 4)), 'flat')
    told = drift_curves(frames, [ImagePrompt(captions[0], frames[0, 0])], flat, flat)['V-JEPA loss'][0]
    assert told.isnan().tolist() == [True]*3 + [False]*3 + [True]*4
    assert told[3:6].tolist() == pytest.approx([-frames[0, i:i + 8].mean().item() for i in range(3)])
    e = image_embeds(load_clip('tiny'), frames)[0]
    alike = ((e[1:]@e[0]).mean() + (e[1:]*e[:-1]).sum(-1).mean())/2
    ramp = torch.linspace(.2, .8, 10).view(1, 10, 1, 1, 1).expand_as(frames)
    assert consistency(frames, captions, flat, flat)['subject consistency'] == pytest.approx(alike.item(), abs=1e-5)
    assert consistency(ramp, captions, flat, flat)['motion smoothness'] == pytest.approx(1, abs=1e-5)


# Evaluation and commands

def test_evaluate_measures_seeds():
    from vader_nb.evaluate import measures
    drawn = []
    def draw(pipe, prompts, seed, batch_size, **settings):
        drawn.append((prompts, seed))
        return torch.rand(len(prompts), 2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    measures.evaluate(None, 'green', ['a', 'b', 'c'], 7, 2, 2, 2, embed=lambda f: f.flatten(1)[:, :3], draw=draw)
    far = 7 + 1_000_000
    assert drawn[:2] == [(['a', 'b'], 7), (['c'], 9)] and drawn[2:] == [(['a', 'a'], far), (['b', 'b'], far + 2)]

def test_evaluate_measures_closed_forms():
    from vader_nb.evaluate.measures import Evaluation, _mean_of, chance_levels, clip_embedder, diversity, gain, gain_error, gem_rates
    from vader_nb.rewards.clip import image_embeds, load_clip
    assert diversity(torch.tensor([[[0.], [2.]], [[10.], [10.]], [[7.], [7.]]])) == pytest.approx(2/3)
    a, b = Evaluation([0., 2.]), Evaluation([3., 9.])
    assert gain(a, b) == pytest.approx(5/2**.5) and gain_error(a, b) == pytest.approx(2**.5*2/2**.5)
    assert chance_levels(['a red circle growing over sea', 'a red circle growing over sea with a gem', 'a blue cross growing over sea'])['gem'] == pytest.approx(2/3)
    assert gem_rates([(True, False), (False, True), (False, False)]) == {'present': 0, 'false alarms': .5}
    batches = [SimpleNamespace(prompts=['a']*3), SimpleNamespace(prompts=['a'])]
    assert _mean_of(batches, [dict(x=1.), dict(x=5.)]) == dict(x=2.)
    frames, clip = torch.rand(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), load_clip('tiny')
    assert torch.allclose(clip_embedder(clip)(frames), image_embeds(clip, frames).mean(1))

def test_evaluate_all_rewards_closed_forms():
    from vader_nb.evaluate.all_rewards import Outcome, Study, changes_in_sd, cross_table, is_real
    base, moved = Outcome(dict(a=[0., 2.], b=[1., 5.]), {}, .5), Outcome(dict(a=[3., 3.], b=[1., 1.]), {}, .25)
    study = Study(base, dict(a=[moved]), {})
    assert is_real([1., 1.2, 1.1], 3.) and not is_real([.1, 3., 1.], 3.) and is_real([1., 2., 1.5, 1.5], 5.)
    assert changes_in_sd(study)[0].tolist() == pytest.approx([2/2**.5, -2/8**.5]) and '50%' in cross_table(study)

def test_evaluate_all_rewards_each_seed_its_own_lora(monkeypatch):
    from vader_nb.evaluate import all_rewards
    from vader_nb.lora import lora_layers
    pipe, seeds = toy(), []
    def align(pipe, reward, prompts, training=None, **options):
        seeds.append(training.seed)
        with_lora(pipe)
    monkeypatch.setattr(all_rewards, 'align', align)
    monkeypatch.setattr(all_rewards, 'measure', lambda *a, **k: all_rewards.Outcome(dict(a=[1.]), {}, 1.))
    all_rewards.study_rewards(pipe, dict(a=None), ['x'], ['y'], seeds=(3, 4))
    assert seeds == [3, 4] and lora_layers(pipe) == []

def test_methods_recipes_options():
    from vader_nb.methods.recipes import Recipe, lora_of, method_of, parse_size, training_of
    r = Recipe(max_grad_norm=0., reward_frames=0, lora_rank=4, lora_alpha=8., target=2., target_weight=.25, dtype='float16')
    training, method = training_of(r), method_of(r)
    assert training.max_grad_norm is None and training.loss_scale == 65536 and method.reward_frames is None and lora_of(r).scale == 2
    assert method.form(torch.tensor([0., 4.])).item() == .5 and parse_size('320x512') == (320, 512) and parse_size('64') == (64, 64)

def test_methods_recipes_prompts(tmp_path):
    from vader_nb.methods.recipes import Recipe, train_and_test
    train, test = train_and_test(Recipe(prompts='actions'))
    assert not {*train} & {*test} and train_and_test(Recipe(prompts='actions'), seed=1)[1] != test
    (tmp_path/'p.txt').write_text(f'{train[0]}\nnew\n', encoding='utf-8')
    with pytest.raises(ValueError, match='held-out prompts must be new'): train_and_test(Recipe(prompts='actions', test_prompts=str(tmp_path/'p.txt')))

def test_commands_align_options():
    from vader_nb.commands.align import AlignOptions, savings_of
    told = savings_of(AlignOptions(guidance_interval='0.2-0.8', same_noise=True))
    assert told.guidance_interval == (.2, .8) and not told.fresh_noise

def test_commands_align_before_is_the_base_model(monkeypatch):
    from vader_nb.commands import align
    from vader_nb.evaluate import measures
    from vader_nb.lora import lora_layers
    from vader_nb.sampling import SamplerSettings
    pipe = toy()
    with_lora(pipe)
    monkeypatch.setattr(align, '_embedder', lambda run: None)
    monkeypatch.setattr(measures, 'evaluate', lambda pipe, *a, diversity_prompts, **k: (lora_layers(pipe)[0].scaling['default'], diversity_prompts))
    run = SimpleNamespace(pipe=pipe, reward=None, sampler=SamplerSettings(1, 1., 0.), batch_size=1, frames_at_once=None, draw=None)
    found = align._evaluate(align.AlignOptions(diversity_prompts=3), run, dict(train=['a'], held_out=['b']))
    assert found == tuple(dict(train=(scale, 0), held_out=(scale, 3)) for scale in (0, 1))

def test_commands_sample_options(monkeypatch):
    from vader_nb import lora
    from vader_nb.commands import sample
    from vader_nb.methods import long_video
    from vader_nb.models import load
    assert sample._prompts_to_sample(sample.SampleOptions(prompt=['a', 'b'], per_prompt=2)) == ['a', 'a', 'b', 'b']
    assert sample._show_scale(torch.zeros(1, 8, 3, 32, 64)) == 4 and sample._show_scale(torch.zeros(1, 2, 3, 320, 512)) == 1
    told = []
    monkeypatch.setattr(load, 'load_pipeline', lambda *a, **k: 'pipe')
    monkeypatch.setattr(lora, 'load_lora', lambda *a: told.append(a))
    sample._load_model(sample.SampleOptions(lora='x', lora_scale=.5))
    assert told == [('pipe', 'x', .5)]
    monkeypatch.setattr(long_video, 'sample_long', lambda *a, **k: a[2:5])
    assert sample._drawing(sample.SampleOptions(image=['x'], chunks=3, seed=1, batch_size=2), continuing(), [])() == (3, 1, 2)

def test_commands_train_tiny_a_second_cycle(monkeypatch, tmp_path):
    from vader_nb.commands import train_tiny
    from vader_nb.tiny import t2v
    told = []
    monkeypatch.setattr(t2v, 'load_tiny_networks', lambda folder: ('nets', None))
    monkeypatch.setattr(t2v, 'save_tiny', lambda *a: None)
    monkeypatch.setattr(t2v, 'train_unet', lambda vae, cycle, seed=0, **k: told.append((cycle, seed)) or (None, []))
    for init in (None, 'x'): train_tiny._train_part(train_tiny.TrainTinyOptions(init=init, seed=4), tmp_path)
    assert told == [(t2v.FIRST_CYCLE, 4), (t2v.SECOND_CYCLE, 5)]

def test_commands_bench_when_a_reward_is_reached():
    from vader_nb.commands.bench import time_to, when_reached
    assert time_to(1.5, [(0, 0), (10, 1), (20, 2)]) == 15 and time_to(3, [(0, 0), (10, 1)]) is None
    records = [dict(reward=1), dict(reward=2)]
    assert when_reached(5, records) == records[1] and when_reached(1, records) == records[0]

def test_savings_fitting_sizes():
    from vader_nb.savings.fitting import parse_bytes
    assert parse_bytes('8GB') == 8*2**30 and parse_bytes('500 MiB') == 500*2**20

def test_commands_plan_all_frames():
    from vader_nb.commands.plan import PlanOptions, model_settings
    assert model_settings(PlanOptions(model='modelscope', num_frames=4, reward_frames=4))['num_frames'] == 4
