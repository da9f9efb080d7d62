"Open-Sora 1.2's video VAE"
import torch
from golden import SINGLE, Check
from vader_nb.models.opensora_vae import OpenSoraVAE, convert_opensora_vae

def model(case, run, dtype):
    "The VAE of a case with the chunks of a run"
    args = case.info['constructor_args']
    pipeline = args['VideoAutoencoderPipelineConfig']
    vae = OpenSoraVAE(args['AutoencoderKL'], args['VAE_Temporal'], pipeline['shift'], pipeline['scale'],
                      micro_frame_size=run['micro_frame_size'], micro_batch_size=run['micro_batch_size'])
    vae.load_state_dict(convert_opensora_vae({k: v.float() for k, v in case.part('sd.').items()}))
    return vae.to(dtype).eval()

@torch.no_grad()
def opensora_vae(case):
    # float64 to 1e-7, since scale and shift are float32 buffers
    for (i, run), (dtype, bits, tol) in ((r, d) for r in enumerate(case.info['runs'])
                                         for d in ((torch.float64, 64, 1e-7), (torch.float32, 32, SINGLE))):
        vae, n, c = model(case, run, dtype), run['frames'], case.part(f'r{i}.')
        get = lambda k: c[k].to(dtype)
        noise = get('enc.noise_spatial'), get('enc.noise_temporal')
        x_z = vae.encode_spatial(get('enc.x'), noise=noise[0])
        got = {'enc.x_z': x_z, 'enc.temporal_moments': vae.encode_temporal(x_z), 'enc.z': vae.encode(get('enc.x'), noise=noise),
               'dec.x_z': vae.decode_temporal(get('dec.z'), n), 'dec.x': vae.decode(get('dec.z'), n)}
        for k, x in got.items(): yield Check(f'r{i}.{k}_f{bits}', x, c[f'{k}_f{bits}'], tol)
        some = sorted({0, n//2, n - 1})
        yield Check(f'r{i}.dec.x_f{bits}, frames {some}', vae.decode_frames(get('dec.z'), n, some), c[f'dec.x_f{bits}'][:, :, some], tol)
        yield Check(f'r{i}.latent_size', list(vae.latent_size(n, run['h'], run['w'])), run['latent_size'])
        size = run['micro_frame_size']
        yield Check(f'r{i}.micro_z_frame_size', size and vae.chunks(size)[-1].latents.stop, run['micro_z_frame_size'])

def opensora_vae_keys(case):
    "Every name and shape of the published layout is one of the full-size module, built without contents, and the reverse"
    with torch.device('meta'):
        vae, published = OpenSoraVAE(), {k: torch.empty(shape) for k, shape in case.info['vae'].items()}
    got, want = ({k: list(v.shape) for k, v in d.items()} for d in (vae.state_dict(), convert_opensora_vae(published)))
    yield Check('vae: names and shapes', got, want)
    yield Check('vae: number of tensors', len(want), len(case.info['vae']))

CHECKS = dict(opensora_vae=opensora_vae)
