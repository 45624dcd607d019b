"""Backends: arrays in, arrays out. They know nothing of tensors, graphs or gradients.

The contract is the protocol ``tinygrad_cnn.backend.Backend``; in one page:

- Arrays have the logical shapes of the public API (NCHW images, OIHW weights); the memory order is
the
  backend's own affair. Ops validate; primitives do not.
- ``array_backend.ArrayBackend`` holds everything that is one call into an array module (NumPy,
CuPy).
- ``numpy_backend.NumpyBackend`` adds readable convolution, pooling and normalisation: the
specification,
  against which every other backend is tested.
- ``numba_backend.NumbaBackend`` replaces the hot ones by compiled loops (``numba_kernels/``).

To add a backend: subclass ``ArrayBackend`` (or satisfy the protocol), register its dotted name
under the entry-point group ``tinygrad_cnn.backends``, and run the shared suite: ``pytest --backend
NAME``.
"""
