"""The settings of an estimate: declared here, read by ``estimate_volumes`` and by the ``volume`` section."""

from __future__ import annotations

from volume_lib.section import Count, Counts, Section, Share


class VolumeSettings(Section):
    """What is estimated besides the volumes at a loss threshold, and with how many resamples."""

    acc_threshold: Share | None = None
    top_k: Count | None = 10
    bootstrap: Count = 1000
    subset_sizes: Counts | None = None
