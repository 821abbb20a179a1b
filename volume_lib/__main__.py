"""``python -m volume_lib``."""

from volume_lib.cli import app

if __name__ == "__main__":
    app()
