"Muon for the matrices (and convolutions, flattened), AdamW for the rest: orthogonalised momentum, scaled so that AdamW's learning rates fit"
import torch

def orthogonal(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    "Newton-Schulz on a batch of matrices (N, m, n): singular values towards 1"
    x = g/(g.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    wide = x.shape[-2] > x.shape[-1]
    if wide: x = x.mT
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445*x + (-4.7750*a + 2.0315*a @ a) @ x
    return x.mT if wide else x

class Muon(torch.optim.Optimizer):
    def __init__(self, nets, lr, betas=(.9, .99), weight_decay=.01, momentum=.95):
        named = dict(nets.named_parameters())
        matrix = lambda k, p: p.ndim >= 2 and "embedding" not in k.replace("time_embedding", "") and "conv_in" not in k and "conv_out" not in k and min(p.shape[0], p[0].numel()) > 8
        hidden = [p for k, p in named.items() if matrix(k, p)]
        rest = [p for k, p in named.items() if not matrix(k, p)]
        super().__init__([dict(params=hidden, hidden=True), dict(params=rest, hidden=False)], dict(lr=lr, weight_decay=weight_decay))
        self.betas, self.momentum, self.count = betas, momentum, 0
    @torch.no_grad()
    def step(self):
        by = {}
        for group in self.param_groups:
            lr, wd = group["lr"], group["weight_decay"]
            for p in group["params"]:
                if p.grad is None: continue
                s = self.state[p]
                if not s: s["m"], s["v"], s["n"] = torch.zeros_like(p), torch.zeros(()) if group["hidden"] else torch.zeros_like(p), torch.zeros(())
                s["n"] += 1
                p.mul_(1 - lr*wd)
                if group["hidden"]:
                    s["m"].lerp_(p.grad, 1 - self.momentum)
                    u = p.grad.lerp(s["m"], self.momentum).flatten(1)
                    by.setdefault(u.shape, []).append((p, u, lr))
                else:
                    n = s["n"].item()
                    s["m"].lerp_(p.grad, 1 - self.betas[0]); s["v"].lerp_(p.grad.square(), 1 - self.betas[1])
                    p.sub_(lr*(s["m"]/(1 - self.betas[0]**n))/((s["v"]/(1 - self.betas[1]**n)).sqrt() + 1e-8))
        for shape, items in by.items():
            o = orthogonal(torch.stack([u for _, u, _ in items]))*.2*max(shape)**.5
            for (p, _, lr), d in zip(items, o): p.sub_(lr*d.view_as(p))
