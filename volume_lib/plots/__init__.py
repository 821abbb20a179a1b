"""Every figure, in one look. Each function takes an optional ``ax``, draws and returns it.

Nothing is saved or shown unless asked: :func:`save` writes a figure's file.
"""

from volume_lib.plots.estimators import convergence, convergence_grid, rewritten
from volume_lib.plots.experiment import (
    against_data,
    against_volume,
    landscapes,
    uncertainty,
    volume_against_data,
    volume_against_landscape,
)
from volume_lib.plots.inputs import decision_boundary, samples, verify
from volume_lib.plots.masses import integrands, mass_convergence, rays_and_integration
from volume_lib.plots.radii import radii_histogram, radii_summary, radii_tail, weight_shares
from volume_lib.plots.results import log_volumes, rank_agreement, rank_probabilities, volume_against_test_loss
from volume_lib.plots.run import (
    accuracy_curves,
    loss_curves,
    ray_profiles,
    test_accuracies,
    test_loss,
    training_curves,
)
from volume_lib.plots.slices import (
    animate_slices,
    can_write_mp4,
    loss_limits,
    loss_slice,
    loss_slices,
    loss_surface,
)
from volume_lib.plots.statistics import agreement, compare, power_law, rank_table, residuals, stability
from volume_lib.plots.style import (
    close,
    data_label,
    figure_of,
    keep,
    level_styles,
    new_panels,
    plain_words,
    save,
    small_multiples,
)

__all__ = [
    "accuracy_curves",
    "against_data",
    "against_volume",
    "agreement",
    "animate_slices",
    "can_write_mp4",
    "close",
    "compare",
    "convergence",
    "convergence_grid",
    "data_label",
    "decision_boundary",
    "figure_of",
    "integrands",
    "keep",
    "landscapes",
    "level_styles",
    "log_volumes",
    "loss_curves",
    "loss_limits",
    "loss_slice",
    "loss_slices",
    "loss_surface",
    "mass_convergence",
    "new_panels",
    "plain_words",
    "power_law",
    "radii_histogram",
    "radii_summary",
    "radii_tail",
    "rank_agreement",
    "rank_probabilities",
    "rank_table",
    "ray_profiles",
    "rays_and_integration",
    "residuals",
    "rewritten",
    "samples",
    "save",
    "small_multiples",
    "stability",
    "test_accuracies",
    "test_loss",
    "training_curves",
    "uncertainty",
    "verify",
    "volume_against_data",
    "volume_against_landscape",
    "volume_against_test_loss",
    "weight_shares",
]
