"""The CUDA side: one set of kernels, one host layer, two devices.

``kernels/*.cu``   CUDA C, ``extern "C"``, no includes, sizes and types by -D
``source.py``      reads a kernel's signature from its text
``device.py``      the Device protocol, modules, and the check of every launch
``sim/``           the kernels compiled for the CPU: run, checked, traced (SimDevice)
``cupy_device.py`` the only code that needs a GPU (CupyDevice)
``plans.py`` …     the host layer: for each primitive, which kernels with which grid and arguments
``nvrtc.py``       compiling for real GPUs without having one: registers, spills, occupancy
"""
