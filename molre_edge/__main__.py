"""``python -m molre_edge``: the same as ``molre-edge``."""

from molre_edge.cli import main

if __name__ == "__main__":
    main()
