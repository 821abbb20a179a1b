r"""Curvature scaling: every parameter moves in proportion to ``(its curvature + damping)^(-1/2)``.

The curvature of parameter ``i`` is its entry on the diagonal of the generalised Gauss–Newton matrix

    G = 1/N Σ_n  J_nᵀ H_n J_n,    J_n = ∂outputs_n/∂θ,    H_n = ∂²loss_n/∂outputs_n²

(Schraudolph 2002, "Fast curvature matrix-vector products"; Martens 2020, "New insights and perspectives on
the natural gradient method"). For a quadratic loss it is the Hessian's diagonal ``λ``, and where that is
all of the Hessian ``S = λ^(-1/2)`` turns the bowl into a ball, whose volume one direction measures exactly.

**Where it is taken.** At a minimum that fits its data, ``H_n`` has all but vanished and many units are
silent: the diagonal there says little about where the loss will rise, and ``λ^(-1/2)`` sends silent
parameters so far that they wake. So the curvature is averaged over points on random rays at which the loss
has risen by :data:`RISE`, rays that are themselves drawn with the scaling found so far, until the two
agree. A quadratic has the same curvature everywhere, and loses nothing by it.

**Determinant.** Every minimum has its own curvature, and a common factor of ``S`` is free. It is chosen so
that ``det S = 1``: then ``log E[r^n]`` of different minima differ as their log volumes do, and every
comparison that is made by it holds in these coordinates too.

**Damping.** The rounds start from the filter scaling. From one to the next, no parameter's displacement
grows more than :data:`GROWTH`-fold; this is the damping ``(GROWTH · previous displacement)^(-2)``, as a
maximum with the curvature rather than added to it so that it is gone once the rounds agree. A parameter
without any curvature (at no point does it touch the loss) keeps the displacement that it had: its extent is
infinite, and any number that stood for it would be made up.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, vjp, vmap

from volume_lib.parameters import copied, flatten, moved_names, moved_shapes, num_moved, place, unflatten
from volume_lib.problems.base import Problem
from volume_lib.progress import Bar

RISE = 0.1
"""The rise of the loss (nats) at which curvature is taken: the size of the usual thresholds."""
GROWTH = 3.0
ROUNDS, MAX_ROUNDS = 6, 24
POINTS, SAMPLES = 16, 32
"""Points at which each round takes the curvature, and samples (drawn anew) that it takes there."""
MAX_OUTPUTS = 256
"""Up to this many outputs a sample's ``H_n`` is factored; beyond, G is only multiplied with vectors."""

_SEED = 0x5CA1E  # far from the small seeds of directions, which must not be drawn again here
_CHUNK_ELEMENTS = 2**23


@torch.no_grad()
def curvature_scale(model: nn.Module, start: Tensor, problem: Problem, x: Tensor, y: Tensor) -> Tensor:
    """``S_i ∝ (λ_i + damping)^(-1/2)``, of determinant 1: (n,) float32 on the CPU.

    ``start`` (n,) is the scaling to begin with; ``x`` (N, …) and ``y`` (N,) are the samples of the loss.
    Seeded: the same model and data give the same scaling. A round takes ``POINTS · SAMPLES`` gradients of
    single samples and about as many more of the loss; the bar shows the time.
    """
    model = copied(model).cpu().eval()
    generator = torch.Generator().manual_seed(_SEED)
    theta = flatten(model)
    if not problem.loss(model(x[:SAMPLES]), y[:SAMPLES]).isfinite():
        return start.float()  # above every threshold: no volume, in whichever coordinates
    # In these units the loss of a quadratic that S makes round rises by RISE at coefficient 1.
    unit = math.sqrt(2 * RISE / len(theta))
    curvature, displacement, coefficient = None, start.double(), 1.0
    with Bar(total=ROUNDS, desc="curvature", unit="round") as bar:
        for number in range(1, MAX_ROUNDS + 1):
            found, coefficients = torch.zeros(len(theta), dtype=torch.float64), []
            for _ in range(POINTS):
                chosen = torch.randperm(len(x), generator=generator)[:SAMPLES]
                direction = (
                    torch.randn(len(theta), generator=generator, dtype=torch.float32) * displacement.float()
                )
                coefficient = _rise(model, problem, theta, direction, coefficient, x[chosen], y[chosen])
                place(model, theta + coefficient * direction)
                found += ggn_diagonal(model, problem, x[chosen], y[chosen], generator) / POINTS
                coefficients.append(coefficient)
            curvature = found if curvature is None else (curvature + found) / 2
            typical = math.exp(sum(map(math.log, coefficients)) / POINTS)
            before = displacement
            displacement, limited = _displacement(curvature, typical * before, unit)
            coefficient = 1.0
            bar.update(number <= ROUNDS)
            # A quadratic, whose curvature is the same everywhere, has nothing to average.
            settled = torch.allclose(displacement, before, rtol=1e-5, atol=0)
            if settled or (number >= ROUNDS and limited < 1e-3):
                break
    return (displacement / displacement.log().mean().exp()).float()


