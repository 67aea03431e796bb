"""Other right answers to the exercises of chapter 10 on codes."""

import itertools
import math

import torch
import torch.nn.functional as F


def with_distances_and_embedding(encodings, rows, beta):
    index = torch.cdist(encodings, rows.expand(len(encodings), -1, -1)).argmin(-1)
    e = F.embedding(index, rows)
    penalty = F.mse_loss(e, encodings.detach(), reduction="none")
    penalty = penalty + beta * F.mse_loss(e.detach(), encodings, reduction="none")
    return [e.detach() + (encodings - encodings.detach()), penalty.flatten(1).sum(1)]


class _Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, encodings, e):
        return e.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def with_a_function_of_its_own(encodings, rows, beta):
    norms = rows.square().sum(1) / 2
    one_hot = F.one_hot((encodings @ rows.T - norms).argmax(-1), len(rows)).to(rows)
    e = one_hot @ rows
    first, second = e - encodings.detach(), e.detach() - encodings
    penalty = torch.einsum("bnd,bnd->b", first, first)
    return _Copy.apply(encodings, e), penalty + beta * torch.einsum("bnd,bnd->b", second, second)


@torch.no_grad()
def in_place(encodings, rows, sums, counts, decay, smoothing, training):
    index = torch.cdist(encodings, rows).argmin(dim=1)
    z = rows[index]
    if training:
        counts.mul_(decay).add_(torch.bincount(index, minlength=len(rows)), alpha=1 - decay)
        batch = torch.zeros_like(sums).index_add_(0, index, encodings)
        sums.mul_(decay).add_(batch, alpha=1 - decay)
        total = counts.sum()
        smooth = (counts + smoothing) / (total + smoothing * len(counts)) * total
        rows[smooth > 0] = sums[smooth > 0] / smooth[smooth > 0][:, None]
    return [z, rows, sums, counts]


def row_by_row(encodings, rows, sums, counts, decay, smoothing, training):
    index = [int((rows - z_e).norm(dim=1).argmin()) for z_e in encodings]
    z = torch.stack([rows[k] for k in index])
    if not training:
        return z, rows, sums, counts
    values = encodings.detach()
    new_sums, new_counts = [], []
    for k in range(len(rows)):
        own = values[[i for i, chosen in enumerate(index) if chosen == k]]
        new_sums.append(decay * sums[k] + (1 - decay) * own.sum(dim=0))
        new_counts.append(decay * counts[k] + (1 - decay) * len(own))
    new_sums, new_counts = torch.stack(new_sums), torch.stack(new_counts)
    shares = (new_counts + smoothing) / (new_counts + smoothing).sum()
    smooth = shares * new_counts.sum()
    moved = [s / n if n > 0 else row for s, n, row in zip(new_sums, smooth, rows, strict=True)]
    return z, torch.stack(moved), new_sums, new_counts


def one_code_at_a_time(z, rows, log_p, log_px):
    num_positions, num_rows = log_p.shape
    same = (z[:, :, None] == rows).all(-1)
    joint, own = [], []
    for code in itertools.product(range(num_rows), repeat=num_positions):
        prior = sum(log_p[n, k] for n, k in enumerate(code))
        joint.append(log_px[(slice(None), *code)] + prior)
        own.append(torch.stack([same[:, n, k] for n, k in enumerate(code)]).all(0))
    joint, own = torch.stack(joint, 1), torch.stack(own, 1)
    bound = torch.where(own, joint, 0.0).sum(1)
    return torch.stack([bound, -torch.where(own, joint.log_softmax(1), 0.0).sum(1)])


def with_a_flat_number(z, rows, log_p, log_px):
    num_rows = len(rows)
    index = torch.cdist(z, rows.expand(len(z), -1, -1)).argmin(-1)
    flat = torch.zeros(len(z), dtype=torch.long)
    grid = torch.zeros(1, dtype=log_p.dtype)
    for n, each in enumerate(log_p):
        flat = flat * num_rows + index[:, n]
        grid = (grid[:, None] + each).flatten()
    joint = log_px.reshape(len(z), -1) + grid
    bound = joint.gather(1, flat[:, None])[:, 0]
    return bound, torch.log(joint.exp().sum(1)) - bound


def usage_with_unique(batches, num_codes):
    index = [int(number) for batch in batches for number in batch.flatten()]
    shares = [index.count(k) / len(index) for k in set(index)]
    return [len(set(index)), math.prod(p**-p for p in shares)]


def usage_of_a_distribution(batches, num_codes):
    counts = sum(F.one_hot(batch, num_codes).sum((0, 1)) for batch in batches)
    taken = counts[counts > 0]
    return len(taken), torch.distributions.Categorical(taken / taken.sum()).entropy().exp()


def scalars_from_a_grid(encodings, values):
    bounded, columns = torch.tanh(encodings), []
    for column, number in zip(bounded.unbind(1), values.tolist(), strict=True):
        grid = torch.linspace(-1, 1, number).to(column)
        columns.append(grid[(column[:, None] - grid).abs().argmin(1)])
    z = torch.stack(columns, 1)
    return z + bounded - bounded.detach()


def scalars_from_steps(encodings, values):
    last = values - 1
    steps = (torch.tanh(encodings) + 1) / 2 * last  # 0 to L - 1
    steps = steps + (steps.round() - steps).detach()
    return 2 * steps / last - 1


OTHERS = {
    "quantise": [with_distances_and_embedding, with_a_function_of_its_own],
    "codebook_step": [in_place, row_by_row],
    "code_usage": [usage_with_unique, usage_of_a_distribution],
    "finite_scalars": [scalars_from_a_grid, scalars_from_steps],
    "code_bound": [one_code_at_a_time, with_a_flat_number],
}
