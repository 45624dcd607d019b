"""Op and Tensor: run a forward function, remember how to go back.

An ``Op`` object is one recorded operation. Its constructor takes static parameters;
``forward(kernels, *arrays)`` computes on the backend's arrays; ``backward(grad, out)`` is the
derivative rule, written **in Tensor operations only**, so that running it while recording gives
derivatives of every order. An optional ``fused_backward(kernels, grad, out, *arrays)`` is the same
rule on arrays, used when no graph of the gradient is wanted.

The graph points backward only (output → Op → inputs), so reference counting frees it:

    a ──┐
        ├─ Multiply ── c          c.grad_fn is the Op; op.edges == (a, b): what to send gradients to
    b ──┘
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from . import dtypes
from ._methods import TensorMethods
from .backend import Array, Backend, BackendLike, load_backend
from .dtypes import DType
from .geometry import Shape

if TYPE_CHECKING:
    from .autograd import Anomaly
    from .deferred import Deferred

Edge = Any  # where a gradient goes: an Op (it made the input) or a leaf Tensor


class Around:
    """Something that follows every operation of a thread: fusion, or the hunt for NaN."""

    def before(self, op: Op, inputs: tuple[Any, ...]) -> Tensor | None:
        """The output of ``op``, if it is not to be computed in the ordinary way."""

    def later(self, op: Op, inputs: tuple[Any, ...], kernels: Backend) -> Deferred | None:
        """The output of the deferrable ``op``, if it is to be computed when somebody looks."""

    def after(self, op: Op, inputs: tuple[Any, ...], result: Tensor) -> None:
        """See what was computed."""

    def wrote(self, target: Tensor, new: Tensor) -> None:
        """See that the values of ``new`` have been written into ``target``."""

    def flush(self) -> None:
        """Compute what was put off: memory is about to be written."""


class _Mode(threading.local):
    """Per-thread switches: is the graph recorded, and does something follow the operations."""

    def __init__(self) -> None:  # runs in every thread that looks
        self.record: bool = True
        self.around: Around | None = None
        self.anomaly: Anomaly | None = None  # equal to ``around`` while detect_anomaly is on


mode = _Mode()
next_age = itertools.count(0, -1).__next__


class Op:
    """One operation: forward on arrays, backward on tensors; see the module text.

    The class attributes say what is kept for ``backward`` and what the engine does around it.
    """

    saves_inputs: ClassVar[bool] = True  # backward reads self.inputs
    saves_output: ClassVar[bool] = False  # backward reads out (else out is None)
    broadcasts: ClassVar[bool] = False  # the engine sums gradients back to the input shapes
    is_view: ClassVar[bool] = False  # the output may share memory with the first input
    deferrable: ClassVar[bool] = False  # inside a module, wait for the next operation
    fused_backward: ClassVar[Callable[..., Any] | None] = None

    # What recording adds; all else in __dict__ are static parameters, so an Op can be replayed.
    RECORDED = frozenset(
        "_needs age array constant_versions counter edges hooks inputs kept made source "
        "versions".split()
    )
    age: int = 0  # the younger an operation, the smaller
    array: Array | None = None  # the output, when saves_output
    constants: tuple[Tensor, ...] = ()  # tensors that are static parameters, such as an index
    counter: list[int]  # its version
    edges: Sequence[Edge | None] = ()  # where the gradient of each input goes; () once freed
    hooks: dict[int, Callable[[Tensor], Tensor | None]] | None = None
    inputs: tuple[Tensor, ...] = ()  # when saves_inputs; Python scalars stand among them
    kept: Any = None  # weak reference to an output whose .grad is wanted
    made: Shape  # of the output
    _needs: list[bool] | None = None  # set while a backward wants only some gradients
    source: str | None = None  # the caller's line, under detect_anomaly
    versions: list[int]  # of the inputs, when saves_inputs
    constant_versions: list[int]

    def forward(self, kernels: Backend, *arrays: Any) -> Array:
        raise NotImplementedError(f"{type(self).__name__} must define forward(kernels, *arrays)")

    def backward(self, grad: Tensor, out: Any) -> Any:
        raise NotImplementedError(f"the derivative of {self.name} is not defined")

    def output_shape(self, *inputs: Any) -> Shape:
        """The shape of the output, for operations that can be deferred."""
        raise NotImplementedError(f"{self.name} cannot be deferred")

    @property
    def parts(self) -> tuple[Op, ...]:
        """The operations that a fused one took over, innermost first: a tensor may still be known
        as the output of one."""
        return ()

    def watched(self) -> bool:
        """Whether a part of a fused operation has hooks, so that its kernel must not skip it."""
        return False

    @property
    def needs(self) -> list[bool]:
        """Which inputs' gradients backward wants now: a costly rule leaves the others out."""
        return self._needs or [e is not None for e in self.edges]

    @needs.setter
    def needs(self, needs: list[bool] | None) -> None:
        self._needs = needs

    @property
    def name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def shapes(self) -> list[Any]:
        """The shapes of the inputs that have gradients; None in the places of others."""
        made = (e.made if isinstance(e, Op) else None if e is None else e.shape for e in self.edges)
        return list(made)

    def __call__(self, *inputs: Any) -> Tensor:
        """Compute the output of ``inputs`` (tensors, or Python scalars) and record how."""
        return self.on(inputs)

    def on(self, inputs: tuple[Any, ...]) -> Tensor:
        """The same for inputs in a tuple, without the call of an object that is no function.

        All operations pass here, so what a line costs counts. Of adding four numbers, 2 µs, a look
        at a switch of this thread takes 2 %, at an attribute that only the class has 1 %, and the
        unpacking of a list 8 %.

        Raises ValueError when tensors of two backends meet."""
        now = mode.__dict__
        around = now["around"]
        if around is not None and (fused := around.before(self, inputs)) is not None:
            return fused  # type: ignore[no-any-return]
        kernels: Any = None
        arrays = []
        edges: list[Edge | None] = []
        recording = False
        for t in inputs:
            if isinstance(t, Tensor):
                arrays.append(t.array)
                if t.backend is not kernels:
                    if kernels is not None:
                        raise mixed_backends(self, inputs)
                    kernels = t.backend
                if t._base is not None:
                    t._refresh()
                if t.requires_grad:
                    edges.append(t.grad_fn or t)
                    recording = True
                    continue
            else:
                arrays.append(t)
            edges.append(None)
        recording = recording and now["record"]
        if around is not None and self.deferrable:
            late = around.later(self, inputs, kernels)
            if late is not None:
                if recording:
                    self.record(inputs, edges, late, late.shape)
                return late  # type: ignore[no-any-return]
        if len(arrays) == 2:
            out = self.forward(kernels, arrays[0], arrays[1])
        else:
            out = self.forward(kernels, *arrays)
        if type(out) is not np.ndarray and isinstance(out, np.generic):
            out = kernels.asarray(out)
        result = Tensor.__new__(Tensor)  # Tensor._wrap without the call
        result.array, result.backend, result._version, result._base = out, kernels, None, None
        result.requires_grad, result.grad_fn = False, None
        if recording and out.dtype.kind == "f":
            self.record(inputs, edges, result, out.shape)
            if self.saves_output:
                self.keep_output(result)
        if self.is_view:
            result._link_view(inputs[0], self)
        if around is not None:
            around.after(self, inputs, result)
        return result

    def record(
        self, inputs: tuple[Any, ...], edges: list[Edge | None], result: Tensor, shape: Shape
    ) -> None:
        """Remember how ``result`` was made."""
        self.age, self.edges, self.made = next_age(), edges, shape
        if self.saves_inputs:
            self.inputs, self.versions = inputs, []
            for t in inputs:
                counter = t._version if isinstance(t, Tensor) else None
                self.versions.append(0 if counter is None else counter[0])
        if self.constants:
            self.constant_versions = [t.version for t in self.constants]
        result.requires_grad, result.grad_fn = True, self

    def keep_output(self, result: Tensor) -> None:
        """Save the output for ``backward``, with the version it has now."""
        self.array, self.counter = result.array, result._version_list()

    def free(self) -> None:
        """Let go of all that only ``backward`` needs; a second one is then an error."""
        self.edges, self.inputs, self.array = (), (), None

    def replay(self, x: Tensor) -> Tensor:
        """The same operation on another tensor."""
        fresh = type(self).__new__(type(self))
        fresh.__dict__.update({k: v for k, v in vars(self).items() if k not in self.RECORDED})
        return fresh(x)


