"""Many runs: clone, parameterise and execute notebooks, skip what is done, report what is not.

>>> from volume_lib import batch
>>> batch.make("experiments/low_data/mnist")        # the run folders, nothing run      # doctest: +SKIP
>>> batch.run("experiments/low_data/mnist")         # everything that is not done yet   # doctest: +SKIP
>>> batch.status("experiments/low_data/mnist")      # a table                           # doctest: +SKIP
"""

from volume_lib.batch.cleaning import clean, cleanable, size_words
from volume_lib.batch.engine import run
from volume_lib.batch.folders import make, propagate
from volume_lib.batch.outcome import Outcome, Status, status

__all__ = ["Outcome", "Status", "clean", "cleanable", "make", "propagate", "run", "size_words", "status"]
