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
        for i, p in enumerate(self.parameters()): p.data = torch.linspace(-.5, .5, p.numel()).view_as(p).roll(i)
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
