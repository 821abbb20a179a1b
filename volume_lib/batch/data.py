"""What a problem's data are now, in short: so that a training done on others is seen.

The whole content counts, whatever the size and times of files say. It is loaded once for a command.
"""

from __future__ import annotations

from volume_lib.errors import InputError
from volume_lib.experiment.file import Experiment


def loaded_data_digest(experiment: Experiment, *, trusted: bool = True) -> str:
    """Digest of what the problem's ``load`` gives; ``""`` where it cannot be loaded.

    ``trusted``: code of the experiment's own may run, and data be downloaded. Where somebody only looks at a
    folder, neither happens.
    """
    from volume_lib.problems.files import no_downloads
    from volume_lib.problems.provenance import data_digest
    from volume_lib.problems.registry import get_problem  # with torch, which takes seconds to import

    if not trusted and ":" in experiment.problem:
        return ""
    try:
        with no_downloads(not trusted):
            return data_digest(get_problem(experiment.problem, experiment.folder).load())
    except InputError:
        return ""
