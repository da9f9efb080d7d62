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

def test_callbacks_curve_and_moments(monkeypatch, tmp_path):
    import matplotlib
    matplotlib.use('Agg')
    from vader_nb import callbacks
    ax = callbacks.plot_log([dict(step=i, reward=float(r)) for i, r in enumerate((1, 3, 8), 1)], smooth=2)
    assert list(ax.lines[-1].get_ydata()) == [1, 2, 5.5]
    written = []
    monkeypatch.setattr(callbacks, '_write_samples', lambda samples, frames, step: written.append(step))
    quiet = callbacks.Samples(lambda: torch.zeros(1, 1, 3, 2, 2), 2, tmp_path)
    for n in range(5): (quiet.after_step if n else quiet.before_fit)(SimpleNamespace(step=n))
    quiet.before_fit(SimpleNamespace(step=3))       # of a resumed run
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

def test_video_before_is_left_and_after_right(monkeypatch):
    from vader_nb import video
    shown = []
    monkeypatch.setattr(video, '_show', lambda clips, *rest: shown.extend(clips))
    video.show_pair(torch.zeros(1, 2, 3, 4, 4), torch.full((1, 2, 3, 4, 4), .5), pad=1)
    assert shown[0][0, 0, :, 0].tolist() == [0]*4 + [255] + [128]*4

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

def test_pipeline_the_grey_pipeline_predicts_the_noise():
    from vader_nb.pipeline import GreyPipeline
    pipe, noise = GreyPipeline(grey=.5), torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in (20, 500, 980):
        a = pipe.scheduler.alphas_cumprod[t]
        pred = pipe.denoise(a.sqrt()*.5 + (1 - a).sqrt()*noise, t, pipe.encode_prompt(['a']), 1.)
        assert torch.allclose(pred, noise, atol=1e-4)

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
    try:
        fit_image(torch.zeros(3, 30, 29), (20, 19))
        fit_image(torch.zeros(3, 35, 30), (20, 20))         # 23.33 rows are 23
        fit_image(torch.zeros(3, 32, 30), (25, 25))         # 26.67 rows are 27
    finally: fit_image.__globals__['F'] = resized
    assert [c[0] for c in calls[1:]] == [(23, 20), (27, 25)]
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


def test_shared_one_process_asks_nobody(monkeypatch):
    from vader_nb import shared
    monkeypatch.setattr(shared, 'make_accelerator', lambda *a: pytest.fail('a single process has nobody to share with'))
    with shared.sharing('cpu'): assert shared.shared_out(str, [1, 2]) == ['1', '2'] and shared.from_main(3) == 3

def test_explore_rows_and_size_of_the_still():
    from PIL import Image
    from vader_nb.explore import Explore
    draw = lambda down, along: Image.new('RGB', (200, 20))
    once, twice = (Explore(draw, scale, down=(1, 2), along=(1, 2, 3)).still() for scale in (1., 2.))
    assert 600 <= once.width < 700 and 1200 <= twice.width < 1300 and once.height < 120


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

def test_savings_planner_cards_as_their_maker_says():
    from vader_nb.savings.planner import CARDS, Device, card
    assert {n: (c.peak/1e12, c.memory) for n, c in CARDS.items()} == dict(t4=(65, 16), l4=(121, 24), a6000=(154.8, 48), a100=(312, 80), h100=(989.5, 80))
    assert card('t4', .2) == Device(16*2**30, 13e12)

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


def test_savings_sharding_blocks_and_large_children():
    from vader_nb.savings.sharding import parts_to_shard
    net = nn.Module()
    net.blocks, net.large, net.small = nn.ModuleList([nn.Linear(9, 9), nn.Identity(), nn.Linear(9, 9)]), nn.Linear(9, 9), nn.Linear(1, 1)
    assert parts_to_shard(net) == [net.blocks[0], net.blocks[2], net.large, net]

def test_savings_sharding_counts_the_piece_that_is_here():
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from vader_nb.savings.sharding import base_bytes
    dist.init_process_group('fake', store=FakeStore(), rank=0, world_size=2)      # the other process is not there
    try: assert base_bytes(fully_shard(nn.Linear(4, 6, bias=False), mesh=init_device_mesh('cpu', (2,)))) == 4*6//2*4
    finally: dist.destroy_process_group()


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


def test_methods_policy_closed_forms():
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
    from vader_nb.methods.policy import sde_step, transition
    x, v = torch.full((1, 2), 2.), torch.zeros(1, 2)
    assert sde_step(v, x, .8, .6, .5).std.item() == pytest.approx(.5*(.8/.2*.2)**.5)
    assert sde_step(v, x, 1., .8, .5, sigma_max=.9).std.item() == pytest.approx(.5*(1/.1*.2)**.5)
    for scheduler, usual in ((DDIMScheduler(), 1.), (FlowMatchEulerDiscreteScheduler(), .7)):
        scheduler.set_timesteps(4)
        own, other, asked = (transition(scheduler, v, scheduler.timesteps[1], x, level).std for level in (usual, .5, None))
        assert own == asked > other > 0, scheduler

def test_methods_scores_memory_and_old_weights():
    from vader_nb.methods.scores import Copy, PromptStats, reference
    stats = PromptStats(buffer_size=2, min_count=2)
    stats.load_state_dict(dict(a=[1., 2.]))
    stats.advantages(['a'], torch.tensor([5.]))
    assert stats.state_dict() == dict(a=[2., 5.])
    p = nn.Parameter(torch.zeros(1))
    copy = Copy([p])
    p.data += 1
    copy.follow(.75)
    assert copy.values[0].item() == .25
    pipe, x = toy(), ramp(2, 3)
    with_lora(pipe)                                 # goes on from a LoRA: the base is the model without it
    with reference(pipe)(): assert torch.allclose(pipe.denoiser(x), toy().denoiser(x))
    assert not torch.allclose(pipe.denoiser(x), toy().denoiser(x))


def grainy(method, make, reward=lambda f, p: f.mean((1, 2, 3, 4)), **options):
    "A loss of a method on a closed form, and its pipeline"
    from vader_nb.methods.policy import GrainyPipeline
    from vader_nb.rewards.core import as_reward
    pipe = GrainyPipeline()
    return pipe, make(pipe, as_reward(reward), method, **dict(num_inference_steps=3) | options)

def test_methods_ddpo_parts_clip_and_noise():
    from vader_nb.methods import ddpo
    from vader_nb.methods.policy import policy_rollout
    levels = []
    def watched(pipe, batch, level, **settings): return levels.append(level) or policy_rollout(pipe, batch, level, **settings)
    pipe, loss = grainy(ddpo.DDPO(noise_level=.5, minibatches=2, videos_per_prompt=2), ddpo.ddpo_loss, rollout=watched)
    batch, parts = batch_of(), []
    for _ in range(3):
        loss.prepare([batch], batch.prompts)
        parts.append(ddpo._part(loss, batch.cache))
    assert levels == [.5] and parts == [slice(0, None, 2), slice(1, None, 2), slice(0, None, 2)]
    new, old, a, shape = torch.tensor([.3]), torch.zeros(1), torch.ones(1), (1, 4, 2, 2, 2)
    of = lambda **options: ddpo._objective(SimpleNamespace(method=ddpo.DDPO(**options)), new, old, a, shape).item()
    assert of(clip=.5) == pytest.approx(-math.exp(.3)) and of() == pytest.approx(-(1 + 1.64/32))
    chosen = {tuple(ddpo._chosen([*range(9)], 3, torch.Generator().manual_seed(s))) for s in range(9)}
    assert len(chosen) > 3 and all(len({*c}) == 3 and [*c] == sorted(c) for c in chosen)

def test_methods_dpo_ties_memory_and_texts():
    from vader_nb.methods import dpo
    told = []
    for mixed in (True, False):                                 # mixed: a pair of two videos; else ties pair a video with itself
        pipe, loss = grainy(dpo.DPO(buffer_size=0, official_pairs=mixed), dpo.dpo_loss, lambda f, p: torch.ones(len(f)))      # all are equally good
        value, metrics = loss(batch := batch_of())
        assert torch.autograd.grad(value, pipe.denoiser.weight)[0].abs().max() == 0 and value.item() == pytest.approx(math.log(2))
    encode = pipe.encode_prompt
    pipe.encode_prompt = lambda texts: told.append(texts) or encode(texts)
    dpo._noised_pairs(loss, batch)
    assert told == [['a', 'b', 'a', 'b']]                       # winners, then losers
    pairs = dpo.Pairs(2)
    for names in ('ab', 'c'): pairs.add(names, torch.tensor([float(ord(n)) for n in names]), torch.zeros(len(names)))
    assert pairs.prompts == ['b', 'c'] and pairs.latents.tolist() == [ord('b'), ord('c')]

def test_methods_nft_old_weights_levels_and_guidance(monkeypatch):
    from vader_nb.methods import nft
    from vader_nb.sampling import plain_rollout
    assert nft.optimality(torch.tensor([0., 5., -5., 2.5, 9.])).tolist() == [.5, 1, 0, .75, 1]
    drawn = []
    def watched(pipe, *a, **settings): return drawn.append((pipe.denoiser.weight.item(), settings['guidance_scale'])) or plain_rollout(pipe, *a, **settings)
    pipe, loss = grainy(nft.NFT(rate=9., hold=1., levels=4), nft.nft_loss, rollout=watched)
    first = pipe.denoiser.weight.item()
    loss.prepare([batch_of()], ['a', 'b'])
    pipe.denoiser.weight.data += 1                              # an update; the old model keeps all of itself
    loss.prepare([batch := batch_of(number=1)], ['a', 'b'])
    assert drawn == [(first, 1.), (first, 1.)]
    cond = pipe.encode_prompt(batch.cache['many'].prompts)
    n, now, old, base = nft._at_one_level(loss, batch.cache['many'], batch.cache['data'], cond)
    assert torch.equal(old, base) and not torch.allclose(now, base)
    one = torch.ones(len(now))
    monkeypatch.setattr(nft, 'nft_objective', lambda *a: nft.TwoSided(torch.tensor(3.), one, one, one))
    assert sum(nft._losses(loss, batch.cache, cond, [])).item() == pytest.approx(3)

