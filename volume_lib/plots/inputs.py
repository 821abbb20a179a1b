"""Pictures of data and of decisions in data space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.lines import Line2D

from volume_lib.plots import style

if TYPE_CHECKING:  # figures of volumes start without torch
    from torch import Tensor, nn

    from volume_lib.problems.base import Problem

GRID = 5


def samples(problem: Problem, x: Tensor, y: Tensor, ax: Axes | None = None) -> Axes:
    """Some of the samples ``x`` (N, …) with targets ``y`` (N, …), drawn as ``problem.sample_kind`` asks.

    Points: a scatter plot of the first two coordinates. Images: the first 25 with their labels. Pairs:
    the table of operands, one cell for each sample, coloured by the answer. Sequences: the first
    rows, coloured by token. Anything else: the first rows, flattened, as numbers.
    """
    draw = {"points": _points, "images": _images, "pairs": _pairs, "sequences": _sequences}.get(
        problem.sample_kind, _rows
    )
    ax = style.new_axes(ax, height=0.95 if problem.sample_kind in ("points", "images", "pairs") else 0.6)
    return draw(problem, x.detach().cpu(), y.detach().cpu(), ax)


def verify(
    problem: Problem, root: Path | None = None, model_class: str | None = None, ax: Axes | None = None
) -> Axes:
    """Print what there is to know of a problem before a run, and draw some of its samples.

    The parameter count, the number and shape of the samples, and the loss (nats) and accuracy of an
    untrained model, which are those of guessing where data, model and loss fit together.
    """
    import torch

    data = problem.load(root)
    model = problem.build_model({}, 0, model_class)
    x, y = data.x_test[:500], data.y_test[:500]
    with torch.no_grad():
        outputs = model(x)
    print(problem.describe(model))
    shape = tuple(data.x_train.shape[1:])
    print(f"{len(data.x_train):,} training and {len(data.x_test):,} test samples of shape {shape}")
    accuracy = problem.correct(outputs, y).mean()
    print(f"untrained: loss {problem.loss(outputs, y):.3f}, accuracy {accuracy:.3f}")
    return samples(problem, data.x_train, data.y_train, ax=ax)


def decision_boundary(
    problem: Problem, model: nn.Module, x: Tensor, y: Tensor, ax: Axes | None = None, *, resolution: int = 200
) -> Axes:
    """What ``model`` answers over the plane of 2-D points, with the samples ``x`` (N, 2), ``y`` (N,) on top.

    Two classes: the margin, white on the boundary; more: the class of the largest output.
    """
    import torch

    ax = style.new_axes(ax, height=0.95)
    x, y = x.detach().cpu(), y.detach().cpu()
    low, high = x.amin(0), x.amax(0)
    pad = 0.12 * (high - low)
    axes = [torch.linspace(float((low - pad)[i]), float((high + pad)[i]), resolution) for i in (0, 1)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), -1).reshape(-1, 2)
    with torch.no_grad():
        device = next(model.parameters()).device
        outputs = model(grid.to(device)).float().cpu().reshape(len(grid), -1)
    classes = max(2, outputs.shape[1])
    a, b = (axis.numpy() for axis in axes)
    if outputs.shape[1] <= 2:
        margin = outputs[:, -1] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]
        share = torch.sigmoid(margin).reshape(resolution, resolution).numpy()
        # From the colour of class 0 through white to that of class 1, as the samples have them.
        ax.contourf(a, b, share, levels=np.linspace(0, 1, 11), cmap=_two_colours(), alpha=0.45)
        ax.contour(a, b, share, levels=[0.5], colors="black", linewidths=0.8)
    else:
        answer = outputs.argmax(1).reshape(resolution, resolution).numpy()
        ax.pcolormesh(
            a,
            b,
            answer,
            cmap=ListedColormap(_class_colours(classes)),
            vmin=-0.5,
            vmax=classes - 0.5,
            alpha=0.35,
            rasterized=True,
        )
    return _points(problem, x, y, ax)


def _points(problem: Problem, x: Tensor, y: Tensor, ax: Axes) -> Axes:
    labels = y.reshape(len(y), -1)[:, 0].round().long()
    colours = _class_colours(max(2, problem.num_classes))
    size = float(np.clip(1200 / max(len(x), 1), 1.5, 14))
    handles = []
    for c in labels.unique().tolist():
        at = labels == c
        colour, name = colours[c % len(colours)], _name(problem, c)
        # A black edge tells points from a ground of their own colour, while there is room for one.
        edge: dict[str, Any] = {"lw": 0.3, "ec": "black"} if size > 4 else {"lw": 0}
        ax.scatter(x[at, 0], x[at, 1], s=size, color=colour, **edge)
        handles.append(Line2D([], [], color=colour, marker="o", ms=3.5, ls="none", label=name))
    ax.set_aspect("equal", adjustable="box")
    style.legend(ax, handles=handles)
    return style.finish(ax, "$x_1$", "$x_2$")


def _images(problem: Problem, x: Tensor, y: Tensor, ax: Axes) -> Axes:
    images = x[: GRID * GRID].float()
    if images.ndim == 2:
        side = round(images.shape[1] ** 0.5)
        images = images.reshape(-1, 1, side, side)
    elif images.ndim == 3:
        images = images[:, None]
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    images = (images - low) / (high - low).clamp_min(1e-12)
    h, w = images.shape[-2:]
    gap = max(1, h // 3)
    labels = y.reshape(len(y), -1)[: len(images), 0].long().tolist()
    columns = min(GRID, len(images))
    rows = int(np.ceil(len(images) / columns))
    sheet = images.new_ones(images.shape[1], rows * (h + gap), columns * (w + 2))
    for i, image in enumerate(images):
        top, left = (i // columns) * (h + gap) + gap, (i % columns) * (w + 2)
        sheet[:, top : top + h, left : left + w] = image
        ax.text(
            left + w / 2, top - 1, _name(problem, labels[i]), ha="center", va="bottom", fontsize=style.SMALL
        )
    ax.imshow(
        sheet.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    ax.set_axis_off()
    return ax


def _pairs(problem: Problem, x: Tensor, y: Tensor, ax: Axes) -> Axes:
    pairs = x.reshape(len(x), 2, -1)
    pairs = pairs.argmax(-1) if pairs.shape[-1] > 1 else pairs.squeeze(-1).round()  # one-hot, or numbers
    answer = y.reshape(len(y), -1)[:, 0].long()
    size = int(max(pairs.max().item() + 1, 2))
    table = np.full((size, size), np.nan)
    table[tuple(pairs.long().numpy().T)] = answer.numpy()
    image = ax.imshow(table, cmap="viridis", origin="lower", interpolation="nearest")
    _colour_bar(ax, image, "answer")
    return style.finish(ax, "second operand", "first operand")


def _sequences(problem: Problem, x: Tensor, y: Tensor, ax: Axes) -> Axes:
    rows = x[:12].reshape(min(12, len(x)), -1)[:, :64]
    names = problem.class_names
    if names and all(len(name) == 1 for name in names):
        return _text(["".join(names[token] for token in row) for row in rows.tolist()], ax)
    image = ax.imshow(rows.float().numpy(), cmap="viridis", aspect="auto", interpolation="nearest")
    _colour_bar(ax, image, "token")
    return style.finish(ax, "position", "sample")


def _text(rows: list[str], ax: Axes) -> Axes:
    for i, row in enumerate(rows):
        shown = style.literal(row.replace("\n", "↵"))
        ax.text(0, -i, shown, family="monospace", fontsize=style.SMALL * 0.87, va="center")
    ax.set_xlim(-0.01, 1)
    ax.set_ylim(0.7 - len(rows), 0.7)
    ax.set_axis_off()
    return ax


def _rows(problem: Problem, x: Tensor, y: Tensor, ax: Axes) -> Axes:
    rows = x[:25].reshape(min(25, len(x)), -1).float()
    image = ax.imshow(rows.numpy(), cmap="viridis", aspect="auto", interpolation="nearest")
    _colour_bar(ax, image, "value")
    return style.finish(ax, "feature", "sample")


def _colour_bar(ax: Axes, image: Any, label: str) -> None:
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label(label, fontsize=style.FONT)
    bar.ax.tick_params(labelsize=style.SMALL, width=0.6, length=2)
    bar.outline.set_linewidth(0.6)


def _name(problem: Problem, label: int) -> str:
    names = problem.class_names
    return style.literal(str(names[label])) if names and 0 <= label < len(names) else str(label)


def _class_colours(n: int) -> list[Any]:
    if n <= len(style.PALETTE):
        return list(style.PALETTE[:n])
    return list(style.mpl.colormaps["turbo"](np.linspace(0.03, 0.97, n)))


def _two_colours() -> Any:
    return LinearSegmentedColormap.from_list("margin", [style.PALETTE[0], "white", style.PALETTE[1]])
