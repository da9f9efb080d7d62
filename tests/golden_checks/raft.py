"RAFT: features, flows, warm start"
import zlib
from itertools import islice
import numpy as np
import torch
from golden import DOUBLE, FLOW, Check
from vader_nb.evaluate.evalcrafter import dark_raft_flow, flow_score, occluded, warping_error
from vader_nb.evaluate.raft import RAFT, pad_to, unpad
from vader_nb.evaluate.vbench import dynamic_degree, raft_flow, top_speed


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

def dynamic_checks(case, model, bits, tol):
    "VBench's dynamic degree, with the flows that it saw; a float32 network for all but whether a video moves"
    for i, c in enumerate(case.info['constructor']['dynamic']):
        frames, seen = pixels(case, f'in.dynamic{i}.frames', next(model.parameters()).dtype), []
        def flow(first, second):
            seen.append(top_speed(raft_flow(model)(first, second)))
            return raft_flow_of_speed(seen[-1], first)
        moves = dynamic_degree(frames, flow, c['fps'])
        yield Check(f'out{bits}.dynamic{i}.top5_mean_per_pair', torch.cat(seen), case[f'out{bits}.dynamic{i}.top5_mean_per_pair'], tol)
        yield Check(f'out.dynamic{i}.moves', bool(moves), bool(case[f'out.dynamic{i}.moves']))

def raft_flow_of_speed(speed, like):
    "A flow of the same speed everywhere, so that each network runs once"
    return torch.cat([speed.view(-1, 1, 1, 1), torch.zeros_like(speed).view(-1, 1, 1, 1)], 1).expand(-1, 2, 20, 20)

def evalcrafter_checks(case, model, bits, tol):
    "EvalCrafter's flow score and warping error, whose RAFT sees almost black images"
    frames, shift = pixels(case, 'in.eval.frames', next(model.parameters()).dtype), 2.**-case.info['constructor']['eval_extra_shift']
    last = model.update_block.flow_head.conv2
    for p in (last.weight, last.bias): p.mul_(shift)
    yield Check(f'out{bits}.eval.flow_score', flow_score(frames, raft_flow(model))[0], case[f'out{bits}.eval.flow_score'], tol)
    seen, dark = [], dark_raft_flow(model)
    def flow(first, second):
        seen.append(dark(first, second))
        return seen[-1].float().to(first.dtype)      # as the official script casts
    yield Check(f'out{bits}.eval.warping_error', warping_error(frames, flow)[0], case[f'out{bits}.eval.warping_error'], tol)
    forward, backward = torch.cat(seen[0::2]), torch.cat(seen[1::2])
    for k, x in dict(half_forward_flow_every8=forward, half_backward_flow_every8=backward).items():
        yield Check(f'out{bits}.eval.{k}', x[..., ::8, ::8], case[f'out{bits}.eval.{k}'], tol)
    differ = occluded(forward.float(), backward.float()) != case['out.eval.occluded']
    yield Check(f'out.eval.occluded, {bits} bits', bool(differ.double().mean() <= 1e-3), True)

def raft(case):
    for dtype, bits, tol in ((torch.float64, 64, DOUBLE), (torch.float32, 32, FLOW)):
        model = network(case, dtype)
        for i in range(len(case.info['constructor']['pairs'])): yield from pair_checks(case, model, i, bits, tol)
    # float32 for the measures: 20 iterations of larger images, a minute and a half in float64; the warping error's images are nearly
    # constant, so that instance norm divides by almost nothing and float32 loses two more digits
    yield from dynamic_checks(case, model, 32, 1e-5)
    yield from evalcrafter_checks(case, model, 32, 1e-3)

CHECKS = dict(raft=raft)
