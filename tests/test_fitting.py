"`align` on a GPU looks how much memory is free; here a CPU that claims to be one shows that the plan is made, said and kept to."
import pytest, torch

VIDEOS, FRAMES, STEPS = 2, 2, 2     # of a batch, that the reward sees, of the sampler

def aligned(free=None, monkeypatch=None, **changes):
    "Rewards of two updates, the tricks that were on, and the pipeline; `free`: bytes of a GPU that is claimed to be there"
    from vader_nb import align, load_pipeline, load_prompts
    from vader_nb.methods.vader import Vader
    from vader_nb.training import Training
    step = dict(method=Vader(reward_frames=FRAMES), training=Training(lr=1e-3, batch_size=VIDEOS), num_inference_steps=STEPS)
    if free is not None:
        for module in ('vader_nb.methods.vader', 'vader_nb.savings.fitting'): monkeypatch.setattr(f'{module}.free_memory', lambda device: free)
    class Watch:
        seen = None
        def after_step(self, state): self.seen = getattr(pipe, 'fit', None)
    pipe, watch = load_pipeline('tiny'), Watch()
    run = align(pipe, 'tiny-clip', load_prompts('tiny', 'train', 4), 2, callbacks=(watch,), **step | changes)
    return [r['reward'] for r in run.log], watch.seen, pipe

@pytest.fixture(scope='module')
def plain(): return aligned()

@pytest.fixture(scope='module')
def need(plain):
    "Bytes of a step without tricks, and those that a plan keeps free"
    from vader_nb import load_reward
    from vader_nb.savings.fitting import StepShape, dry_step
    from vader_nb.savings.footprint import estimate
    from vader_nb.savings.planner import Device
    return estimate(dry_step(plain[2], load_reward('tiny-clip'), StepShape(VIDEOS, 1, FRAMES, STEPS)), (), 1, FRAMES, STEPS).peak, Device(1.).reserve

def test_elsewhere_nothing_is_planned(plain): assert plain[1] is None

@pytest.mark.parametrize('share, some', [(4, False), (.75, True)])
def test_the_plan_is_made_said_and_kept_to(plain, need, monkeypatch, capsys, share, some):
    rewards, fit, pipe = aligned(share*need[0] + need[1], monkeypatch)
    assert bool(fit.tricks) == some and str(fit) in capsys.readouterr().out
    assert rewards == pytest.approx(plain[0], rel=1e-4) and getattr(pipe, 'fit', None) is None

def test_a_gpu_that_is_too_small_is_told_before_any_work(monkeypatch):
    from vader_nb.methods.vader import Vader
    from vader_nb.training import Training
    one = dict(method=Vader(reward_frames=1), training=Training(batch_size=1))     # with fewer ways to shrink it
    with pytest.raises(ValueError, match='nothing fits'): aligned(1e6, monkeypatch, **one)

def test_out_of_memory_is_one_error_and_leaves_the_pipeline_as_it_was(monkeypatch):
    def full(*args): raise torch.OutOfMemoryError('Tried to allocate 2 GiB')
    monkeypatch.setattr('vader_nb.methods.vader.vader_loss', lambda *a, **k: full)
    with pytest.raises(MemoryError, match='out of memory .Tried to allocate 2 GiB.*The last checkpoint is whole'): aligned(2.**40, monkeypatch)