def mixed_backends(op: Op, inputs: Sequence[Any]) -> ValueError:
    found = [t for t in inputs if isinstance(t, Tensor)]
    shown = " and ".join(f"{t.backend.name} tensor {tuple(t.shape)}" for t in found[:3])
    return ValueError(
        f"{op.name.lower()}: all tensors must have the same backend, received {shown}; "
        f'move one with .to("{found[0].backend.name}")'
    )


class Tensor(TensorMethods):
    """An array with a memory of how it was computed.

    Attributes: ``array`` (the backend's array), ``backend``, ``requires_grad``, ``grad`` (a Tensor
    or None, written on leaves by ``backward()``), ``grad_fn`` (the Op that made it; None for a
    leaf).
    """

    array: Array
    backend: Backend
    requires_grad: bool = False
    grad: Tensor | None = None
    grad_fn: Op | None = None
    _version: list[int] | None = None  # [count of in-place writes], shared by all views of a memory
    _base: Tensor | None = None  # the tensor that this one is a view of
    _chain: tuple[Op, ...] = ()  # the view operations that lead from _base to this one
    _stamp: int = 0  # the version at which grad_fn was valid
    _hooks: dict[int, Callable[[Tensor], Tensor | None]] | None = None
    __array_ufunc__ = None  # so that ndarray + Tensor asks the Tensor
    __array_priority__ = 1000

    def __init__(
        self,
        data: Any,
        dtype: Any = None,
        backend: BackendLike = None,
        requires_grad: bool = False,
    ) -> None:
        from .construct import tensor

        made = tensor(data, dtype=dtype, backend=backend)
        self.array, self.backend = made.array, made.backend
        if requires_grad:
            self.requires_grad_()

    @classmethod
    def _wrap(cls, array: Array, backend: Backend) -> Tensor:
        t = Tensor.__new__(Tensor)
        t.array, t.backend = array, backend
        # What every operation looks at: found here six times faster than in the class.
        t.requires_grad, t.grad_fn, t._version, t._base = False, None, None, None
        return t

    # -- facts ---------------------------------------------------------------------------------
    @property
    def shape(self) -> Shape:
        return self.array.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self.array.ndim  # type: ignore[no-any-return]

    @property
    def dtype(self) -> DType:
        return self.array.dtype  # type: ignore[no-any-return]

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor: gradients end here."""
        return self.grad_fn is None

    @property
    def data(self) -> Tensor:
        """This tensor's values without its history, sharing memory and invisible to version
        checks.
        """
        self._version_list()  # from now on the memory is shared
        t = Tensor._wrap(self.array, self.backend)
        t._version = [0]
        return t

    @data.setter
    def data(self, value: Tensor) -> None:
        if value.dtype != self.dtype or value.backend is not self.backend:
            raise TypeError(
                f"data: expected a {self.dtype} tensor on {self.backend.name}, "
                f"received {value.dtype} on {value.backend.name}"
            )
        self.array = value.array

    # -- graph ---------------------------------------------------------------------------------
    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Start (or stop) recording operations on this leaf; returns it.

        Raises RuntimeError for integers and booleans, which have no gradient, and when a tensor
        with history is asked to stop (use ``detach()``)."""
        if requires_grad and not dtypes.is_floating(self.dtype):
            raise RuntimeError(
                f"only floating point tensors can require gradients, this one is {self.dtype}"
            )
        if not requires_grad and self.grad_fn is not None:
            raise RuntimeError(
                "this tensor was computed from others that require gradients: use .detach()"
            )
        self.requires_grad = requires_grad
        return self

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Sequence[Tensor] | None = None,
    ) -> None:
        """Add d(self·gradient)/d(leaf) to ``.grad`` of every leaf; see ``autograd.backward``."""
        autograd.backward([self], [gradient], retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory without history."""
        t = Tensor._wrap(self.array, self.backend)
        t._version = self._version_list()
        return t

    def detach_(self) -> Self:
        """Forget the history of this tensor in place."""
        if self._base is not None:
            raise RuntimeError("detach_() of a view would leave its base recorded: use .detach()")
        self.grad_fn, self.requires_grad = None, False
        return self

    def retain_grad(self) -> None:
        """Keep ``.grad`` of this tensor although it is not a leaf."""
        import weakref

        self._refresh()
        if not self.requires_grad:
            raise RuntimeError("retain_grad() needs a tensor that requires gradients")
        if self.grad_fn is not None:
            self.grad_fn.kept = weakref.ref(self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``hook(grad)`` when this tensor's gradient is known; a returned tensor replaces
        it.
        """
        self._refresh()
        if not self.requires_grad:
            raise RuntimeError("register_hook() needs a tensor that requires gradients")
        owner, attribute = (self, "_hooks") if self.grad_fn is None else (self.grad_fn, "hooks")
        if getattr(owner, attribute) is None:
            setattr(owner, attribute, {})
        return RemovableHandle(getattr(owner, attribute), hook)

    # -- in-place writing: version counter, and views that stay in step with their base ------------
    def _version_list(self) -> list[int]:
        if self._version is None:
            self._version = [0]
        return self._version

    @property
    def version(self) -> int:
        """How many times this memory has been written in place."""
        return 0 if self._version is None else self._version[0]

    def _link_view(self, source: Tensor, op: Op) -> None:
        mine, its = self.array, source.array
        if (
            mine is not its
            and mine.base is not its
            and (mine.base is None or mine.base is not its.base)
        ):
            return  # the operation had to copy
        self._version = source._version_list()
        self._stamp = self._version[0]
        self._base = source if source._base is None else source._base
        self._chain = (*source._chain, op)

    def _refresh(self) -> None:
        """Give a view of a tensor that was written in place its history anew."""
        base, version = self._base, self.version
        if (
            base is not None
            and self._stamp != version
            and base.requires_grad
            and base.grad_fn is not None
        ):
            self._adopt(self._from_base(base), version)

    def _from_base(self, base: Tensor) -> Tensor:
        before, mode.record = mode.record, True
        try:
            for op in self._chain:
                base = op.replay(base)
        finally:
            mode.record = before
        return base

    def _adopt(self, made: Tensor, version: int) -> None:
        before, after = self.grad_fn, made.grad_fn
        if before is not None and after is not None and self._retained_by(before):
            before.kept, after.kept = None, before.kept  # retain_grad() is about the newest values
        self.grad_fn, self.requires_grad, self._stamp = after, made.requires_grad, version

    def _retained_by(self, op: Op) -> bool:
        return op.kept is not None and op.kept() is self

    def inplace(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Self:
        """self[...] = function(self, *args): write in place and record it as PyTorch does.

        Raises RuntimeError on a leaf that requires gradients (outside ``no_grad``), ValueError when
        the result has another shape, TypeError when its dtype does not fit."""
        if mode.around is not None:
            mode.around.flush()
        self._refresh()
        recording = mode.record and (
            self.requires_grad
            or any(isinstance(a, Tensor) and a.requires_grad for a in (*args, *kwargs.values()))
        )
        # With no view, no saved output and no parameter's buffer on this memory, new memory can
        # take its place; else the old values, which a rule may need, must be copied first.
        alone = self._version is None and (self.grad_fn is not None or not self.requires_grad)
        old: Tensor = self
        if recording:
            self._check_writable_leaf()
            values = self.array if alone else self.backend.copy(self.array)
            old = Tensor._wrap(values, self.backend)
            old.requires_grad, old.grad_fn = self.requires_grad, self.grad_fn
        new = function(old, *args, **kwargs)
        if new.shape != self.shape:
            raise ValueError(f"in-place result has shape {new.shape}, the tensor {self.shape}")
        if "buif".index(new.dtype.kind) > "buif".index(self.dtype.kind):
            raise TypeError(
                f"in-place result is {new.dtype} and cannot be stored in a {self.dtype} tensor"
            )
        if alone and new.dtype == self.dtype and self.backend.owns(new.array):
            self.array = new.array
        else:
            self.backend.assign(self.array, new.array)
        self._version_list()[0] += 1
        if mode.around is not None:
            mode.around.wrote(self, new)
        if recording:
            self._rebase(new if new.dtype == self.dtype else new.to(self.dtype))
        return self

    def _check_writable_leaf(self) -> None:
        base = self if self._base is None else self._base
        if base.requires_grad and base.grad_fn is None:
            what = "a leaf" if base is self else "a view of a leaf"
            raise RuntimeError(
                f"{what} that requires gradients cannot be changed in place while recording; "
                "use no_grad()"
            )

    def _rebase(self, new: Tensor) -> None:
        """Make ``new`` the history of this tensor, and of its base when it is a view."""
        base, version = self._base, self.version
        if base is None:
            self._adopt(new, version)
            return
        from .ops.views import ViewWrite

        written = ViewWrite(self._chain)(base, new)
        base._adopt(written, version)
        self._adopt(self._from_base(base), version)

    # -- conversion ----------------------------------------------------------------------------
    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array, sharing memory where the backend can.

        Raises RuntimeError for a tensor that requires gradients: use ``.detach().numpy()``."""
        if self.requires_grad:
            raise RuntimeError("this tensor requires gradients: use .detach().numpy()")
        self._share()
        return self.backend.to_numpy(self.array)  # type: ignore[no-any-return]

    def _share(self) -> None:
        """The memory gets a second owner, who may write into it."""
        if mode.around is not None:
            mode.around.flush()
        self._version_list()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise RuntimeError("this tensor requires gradients: use .detach() before DLPack")
        self._share()
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self.array.size != 1:
            raise ValueError(
                f"item() needs exactly one element, this tensor has shape {self.shape}"
            )
        return self.backend.to_numpy(self.array).item()

    def tolist(self) -> Any:
        return self.backend.to_numpy(self.array).tolist()

    def __repr__(self) -> str:
        return _repr(self)

    def __format__(self, spec: str) -> str:
        """A 0-d tensor is formatted as its number, so that ``f"{loss:.3f}"`` works."""
        return object.__format__(self, spec) if self.ndim else format(self.item(), spec)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous: use .any() or .all()"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "biu":
            raise TypeError(f"only an integer tensor can be an index, this one is {self.dtype}")
        return int(self.item())

    __hash__ = object.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.grad_fn is not None:
            raise RuntimeError("only leaf tensors can be deep-copied: use .detach().clone()")
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(
            {k: v for k, v in self.__dict__.items() if k not in ("_version", "_base", "_chain")}
        )
        made.array = self.backend.copy(self.array)
        if self.grad is not None:
            made.grad = Tensor._wrap(self.backend.copy(self.grad.array), self.backend)
        return made

    def __reduce__(self) -> Any:
        return _rebuild, (
            type(self),
            self.backend.to_numpy(self.array),
            self.backend.name,
            self.requires_grad,
        )


def _rebuild(cls: type[Tensor], array: Any, backend: str, requires_grad: bool) -> Tensor:
    made = cls.__new__(cls)
    made.backend = load_backend(backend)
    made.array, made.requires_grad = made.backend.asarray(array), requires_grad
    return made


class RemovableHandle:
    """Returned by the ``register_…hook`` methods; ``remove()`` takes the hook away."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self.hooks, self.key = hooks, next_age()
        hooks[self.key] = hook

    def remove(self) -> None:
        self.hooks.pop(self.key, None)


def _repr(t: Tensor) -> str:
    prefix = "Parameter" if type(t).__name__ == "Parameter" else "tensor"
    body = np.array2string(
        t.backend.to_numpy(t.array),
        separator=", ",
        prefix=prefix + "(",
        precision=4,
        threshold=1000,
    )
    facts = []
    if t.array.size == 0:
        facts.append(f"shape={t.shape}")
    if t.dtype not in (dtypes.float32, dtypes.int64, dtypes.bool_) or t.array.size == 0:
        facts.append(f"dtype={t.dtype}")
    facts.append(f"backend={t.backend.name}")
    if t.grad_fn is not None:
        facts.append(f"grad_fn={t.grad_fn!r}")
    elif t.requires_grad:
        facts.append("requires_grad=True")
    return f"{prefix}({', '.join([body, *facts])})"


def user_line() -> str:
    """ "file:line" of the innermost caller outside this package, for messages."""
    here = __name__.rpartition(".")[0]
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_globals.get("__name__") or "").startswith(
        here + "."
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


from . import autograd  # noqa: E402  (made of tensors, and what Tensor.backward calls)