def test_methods_full_size_files_and_room(monkeypatch, tmp_path):
    from vader_nb.methods import full_size
    assert full_size.cut(dict(a=5, b=3, c=4, d=20, e=1), 8) == [['a', 'b'], ['c'], ['d'], ['e']]
    tied = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    tied[1].weight = tied[0].weight
    assert full_size._shapes(tied) == {'0.weight': (2, 2)}
    monkeypatch.setattr(full_size, 'bytes_of', lambda r: 150)
    monkeypatch.setattr(full_size.shutil, 'disk_usage', lambda folder: SimpleNamespace(free=100))
    with pytest.raises(ValueError, match='on another disk'): full_size.check_room(SimpleNamespace(recipe='x'), tmp_path)
    full_size.check_room(SimpleNamespace(recipe='x'), tmp_path, toy=True)


def test_methods_experiments_numbers_of_the_paper_and_its_scripts():
    from vader_nb.methods.experiments import RECIPE_TABLE
    from vader_nb.methods.recipes import load_recipe
    always = dict(grad_steps='1', anchor=0., savings='none', max_grad_norm=1., lora_rank=16, weight_decay=0., lr=2e-4)
    vc2 = dict(always, num_inference_steps=25, guidance_scale=12., eta=1., lora_alpha=8., batch_size=8, train_steps=450, num_frames=12, size='320x512')
    scope = dict(always, num_inference_steps=25, guidance_scale=9., eta=0., lora_alpha=16., batch_size=16, train_steps=300, num_frames=16, size='384x384')
    sora = dict(always, num_inference_steps=30, guidance_scale=7., eta=0., lora_alpha=8., batch_size=8, num_frames=51, size='276x368')
    told = {'videocrafter2-hps-aesthetic': dict(vc2, reward='near_target(aesthetic, 10, 0.075) + near_target(hpsv2.1, 1, 0.5)', target=None),
            'videocrafter2-objects': dict(vc2, reward='objects(book, form=threshold)', target=None), 'opensora-pickscore': dict(sora, target=100., target_weight=.01),
            'modelscope-aesthetic': dict(scope, reward='aesthetic', target=10., target_weight=.1, reward_frames=1), 'modelscope-hpsv2': dict(scope, reward='hpsv2', target=1., target_weight=1.)}
    for name, settings in told.items(): assert {k: getattr(load_recipe(name), k) for k in settings} == settings, name
    for name, e in RECIPE_TABLE.items(): assert all(len(s.source) > 3 and s.source != k for k, s in e.settings.items()), name


# Evaluation and commands

