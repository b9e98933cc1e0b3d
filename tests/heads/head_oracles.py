"""The losses written the long way: one sample and one class at a time, with math and acos."""

import math

import torch


def cosines(features, weight):
    """cos θ_j of each sample as nested lists, clamped as rounding requires."""
    rows = []
    for x in features.tolist():
        x_norm = math.sqrt(math.fsum(v * v for v in x))
        row = []
        for w in weight.tolist():
            w_norm = math.sqrt(math.fsum(v * v for v in w))
            product = math.fsum(a * b for a, b in zip(x, w, strict=True))
            cosine = product / (x_norm * w_norm) if x_norm * w_norm else 0.0
            row.append(min(1.0, max(-1.0, cosine)))
        rows.append(row)
    return rows


def norms(vectors):
    return [math.sqrt(math.fsum(v * v for v in x)) for x in vectors.tolist()]


def cross_entropy(logits, label):
    largest = max(logits)
    return largest + math.log(math.fsum(math.exp(z - largest) for z in logits)) - logits[label]


def multiplicative_psi(theta, m):
    """ψ by the paper's Eqs. 6 and 7: a sum with binomials, and k found by the interval of θ."""
    k = next(k for k in range(m) if k * math.pi / m <= theta <= (k + 1) * math.pi / m or k == m - 1)
    c = math.cos(theta)
    cos_m = math.fsum(
        (-1) ** n * math.comb(m, 2 * n) * c ** (m - 2 * n) * (1 - c * c) ** n
        for n in range(m // 2 + 1)
    )
    return (-1) ** k * cos_m - 2 * k


def additive_psi(theta, m, beyond):
    if beyond == "easy":
        return math.cos(theta + m) if math.cos(theta) > 0 else math.cos(theta)
    if theta <= math.pi - m:
        return math.cos(theta + m)
    return {
        "linear": math.cos(theta) - m * math.sin(m),
        "mirror": -2 - math.cos(theta + m),
        "clamp": -1.0,
        "none": math.cos(theta + m),
    }[beyond]


def batch(n=24, d=6, k=5, seed=0, scale=2.0):
    """Random float64 features (n, d), labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return features, torch.arange(n) % k


def double_head(name, in_features=6, num_classes=5, seed=0, **parameters):
    """A head in float64 with random weights of a seed; λ is 0 unless it is given."""
    from marginbench.heads import build_head, head_class

    if "lambda_gamma" in head_class(name).per_iteration:
        parameters = {"lambda_base": 0.0, "lambda_min": 0.0} | parameters
    torch.manual_seed(seed)
    return build_head(name, in_features, num_classes, **parameters).double()
