"""`python -m blipbench`, the form that torchrun starts: `torchrun --nproc-per-node 2 -m blipbench run ...`."""

from blipbench.cli.main import main

if __name__ == "__main__":
    main()
