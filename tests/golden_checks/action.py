"Action reward with VideoMAE"
import torch
from golden import SINGLE, Check
from transformers import VideoMAEConfig, VideoMAEForVideoClassification
from vader_nb.rewards.action import action_logits, action_loss, action_reward, class_names, match_label, resize_square
from vader_nb.rewards.core import reward_loss
from vader_nb.rewards.clip import imagenet_normalise


def classifier(case, dtype):
    "VideoMAE of a case; the file may use the tensor names of transformers 4"
    model = VideoMAEForVideoClassification(VideoMAEConfig(**case.info['constructor']['videomae']))
    model.load_state_dict({k.replace('q_bias', 'query.bias').replace('v_bias', 'value.bias'): v for k, v in case.part('sd.').items()})
    return model.eval().requires_grad_(False).to(dtype)

def videomae_action(case):
    tolerance, c = case.info['tolerance'], case.info['constructor']
    for dtype, bits, tol in ((torch.float64, 64, tolerance['float64']), (torch.float32, 32, SINGLE)):
        out, model = f'out{bits}.', classifier(case, dtype)
        if bits == 64: yield Check('label of the prompt', class_names(model)[match_label(c['action'], class_names(model))], c['label'])
        x = case['in.frames'].to(dtype).requires_grad_()
        frames = (x/2 + .5).clamp(0, 1)[None]
        logits = action_logits(model, frames, resize_square)
        score = action_reward(model, resize=resize_square)(frames, [c['action']])
        loss = reward_loss(score, action_loss)
        by_log = -action_reward(model, resize=resize_square, log=True)(frames, [c['action']]).mean()
        # float32: logits to the recorded tolerance, probabilities to SINGLE
        yield Check(out + 'logits', logits, case[out + 'logits'], tol if bits == 64 else tolerance['float32'])
        yield Check(out + 'score_probability', score[0], case[out + 'score_probability'], tol)
        yield Check(out + 'loss_cross_entropy', loss, case[out + 'loss_cross_entropy'], tol)
        yield Check(out + 'loss_cross_entropy (log form)', by_log, case[out + 'loss_cross_entropy'], tol)
        yield Check(out + 'predicted_class', logits.argmax(-1), case[out + 'predicted_class'])
        if bits == 32: return
        for name, value in (('score', score.sum()), ('loss', loss)):
            grad, = torch.autograd.grad(value, x, retain_graph=True)
            # the norm looser: single pixels lie exactly on the clamp's edge, where versions of torch differ
            yield from case.gradient(f'out64.grad_frames_of_{name}', grad, tolerance['grad (relative to max)'], 1e-5)
        want = case['out64.preprocessed_sample']
        images = imagenet_normalise(resize_square(frames[0], model.config.image_size), torch.float64)[None]
        steps = [n//k for n, k in zip(images.shape[-2:], want.shape[-2:])]
        yield Check('out64.preprocessed_sample', images[..., ::steps[0], ::steps[1]], want, tol)

CHECKS = dict(videomae_action=videomae_action)
