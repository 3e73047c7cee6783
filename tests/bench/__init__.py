"""What the product costs, measured: against a floor, from one day to the next, beside other programs.

The measurements behind the page on speed belong here, each a command of `python -m tests.bench`. Tests
that require a speed do not. Every run is a process of its own; samples, inputs and results are stored
under `build/bench/`.
"""
