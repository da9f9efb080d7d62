"V-JEPA 1 and 2: masked prediction, its masks, and its gradients with and without the path through the target encoder"
import torch
import torch.nn.functional as F
from golden import SINGLE, Check
from transformers import VJEPA2Config, VJEPA2Model
from vader_nb.rewards.vjepa import Blocks, VJEPA2, collated_masks, jepa_errors, pick
from vader_nb.rewards.vjepa1 import VJEPA1, Encoder, Predictor, Sizes, sincos_table

BITS = ((torch.float64, 64), (torch.float32, 32))

def tolerance(case, bits, kind=''):
    "The case's own, where it states one"
    stated = case.info.get('tolerance', {})
    return stated.get('grad (relative to max)', 1e-6) if kind == 'grad' else stated.get(f'float{bits}', {64: 1e-8, 32: SINGLE}[bits])

def masks_of(case):
    "Pairs of context and target tokens"
    n = sum(k.startswith('in.masks_enc_') for k in case.data)
    return [(case[f'in.masks_enc_{i}'].long(), case[f'in.masks_pred_{i}'].long()) for i in range(n)]

def kinds_of(case):
    "Kinds of masks of a case"
    keys = 'num_blocks', 'spatial_scale', 'temporal_scale', 'aspect_ratio', 'max_temporal_keep', 'max_keep'
    return [Blocks(*(m.get(k, d) for k, d in zip(keys, (1, (.2, .8), (1., 1.), (.3, 3.), 1., None)))) for m in case.info['mask_config']]

def recorded(case, bits, tol, **got):
    "A check of each quantity that the case holds in this precision"
    for name, value in got.items():
        if f'out{bits}.{name}' in case: yield Check(f'out{bits}.{name}', value, case[f'out{bits}.{name}'], tol)

def gradients(case, bits, names, loss_of, clip):
    "Checks of the gradient at the clip, of `loss_of(clip, through_target)`"
    for name, through in names.items():
        x = clip.clone().requires_grad_()
        yield from case.gradient(f'out{bits}.{name}', torch.autograd.grad(loss_of(x, through), x)[0], tolerance(case, bits, 'grad'))

def sizes_of(arguments):
    "`Sizes` from the official constructor's arguments"
    return Sizes(**{k: v for k, v in arguments.items() if k in Sizes._fields})

def vjepa1_net(case, dtype):
    "Encoder, predictor and target encoder of a case"
    enc, pred = case.info['constructor']['encoder'], case.info['constructor']['predictor']
    parts = [Encoder(sizes_of(enc), enc['depth']),
             Predictor(sizes_of(pred), pred['predictor_embed_dim'], pred['depth'], pred['num_mask_tokens']),
             Encoder(sizes_of(enc), enc['depth'])]
    for part, name in zip(parts, ('encoder', 'predictor', 'target_encoder')): part.load_state_dict(case.part(f'sd.{name}.backbone.'))
    return VJEPA1(*parts).to(dtype).requires_grad_(False).eval()

def vjepa1(case):
    masks, c = masks_of(case), case.info['constructor']
    for part, key in (('encoder', 'pos_embed'), ('predictor', 'predictor_pos_embed')):
        sizes = sizes_of(c[part])
        table = sincos_table(c[part].get('predictor_embed_dim', sizes.embed_dim), sizes.grid, sizes.uniform_power)
        saved = case[f'sd.{part}.backbone.{key}'][0]
        yield Check(f'sd.{part}.{key}', table.to(saved.dtype), saved, 1e-6 if saved.dtype == torch.float32 else 1e-3)
    power, weight = c.get('loss_exp', 1.), c.get('reg_coeff', 0.)
    for dtype, bits in BITS:
        net, tol, out = vjepa1_net(case, dtype), tolerance(case, bits), {}
        clip = case['in.clip'].to(dtype).transpose(1, 2)
        errors = jepa_errors(net, clip, masks, power=power).mean(1)
        full = net.targets(clip)
        spreads = []
        for i, (seen, hidden) in enumerate(masks):
            out[f'context_features_{i}'] = net.context(clip, seen)
            out[f'predictions_{i}'] = net.predict(out[f'context_features_{i}'], seen, hidden, i, net.grid(clip))
            out[f'targets_{i}'] = pick(F.layer_norm(full, full.shape[-1:]), hidden)
            spreads.append((out[f'predictions_{i}'].var(1) + 1e-4).sqrt())
        reg = F.relu(1 - sum(spreads)/len(spreads)).mean()
        yield from recorded(case, bits, tol, loss=errors.mean() + weight*reg, loss_per_mask=errors, loss_reg=reg, target_encoder_all_tokens=full, **out)
        if f'out{bits}.target_encoder_other_size' in case:
            yield from recorded(case, bits, tol, target_encoder_other_size=net.targets(case['in.clip_other_size'].to(dtype).transpose(1, 2)))
        # recorded for a clip (B, 3, T, H, W)
        loss_of = lambda x, through: jepa_errors(net, x.transpose(1, 2), masks, through, power).mean()
        names = dict(grad_clip_of_loss_target_detached=False, grad_clip_of_loss_through_target_too=True)
        yield from gradients(case, bits, names, loss_of, case['in.clip'].to(dtype))

