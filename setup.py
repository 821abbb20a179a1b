"""The one thing that pyproject.toml cannot say: the notebooks of ``template/`` ship inside the package."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

NOTEBOOKS = [*sorted(Path("template").glob("*.ipynb")), Path("analyze_experiments_data.ipynb")]


class BuildWithNotebooks(build_py):
    """Copies them to ``volume_lib/notebooks``. An editable install finds them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for notebook in NOTEBOOKS:
                target = Path(self.build_lib, "volume_lib", "notebooks", notebook.name)
                self.mkpath(str(target.parent))
                self.copy_file(str(notebook), str(target))


setup(cmdclass={"build_py": BuildWithNotebooks})
