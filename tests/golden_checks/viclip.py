"ViCLIP: both towers, similarity, gradient, and its own preprocessing"
import torch
import torch.nn.functional as F
from golden import DOUBLE, SINGLE, Check
from vader_nb.rewards.clip import IMAGENET_STD
from vader_nb.rewards.viclip import ViCLIP, viclip_input

VISION = ('input_resolution', 'patch_size', 'width', 'layers', 'heads', 'output_dim', 'num_frames')
TEXT = ('embed_dim', 'context_length', 'vocab_size', 'transformer_width', 'transformer_heads', 'transformer_layers')

def network(case, dtype):
    "The ViCLIP of a case, whose official names are ours; strict"
    c = case.info['constructor']
    if c['vision'].get('kernel_size', 1) != 1: raise ValueError('published ViCLIPs have patches of one frame (kernel_size 1)')
    model = ViCLIP({k: c['vision'][k] for k in VISION}, {k: c['text'][k] for k in TEXT})
    model.load_state_dict(case.part('sd.'))
    return model.to(dtype).eval().requires_grad_(False)

def viclip(case):
    for dtype, bits, tol in ((torch.float64, 64, DOUBLE), (torch.float32, 32, SINGLE)):
        model = network(case, dtype)
        x = case['in.video'].to(dtype).requires_grad_()
        video, text = model.vision_encoder(x), model.text_encoder(case['in.tokens'])
        v, t = F.normalize(video, dim=-1), F.normalize(text, dim=-1)
        similarity = v@t.T
        reward = similarity.diagonal().mean()
        got = dict(video_features_raw=video, text_features_raw=text, video_features=v, text_features=t,
                   video_features_raw_first_frame_only=model.vision_encoder(x[:, :1]), similarity_video_by_text=similarity,
                   label_probs=(100*similarity).softmax(-1), reward_mean_diagonal=reward)
        # the exponent of label_probs multiplies an absolute error of the cosine by 100
        for k, y in got.items(): yield Check(f'out{bits}.{k}', y, case[f'out{bits}.{k}'], tol*(10 if k == 'label_probs' else 1))
        if bits == 64: yield from case.gradient('out64.grad_video_of_reward', torch.autograd.grad(reward, x)[0], 1e-6)
    c, frames = case.info['constructor'], case['in.frames_bgr_uint8'].flip(-1).permute(0, 3, 1, 2)[None].float()/255
    want = case['out32.frames_tensor']
    # the official code resizes bytes: it rounds to 1/255, once, with fixed-point weights
    yield Check('out32.frames_tensor', viclip_input(frames, c['vision']['num_frames'], c['vision']['input_resolution']), want,
                (1/255/min(IMAGENET_STD)/want.abs().max()).item())

CHECKS = dict(viclip=viclip)
