"""Figures of slices of loss landscapes: contours, interactive surfaces, animations."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FFMpegWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from volume_lib.errors import InputError
from volume_lib.plots import style, ticks
from volume_lib.storage import write_bytes

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from volume_lib.slices import Plane

CONTOURS = 18
FLOOR = 1e-6
"""Losses below this share of the largest shown are drawn as it: a log scale must end somewhere."""


def loss_slice(
    losses: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    plane: Plane,
    ax: Axes | None = None,
    *,
    minima: Sequence[float] = (),
    levels: Sequence[float] | None = None,
    threshold: float | None = None,
    limits: tuple[float, float] | None = None,
    title: str = "",
    explain: bool = True,
    loss_unit: str = "nats",
) -> Axes:
    """Contours of the loss (log colours) on the plane: (B, A) on the grid ``a`` (A,), ``b`` (B,).

    The white line with black edges is ``threshold``: inside it lies what counts as a minimum's volume.
    ``minima``: the data levels of the plane's anchors, in their colours. ``limits``: losses at the ends of
    the colours, to share them between figures. ``explain``: with a legend and a colour bar, in
    ``loss_unit``. Points of infinite or NaN loss stay grey.
    """
    ax = style.new_axes(ax, height=0.85)
    low, high = loss_limits(losses) if limits is None else limits
    shown = np.ma.masked_invalid(np.clip(losses, low, high))
    ax.set_facecolor(style.LIGHT)
    edges = np.geomspace(low, high, CONTOURS + 1)
    filled = ax.contourf(a, b, shown, levels=edges, norm=LogNorm(low, high), cmap="viridis", extend="neither")
    ax.contour(a, b, shown, levels=edges[1:-1:2], colors="black", linewidths=0.2, alpha=0.5)
    if threshold is not None and low < threshold < high:
        width = 1.2 if explain else 0.8
        for colour, more in (("black", 1.0), ("white", 0.0)):  # white alone is lost where the loss is high
            ax.contour(a, b, shown, levels=[threshold], colors=colour, linewidths=width + more)
    styles = style.level_styles([*(levels or []), *minima])
    edge = {"mec": "white", "mew": 0.7, "ms": 5.5} if explain else {"mec": "white", "mew": 0.5, "ms": 4}
    for at, minimum in zip(plane.anchors, minima, strict=False):
        (mark,) = ax.plot(*at, **styles[minimum], **edge, ls="none", label=f"{minimum:,}")
        mark.set_path_effects([withStroke(linewidth=edge["mew"] + 1.0, foreground="black")])
    ax.set_aspect("equal", adjustable="box")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    if minima and explain:
        style.legend(ax, f"{title}\nminimum".strip())
    if explain:
        _colour_bar([ax], filled, loss_unit)
    return style.finish(ax, plane.unit, plane.unit, "" if minima and explain else title)


def loss_slices(
    losses: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    plane: Plane,
    axes: Sequence[Axes] | None = None,
    *,
    titles: Sequence[str],
    loss_unit: str = "nats",
    **options: Any,
) -> Sequence[Axes]:
    """Slices (L, B, A) side by side in the same colours, as :func:`loss_slice` draws each.

    One legend and one colour bar serve all of them.
    """
    axes = style.new_panels(len(losses), height=0.58) if axes is None else axes
    limits = loss_limits(losses)
    for ax, slice_, title in zip(axes, losses, titles, strict=True):
        loss_slice(slice_, a, b, plane, ax, title=title, limits=limits, explain=False, **options)
        ax.label_outer()
        ax.xaxis.label.set_fontsize(style.SMALL)
    _colour_bar(axes, axes[0].collections[0], loss_unit)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        look = {"fontsize": style.SMALL, "frameon": False, "handletextpad": 0.4, "columnspacing": 1.0}
        labels[0] = f"minimum {labels[0]}"
        axes[0].figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), **look)
    return axes


def loss_surface(
    losses: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    plane: Plane,
    *,
    minima: Sequence[float] = (),
    levels: Sequence[float] | None = None,
    limits: tuple[float, float] | None = None,
    title: str = "",
    loss_unit: str = "nats",
) -> go.Figure:
    """The slice as an interactive 3-D surface: log₁₀ of the loss, the loss itself on hovering.

    ``limits``: losses at the ends of height and colours, to share them between figures (:func:`loss_limits`).
    """
    import plotly.graph_objects as go

    low, high = loss_limits(losses) if limits is None else limits
    heights = np.log10(np.clip(np.where(np.isfinite(losses), losses, np.nan), low, high))
    hover = f"a %{{x:.3g}}<br>b %{{y:.3g}}<br>loss %{{customdata:.3g}} {loss_unit}<extra></extra>"
    surface = go.Surface(x=a, y=b, z=heights, customdata=losses, colorscale="Viridis", hovertemplate=hover)
    surface.update(cmin=np.log10(low), cmax=np.log10(high), colorbar={"title": "log₁₀ loss", "len": 0.6})
    figure = go.Figure(surface)
    styles = style.level_styles([*(levels or []), *minima])
    for at, minimum in zip(plane.anchors, minima, strict=False):
        i, j = np.abs(a - at[0]).argmin(), np.abs(b - at[1]).argmin()
        point = {
            "x": [at[0]],
            "y": [at[1]],
            "z": [heights[j, i]],
            "mode": "markers",
            "name": f"minimum {minimum:,}",
        }
        figure.add_scatter3d(
            **point,
            marker={"color": styles[minimum]["color"], "size": 7, "line": {"color": "white", "width": 2}},
        )
    scene: dict[str, Any] = {
        "xaxis_title": plane.unit,
        "yaxis_title": plane.unit,
        "zaxis_title": f"log₁₀ loss ({loss_unit})",
    }
    scene |= {"zaxis_range": [np.log10(low), np.log10(high)], "aspectmode": "cube"}
    scene["camera"] = {"eye": {"x": 1.5, "y": -1.5, "z": 1.2}, "center": {"x": 0, "y": 0, "z": -0.15}}
    figure.update_layout(
        title=title,
        width=640,
        height=520,
        margin={"l": 0, "r": 0, "t": 40, "b": 0},
        scene=scene,
        legend={"x": 0},
    )
    return figure


def animate_slices(
    losses: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    plane: Plane,
    path: str | Path,
    *,
    titles: Sequence[str],
    frames_per_second: int = 6,
    **options: Any,
) -> Path:
    """Write the slices (L, B, A) as a film, one frame each, to a ``.gif`` or, where ffmpeg exists, ``.mp4``.

    All frames share their colours; the last one stands for a second. Raises :class:`InputError` for another
    suffix, or for MP4 without ffmpeg.
    """
    path = Path(path)
    if path.suffix not in (".gif", ".mp4"):
        raise InputError(f"{path}: a film is a .gif or an .mp4")
    if path.suffix == ".mp4" and not can_write_mp4():
        raise InputError(f"{path}: ffmpeg is not installed; a .gif needs nothing")
    limits = loss_limits(losses)
    frames = []
    for slice_, title in zip(losses, titles, strict=True):
        ax = loss_slice(slice_, a, b, plane, title=title, limits=limits, **options)
        frames.append(_pixels(ax))
        plt.close(style.figure_of(ax))
    frames += [frames[-1]] * frames_per_second
    write_bytes(path, (_gif if path.suffix == ".gif" else _mp4)(frames, frames_per_second))
    return path


def can_write_mp4() -> bool:
    """Whether ffmpeg is installed."""
    return shutil.which("ffmpeg") is not None


def loss_limits(losses: np.ndarray) -> tuple[float, float]:
    """Smallest and largest loss to show, for the ends of a log scale."""
    finite = losses[np.isfinite(losses)]
    if not finite.size:
        raise InputError("the loss is infinite or NaN everywhere on this slice")
    high = float(finite.max()) or 1.0
    low = max(float(finite.min()), FLOOR * high)
    return (low, high) if low < high else (high / 2, high)


def _colour_bar(axes: Sequence[Axes], filled: Any, loss_unit: str) -> None:
    bar = axes[0].figure.colorbar(filled, ax=list(axes), pad=0.03, shrink=0.85)
    bar.set_label(f"loss ({style.literal(loss_unit)})", fontsize=style.FONT)
    ticks.label_log(bar.ax.yaxis)
    bar.ax.tick_params(labelsize=style.SMALL, width=0.6, length=2)
    bar.ax.minorticks_off()
    bar.outline.set_linewidth(0.6)


def _pixels(ax: Axes) -> np.ndarray:
    """(height, width, 3) of the whole figure; even numbers, as video codecs want them."""
    canvas = style.figure_of(ax).canvas
    if not isinstance(canvas, FigureCanvasAgg):
        raise InputError(f"films need the Agg canvas; this process draws with {type(canvas).__name__}")
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2].copy()


def _gif(frames: Sequence[np.ndarray], frames_per_second: int) -> bytes:
    from PIL import Image

    # One palette for all frames, or colours flicker from frame to frame.
    palette = Image.fromarray(np.concatenate([frames[0], frames[-1]])).quantize(255)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    content = io.BytesIO()
    images[0].save(
        content, "GIF", save_all=True, append_images=images[1:], duration=1000 // frames_per_second, loop=0
    )
    return content.getvalue()


def _mp4(frames: Sequence[np.ndarray], frames_per_second: int) -> bytes:
    height, width = frames[0].shape[:2]
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
    image = figure.figimage(frames[0])
    writer = FFMpegWriter(fps=frames_per_second, codec="libx264", extra_args=["-pix_fmt", "yuv420p"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        with writer.saving(figure, str(file), dpi=100):
            for frame in frames:
                image.set_data(frame)
                writer.grab_frame()
        plt.close(figure)
        return file.read_bytes()
