"""``python -m rlvr_bench`` is ``rlvr-bench``."""

from rlvr_bench.cli import main

if __name__ == "__main__":
    main()