def vjepa1_masks(case):
    for name, c in case.info['constructor'].items():
        grid = c['frames']//c.get('tubelet', 2), c['crop']//c['patch'], c['crop']//c['patch']
        g = torch.Generator().manual_seed(c['torch_seed'])
        for call in range(c['calls']):
            for i, (seen, hidden) in enumerate(collated_masks(grid, c['batch'], call, kinds_of(case), g)):
                for key, got in ((f'enc_{i}', seen), (f'pred_{i}', hidden)):
                    yield Check(f'out.{name}.call{call}.{key}', got, case[f'out.{name}.call{call}.{key}'])

def stock_errors(model, clip, masks):
    "What `VJEPA2Model.forward` gives for masked prediction: another computation, whose context has seen the targets"
    errors, predictions = [], []
    for seen, hidden in masks:
        out = model(pixel_values_videos=clip, context_mask=[seen], target_mask=[hidden])
        h = out.predictor_output.target_hidden_state.detach()
        predictions.append(out.predictor_output.last_hidden_state)
        errors.append((predictions[-1] - F.layer_norm(h, h.shape[-1:])).abs().mean())
    return torch.stack(errors), predictions

def vjepa2_hf(case):
    masks = masks_of(case)
    for dtype, bits in BITS:
        model = VJEPA2Model(VJEPA2Config(**case.info['constructor']['hf']))
        model.load_state_dict(case.part('sd.'))
        model, clip, tol = model.to(dtype).requires_grad_(False).eval(), case['in.clip_btchw'].to(dtype), tolerance(case, bits)
        net, out = VJEPA2(model), {}
        full = net.targets(clip)
        for i, (seen, hidden) in enumerate(masks):
            out[f'official.predictions_{i}'] = net.predict(net.context(clip, seen), seen, hidden, i)
            out[f'official.targets_{i}'] = pick(F.layer_norm(full, full.shape[-1:]), hidden)
        losses = {'official.loss': VJEPA2(model), 'official.loss_with_mask_token_1': VJEPA2(model, mask_token=lambda i: 1),
                  'official.loss_with_mask_token_i_as_in_vjepa1': VJEPA2(model, mask_token=lambda i: i)}
        losses = {k: jepa_errors(n, clip, masks).mean() for k, n in losses.items()}
        errors, predictions = stock_errors(model, clip, masks)
        stock = {f'hf_forward.predictions_{i}': p for i, p in enumerate(predictions)}
        yield from recorded(case, bits, tol, encoder_all_tokens=full, **out, **losses, **stock,
                            **{'hf_forward.loss': errors.mean(), 'hf_forward.loss_per_mask': errors})
        names = {'official.grad_clip_of_loss_target_detached_btchw': False, 'official.grad_clip_of_loss_through_target_too_btchw': True}
        yield from gradients(case, bits, names, lambda x, through: jepa_errors(net, x, masks, through).mean(), clip)
        names = {'hf_forward.grad_clip_of_loss_target_detached_btchw': False}
        yield from gradients(case, bits, names, lambda x, through: stock_errors(model, x, masks)[0].mean(), clip)

CHECKS = dict(vjepa1=vjepa1, vjepa1_masks=vjepa1_masks, vjepa2_hf=vjepa2_hf)