def test_evaluate_measures_seeds():
    from vader_nb.evaluate import measures
    from vader_nb.pipeline import GreyPipeline
    drawn = []
    def draw(pipe, prompts, seed, batch_size, **settings):
        drawn.append((prompts, seed))
        return torch.rand(len(prompts), 2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    measures.evaluate(GreyPipeline(), 'green', ['a', 'b', 'c'], 7, 2, 2, 2, embed=lambda f: f.flatten(1)[:, :3], draw=draw)
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
    assert changes_in_sd(study)[0].tolist() == pytest.approx([2/2**.5, -2/8**.5]) and all(w in cross_table(study) for w in ('100%', '50%'))

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
    assert not {*train} & {*test} and train_and_test(Recipe(prompts='actions'), seed=1) == (train, test)
    assert train_and_test(Recipe(prompts='actions'), n=5, seed=1)[0] != train_and_test(Recipe(prompts='actions'), n=5)[0]
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
    monkeypatch.setattr(measures, 'evaluate', lambda pipe, *a, diversity_prompts, **k: (lora_layers(pipe)[0].scaling['default'], diversity_prompts))
    run = SimpleNamespace(pipe=pipe, reward=None, sampler=SamplerSettings(1, 1., 0.), batch_size=1, frames_at_once=None, draw=None)
    found = align._evaluate(align.AlignOptions(diversity_prompts=3), run, dict(train=['a'], held_out=['b']), None)
    assert found == tuple(dict(train=(scale, 0), held_out=(scale, 3)) for scale in (0, 1))

def test_evaluate_folders_a_batch_that_lacks_one_video_is_drawn(tmp_path):
    from vader_nb.evaluate.folders import draw_missing
    for name in 'abd': (tmp_path/name).mkdir()
    drawn, written = [], []
    draw_missing(lambda i: drawn.append(i) or 'xy', [tmp_path/n for n in 'abcdef'], 2, lambda p, v: written.append(p.name + v))
    assert drawn == [2, 4] and written == ['cx', 'ex', 'fy']      # of the batch c, d only what is missing

def test_evaluate_folders_what_the_videos_depend_on(tmp_path):
    from vader_nb.commands.sample import SampleOptions
    from vader_nb.evaluate.folders import at_once, check_drawn, drawn_with, frames_of, note_drawn
    lora, video = tmp_path/'a.safetensors', tmp_path/'000_a.mp4'
    lora.write_bytes(b'one'); video.touch()
    a = SampleOptions(lora=str(lora))
    note_drawn(tmp_path, drawn_with(a, ['a']))
    check_drawn(tmp_path, drawn_with(a, ['a']), [video])
    lora.write_bytes(b'two')        # another LoRA of the same name
    with pytest.raises(ValueError, match='another lora'): check_drawn(tmp_path, drawn_with(a, ['a']), [video])
    check_drawn(tmp_path, drawn_with(a, ['a']), [])
    assert [frames_of(SimpleNamespace(name=n)) for n in ('tiny', 'modelscope')] == [None, 1]
    assert [at_once(n, tiny) for n, tiny in ((None, True), (None, False), (3, True), (3, False))] == [16, 1, 3, 3]

def test_commands_own_model_what_a_log_shows():
    from vader_nb.commands.own_model import diagnose, rise
    log = [dict(reward=r, grad_norm=1., skipped=float(not i)) for i, r in enumerate((1, 2, 3, 9, 9, 9, 0, 1, 4))]
    assert rise(log) == pytest.approx((-1/3, 4/3)) and diagnose(log) == ['reward is flat']      # lower, within the noise

def test_commands_sample_options(monkeypatch):
    from vader_nb.commands import sample
    from vader_nb.methods import long_video, lora_formats
    from vader_nb.models import load
    assert sample._prompts_to_sample(sample.SampleOptions(prompt=['a', 'b'], per_prompt=2)) == ['a', 'a', 'b', 'b']
    assert sample._show_scale(torch.zeros(1, 8, 3, 32, 64)) == 4 and sample._show_scale(torch.zeros(1, 2, 3, 320, 512)) == 1
    told = []
    monkeypatch.setattr(load, 'load_pipeline', lambda *a, **k: 'pipe')
    monkeypatch.setattr(lora_formats, 'load_any_lora', lambda *a: told.append(a))
    sample._load_model(sample.SampleOptions(lora='x', lora_scale=.5))
    assert told == [('pipe', 'x', .5)]
    calls = []
    monkeypatch.setattr(long_video, 'sample_long', lambda pipe, **k: calls.append(k) or torch.zeros(len(k['prompts'])))
    n, draw = sample._drawing(sample.SampleOptions(image=['x'], chunks=3, seed=1, batch_size=2), continuing(), ['a', 'b', 'c'])
    assert n == 2 and [len(draw(i)) for i in (0, 2)] == [2, 1]
    assert [(k['chunks'], k['seed'], k['prompts']) for k in calls] == [(3, 1, ['a', 'b']), (3, 3, ['c'])]

def test_commands_train_tiny_a_second_cycle(monkeypatch, tmp_path):
    from vader_nb.commands import train_tiny
    from vader_nb.tiny import t2v
    told = []
    monkeypatch.setattr(t2v, 'load_tiny_networks', lambda folder: ('nets', None))
    monkeypatch.setattr(t2v, 'save_tiny', lambda *a: None)
    monkeypatch.setattr(t2v, 'train_unet', lambda vae, cycle, seed=0, **k: told.append((cycle, seed)) or (None, []))
    for init in (None, 'x'): train_tiny.PARTS['unet'](train_tiny.TrainTinyOptions(init=init, seed=4), tmp_path)
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


def test_evaluate_amt_a_time_that_is_not_the_middle(monkeypatch):
    from vader_nb.evaluate import amt
    seen = []
    def update(state, flows, found):
        seen.append(found)
        return torch.zeros_like(state), torch.full_like(flows, .5)
    monkeypatch.setattr(amt, 'lookup', lambda table, places, radius: places)
    flows = torch.tensor([4., 0, 8, 0]).view(1, 4, 1, 1).expand(1, 4, 4, 4)
    _, moved = amt._corrected(update, (None, None), torch.zeros(1, 3, 4, 4), flows, .25, 2)
    there = (seen[0] - amt.grid_of(seen[0]).repeat(1, 2, 1, 1))[0, :, 0, 0]
    assert there.tolist() == pytest.approx([4/.25, 0, 2/.75, 0])                # half the size: flows of 2 and 4 places
    assert moved[0, :, 0, 0].tolist() == pytest.approx([5, 1, 9, 1])            # and a correction of half a place is one of a whole

def test_evaluate_raft_gates():
    from vader_nb.evaluate.raft import _gru
    gate = lambda v: lambda both: torch.full((1, 1, 1, 1), v)
    hidden, x = torch.full((1, 1, 1, 1), .25), torch.ones(1, 1, 1, 1)
    assert _gru(hidden, x, gate(-99.), gate(0.), gate(2.)).item() == pytest.approx(.25)
    assert _gru(hidden, x, gate(99.), gate(0.), gate(2.)).item() == pytest.approx(math.tanh(2))

def test_evaluate_musiq_stem_and_votes():
    from vader_nb.evaluate.musiq import MUSIQ
    net = MUSIQ(hidden_size=8, mlp_dim=8, num_heads=1, num_layers=1, num_class=10).requires_grad_(False)
    net.head[0].weight.zero_(), net.head[0].bias.zero_()
    assert net(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).item() == pytest.approx(5.5)     # as many votes for each of 1 to 10
    spot = torch.zeros(1, 1, 16, 16)
    spot[..., 2, 2] = 1
    for part in ('gn_root', 'block1', 'embedding'): setattr(net, part, nn.Identity())
    net.conv_root.forward = lambda x: spot
    assert net.tokens(torch.zeros(1, 1, 3072)).nonzero()[:, 2].tolist() == [0, 1, 8, 9]     # zeros are added on the right and below

def test_evaluate_dino_the_class_token_keeps_its_place():
    from vader_nb.evaluate.dino import stretch
    table = torch.rand(1, 1 + 16, 3, generator=torch.Generator().manual_seed(0))
    assert stretch(table, 96, 64).shape == (1, 25, 3) and torch.equal(stretch(table, 96, 64)[:, 0], table[:, 0])


# Rewards

def ramp(*shape): return torch.linspace(0, 1, math.prod(shape)).view(shape)

def test_rewards_core_frames_and_prompts_meet():
    from vader_nb.rewards.core import colourfulness_reward, green_reward, motion_energy, motion_reward, per_frame
    frames = ramp(2, 3, 3, 4, 4)
    scored = per_frame(lambda images, prompts: images.mean((1, 2, 3))*torch.tensor([float(p) for p in prompts]))
    assert torch.allclose(scored(frames, ['1', '10']), frames.mean((1, 2, 3, 4))*torch.tensor([1., 10.]))
    pure = torch.tensor([.2, .8, .4]).view(1, 1, 3, 1, 1).expand(1, 3, 3, 4, 4)
    assert green_reward()(pure, ['']).item() == pytest.approx(.5)
    steps = torch.tensor([0., .1, .3]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 4, 4)
    assert motion_energy(steps).item() == pytest.approx(math.sqrt((.01 + .04)/2))
    assert motion_reward(1e-4)(pure, ['']).item() == pytest.approx(.01)
    assert colourfulness_reward(0.)(pure, ['']).item() == pytest.approx(.3*math.hypot(.6, .1), abs=1e-4)

def test_rewards_core_forms_and_sums():
    from vader_nb.rewards.core import Reward, at_least, check_worlds, distance_to
    a, b = (Reward(lambda f, p, v=v: f.mean((1, 2, 3, 4)) + v, n) for n, v in (('a', 1.), ('b', 3.)))
    frames, net = torch.zeros(2, 1, 3, 2, 2), nn.Dropout()
    assert distance_to(2., .5)(torch.tensor([0., 4.])).item() == 1
    assert at_least(a, 1.5, 2.)(frames, ['', '']).tolist() == [-1, -1] and at_least(a, .5)(frames, ['', '']).tolist() == [0, 0]
    scores, parts = (a - b).with_parts(frames, ['', ''])
    assert scores.tolist() == [-2, -2] and {k: v.tolist() for k, v in parts.items()} == dict(a=[1, 1], b=[3, 3])
    assert len((a + Reward(b.fn, 'a')).parts(frames, ['', ''])) == 2
    Reward(lambda f, p: net(f).mean((1, 2, 3, 4)), 'net', [net])
    assert not net.training
    for name, scorer, fine in (('tiny', 'clip', False), ('svd', 'tiny-clip', False), ('tiny', 'tiny-clip', True), ('svd', 'clip', True)):
        reward = Reward(lambda f, p: f.mean((1, 2, 3, 4)), 'x', scorer=scorer)
        if fine: check_worlds(SimpleNamespace(name=name), reward)
        else:
            with pytest.raises(ValueError): check_worlds(SimpleNamespace(name=name), reward)

def test_rewards_clip_sizes():
    from vader_nb.rewards import clip
    assert clip.shortest_edge(30, 50, 20) == (20, 33) and clip.shortest_edge(50, 30, 20) == (33, 20)
    x = ramp(1, 1, 6, 10)
    assert torch.equal(clip.central_square(x, 4), x[..., 1:5, 3:7])
    assert clip.CLIP_MEAN[0] > clip.CLIP_MEAN[1] > clip.CLIP_MEAN[2]

def test_rewards_clip_scores_are_cosines():
    from vader_nb.rewards.clip import clip_reward, image_embeds, load_clip, text_embeds, tiny_tokenizer
    net, tok, texts, frames = load_clip('tiny'), tiny_tokenizer(), ['a red circle', 'a blue cross'], ramp(2, 1, 3, 32, 32)
    text, image = text_embeds(net, tok, texts), image_embeds(net, frames)
    assert torch.allclose(text.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert torch.allclose(clip_reward('tiny')(frames, texts), nn.functional.cosine_similarity(image[:, 0], text), atol=1e-5)

def test_rewards_aesthetic_loss_and_head(tmp_path):
    from safetensors.torch import save_file
    from vader_nb.rewards.aesthetic import AestheticHead, aesthetic_loss, as_affine, load_head
    head, e = AestheticHead(6, (5, 4, 3, 2)).eval(), ramp(3, 6)
    w, b = as_affine(head)
    assert aesthetic_loss(torch.tensor([4., 8.])).item() == pytest.approx(.4) and torch.allclose(head(e), e@w + b, atol=1e-6)
    save_file(head.state_dict(), tmp_path/'h.safetensors')
    assert torch.equal(load_head(tmp_path/'h.safetensors')(e), head(e))

def test_rewards_aesthetic_uses_its_preprocessing():
    from vader_nb.rewards.aesthetic import aesthetic_reward
    seen = []
    def resize(images, size):
        seen.append(size)
        return nn.functional.interpolate(images, (size, size))
    aesthetic_reward('tiny', resize=resize)(ramp(1, 1, 3, 8, 8), [''])
    assert seen == [32]

def test_rewards_load_sums(tmp_path):
    from vader_nb.rewards.load import _make, _parse, load_reward
    assert [t[:2] for t in _parse('0.5*green - motion + edges')] == [(.5, 'green'), (-1, 'motion'), (1, 'edges')]
    (tmp_path/'neighbour_of_mine.py').write_text('half = .5\n')
    (tmp_path/'own.py').write_text('from neighbour_of_mine import half\ndef r(frames, prompts): return half*frames.mean((1, 2, 3, 4))\n')
    assert load_reward(f'{tmp_path}/own.py:r')(torch.ones(1, 1, 3, 2, 2), ['']).item() == .5
    from vader_nb.hub import weights_folder
    with pytest.raises(Exception): _make('tiny-clip', model=str(tmp_path/'absent'))
    assert _make('tiny-clip', model=str(weights_folder('clip'))).name

def test_rewards_open_clip_there_and_back():
    from transformers import CLIPConfig, CLIPModel
    from vader_nb.rewards.open_clip import convert_open_clip, open_clip_names
    tower = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, hidden_act='gelu', layer_norm_eps=1e-5)
    torch.manual_seed(0)
    net = CLIPModel(CLIPConfig(projection_dim=16, vision_config=dict(tower, image_size=12, patch_size=4),
                               text_config=dict(tower, vocab_size=20, max_position_embeddings=7, bos_token_id=0, pad_token_id=1, eos_token_id=2)))
    again = convert_open_clip(open_clip_names(net), 2, 2)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items())

def test_rewards_preference_bars_and_sizes():
    from vader_nb.rewards.preference import _shortest, resize_pad
    x = resize_pad(torch.ones(1, 3, 10, 7), 10)[0, 0]
    assert (x.sum(0) > 9).tolist() == [False] + [True]*7 + [False]*2
    assert resize_pad((ramp(1, 3, 40, 40) > .5).float(), 20).max() < 1.01
    assert _shortest(torch.zeros(1, 3, 30, 50), 20) == (20, 33) and _shortest(torch.zeros(1, 3, 50, 30), 20) == (33, 20)

def test_rewards_preference_scores_and_goals():
    from vader_nb.rewards.clip import find_tokenizer, image_embeds
    from vader_nb.rewards.core import Reward
    from vader_nb.rewards.preference import _find_clip, aesthetic_hps_goal, aesthetic_hps_loss, hps_reward, ids_embeds, pickscore_reward, token_ids
    clip, tok, frames = _find_clip('tiny', 'pickscore'), find_tokenizer('tiny'), ramp(3, 1, 3, 32, 32)
    texts = ['a red circle', 'a red circle', 'a blue cross']
    cosine = (image_embeds(clip, frames)[:, 0]*ids_embeds(clip, token_ids(tok, texts, 12))).sum(-1)
    assert torch.allclose(pickscore_reward('tiny')(frames, texts), clip.logit_scale.exp()*cosine, atol=1e-3)
    assert token_ids(tok, ['a'], 12, pad=9)[0, -1] == 9
    assert hps_reward(clip, '2.1', tok).name == 'hpsv2.1' and hps_reward(clip, '2.0', tok).name == 'hpsv2'
    a, h = torch.tensor([4., 6.]), torch.tensor([.2, .4])
    assert aesthetic_hps_loss(a, h).item() == pytest.approx((1.5*.1*5 + .7)/2)
    goal = aesthetic_hps_goal(Reward(lambda f, p: a, 'a'), Reward(lambda f, p: h, 'h'))
    assert goal(frames[:2], texts[:2]).tolist() == pytest.approx([-.075*6 - .5*.8, -.075*4 - .5*.6])

