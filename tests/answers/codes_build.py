"""Other right answers to the build of chapter 10."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical


def chosen(z_e, rows):
    """Squared distances by a product, with einsum."""
    product = torch.einsum("bdhw,kd->bhwk", z_e, rows)
    lengths = torch.einsum("kd,kd->k", rows, rows)
    return (lengths - 2 * product).min(dim=-1).indices


class QuantiserOfAnEmbedding(nn.Module):
    def __init__(self, start, weight):
        super().__init__()
        self.table = nn.Embedding.from_pretrained(start.clone(), freeze=False)
        self.weight = weight

    def forward(self, encodings):
        n, d, h, w = encodings.shape
        flat = encodings.permute(0, 2, 3, 1).reshape(-1, d)
        number = torch.cdist(flat, self.table.weight).argmin(dim=1)
        e = self.table(number).reshape(n, h, w, d).permute(0, 3, 1, 2)
        codebook = F.mse_loss(e, encodings.detach(), reduction="none").flatten(1).sum(1)
        commitment = F.mse_loss(encodings, e.detach(), reduction="none").flatten(1).sum(1)
        z = e.detach() + encodings - encodings.detach()
        return z, number.reshape(n, h, w), codebook + self.weight * commitment


class Copied(torch.autograd.Function):
    """The values of the second argument with the gradient of the first."""

    @staticmethod
    def forward(ctx, z_e, e):
        return e.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class QuantiserInColumns(nn.Module):
    """A codebook of columns, (D, K), and a function of its own for the gradient."""

    def __init__(self, codes, commitment):
        super().__init__()
        self.columns = nn.Parameter(codes.T.contiguous())
        self.beta = commitment

    def forward(self, z_e):
        index = chosen(z_e, self.columns.T)
        one_hot = F.one_hot(index, self.columns.shape[1]).to(z_e)
        e = torch.einsum("bhwk,dk->bdhw", one_hot, self.columns)
        terms = (z_e.detach() - e).pow(2) + self.beta * (z_e - e.detach()).pow(2)
        return [Copied.apply(z_e, e), index, torch.einsum("bdhw->b", terms)]


class MovingOneHot(nn.Module):
    """Counts and sums by one-hot products, and a loop over dead codes."""

    def __init__(self, codes, commitment, decay, revival):
        super().__init__()
        self.settings = commitment, decay, revival
        for name in ("codes", "total"):
            self.register_buffer(name, codes.detach().clone())
        self.register_buffer("n", torch.ones(len(codes), dtype=codes.dtype))

    def forward(self, z_e):
        commitment, decay, revival = self.settings
        index = chosen(z_e, self.codes)
        e = F.embedding(index, self.codes).permute(0, 3, 1, 2)
        penalty = commitment * torch.sum((z_e - e) ** 2, dim=(1, 2, 3))
        z = Copied.apply(z_e, e)
        if self.training:
            with torch.no_grad():
                flat = z_e.permute(0, 2, 3, 1).reshape(-1, z_e.shape[1])
                one_hot = torch.eye(len(self.codes)).to(flat)[index.flatten()]
                self.n = decay * self.n + (1 - decay) * one_hot.sum(0)
                self.total = decay * self.total + (1 - decay) * one_hot.T @ flat
                order, mean = torch.randperm(len(flat)), self.n.mean().clone()
                for row in range(len(self.n)):
                    if self.n[row] < revival * mean:
                        self.n[row] = mean
                        self.total[row] = mean * flat[order[row]]
                self.codes = self.total / self.n.unsqueeze(1)
        return z, index, penalty


class MovingByIndexAdd(nn.Module):
    """Exponential averages in place, and differences of all pairs."""

    def __init__(self, start, weight, decay, share):
        super().__init__()
        self.register_buffer("codes", start.clone())
        self.weight, self.decay, self.share = weight, decay, share
        self.register_buffer("sums", start.clone())
        self.register_buffer("counts", start.new_ones(start.shape[0]))

    def forward(self, z_e):
        last = z_e.movedim(1, -1)
        index = (last[..., None, :] - self.codes).norm(dim=-1).argmin(dim=-1)
        e = F.embedding(index, self.codes).movedim(-1, 1)
        if self.training:
            self.learn(last.detach().flatten(0, 2), index.flatten())
        z = z_e - (z_e - e).detach()
        return z, index, self.weight * F.mse_loss(z_e, e, reduction="none").sum((1, 2, 3))

    @torch.no_grad()
    def learn(self, vectors, index):
        self.counts *= self.decay
        self.sums *= self.decay
        weights = torch.full_like(vectors[:, 0], 1 - self.decay)
        self.counts.index_add_(0, index, weights)
        self.sums.index_add_(0, index, vectors * (1 - self.decay))
        self.codes.copy_(self.sums / self.counts[:, None])
        mean = self.counts.mean()
        (dead,) = torch.where(self.counts < self.share * mean)
        if len(dead):
            picked = vectors[torch.randint(0, len(vectors), dead.shape)]
            self.codes[dead], self.counts[dead] = picked, mean
            self.sums[dead] = picked * mean


class GridsInSteps(nn.Module):
    """Strides of two, twice; the top reads the image again; functional layers in the decoder."""

    def __init__(self, q_bottom, q_top, size, grey_values):
        super().__init__()
        self.q = nn.ModuleDict({"bottom": q_bottom, "top": q_top})
        self.read = nn.Sequential(
            nn.Conv2d(1, 12, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(12, 24, 4, stride=2, padding=1),
            nn.BatchNorm2d(24),
            nn.SiLU(),
        )
        self.read_top = nn.Sequential(nn.Conv2d(25, 24, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2))
        self.to_top, self.to_bottom = nn.Conv2d(24, size, 1), nn.Conv2d(24, size, 1)
        self.from_top = nn.Conv2d(size, 24, 3, padding=1)
        self.join = nn.Conv2d(24 + size, 32, 3, padding=1)
        self.kernel = nn.Parameter(0.1 * torch.randn(32, 32, 4, 4))
        self.last = nn.Conv2d(32, grey_values, 1)

    def state(self, z2):
        return F.interpolate(F.silu(self.from_top(z2)), scale_factor=2)

    def decode(self, z1, z2):
        h = F.silu(self.join(torch.cat((self.state(z2), z1), dim=1)))
        return self.last(F.silu(F.conv_transpose2d(h, self.kernel, stride=4)))

    def forward(self, x):
        d = self.read(x)
        z2, i2, paid2 = self.q["top"](
            self.to_top(self.read_top(torch.cat([d, F.avg_pool2d(x, 4)], 1)))
        )
        z1, i1, paid1 = self.q["bottom"](self.to_bottom(d + self.state(z2)))
        return [self.decode(z1, z2), [i1, i2], paid2 + paid1]


def objective_by_logsumexp(logits, values, index, num_codes, penalty):
    picked = torch.take_along_dim(logits, values[:, None], dim=1).squeeze(1)
    bound = (picked - torch.logsumexp(logits, dim=1)).flatten(1).sum(1)
    for grid, n in zip(index, num_codes, strict=True):
        bound = bound + torch.full_like(bound, -math.log(n)) * grid[0].numel()
    return torch.stack([bound, bound - penalty])


def objective_of_distributions(logits, values, index, num_codes, penalty):
    px = Categorical(logits=logits.permute(0, 2, 3, 1))
    bound = px.log_prob(values).sum(dim=[1, 2])
    for grid, n in zip(index, num_codes, strict=True):
        uniform = Categorical(logits=torch.zeros(n).to(logits))
        bound = bound + uniform.log_prob(grid).flatten(1).sum(dim=1)
    return bound, bound - penalty


class PriorOfDistributions(nn.Module):
    """Positions first, and distributions of PyTorch."""

    def __init__(self, n, positions, network):
        super().__init__()
        self.n, self.network = n, network
        self.top = nn.Parameter(torch.zeros(*positions, n))

    def bottom(self, index2):
        one_hot = torch.eye(self.n).to(self.top)[index2].permute(0, 3, 1, 2)
        return Categorical(logits=self.network(one_hot).permute(0, 2, 3, 1))

    def forward(self, index1, index2):
        log_p1 = self.bottom(index2).log_prob(index1).flatten(1).sum(1)
        return log_p1, Categorical(logits=self.top).log_prob(index2).sum(dim=(1, 2))

    def sample(self, n):
        index2 = Categorical(logits=self.top).sample((n,))
        return self.bottom(index2).sample(), index2


class PriorByMultinomial(nn.Module):
    """Logits of flat positions, cross-entropies and torch.multinomial."""

    def __init__(self, num_codes, positions, net):
        super().__init__()
        self.size, self.positions, self.net = num_codes, positions, net
        self.logits = nn.Parameter(torch.zeros(math.prod(positions), num_codes))

    def below(self, index2):
        maps = [(index2 == k).to(self.logits) for k in range(self.size)]
        return self.net(torch.stack(maps, dim=1))

    def forward(self, index1, index2):
        bottom = F.cross_entropy(self.below(index2), index1, reduction="none")
        log_p = self.logits - self.logits.logsumexp(dim=1, keepdim=True)
        top = log_p[torch.arange(len(log_p)), index2.flatten(1)]
        return -bottom.sum(dim=(1, 2)), top.sum(dim=1)

    @torch.no_grad()
    def sample(self, n):
        top = torch.multinomial(self.logits.softmax(dim=1), n, replacement=True)
        index2 = top.T.reshape(n, *self.positions)
        p = self.below(index2).softmax(dim=1).movedim(1, -1)
        index1 = torch.multinomial(p.flatten(0, 2), 1).view(p.shape[:-1])
        return index1, index2


def fit_with_codes_first(model, prior, batches, epochs, learning_rate):
    """All codes are computed once."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        codes = [[k.clone() for k in model(x)[1]] for x in batches]
    codes = [[k.clone() for k in pair] for pair in codes]
    model.train(was_training)
    optimiser, rates = torch.optim.Adam(prior.parameters(), learning_rate), []
    for _ in range(epochs):
        seen = []
        for index1, index2 in codes:
            log_p1, log_p2 = prior(index1, index2)
            seen.append(-(log_p1 + log_p2).detach())
            optimiser.zero_grad()
            (-(log_p1 + log_p2)).mean().backward()
            optimiser.step()
        rates.append(torch.cat(seen).mean())
    return torch.stack(rates)


def fit_frozen(model, prior, batches, epochs, learning_rate):
    """A model whose parameters want no gradient."""
    model.eval().requires_grad_(False)
    optimiser, rates = torch.optim.Adam(list(prior.parameters()), lr=learning_rate), []
    for _ in range(epochs):
        total = number = 0
        for x in batches:
            prior.zero_grad()
            rate = -torch.stack(list(prior(*model(x)[1]))).sum(0)
            rate.mean().backward()
            optimiser.step()
            total, number = total + float(rate.detach().sum()), number + x.shape[0]
        rates += [total / number]
    return rates


OTHERS = {
    "Quantiser": [QuantiserOfAnEmbedding, QuantiserInColumns],
    "MovingQuantiser": [MovingByIndexAdd, MovingOneHot],
    "TwoGrids": [GridsInSteps],
    "objective": [objective_by_logsumexp, objective_of_distributions],
    "CodePrior": [PriorByMultinomial, PriorOfDistributions],
    "fit_prior": [fit_frozen, fit_with_codes_first],
}
IN_PLACE = ("fit_prior",)
"""Exercises whose answers change what they are given."""
