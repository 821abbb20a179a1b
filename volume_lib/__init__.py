"""volume_lib: how much of parameter space do the minima of neural networks occupy?"""

__version__ = "0.2.0"