def test_rewards_objects_closed_forms():
    from vader_nb.rewards.objects import detr_size, log_odds, resize_vader, smooth_form, threshold_form
    assert detr_size(100, 150, 50) == (48, 64)
    p = torch.tensor([[[.6, .3, .1], [.15, .15, .7], [.1, .5, .4]]])
    logits, q = p.log(), 1 - .4*.85*.9
    assert threshold_form(logits, [0]).item() == pytest.approx(.4) and threshold_form(logits, [1]).item() == pytest.approx(.5)
    assert threshold_form(logits, [0, 1], True).item() == pytest.approx(.55)
    assert log_odds(logits, [0])[0].exp().tolist() == pytest.approx([.6/.4, .15/.85, .1/.9], rel=1e-4)
    assert smooth_form(logits, [0]).exp().item() == pytest.approx(1 - q) and smooth_form(logits, [0], True).exp().item() == pytest.approx(q)
    x = ramp(1, 3, 8, 8).sin()
    assert torch.equal(resize_vader(x, 4), nn.functional.interpolate(x, (4, 4), mode='bilinear'))

def test_rewards_action_closed_forms(monkeypatch):
    from vader_nb.rewards import action
    assert action.sample_frames(torch.arange(8.).view(1, 8, 1, 1, 1), 4).flatten().tolist() == [1, 3, 5, 7]
    assert action.action_loss(torch.tensor([.5, .25])).item() == pytest.approx(1.5*math.log(2))
    net = nn.Linear(1, 1)
    net.config = SimpleNamespace(id2label={0: 'walking dog', 1: 'riding bike'})
    monkeypatch.setattr(action, 'action_logits', lambda *a: torch.tensor([[.8, .2], [.8, .2]]).log())
    score = lambda **k: action.action_reward(net, **k)(torch.zeros(2, 1, 3, 8, 8), ['walking dog', 'riding bike']).exp().log().tolist()
    assert score() == pytest.approx([.8, .2]) and score(log=True) == pytest.approx([math.log(.8), math.log(.2)])
    with pytest.raises(ValueError): action.match_label('a piano player', ['playing the old piano loudly', 'riding bike'])

def test_rewards_viclip_parts():
    from vader_nb.rewards.viclip import QuickGELU, TextEncoder, VideoEncoder, frames_by_stride, frames_in_the_middle, viclip_tokens
    assert QuickGELU()(torch.tensor(1.)).item() == pytest.approx(1/(1 + math.exp(-1.702)))
    assert frames_by_stride(9, 4) == [0, 2, 4, 6] and frames_in_the_middle(8, 4) == [0, 2, 4, 6]
    tok = lambda text, **k: SimpleNamespace(input_ids=[5, 6, 7])
    assert viclip_tokens(tok, ['x'], 5).tolist() == [[5, 6, 7, 0, 0]]
    torch.manual_seed(0)
    text = TextEncoder(4, 5, 10, 8, 2, 1, end_token=7).eval()
    ids, other = torch.tensor([[5, 6, 7, 0, 0]]), torch.tensor([[5, 6, 7, 3, 3]])
    assert torch.allclose(text(ids), text(other), atol=1e-6) and not torch.allclose(text(ids), text(torch.tensor([[5, 4, 7, 0, 0]])), atol=1e-4)
    eyes = VideoEncoder(8, 4, 8, 1, 2, 4, 3).eval()
    eyes.temporal_positional_embedding.data = torch.randn(1, 3, 8)
    still, other = torch.randn(2, 1, 1, 3, 8, 8)
    assert not torch.allclose(eyes(torch.cat([still, other, other], 1)), eyes(torch.cat([other, still, other], 1)), atol=1e-4)
    one = eyes(still)
    eyes.temporal_positional_embedding.data = eyes.temporal_positional_embedding.mean(1, keepdim=True).expand(1, 3, 8)
    assert torch.allclose(eyes(still), one, atol=1e-6)

def test_rewards_vjepa_masks_and_errors():
    from vader_nb.rewards.vjepa import LONG_RANGE, SHORT_RANGE, Blocks, _block_size, _hide_blocks, jepa_errors, multiblock_masks, resize_margin
    g = lambda: torch.Generator().manual_seed(0)
    tall = Blocks(1, (.5, .5), (.25, .25), (4., 4.))
    assert _block_size((4, 8, 8), tall, g()) == (1, 8, 3) and (~_hide_blocks((4, 8, 8), tall, (1, 8, 3), g())).sum() == 24
    a, b = (len(hidden) for _, hidden in multiblock_masks((4, 8, 8), 2, (LONG_RANGE, Blocks(1, (.1, .1))), g()))
    assert a > 2*b
    grads = []
    class Net:
        def targets(self, clip):
            grads.append(torch.is_grad_enabled())
            return clip
        def grid(self, clip): return None
        def context(self, clip, seen): return clip
        def predict(self, z, seen, hidden, i, grid): return torch.zeros(1, hidden.shape[1], 2)
    clip, masks = torch.tensor([[[0., 1.], [5., 1.]]]), [(torch.tensor([[0]]), torch.tensor([[1]]))]
    assert jepa_errors(Net(), clip, masks).item() == pytest.approx(1, abs=1e-3)
    assert jepa_errors(Net(), clip, masks, power=2.).item() == pytest.approx(.5, abs=1e-3)
    with torch.no_grad(): jepa_errors(Net(), clip, masks)
    jepa_errors(Net(), clip, masks, through_target=False)
    assert grads == [True, True, False, False]
    frame = torch.zeros(1, 1, 3, 64, 64)
    frame[..., :2, :] = 1
    assert resize_margin(frame, 28).max() < .5        # the border is cut off

def test_rewards_vjepa_tiny_masks_stay():
    from vader_nb.rewards.vjepa import vjepa_reward
    from vader_nb.world import render
    reward, x = vjepa_reward('tiny'), render(['a red circle moving left over sand'], torch.Generator().manual_seed(0))[0]
    with torch.no_grad(): scores = [reward(x, ['']).item() for _ in range(2)]
    assert scores[0] == scores[1] < 0

def test_rewards_vjepa1_tables_and_tokens(tmp_path):
    from vader_nb.rewards.vjepa1 import VJEPA1, Encoder, Predictor, Sizes, load_vjepa1, sincos_table
    t = sincos_table(14, (3, 2, 2))             # shares of ceil(14/6)*2 = 6 channels
    assert t.shape == (12, 14) and t[8, :6].tolist() == pytest.approx([f(2*10000**(-i/3)) for f in (math.sin, math.cos) for i in range(3)])
    assert t[1, 12].item() == pytest.approx(math.sin(1))
    sizes = Sizes(8, 4, 4, 2, 12, 2)
    torch.manual_seed(0)
    net = VJEPA1(Encoder(sizes, 1), Predictor(sizes, 12, 1), Encoder(sizes, 1)).eval()
    net.predictor.mask_tokens[1].data += 1
    context, places = ramp(1, 1, 12), torch.tensor([[0]])
    assert not torch.equal(net.predict(context, places, places + 1, 0), net.predict(context, places, places + 1, 1))
    block, x = net.encoder.blocks[0], ramp(1, 3, 12)
    for p in block.parameters(): p.data.zero_()
    assert torch.equal(block(x), x)
    torch.save({p: getattr(net, p).state_dict() for p in ('encoder', 'predictor', 'target_encoder')}, tmp_path/'n.pth')
    assert load_vjepa1(tmp_path/'n.pth', 4, 2).size == 8

def test_rewards_guards_closed_forms():
    from vader_nb.rewards import guards
    assert guards.grey_levels(torch.eye(3)[:, :, None, None])[:, 0, 0].tolist() == pytest.approx([.299, .587, .114])
    flat, slope = torch.full((1, 3, 8, 8), .5), ramp(8).expand(1, 3, 8, 8)
    assert guards.edge_strength(flat).abs().max() < 1e-6 and guards.edge_strength(slope)[0, 4, 4].item() == pytest.approx(math.hypot(1/7, .01) - .01, abs=1e-5)
    for quality, first in ((50, 16), (75, 8), (25, 32), (95, 2)): assert guards.quantisation_tables(quality)[0, 0, 0] == first
    d = guards.dct_matrix()
    assert torch.allclose(d@d.T, torch.eye(8, dtype=torch.float64))
    luma, cb, cr = guards.jpeg_coefficients(torch.tensor([1., 0., 0.]).view(1, 3, 1, 1).expand(1, 3, 16, 16), 50)
    assert cr[0, 0, 0, 0].item() == pytest.approx(8*255*.5/17, rel=1e-3) and luma[0, 0, 0, 0].item() == pytest.approx(8*(255*.299 - 128)/16, rel=1e-3)
    noisy, quiet = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0)), torch.full((1, 3, 8, 8), .9)
    assert guards.jpeg_kilobytes(quiet).item() > .002       # the first mean costs, too
    assert torch.allclose(guards.jpeg_coefficients(noisy[..., :16])[0][0], guards.jpeg_coefficients(noisy[..., :17])[0][0, [0, 1, 4, 5]], atol=1e-4)
    depth = ramp(1, 3, 2, 2)
    assert torch.allclose(guards.depth_steadiness(torch.cat([depth, 5*depth.sin()])), torch.cat([guards.depth_steadiness(depth), guards.depth_steadiness(5*depth.sin())]))
    assert guards.depth_size(100, 400, 112) == (112, 448) and guards.depth_size(100, 56, 112) == (112, 56)

