"A text-to-video model of forty weights in the form of the real adapters, and the schedulers to try with it"
from hashlib import sha256
import diffusers, torch
from diffusers.utils.torch_utils import randn_tensor
from torch import nn
from vader_nb.diffusion import guide
from vader_nb.models.rflow import RFlowScheduler
from vader_nb.models.vc2_scheduler import VC2DDIMScheduler
from vader_nb.pipeline import Condition, Networks, check_frames, check_prompts
from vader_nb.schedulers import scale_input

CHANNELS = 4

class Attend(nn.Module):
    "Layers with the names that take a LoRA"
    def __init__(self):
        super().__init__()
        self.to_q, self.to_v = nn.Linear(CHANNELS, CHANNELS), nn.Linear(CHANNELS, CHANNELS)
    def forward(self, x, t, embeds):
        h = x.movedim(1, -1) + embeds[:, 0, None, None, None]
        return self.to_v(torch.tanh(self.to_q(h) + torch.as_tensor(t).reshape(-1, 1, 1, 1, 1)/1000)).movedim(-1, 1)

class Toy(Networks):
    "Frames of 8x8 pixels; a video depends on its prompt, its noise, the scheduler, the guidance and the LoRA"
    frame_wise, lora_targets = True, ('to_q', 'to_v')
    def __init__(self, scheduler=None, num_frames=4, dtype=torch.float32, seed=0, **defaults):
        self.name, self.num_frames = 'tiny toy', num_frames
        self.defaults = dict(num_inference_steps=4, guidance_scale=2., eta=0.) | defaults
        self.scheduler = scheduler or diffusers.DDIMScheduler(clip_sample=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.denoiser, self.vae = Attend(), nn.Linear(CHANNELS, 3)
        for m in (self.denoiser, self.vae): m.to(dtype).eval().requires_grad_(False)
    def encode_prompt(self, prompts):
        seeds = [int.from_bytes(sha256(str(p).encode()).digest()[:6], 'big') for p in check_prompts(prompts)]
        embeds = [torch.randn(1, CHANNELS, generator=torch.Generator().manual_seed(s)) for s in seeds]
        embeds = torch.stack(embeds).to(self.dtype)
        return Condition(embeds, torch.zeros_like(embeds))
    def init_latents(self, batch_size, generator=None):
        noise = randn_tensor((batch_size, CHANNELS, self.num_frames, 8, 8), generator=generator, dtype=self.dtype)
        return noise*float(getattr(self.scheduler, 'init_noise_sigma', 1.))
    def denoise(self, latents, t, cond, guidance_scale):
        x = scale_input(self.scheduler, latents, t).to(self.dtype)
        text = self.denoiser(x, t, cond.prompt_embeds)
        return text if guidance_scale == 1 else guide(self.denoiser(x, t, cond.negative_prompt_embeds), text, guidance_scale)
    def decode(self, latents, frames=None):
        z = latents[:, :, check_frames(frames, self.num_frames)]
        return torch.sigmoid(self.vae(z.to(self.dtype).movedim(1, -1))).movedim(-1, 2)

def _of(name, **options): return lambda prediction: getattr(diffusers, f'{name}Scheduler')(prediction_type=prediction, **options)
def _flow(name): return lambda prediction: getattr(diffusers, f'{name}Scheduler')()

BETAS = dict(beta_schedule='scaled_linear', beta_start=.00085, beta_end=.012)
KEPT = dict(BETAS, clip_sample=False)
SCHEDULERS = dict(     # name -> prediction type -> scheduler
    ddim=_of('DDIM', **KEPT), ddpm=_of('DDPM', **KEPT), ddim_parallel=_of('DDIMParallel', **KEPT), pndm=_of('PNDM', steps_offset=1, **BETAS),
    plms=_of('PNDM', skip_prk_steps=True, steps_offset=1, **BETAS), euler=_of('EulerDiscrete', **BETAS),
    euler_leading=_of('EulerDiscrete', timestep_spacing='leading', use_karras_sigmas=True, **BETAS),
    euler_ancestral=_of('EulerAncestralDiscrete', **BETAS), heun=_of('HeunDiscrete', **BETAS), kdpm2=_of('KDPM2Discrete', **BETAS),
    kdpm2_ancestral=_of('KDPM2AncestralDiscrete', **BETAS), dpm=_of('DPMSolverMultistep', **BETAS),
    dpm_sde=_of('DPMSolverMultistep', algorithm_type='sde-dpmsolver++', use_karras_sigmas=True, **BETAS),
    dpm_single=_of('DPMSolverSinglestep', lower_order_final=True, **BETAS), deis=_of('DEISMultistep', **BETAS),
    unipc=_of('UniPCMultistep', **BETAS), sa=_of('SASolver', **BETAS), lcm=_of('LCM', **BETAS), tcd=_of('TCD', **BETAS),
    edm=_of('EDMEuler'), edm_dpm=_of('EDMDPMSolverMultistep'), ipndm=_flow('IPNDM'), flow_euler=_flow('FlowMatchEulerDiscrete'),
    flow_heun=_flow('FlowMatchHeunDiscrete'),
    wan=lambda _: diffusers.UniPCMultistepScheduler(prediction_type='flow_prediction', use_flow_sigmas=True, flow_shift=3.),
    rflow=lambda _: RFlowScheduler(height=32, width=32, num_frames=17), vc2=lambda _: VC2DDIMScheduler())
FLOWS = 'ipndm', 'flow_euler', 'flow_heun', 'wan', 'rflow', 'vc2'       # their prediction has one type
