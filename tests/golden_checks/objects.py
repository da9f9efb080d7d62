"Object removal with YOLOS"
import torch
from golden import SINGLE, Check
from transformers import YolosConfig, YolosForObjectDetection
from vader_nb.rewards.clip import imagenet_normalise
from vader_nb.rewards.objects import category_ids, object_reward, resize_vader


def detector(case, dtype):
    "YOLOS of a case; the file may use the tensor names of transformers 4"
    model = YolosForObjectDetection(YolosConfig(**case.info['constructor']['yolos']))
    model.load_state_dict({k.replace('encoder.mid_position', 'encoder.interpolation.mid_position'): v for k, v in case.part('sd.').items()})
    return model.eval().requires_grad_(False).to(dtype)

def with_reset(values):
    "The official sum over the images of a batch: an image without a target sets it back to zero; loss and what was kept"
    total = values.sum()*0
    for v in values: total = total + v if v != 0 else total*0
    return total/len(values)

def yolos_removal(case):
    tolerance = case.info['tolerance']
    for dtype, bits, tol in ((torch.float64, 64, tolerance['float64']), (torch.float32, 32, SINGLE)):
        out, yolos = f'out{bits}.', detector(case, dtype)
        ids = category_ids(yolos.config, case.info['constructor']['target'])
        x = case['in.pixels'].to(dtype)
        pixels = lambda x: (x/2 + .5).clamp(0, 1)
        images = imagenet_normalise(resize_vader(pixels(x)), torch.float32)
        result = yolos(images)
        if bits == 64: yield Check('out64.preprocessed_sample', images[:, :, ::32, ::2], case['out64.preprocessed_sample'], tol)
        # float32: attention over some thousand tokens; the raw logits and boxes get the recorded tolerance, scores SINGLE
        loose = tol if bits == 64 else tolerance['float32']
        for k in ('logits', 'pred_boxes'): yield Check(out + k, getattr(result, k), case[out + k], loose)
        scores, labels = result.logits.softmax(-1)[..., :-1].max(-1)
        boxes = ((scores > .2) & torch.isin(labels, torch.tensor(ids))).sum(1)
        yield Check(out + 'n_target_boxes', boxes, case[out + 'n_target_boxes'])
        reward = object_reward(case.info['constructor']['target'], yolos, 'threshold', appear=True, resize=resize_vader)
        found = lambda x: reward(pixels(x)[:, None], ['']*len(x))
        yield Check(out + 'per_image_mean_target_score', found(x), case[out + 'per_image_mean_target_score'], tol)
        yield Check(out + 'loss_if_not_reset', found(x).mean(), case[out + 'loss_if_not_reset'], tol)
        removal = object_reward(case.info['constructor']['target'], yolos, 'threshold', resize=resize_vader)
        yield Check(out + 'loss_if_not_reset (1 - removal)', 1 - removal(pixels(x)[:, None], ['']*len(x)).mean(), case[out + 'loss_if_not_reset'], tol)
        for name, order in case.info['orders'].items():
            batch = x[order].requires_grad_()
            loss = with_reset(found(batch))
            yield Check(f'{out}{name}.loss', loss, case[f'{out}{name}.loss'], tol)
            yield Check(f'{out}{name}.reward', 1 - loss, case[f'{out}{name}.reward'], tol)
            if bits == 64: yield from case.gradient(f'out64.{name}.grad_pixels_of_loss', torch.autograd.grad(loss, batch)[0], tolerance['grad (relative to max)'])

CHECKS = dict(yolos_removal=yolos_removal)