def test_rewards_contract_finds_what_is_broken():
    from vader_nb.rewards.contract import _frozen, _small, check_contract, check_reward
    from vader_nb.rewards.core import Reward
    frames, prompts = torch.rand(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), ['a', 'b']
    w = nn.Parameter(torch.ones(1))
    def fails(fn, **k):
        with pytest.raises(AssertionError, match=k.pop('match')): check_reward(Reward(fn, 'bad'), frames, prompts, **k)
    fails(lambda f, p: (w*f).mean((1, 2, 3, 4)), match='receives a gradient')
    fails(lambda f, p: f[:, :1].mean((1, 2, 3, 4)), match='no gradient at')
    fails(lambda f, p: f.mean((1, 2, 3, 4)) + torch.arange(len(f))*(len(f) > 1), match='permuting')
    assert not _small('x', lambda: 2., 1.).ok and _small('x', lambda: .5, 1.).ok
    net = nn.Dropout()
    reward = Reward(lambda f, p: net(f).mean((1, 2, 3, 4)), 'r', [net])
    net.train()
    assert not _frozen(reward).ok
    with pytest.raises(AssertionError): check_contract(Reward(lambda f, p: f[:, :1].mean((1, 2, 3, 4)), 'one frame'), frames, prompts)

def test_world_closed_forms():
    from vader_nb.world import footage, motion_path, oracle_accuracy, parse_caption, render, shape_distance, split_captions
    up = motion_path('moving up', torch.tensor([-1., 1.]))
    assert up[1].tolist() == [6, -6] and shape_distance('square', torch.tensor(1.), torch.tensor(0.), torch.tensor(1.)).item() == pytest.approx(.12)
    train, test = split_captions(200)
    assert len(train) + len(test) == len({*train, *test}) == 1152
    grey = footage(torch.tensor([.3, .6, .9]).view(1, 1, 3, 1, 1).expand(1, 2, 3, 2, 2), torch.tensor(0.), torch.tensor(0.))
    assert torch.allclose(grey, torch.tensor(.6))
    with pytest.raises(ValueError): parse_caption('a red circle moving left under sand')
    caption = ['a red circle moving left over sand']*2
    clear, dull = (render(caption, torch.Generator().manual_seed(0), 1., h)[0] for h in (0., .3))
    assert all(v == 1 for v in oracle_accuracy(clear, caption).values()) and dull.max() < .85
    assert clear[:, :, 0].max().item() == pytest.approx(.9, abs=1e-3)
    assert torch.equal(clear, render(caption, torch.Generator().manual_seed(0), 1., 0)[0])

def test_hub_strict():
    from vader_nb.hub import load_strict
    net = nn.Linear(2, 3)
    for state in (dict(weight=torch.ones(2, 3), bias=torch.ones(3)), net.state_dict() | dict(more=torch.ones(1)), dict(weight=torch.ones(3, 2))):
        with pytest.raises(ValueError): load_strict(nn.Linear(2, 3), state)

def test_downloads_names_of_the_hub():
    from vader_nb.downloads import is_hub_id
    assert is_hub_id('owner/name') and not is_hub_id('a/b/c') and not is_hub_id('./a')

def test_hub_halves_and_missing_weights(tmp_path):
    from transformers import CLIPConfig, CLIPModel
    from vader_nb.hub import _read_half, load_pretrained, weights_folder
    (tmp_path/'a.fp16.safetensors').write_bytes(b'')
    assert _read_half(tmp_path, torch.float32) and _read_half(tmp_path, torch.float16)
    (tmp_path/'a.safetensors').write_bytes(b'')
    assert not _read_half(tmp_path, torch.float32) and _read_half(tmp_path, torch.bfloat16)
    config = CLIPConfig.from_pretrained(weights_folder('clip'))
    assert not load_pretrained(CLIPModel, weights_folder('clip'), config, spare=True).training
    config.vision_config.num_hidden_layers += 1
    with pytest.raises(ValueError): load_pretrained(CLIPModel, weights_folder('clip'), config, spare=True)

def test_names_nearest():
    from vader_nb.names import did_you_mean
    assert did_you_mean('modelscop', ['modelscope', 'svd']) == "; did you mean 'modelscope'?"


def test_rewards_sizes_files_and_memory(monkeypatch, tmp_path):
    import resource
    from safetensors.torch import load_file
    from vader_nb.rewards import sizes
    from vader_nb.rewards.core import as_reward
    from vader_nb.rewards.preference import HPS_FILES
    from vader_nb.savings.meter import SavedBytes
    if not math.isnan(sizes._peak()): assert sizes._peak() == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024, rel=.01)
    assert [sizes.write_published(n, tmp_path/n, toy=True)['model'].name for n in ('hpsv2', 'hpsv2.1')] == [HPS_FILES['2.0'], HPS_FILES['2.1']]
    names = load_file(sizes.save_hub(sizes.toy_videomae(), tmp_path/'v')/'model.safetensors')
    assert any(n.endswith('attention.q_bias') for n in names) and not any('query.bias' in n for n in names)
    peaks, net = iter([100, 350]), nn.Linear(3, 2).half()
    reward = as_reward(lambda frames, prompts: frames.mean((1, 2, 3, 4)))
    monkeypatch.setattr(sizes, '_peak', lambda: next(peaks))
    monkeypatch.setattr(sizes, 'reward_at', lambda name, options: type('Small', (), dict(networks=[net], __call__=lambda self, *a: reward(*a)))())
    told = sizes.measure_reward('clip', {}, (8, 8), torch.float16, SavedBytes)
    assert told['peak'] == 250 and (told['parameters'], told['weights']) == (8, 16)


# Base models

def test_models_svd_reach_is_the_derivative():
    from vader_nb.models.svd import svd_scheduler, step_reach
    scheduler = svd_scheduler(sigma_min=.1, sigma_max=5.)
    reach, s = step_reach(scheduler, 4), scheduler.sigmas
    for i in range(4):      # v moves x0 by -sigma/sqrt(sigma^2 + 1), and x by that share of the step
        assert reach[i].item() == pytest.approx(((s[i] - s[i + 1])/(s[i]**2 + 1)**.5).item())
    x, v = torch.ones(1), torch.zeros(1, requires_grad=True)
    scheduler.set_timesteps(4)
    scheduler.scale_model_input(x, scheduler.timesteps[0])
    moved = torch.autograd.grad(scheduler.step(v, scheduler.timesteps[0], x).prev_sample.sum(), v)[0]
    assert -moved.item() == pytest.approx(reach[0].item(), rel=1e-3)

def test_models_svd_guidance_and_input():
    from vader_nb.models.svd import ImageCondition, SVDPipeline, svd_scheduler
    pipe, seen = object.__new__(SVDPipeline), []
    pipe.latent_shape, pipe.num_frames, pipe.min_guidance_scale, pipe.scheduler = (1, 3, 2, 2), 3, 1., svd_scheduler()
    def net(x, t, embeds, ids):
        seen.append(x)
        return SimpleNamespace(sample=x[:, :, :1]*0 + torch.arange(1., 1 + len(x)).view(-1, 1, 1, 1, 1))
    pipe.denoiser = net
    pipe.scheduler.set_timesteps(4)
    cond, x = ImageCondition(torch.ones(1, 1, 2), torch.full((1, 1, 2, 2), 7.), torch.ones(1, 3)), torch.ones(1, 1, 3, 2, 2)
    out = pipe.denoise(x, pipe.scheduler.timesteps[1], cond, 3.)
    assert out[0, 0, :, 0, 0].tolist() == [2, 3, 4]            # 1 + scale*(2 - 1), with scales 1, 2, 3
    sigma = pipe.scheduler.sigmas[1].item()
    assert seen[0][0, 0, :, 0, 0].tolist() == pytest.approx([1/math.sqrt(sigma**2 + 1), 0]) and seen[0][1, 0, 1, 0, 0] == 7