def _displacement(curvature: Tensor, previous: Tensor, unit: float) -> tuple[Tensor, float]:
    """Displacements (n,) for the next round, and the share of parameters that the damping holds back."""
    silent = curvature <= 1e-15 * curvature.max()
    wanted = unit * torch.where(silent, 1.0, curvature).rsqrt()
    limited = (wanted > GROWTH * previous) & ~silent
    displacement = torch.where(limited, GROWTH * previous, wanted)
    return torch.where(silent, previous, displacement), float(limited.double().mean())


@torch.no_grad()
def ggn_diagonal(
    model: nn.Module, problem: Problem, x: Tensor, y: Tensor, generator: torch.Generator
) -> Tensor:
    """An unbiased estimate of the diagonal of ``G`` (n,), float64, never negative.

    Up to :data:`MAX_OUTPUTS` outputs per sample: the mean over samples of ``(J_nᵀ H_n^{1/2} ε_n)²`` with
    random signs ``ε_n``. One gradient per sample, and exact if no parameter shares an output with another.
    Negative eigenvalues of ``H_n`` (a loss that is not convex in the outputs) count as zero.

    Beyond, Hutchinson's estimate (Bekas et al. 2007, "An estimator for the diagonal of a matrix") through
    ``curvlinops``: ``ε ⊙ Gε``, exact if ``G`` is diagonal. Off the diagonal lies its noise, so the entries
    of one output row of a weight share their mean; what is negative still counts as zero.
    """
    if model(x[:1]).numel() > MAX_OUTPUTS:
        return _hutchinson_diagonal(model, problem, x, y, generator)
    names = moved_names(model)
    parameters = dict(model.named_parameters())
    moved = {name: parameters[name] for name in names}

    def squared_gradient(x: Tensor, y: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
        def outputs_of(moved: dict[str, Tensor]) -> Tensor:
            return functional_call(model, {**parameters, **moved}, (x[None],))[0]

        outputs, pullback = vjp(outputs_of, moved)[:2]
        factor = _root(problem, outputs, y) @ signs
        # Of size one, as float32 has no squares of the tiny curvatures of a sample that is fitted well.
        size = factor.abs().amax().clamp(min=1e-150)
        (gradient,) = pullback((factor / size).to(outputs.dtype).reshape(outputs.shape))
        return torch.cat([gradient[name].flatten() for name in names]).square(), size.square()

    each_sample = vmap(squared_gradient)
    if not _runs(each_sample, x[:1], y[:1], num_outputs=model(x[:1]).numel()):
        each_sample = _one_by_one(model, problem, list(moved.values()))
    total = torch.zeros(num_moved(model), dtype=torch.float64)
    num_outputs = model(x[:1]).numel()
    step = max(1, _CHUNK_ELEMENTS // len(total))
    for xs, ys in zip(x.split(step), y.split(step), strict=True):
        signs = 2.0 * torch.randint(2, (len(xs), num_outputs), generator=generator).double() - 1.0
        squares, sizes = each_sample(xs, ys, signs)
        largest = sizes.max()
        total += largest * ((sizes / largest).to(squares.dtype) @ squares).double()
    return total / len(x)


def _runs(each_sample: Callable[..., object], x: Tensor, y: Tensor, num_outputs: int) -> bool:
    """Whether gradients of several samples can be taken together."""
    try:
        each_sample(x, y, torch.ones(1, num_outputs, dtype=torch.float64))
    except Exception:
        return False
    return True


def _one_by_one(
    model: nn.Module, problem: Problem, moved: list[nn.Parameter]
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The squared gradients of samples, one after another: for networks that ``vmap`` cannot take."""
    for parameter in moved:
        parameter.requires_grad_()

    @torch.enable_grad()
    def each_sample(x: Tensor, y: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
        squares, sizes = [], []
        for i in range(len(x)):
            outputs = model(x[i : i + 1])
            factor = _root(problem, outputs[0].detach(), y[i]) @ signs[i]
            size = factor.abs().amax().clamp(min=1e-150)
            weights = (factor / size).to(outputs.dtype).reshape(outputs.shape)
            parts = torch.autograd.grad((outputs * weights).sum(), moved, materialize_grads=True)
            squares.append(torch.cat([part.flatten() for part in parts]).square())
            sizes.append(size.square())
        return torch.stack(squares), torch.stack(sizes)

    return each_sample


def _root(problem: Problem, outputs: Tensor, y: Tensor) -> Tensor:
    """The symmetric root of ``H_n`` (K, K) at the outputs of one sample, in float64.

    Of all factors it is the one that is diagonal where ``H_n`` is, and so mixes no outputs without need.
    """

    def loss(flat: Tensor) -> Tensor:
        return problem.per_sample_loss(flat.reshape(1, *outputs.shape), y[None])[0]

    values, vectors = torch.linalg.eigh(hessian(loss)(outputs.double().flatten()))
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


class _MeanLoss(nn.Module):
    reduction = "mean"  # read by curvlinops

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self.problem.loss(outputs, y)


def _hutchinson_diagonal(
    model: nn.Module, problem: Problem, x: Tensor, y: Tensor, generator: torch.Generator
) -> Tensor:
    with warnings.catch_warnings():  # its imports meet torch functions on their way out
        warnings.simplefilter("ignore", FutureWarning)
        from curvlinops import GGNLinearOperator, hutchinson_diag
    parameters = dict(model.named_parameters())
    moved = [parameters[name] for name in moved_names(model)]
    matrix = GGNLinearOperator(model, _MeanLoss(problem), moved, [(x, y)], check_deterministic=False)
    with torch.random.fork_rng(devices=[]):  # curvlinops draws from the global generator
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        flat = hutchinson_diag(matrix, num_matvecs=1).double()
    rows = [
        part.flatten(1).mean(1, keepdim=True).expand(-1, part[0].numel()).flatten()
        if part.dim() > 1
        else part
        for part in unflatten(flat, moved_shapes(model)).values()
    ]
    return torch.cat(rows).clamp(min=0)


def _rise(
    model: nn.Module, problem: Problem, theta: Tensor, direction: Tensor, guess: float, x: Tensor, y: Tensor
) -> float:
    """A coefficient (within 5 %) at which the loss has risen by :data:`RISE`."""

    def risen(coefficient: float) -> bool:
        place(model, theta + coefficient * direction)
        return not problem.loss(model(x), y).item() <= limit

    place(model, theta)
    limit = problem.loss(model(x), y).item() + RISE
    low = high = guess
    while risen(low) and low > 1e-12:
        low, high = low / 2, low
    while not risen(high) and high < 1e12:
        low, high = high, high * 2
    for _ in range(4):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if risen(middle) else (middle, high)
    return math.sqrt(low * high)
