"""``tinygrad-cnn bench``: how fast this machine trains, next to PyTorch and to its own limits.

``workloads`` says what is timed (as data), ``programs`` runs it on either library, ``peers`` are
the libraries and this machine's limits, ``measure`` takes turns among their processes, ``extras``
starts up, weighs and grows, ``report`` makes tables and pictures, ``command`` is the command.
"""