def test_models_svd_toy():
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
    from vader_nb.models.svd import resize_antialiased, tiny_random_svd
    pipe = tiny_random_svd(num_frames=5, decode_chunk_size=2)
    z = torch.randn(1, *pipe.latent_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(): whole, some = pipe.decode(z), pipe.decode(z, [3, 4])
    assert torch.allclose(whole[:, [3, 4]], some, atol=1e-5)
    assert pipe.init_latents(1, torch.Generator().manual_seed(0)).std() > 100
    assert pipe.encode_images(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).added_time_ids[0].tolist() == pytest.approx([6, 127, .02])
    stripes = (torch.arange(96) % 6 < 3).float().expand(1, 3, 96, 96).contiguous()
    assert torch.allclose(resize_antialiased(stripes, (24, 24)), _resize_with_antialiasing(stripes, (24, 24)), atol=1e-5)

def test_models_opensora_closed_forms():
    from vader_nb.models.opensora import OpenSoraCondition, clean_prompt, give_frames, random_opensora
    assert random_opensora(num_frames=1).fps == 120 and clean_prompt('A cat. aesthetic score: 5.') == 'a cat. aesthetic score: 5.'
    pipe = random_opensora()
    cond, z = pipe.encode_prompt(['a red circle moving left over sand']), pipe.init_latents(1, torch.Generator().manual_seed(0))
    told, start = give_frames(cond, z, z[:, :, :1]*0, [0])
    assert told.frame_mask.tolist() == [[False] + [True]*(z.shape[2] - 1)] and start[:, :, 0].abs().max() == 0 and told[:1].frame_mask is not None
    pipe.scheduler.set_timesteps(2)
    with torch.no_grad(): v = pipe.denoise(z, pipe.scheduler.timesteps[0], told, 3.)
    assert v[:, :, 0].abs().max() == 0 < v[:, :, 1].abs().max()
    assert [pipe.latent_of(f) for f in (0, 1, 16, 17, 18, 21)] == [0, 1, 4, 5, 6, 6]
    pipe.denoiser = lambda z, t, text, **k: SimpleNamespace(sample=text.mean((1, 2)).view(-1, 1, 1, 1, 1).expand(len(z), *z.shape[1:]))
    stand_in, cond = SimpleNamespace(), OpenSoraCondition(torch.ones(1, 3, 2), torch.zeros(1, 3, 2), cond.text_mask)
    vars(stand_in).update(vars(pipe), dtype=torch.float32)
    assert type(pipe).denoise(stand_in, z, pipe.scheduler.timesteps[0], cond, 3.).mean().item() == 3

def test_models_rflow_closed_forms():
    from vader_nb.models.rflow import RFlowScheduler, guided_velocity, sample_masked, timestep_transform
    t, ratio = torch.tensor([500.]), math.sqrt(256*256/512**2)*math.sqrt(10)     # 50 frames: 50//17*5 latents
    assert timestep_transform(t, 256, 256, 50).item() == pytest.approx(1000*ratio*.5/(1 + (ratio - 1)*.5), rel=1e-5)
    s = RFlowScheduler(use_timestep_transform=False)
    s.set_timesteps(4)
    assert s.timesteps.tolist() == [1000, 750, 500, 250] and s.add_noise(torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([250.])).item() == .75
    network = lambda z, t: torch.cat([torch.full((1, 2, 1, 1, 1), v) for v in (5., 1.)])
    assert guided_velocity(network, torch.zeros(1, 1, 1, 1, 1), t[0], 2.).item() == 9
    x0, noise = torch.full((1, 1, 1, 1, 1), 2.), torch.full((1, 1, 1, 1, 1), -1.)
    x = .25*x0 + .75*noise
    for eta in (0., .5):
        g = torch.Generator().manual_seed(0)
        assert s.step(x0 - noise, s.timesteps[1], x, eta, g).pred_original_sample.item() == pytest.approx(2)
    asked = []
    sample_masked(lambda z, t, active: asked.append((z.flatten().tolist(), active.tolist())) or torch.zeros_like(z), torch.full((1, 1, 2, 1, 1), 3.), s,
                  torch.tensor([[1., .5]]), noise=torch.zeros(4, 1, 1, 2, 1, 1))
    assert [a for _, a in asked] == [[[True, False]]]*2 + [[[True, True]]]*2
    assert [z for z, _ in asked] == [[3, 3], [3, 3], [3, 1.5], [3, 1.5]]        # noise is added once, where the edit starts

def test_models_vc2_scheduler_closed_forms():
    from vader_nb.models.vc2_scheduler import VC2DDIMScheduler, vc2_timesteps
    s = VC2DDIMScheduler()
    s.set_timesteps(4)
    assert vc2_timesteps(4) == [1, 251, 501, 751]
    x0, eps = torch.tensor([2.], dtype=torch.float64), torch.tensor([.5], dtype=torch.float64)
    at = lambda t: s.scale_arr[t]*s.alphas_cumprod[t].sqrt()*x0 + (1 - s.alphas_cumprod[t]).sqrt()*eps
    assert torch.allclose(s.add_noise(x0, eps, torch.tensor([501])), at(501))
    for now, then in ((751, 501), (1, 0)):
        out = s.step(eps, torch.tensor(now), at(now))
        assert torch.allclose(out.pred_original_sample, x0) and torch.allclose(out.prev_sample, at(then))

def test_models_unet3d_closed_forms():
    from diffusers import DDIMScheduler, EulerDiscreteScheduler
    from vader_nb.models.unet3d import UNet3DPipeline, checkpoint_blocks
    from vader_nb.models.modelscope import tiny_random_modelscope
    from vader_nb.pipeline import Condition
    pipe, seen = object.__new__(UNet3DPipeline), []
    pipe.latent_shape, pipe.scheduler = (1, 2, 2, 2), EulerDiscreteScheduler()
    pipe.scheduler.set_timesteps(4)
    pipe.denoiser = lambda x, t, text: seen.append(x) or SimpleNamespace(sample=x*0 + text.view(-1, 1, 1, 1, 1))
    cond, x = Condition(torch.full((1, 1, 1), 5.), torch.full((1, 1, 1), 1.)), torch.ones(1, 1, 2, 2, 2)
    assert pipe.denoise(x, pipe.scheduler.timesteps[1], cond, 2.).unique().tolist() == [9]
    assert seen[0][0, 0, 0, 0, 0].item() == pytest.approx(1/(pipe.scheduler.sigmas[1].item()**2 + 1)**.5, rel=1e-4)
    pipe.vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=.5), decode=lambda z: SimpleNamespace(sample=z.expand(-1, 3, -1, -1)))
    assert pipe.decode(.2*x).unique().tolist() == pytest.approx([.7]) and pipe.decode(9*x).max() == 1
    toy = tiny_random_modelscope(scheduler=EulerDiscreteScheduler)
    noise, sigma = toy.init_latents(1, torch.Generator().manual_seed(0)), float(toy.scheduler.init_noise_sigma)
    toy.scheduler = DDIMScheduler()
    assert sigma > 2 and torch.allclose(noise, toy.init_latents(1, torch.Generator().manual_seed(0))*sigma, rtol=1e-4)
    checkpoint_blocks(checkpoint_blocks(toy.denoiser), False)
    assert not any('forward' in vars(m) for m in toy.denoiser.modules())

def test_models_load_tells_folders_apart(tmp_path):
    from vader_nb.models import load
    for channels, name in (([320, 640, 1280, 1280], 'modelscope'), ([32, 64], 'tiny')):
        (tmp_path/name/'unet').mkdir(parents=True)
        (tmp_path/name/'unet'/'config.json').write_text(json.dumps(dict(block_out_channels=channels)))
        (tmp_path/name/'model_index.json').write_text(json.dumps(dict(_class_name='TextToVideoSDPipeline')))
        assert load._from_folder(tmp_path/name)[0] == name
    for name, parts in (('svd', ['image_encoder']), ('tiny-i2v', [])):
        (tmp_path/name).mkdir()
        for p in parts: (tmp_path/name/p).mkdir()
        (tmp_path/name/'model_index.json').write_text(json.dumps(dict(_class_name='StableVideoDiffusionPipeline')))
        assert load._from_folder(tmp_path/name)[0] == name

def test_models_load_passes_the_dtype_on(monkeypatch):
    from vader_nb.models import load
    monkeypatch.setattr(load, 'resolve', lambda where: lambda **k: k)
    assert load.load_pipeline('tiny', 'bfloat16') == dict(dtype=torch.bfloat16, device='cpu')

def test_models_modelscope_spacing():
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
    from vader_nb.models.modelscope import change_scheduler
    other = change_scheduler(DDIMScheduler(timestep_spacing='trailing', beta_end=.013), DPMSolverMultistepScheduler)
    assert other.config.beta_end == .013 and other.config.timestep_spacing == DPMSolverMultistepScheduler().config.timestep_spacing != 'trailing'

