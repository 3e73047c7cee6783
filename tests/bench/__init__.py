"""What the product costs, measured: against a floor, from one day to the next, beside other programs.

Here belong the measurements behind the page on speed, each one command:
`python -m tests.bench refresh | compare | readme`. What must be fast enough for a test to pass does not.
Every run is a process of its own; samples, inputs and results are kept under `build/bench/`.
"""
