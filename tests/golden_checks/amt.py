"AMT-S: frames between frames, the flows of all levels, a smaller scale, the gradient"
import torch
from golden import DOUBLE, FRAME, Check
from golden_checks.raft import by_rule, pixels
from vader_nb.evaluate.amt import AMT, _candidates
from vader_nb.evaluate.raft import pad_to
from vader_nb.evaluate.vbench import amt_between, guessed_frames, motion_smoothness


def network(case, dtype):
    c = case.info['constructor']['net']
    if (c['corr_radius'], c['corr_lvls'], c['num_flows']) != (3, 4, 3): raise ValueError('AMT-S has radius 3, four levels, three flows')
    model = AMT()
    model.load_state_dict(by_rule(case))
    return model.to(dtype).eval().requires_grad_(False)

def flows_of(model, first, second, t):
    "Name in the case -> flow"
    mean = torch.cat([first, second], 1).mean((1, 2, 3), keepdim=True)
    *levels, last = model.flows(first - mean, second - mean, t)
    moves = _candidates(last, levels[-1], 1)[0]
    named = {f'flow{j}_level{n}': f[:, 2*j:2*j + 2, ::2**(4 - n), ::2**(4 - n)] for n, f in zip((4, 3, 2), levels) for j in (0, 1)}
    return named | {f'flow{j}_level1_every8': moves[:, :, 2*j:2*j + 2, ::8, ::8] for j in (0, 1)}

def smoothness_checks(case, model, dtype, bits):
    "Cutting to bytes turns rounding into whole bytes, where a value lies on the edge: few of them, and by one"
    for i in range(len(case.info['constructor']['videos'])):
        frames, key = pixels(case, f'in.video{i}', dtype), f'out{bits}.video{i}.motion_smoothness'
        yield Check(key, motion_smoothness(frames, amt_between(model))[0], case[key], 1e-6 if bits == 64 else 1e-5)
        if bits == 32: continue
        guess = (255*guessed_frames(frames, amt_between(model))[0]).round().permute(0, 2, 3, 1)
        off = (guess - case[f'out.video{i}.middle_frames_uint8']).abs()
        yield Check(f'out.video{i}.middle_frames_uint8', bool(off.max() <= 1 and (off > 0).double().mean() <= 1e-3), True)

def amt_s(case):
    c = case.info['constructor']
    for dtype, bits, tol in ((torch.float64, 64, DOUBLE), (torch.float32, 32, FRAME)):
        model = network(case, dtype)
        for i, _ in enumerate(c['pairs']):
            frames = pad_to(pixels(case, f'in.pair{i}.frames', dtype), 16)
            first, second = frames[:, 0].requires_grad_(), frames[:, 1]
            for t in c['times']:
                at, frame = f'out{bits}.pair{i}.t{t}.', model(first, second, t)
                got = dict(imgt_pred=frame[..., ::2, ::2], imgt_pred_every8=frame[..., ::8, ::8], imgt_pred_mean=frame.mean((0, 2, 3)))
                if bits == 64: got |= flows_of(model, first.detach(), second, t)
                for k, x in got.items():
                    if at + k in case: yield Check(at + k, x, case[at + k], tol)
                key = f'out{bits}.pair{i}.grad_first_image_of_mean_square'
                if t == c['times'][0] and any(k.startswith(key) for k in case.data):
                    yield from case.gradient(key, torch.autograd.grad(frame.square().mean(), first)[0], 1e-6)
        yield from smoothness_checks(case, model, dtype, bits)
        frames = pixels(case, 'in.scaled.frames', dtype)
        got = model(frames[:, 0], frames[:, 1], scale=c['scaled']['scale'])[..., ::8, ::8]
        yield Check(f'out{bits}.scaled.imgt_pred_every8', got, case[f'out{bits}.scaled.imgt_pred_every8'], tol)

CHECKS = dict(amt_s=amt_s)