def test_models_wan_closed_forms(monkeypatch):
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
    from vader_nb.models import wan
    from vader_nb.pipeline import Condition
    assert wan.wan_scheduler(FlowMatchEulerDiscreteScheduler, 5.).config.shift == 5
    for n, fine in ((1, True), (9, True), (8, False), (7, False)):
        if fine: wan._check_video(n, (32, 32), 4, 16)
        else:
            with pytest.raises(ValueError): wan._check_video(n, (32, 32), 4, 16)
    pipe, x = object.__new__(wan.WanVideo), torch.ones(1, 2, 3, 2, 2)
    pipe.time_factor, pipe.latent_shape, pipe.num_frames, pipe.recompute = 4, (2, 3, 2, 2), 9, False
    assert [pipe.latent_of(f) for f in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    pipe.scheduler = wan.wan_scheduler(UniPCMultistepScheduler)
    pipe.scheduler.set_timesteps(4)
    pipe._velocity = lambda latents, t, embeds: latents*embeds
    assert pipe.denoise(x, pipe.scheduler.timesteps[0], Condition(torch.tensor(5.), torch.tensor(1.)), 2.).unique().tolist() == [9]
    pipe.vae = SimpleNamespace(dtype=torch.float32, config=SimpleNamespace(latents_mean=[.25, .25], latents_std=[.5, .5]))
    monkeypatch.setattr(wan, 'causal_decode', lambda vae, z, recompute: z[:, :1].repeat_interleave(4, 2)[:, :, 3:])
    assert pipe.decode(x, [0, 8]).unique().tolist() == pytest.approx([.75/2 + .5])

def test_models_wan_padding_is_zero():
    from vader_nb.models.wan import tiny_random_wan
    pipe = tiny_random_wan()
    with torch.no_grad(): e = pipe.encode_prompt(['a red circle moving left over sand']).prompt_embeds
    assert e[0, 0].abs().max() > 0 and e[0, -1].abs().max() == 0

def test_models_stdit3_parts():
    from vader_nb.models import stdit3
    assert stdit3.sinusoid(torch.tensor([0.]), 4).tolist() == [[1, 1, 0, 0]]
    table = stdit3.position_table(1, 3, 8, 1.)          # one row: the second half is the same everywhere
    assert torch.equal(table[0, 4:], table[2, 4:]) and not torch.equal(table[0, :4], table[2, :4])
    turned = stdit3.rotate_pairs(torch.tensor([[1., 0.], [1., 0.]]), torch.tensor([math.pi/2]))
    assert turned.flatten().tolist() == pytest.approx([1, 0, 0, 1], abs=1e-6)
    assert torch.allclose(stdit3.RMSNorm(2, 0.)(torch.tensor([[3., 4.]])), torch.tensor([[3., 4.]])/12.5**.5)
    mlp = stdit3.MLP(1, 1, 1)
    for p in mlp.parameters(): p.data = torch.full_like(p, 1. if p.ndim > 1 else 0.)
    assert mlp(torch.tensor([[2.]])).item() == pytest.approx(nn.functional.gelu(torch.tensor(2.), approximate='tanh').item(), abs=1e-6)
    assert stdit3._fit_batch(torch.tensor([[1], [2]]), 4, 'x').flatten().tolist() == [1, 2, 1, 2]
    last, x = stdit3.FinalLayer(4, 1), ramp(1, 2, 1, 4)
    t, clean = torch.zeros(1, 4), torch.ones(1, 4)
    both = last(x, t, clean, torch.tensor([[True, False]]))
    assert torch.equal(both[:, 0], last(x, t)[:, 0]) and torch.equal(both[:, 1], last.linear(last._modulated(last._modulated(x, t), clean))[:, 1])   # again
    block = stdit3.STDiT3Block(4, 1)
    for p in (*block.attn.proj.parameters(), *block.cross_attn.proj.parameters(), block.scale_shift_table): p.data.zero_()
    t = torch.zeros(1, 1, 6, 4)
    t[:, :, 5] = 1
    y = ramp(1, 2, 4)
    assert torch.allclose(block(x, y, t), x + block.mlp(block.norm2(x)), atol=1e-6)

def test_models_opensora_vae_frames_and_chunks():
    from vader_nb.models.opensora import random_opensora
    from vader_nb.models.opensora_vae import _draw, chunks_of
    assert [c.latents for c in chunks_of(22, 17, 4)] == [range(0, 5), range(5, 7)]
    moments = torch.cat([torch.zeros(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 2*math.log(3))], 1)
    assert _draw(moments, torch.ones(1, 1, 1, 1, 1)).item() == pytest.approx(3)
    vae = random_opensora().vae
    z = torch.randn(1, 4, 7, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, some = vae.decode_temporal(z, 22), vae.decode_temporal(z, 22, [20, 3])
        assert torch.allclose(some, whole[:, :, [20, 3]], atol=1e-6)
        t = vae.temporal_vae
        alone = t.decoder(t.post_quant_conv(z[:, :, 5:]*vae.scale + vae.shift))
        assert torch.allclose(whole[:, :, 17:], alone[:, :, 3:], atol=1e-6)      # the padding was in front
        x = torch.randn(1, 4, 5, 2, 2, generator=torch.Generator().manual_seed(1))
        assert torch.allclose(t.encode(x), t.encode(torch.cat([torch.zeros(1, 4, 3, 2, 2), x], 2)), atol=1e-6)
        pixels = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(2))
        noise = torch.zeros(5, 4, 8, 8), torch.zeros(1, 4, 2, 8, 8)
        mean = vae.encode_temporal(vae.encode_spatial(pixels, noise=noise[0]))[:, :4]
        assert torch.allclose(vae.encode(pixels, noise=noise), (mean - vae.shift)/vae.scale, atol=1e-5)

def test_models_videocrafter2_parts():
    from diffusers.models.embeddings import get_timestep_embedding
    from vader_nb.models.videocrafter2 import FpsTimeEmbedding, folded_fps, text_config, unet_config
    config = unet_config(attention_resolutions=(2, 1))
    assert config['down_block_types'][:2] == ('CrossAttnDownBlock3D',)*2 and config['up_block_types'][:2] == ('UpBlock3D',)*2
    assert text_config(layers=5).num_hidden_layers == 4
    torch.manual_seed(0)
    e = FpsTimeEmbedding(8, 16)
    waves = get_timestep_embedding(torch.tensor([24.]), 8, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.allclose(e.fps_proj(torch.tensor([24.])), waves)
    unet = nn.Module()
    unet.time_embedding = e
    assert torch.allclose(folded_fps(unet)['time_embedding.linear_2.bias'], e.linear_2.bias + e.fps(waves)[0])
    e.rates = (8., 24.)
    four = e(torch.zeros(4, 8))
    assert torch.allclose(four[0], four[2]) and torch.allclose(four[1], four[3]) and not torch.allclose(four[0], four[1])


# How the toys were made

def test_tiny_teach_rates_and_log():
    from vader_nb.tiny.teach import Lessons, follow_average, teach
    lessons = Lessons(10, lr=1., warmup=4, decay=.5)
    assert [lessons.rate(s) for s in (0, 3, 5, 8)] == pytest.approx([.25, 1, 1, .4])
    net, filled = nn.Linear(1, 1), []
    log = teach(net, lambda step: (net(torch.ones(1, 1)).sum()*0, dict(n=float(step))), Lessons(4, log_every=2, save_every=2), refill=lambda: filled.append(1))
    assert [r['n'] for r in log] == [.5, 2.5] and len(filled) == 2
    a, b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    a.weight.data, b.weight.data = torch.zeros(1, 1), torch.ones(1, 1)
    follow_average(a.requires_grad_(False), b.requires_grad_(False), 16)
    assert a.weight.item() == pytest.approx(1 - 18/27)

def test_tiny_vae_closed_forms():
    from vader_nb.tiny.vae import make_vae, normalise_latents, psnr, vae_loss
    x, y, mask = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), torch.zeros(1, 1, 2, 2)
    y[..., 0, 0], mask[..., 0, 0] = .1, 1
    assert psnr(x, y, mask) == pytest.approx(20, abs=1e-3) and psnr(x, y) == pytest.approx(20 + 10*math.log10(4), abs=1e-3)
    vae, frames = make_vae(), ramp(4, 3, 32, 32).sin()
    loss = lambda opacity, kl: vae_loss(vae, frames, opacity*torch.ones(4, 1, 32, 32), torch.Generator().manual_seed(0), kl).item()
    assert loss(1., 0.) == pytest.approx(4*loss(0., 0.), rel=1e-4)
    posterior = vae.encode(frames*2 - 1).latent_dist
    assert loss(0., 1.) - loss(0., 0.) == pytest.approx((posterior.kl().mean()/(4*8*8)).item(), rel=1e-3)
    with torch.no_grad():
        old = vae.eval().encode(frames*2 - 1).latent_dist
        pixels = vae.decode(old.mean).sample
        normalise_latents(vae, frames)
        new = vae.encode(frames*2 - 1).latent_dist
        assert torch.allclose(vae.decode(new.mean).sample, pixels, atol=1e-3) and torch.allclose(new.std, old.std/old.mean.std((0, 2, 3))[:, None, None], rtol=1e-2)

def test_tiny_t2v_batches():
    from vader_nb.tiny import t2v
    assert t2v.easy_levels(1900) is None and t2v.easy_levels(999) == (.8, 1.) and t2v.easy_levels(1000) is None
    data = t2v.TrainingSet(torch.zeros(4, 4, 8, 8, 8), torch.ones(4, 12, dtype=torch.long), torch.zeros(1, 12, dtype=torch.long), torch.arange(4))
    ids = t2v._Batch(0, data, 400, t2v.make_scheduler().alphas_cumprod).token_ids
    assert .03 < 1 - ids[:, 0].float().mean() < .2

def test_tiny_t2v_latents_have_unit_size():
    from vader_nb.tiny.t2v import make_latents
    wide = lambda x: SimpleNamespace(latent_dist=SimpleNamespace(mean=2*torch.randn(len(x), 4, 8, 8, generator=torch.Generator().manual_seed(0))))
    latents, _, factor = make_latents(SimpleNamespace(encode=wide), 4)
    assert latents.float().std().item() == pytest.approx(1, abs=.01) and factor == pytest.approx(.5, abs=.01)

def test_tiny_temporal_vae_noise_is_small():
    from vader_nb.tiny import temporal_vae
    seen = []
    same = lambda x: SimpleNamespace(latent_dist=SimpleNamespace(mean=torch.zeros(len(x), 4, 8, 8)))
    vae = SimpleNamespace(encode=same, decode=lambda z, num_frames: seen.append(z) or SimpleNamespace(sample=torch.zeros(len(z), 3, 32, 32)))
    temporal_vae.temporal_vae_loss(vae, SimpleNamespace(encode=same), torch.zeros(2, 3, 3, 32, 32), torch.zeros(2, 3, 1, 32, 32), torch.Generator().manual_seed(0))
    assert seen[0].std().item() == pytest.approx(.1, rel=.1)

def test_tiny_i2v_parts():
    from vader_nb.rewards.clip import image_embeds, load_clip
    from vader_nb.tiny import i2v
    from vader_nb.models.svd import ImageCondition
    from vader_nb.rewards.clip import CLIP_MEAN, CLIP_STD
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    big = ((x - mean)/std).repeat_interleave(7, 2).repeat_interleave(7, 3)
    with torch.no_grad(): ours = i2v.make_image_encoder()(big).image_embeds
    assert torch.allclose(nn.functional.normalize(ours, dim=-1), image_embeds(load_clip('tiny'), x[None])[0], atol=1e-3)
    from vader_nb.world import render
    captions = ['a red circle moving left over sand']
    frames = render(captions, torch.Generator().manual_seed(0), 1., 0.)[0].clone()
    frames[:, 0] = .5
    assert i2v.frame_agreement(frames, captions)['colour'] == 1 > i2v.frame_agreement(frames, captions, skip_first=False)['colour']
    data = i2v.I2VSet(torch.zeros(2, 4, 8, 8, 8), ImageCondition(torch.ones(2, 1, 3), torch.ones(2, 4, 8, 8), torch.ones(2, 3)), 1.)
    kept = i2v._Batch(0, data, 400).cond.image_embeds[:, 0, 0].mean().item()
    assert .8 < kept < .97

def test_tiny_preference_closed_forms():
    from vader_nb.tiny.preference import preference_loss, vote
    scores = torch.tensor([[2., 0.], [0., 1.]])
    assert preference_loss(scores, torch.tensor([1., 0.])).item() == pytest.approx((math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)))/2, rel=1e-4)
    assert vote(torch.tensor([[0., 9.], [9., 0.], [1., 1.1]]), torch.Generator().manual_seed(0)).tolist() == pytest.approx([0, 1, .5])

