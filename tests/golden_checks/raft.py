"RAFT: features, flows, warm start"
import zlib
from itertools import islice
import numpy as np
import torch
from golden import DOUBLE, Check
from vader_nb.evaluate.raft import RAFT, pad_to, unpad

# A flow of the float32 network feeds the next iteration: rounding grows through twenty of them, to 2.5e-5 in the official code itself.
FLOW = 2e-4

def by_rule(case, rename=lambda key: key):
    "Weights that follow from names and a seed, as `weights_rule` of the case says; checked by its checksum"
    def tensor(key, shape, offset, log2_scale):
        seed = zlib.crc32(f"{case.info['constructor']['seed']}:{rename(key)}".encode())
        if log2_scale is None: return torch.zeros(shape, dtype=torch.long)
        numbers = np.random.RandomState(seed).randint(-127, 128, size=shape)
        return torch.from_numpy(np.asarray(offset + numbers/128*2.**log2_scale, np.float32))
    state, checksum = {k: tensor(k, **v) for k, v in case.info['keys'].items()}, 0
    for k in sorted(state): checksum = zlib.crc32(state[k].float().numpy().tobytes(), checksum)
    if checksum != case.info['weights_crc32']: raise ValueError(f'weights by rule: checksum {checksum}, not {case.info["weights_crc32"]}')
    return state

def network(case, dtype):
    model = RAFT()
    model.load_state_dict(by_rule(case, lambda k: k.replace('downsample.1.', 'norm3.')))
    return model.to(dtype).eval().requires_grad_(False)

def pixels(case, key, dtype):
    "Recorded bytes (F, H, W, 3) as (1, F, 3, H, W) in [0, 1]"
    return (case[key].permute(0, 3, 1, 2)[None].to(dtype)/255)

def pair_checks(case, model, i, bits, tol):
    "The flows of a pair after each of the recorded numbers of iterations, from one run"
    out, frames = f'out{bits}.pair{i}.', pad_to(pixels(case, f'in.pair{i}.frames', next(model.parameters()).dtype))
    size, flows = case[f'in.pair{i}.frames'].shape[1:3], {}
    for n in case.info['constructor']['iters']:
        low, up = flows[n] = model(frames[:, 0], frames[:, 1], n)
        at = f'{out}iters{n}.'
        got = dict(flow_low=low, flow_up=up, flow_up_every8=up[..., ::8, ::8], flow_unpadded_mean_abs=unpad(up, size).abs().mean((0, 2, 3)))
        for k in got:
            if at + k in case: yield Check(at + k, got[k], case[at + k], tol)
    if out + 'flow_init.flow_low' in case:
        first, last = case.info['constructor']['iters']
        again = model(frames[:, 0], frames[:, 1], first, flows[last][0])[0]
        yield Check(out + 'flow_init.flow_low', again, case[out + 'flow_init.flow_low'], tol)
    for key, net in (('fmap1', model.fnet), ('cnet', model.cnet)):
        if f'{out}{key}.every7' in case:
            yield Check(f'{out}{key}.every7', net(2*frames[:, 0] - 1).flatten()[::7], case[f'{out}{key}.every7'], tol)

def raft(case):
    for dtype, bits, tol in ((torch.float64, 64, DOUBLE), (torch.float32, 32, FLOW)):
        model = network(case, dtype)
        for i in range(len(case.info['constructor']['pairs'])): yield from pair_checks(case, model, i, bits, tol)

CHECKS = dict(raft=raft)
