"""Processes of a job, as started by torchrun or accelerate launch. A single process is a job of one."""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, distributed, nn

# The other processes wait while rank 0 mines, evaluates or writes. If a process dies, the launcher ends the others long
# before this timeout.
_TIMEOUT = timedelta(hours=2)

_P = ParamSpec("_P")
_T = TypeVar("_T")

_rank_0_works: ContextVar[bool] = ContextVar("_rank_0_works", default=False)


def launched_rank() -> int:
    """The rank that the launcher gave this process, known even before :func:`join_job`; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def join_job(model: SentenceTransformer) -> None:
    """Join the process group of the job, if a launcher started this process.

    Args:
        model: The model. If it is on a GPU, it is moved to the GPU whose number is the process's local rank.

    Raises:
        ValueError: If the job shards weights (FSDP, DeepSpeed), the model is on neither CPU nor a CUDA GPU, or the
            machine has fewer GPUs than processes.
        RuntimeError: If the number of connected processes differs from the number in the launcher's environment
            variables.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        for name in ("FSDP", "DEEPSPEED"):
            if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
                raise ValueError(
                    f"ACCELERATE_USE_{name}: expected false, because each process holds all weights, got true"
                )
        device = model.device
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"model: expected on the CPU or CUDA GPUs in a job of {size} processes, got on {device}")
        if device.type == "cuda":
            local_rank = int(os.environ.get("LOCAL_RANK", "0"))
            if local_rank >= torch.cuda.device_count():
                raise ValueError(
                    f"LOCAL_RANK: expected at most one process for each of this machine's {torch.cuda.device_count()} "
                    f"GPUs, got process {local_rank + 1}; start fewer, or train on the CPU"
                )
            model.to(torch.device("cuda", local_rank))
        # Imported here because it is slow; a single process does not need it before the trainer.
        from accelerate import PartialState

        PartialState(cpu=device.type == "cpu", timeout=_TIMEOUT)
    connected = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if connected != size:
        raise RuntimeError(
            f"WORLD_SIZE: expected {connected} in the environment, the number of connected processes, got {size}; "
            "start them with torchrun or accelerate launch"
        )


def leave_job() -> None:
    """Destroy the process group. Every process of the job must call this, at the end of the program."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def num_processes() -> int:
    """Number of processes that work together; 1 in a function that :func:`from_rank_0` calls."""
    if _rank_0_works.get() or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def rank() -> int:
    """Rank of this process among :func:`num_processes`, from 0."""
    return distributed.get_rank() if num_processes() > 1 else 0


def from_rank_0(find: Callable[[], _T]) -> _T:
    """Call a function in rank 0 only; every process gets the result or the exception.

    All processes must call this. Rank 0 calls the function when all processes have arrived. The processes continue when
    the function has returned or raised.

    Args:
        find: The function; its result must be picklable.

    Returns:
        The result of ``find``.

    Raises:
        Exception: The exception of ``find``. If it is not picklable, the other processes raise a RuntimeError with its
            message.
    """
    if num_processes() == 1:
        return find()
    distributed.barrier()
    outcome: list[Any] = [None, None]
    failure: Exception | None = None
    if distributed.get_rank() == 0:
        token = _rank_0_works.set(True)
        try:
            outcome[0] = find()
        except Exception as error:
            failure = error
            outcome[1] = _picklable(error)
        finally:
            _rank_0_works.reset(token)
    distributed.broadcast_object_list(outcome, src=0)
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]  # type: ignore[no-any-return]


def from_all(value: _T) -> list[_T]:
    """The ``value`` of every process, by rank."""
    if num_processes() == 1:
        return [value]
    values: list[Any] = [None] * num_processes()
    distributed.all_gather_object(values, value)
    return values


def check_same(given: Mapping[str, Any]) -> None:
    """Check that all processes have the same values.

    Args:
        given: Name -> value; the same names in all processes.

    Raises:
        ValueError: In every process, if a value differs.
    """
    first, *others = from_all(given)
    for number, other in enumerate(others, 1):
        for name, value in first.items():
            if other[name] != value:
                raise ValueError(
                    f"{name}: expected the same in all processes of a job, got {value} in rank 0 and {other[name]} in "
                    f"rank {number}"
                )


def on_rank_0(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorator: every process calls the function, rank 0 runs it, and all get the result (:func:`from_rank_0`)."""

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return from_rank_0(lambda: function(*args, **kwargs))

    return wrapper


def sum_over_processes(values: Tensor) -> None:
    """Replace a tensor by its sum over the processes, in place. All processes get the same sum, bit for bit."""
    if num_processes() > 1:
        distributed.all_reduce(values)


def largest_over_processes(value: int, device: torch.device) -> int:
    """The maximum of the values of all processes."""
    if num_processes() == 1:
        return value
    found = torch.tensor(value, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def share_weights(model: nn.Module) -> None:
    """Broadcast the weights of rank 0, so that all processes start a stage from the same bits."""
    if num_processes() > 1:
        for weights in model.state_dict().values():
            distributed.broadcast(weights, src=0)


def sum_gradients(model: nn.Module) -> None:
    """Replace the gradients of a model by their sums over the processes.

    If a parameter has a gradient in no process, its gradient stays None: an optimizer with weight decay changes a
    parameter whose gradient is zero, but not one without a gradient.
    """
    if num_processes() == 1:
        return
    parameters = [weights for weights in model.parameters() if weights.requires_grad]
    used = torch.tensor([weights.grad is not None for weights in parameters], dtype=torch.int32)
    used = used.to(parameters[0].device)
    distributed.all_reduce(used, distributed.ReduceOp.MAX)
    pending = []
    for weights, is_used in zip(parameters, used.tolist(), strict=True):
        if not is_used:
            continue
        if weights.grad is None:
            weights.grad = torch.zeros_like(weights)
        pending.append(distributed.all_reduce(weights.grad, async_op=True))
    for work in pending:
        work.wait()


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # pickling runs code of the exception's class, which may raise anything
        return RuntimeError(f"rank 0 failed: {type(error).__name__}: {error}")
    return error