def test_tiny_aesthetic_figures():
    from vader_nb.tiny.aesthetic import r2, slope
    truth = torch.tensor([0., 2., 4.])
    assert r2(truth + 1, truth) == pytest.approx(1 - 1/(8/3)) and slope(truth*.5, truth) == pytest.approx(.5)

def test_tiny_objects_closed_forms():
    from vader_nb.tiny.objects import box_giou, boxes_of, match
    mask = torch.zeros(4, 8, dtype=torch.bool)
    mask[1:3, 2:6] = True
    assert boxes_of(mask).tolist() == [.5, .5, .5, .5]
    a, b = torch.tensor([.25, .5, .5, 1.]), torch.tensor([.75, .5, .5, .5])
    assert box_giou(a, b).item() == pytest.approx(-.25)          # apart: hull 1, union .75
    logits = torch.zeros(1, 3, 3)
    boxes, wanted = torch.tensor([[[.2, .2, .1, .1], [.5, .5, .1, .1], [.8, .8, .1, .1]]]), torch.tensor([[[.8, .8, .1, .1], [.2, .2, .1, .1]]])
    assert match(logits, boxes, torch.tensor([[0, 1]]), wanted).tolist() == [[2, 0]]

def test_tiny_vjepa_target_follows_slowly(monkeypatch):
    from vader_nb.tiny import vjepa
    net = nn.Module()
    net.target, net.model = nn.Linear(1, 1, bias=False), nn.Module()
    net.model.encoder = nn.Linear(1, 1, bias=False)
    net.target.weight.data, net.model.encoder.weight.data = torch.zeros(1, 1), torch.ones(1, 1)
    with torch.no_grad(): vjepa._follow(net, .9)
    assert net.target.weight.item() == pytest.approx(.1)
    told = {}
    monkeypatch.setattr(vjepa, 'jepa_errors', lambda *a, **k: told.update(k) or torch.zeros(1))
    vjepa._error(SimpleNamespace(grid=lambda clips: (4, 8, 8)), torch.zeros(2, 8, 3, 32, 32), vjepa.TINY_KINDS[0], torch.Generator().manual_seed(0))
    assert told == dict(through_target=False)

def test_tiny_clip_training_is_a_function_of_its_seed(monkeypatch):
    from vader_nb.tiny import clip
    monkeypatch.setattr(clip, 'zero_shot', lambda *a, **k: {})
    def log(noise):
        torch.manual_seed(noise)
        return clip.train_tiny_clip(2, batch_size=8, n_videos=16, log_every=2)[1]
    assert log(1) == log(2)

def test_tiny_action_mirrors_and_calm(monkeypatch):
    from vader_nb.tiny import action
    pool = object.__new__(action.MotionPool)
    pool.generator, pool.n, pool.labels = torch.Generator().manual_seed(0), 40, torch.zeros(40, dtype=torch.long)
    pool.frames = torch.zeros(40, 8, 3, 32, 32)
    pool.frames[..., :16] = 1                                       # bright on the left: moving left
    frames, labels = pool.batch(40)
    assert torch.equal(labels == 0, frames[..., :16].mean((1, 2, 3, 4)) > .5) and 5 < labels.sum() < 35
    pushed = []
    monkeypatch.setattr(action, 'pushed', lambda frames, loss, g, size: pushed.append(size) or frames)
    action.train_tiny_videomae(4, batch_size=2, n_videos=8, calm=.75, log_every=4)
    assert pushed == [.04]                                          # the last update alone

def test_tiny_action_half_through_the_vae_and_shares_by_motion(monkeypatch):
    from vader_nb.tiny import action
    from vader_nb.world import MOTIONS, split_captions
    monkeypatch.setattr(action, 'reconstruct', lambda vae, frames: 0*frames)
    pool = action.MotionPool(split_captions()[0], torch.Generator().manual_seed(0), 6).refill()
    assert (pool.frames.amax((1, 2, 3, 4)) == 0).tolist() == [True, False]*3
    monkeypatch.setattr(action, 'action_logits', lambda model, frames: torch.eye(len(MOTIONS))[[0, 0, 0, 0]])
    told = action.judge_action(nn.Identity(), torch.zeros(4, 1), torch.tensor([0, 0, 1, 2]))
    assert told['accuracy'] == .5 and [told[m] for m in MOTIONS[:3]] == [1, 0, 0]

def test_tiny_clip_pool_reading_and_gem(monkeypatch):
    from vader_nb.tiny import clip
    from vader_nb.world import all_captions
    probe, film = nn.Linear(2, 2, bias=False), torch.tensor([[.5, .2], [1., 0.]])
    probe.weight.data = torch.eye(2)
    assert clip.reading_error(probe, torch.tensor([[.4, .2], [1., 0.]]), film).item() == pytest.approx(0, abs=1e-12)      # .5*(1 - .2): the haze is read, and how clear it is
    monkeypatch.setattr(clip, 'reconstruct', lambda vae, frames: 0*frames)
    pool = clip.Pool(all_captions()[:50], torch.Generator().manual_seed(0), 6).refill()
    assert (pool.frames.amax((1, 2, 3)) == 0).tolist() == [True, False]*3
    every = all_captions()
    colour = lambda text: every.index(text.replace('a red ', 'a blue ', 1) if text.startswith('a red ') else 'a red ' + text.split(' ', 2)[2])
    frames, texts = clip._draw_frames(60, 5)
    monkeypatch.setattr(clip, 'text_embeds', lambda model, tok, texts: torch.eye(len(every)))
    monkeypatch.setattr(clip, 'image_embeds', lambda model, frames: torch.eye(len(every))[[colour(t) for t in texts]])
    told = clip.zero_shot(None, 60, 5)                                    # all but the colour is right, and of what was asked for nothing is seen: no gem
    assert told['colour'] == 0 and told['shape'] == 1 and told['gem'] == pytest.approx(sum('gem' not in t for t in texts)/60)

def test_tiny_viclip_log_goes_on(monkeypatch):
    from vader_nb.tiny import viclip
    monkeypatch.setattr(viclip, 'train_tiny_viclip', lambda *a, **k: (None, [dict(step=80)]))
    monkeypatch.setattr(viclip, 'save_viclip', lambda model, folder, log: log)
    assert [r['step'] for r in viclip.train_shipped_viclip('x')] == [80, 1080]


def test_methods_rehearsal_seconds_are_those_of_an_update(monkeypatch):
    "The first update is measured for memory; the seconds of the others are divided by their number"
    from contextlib import ExitStack
    from types import SimpleNamespace
    from vader_nb.methods import rehearsal
    monkeypatch.setattr(rehearsal, 'estimate', lambda *a: SimpleNamespace(peak=1))
    pipe = SimpleNamespace(fit=SimpleNamespace(tricks=(), args=(1, 1, 2)), networks={}, device=torch.device('cpu'), num_frames=1, latent_shape=(1,))
    assert rehearsal.report(pipe, None, SimpleNamespace(peak=1), dict(decode=6.), [], 3)['seconds'] == dict(decode=2.)
    measure = object.__new__(rehearsal.Measure)
    measure.found, measure.begun, measure.open = None, 2, ExitStack()
    for done, others in ((4, 1), (6, 3)):
        measure.after_step(SimpleNamespace(log=[{}]*done, step=done, train_steps=6))
        assert measure.updates == others

def test_methods_rehearsal_tables_and_precision(monkeypatch):
    "Ratios are predicted by measured, weights with those of the LoRA, networks in the precision of the recipe; the default comes back"
    from vader_nb.methods import rehearsal
    from vader_nb.methods.recipes import Recipe
    G = 2**30
    rows = rehearsal._memory_rows(dict(weights=4*G, saved=2*G, peak=G), dict(weights=5*G, trainable=4*G, saved=G, peak=G))
    assert [r[1:] for r in rows[1:]] == [('4.000', '6.000', '1.500'), ('2.000', '1.000', '0.500'), ('1.000', '1.000', '1.000')]
    net = nn.Linear(1, 1)
    monkeypatch.setattr(rehearsal, 'full_size', lambda *a: SimpleNamespace(networks=dict(net=net)))
    rehearsal.dry_pipeline(Recipe(model='modelscope', dtype='bfloat16'))
    assert net.weight.dtype == torch.bfloat16
    before = torch.get_default_dtype()
    with pytest.raises(KeyError), rehearsal.default_dtype(torch.bfloat16):
        assert torch.empty(1).dtype == torch.bfloat16
        raise KeyError
    assert torch.get_default_dtype() == before
