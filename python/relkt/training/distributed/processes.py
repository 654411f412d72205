"""Several processes of one job, as torchrun and accelerate launch start them; a process by itself is a job of one."""

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

# The others wait while rank 0 mines, measures or writes. A process that died is noticed long before: its launcher ends
# the others.
_TIMEOUT = timedelta(hours=2)

_P = ParamSpec("_P")
_T = TypeVar("_T")

_rank_0_works: ContextVar[bool] = ContextVar("_rank_0_works", default=False)


def launched_rank() -> int:
    """The rank that the launcher gave this process, before it has joined its job; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def join_job(model: SentenceTransformer) -> None:
    """Meet the other processes of the job, if this one was started as part of one, each with a GPU of its own.

    Args:
        model: On the CPU, or on a GPU: then it is moved to the process's own, the one of its local rank.

    Raises:
        ValueError: If the job shards weights (FSDP, DeepSpeed), the model is on neither CPU nor a CUDA GPU, or the
            machine has fewer GPUs than processes.
        RuntimeError: If the processes are connected otherwise than their launcher's environment variables say.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        for name in ("FSDP", "DEEPSPEED"):
            if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
                raise ValueError(f"ACCELERATE_USE_{name}: expected false, as each process has all weights, got true")
        device = model.device
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"model: expected on the CPU or CUDA GPUs in a job of {size} processes, got on {device}")
        if device.type == "cuda":
            local_rank = int(os.environ.get("LOCAL_RANK", "0"))
            if local_rank >= torch.cuda.device_count():
                raise ValueError(
                    f"LOCAL_RANK: expected at most a process for each of the {torch.cuda.device_count()} GPUs of this "
                    f"machine, got process {local_rank + 1}; start fewer, or train on the CPU"
                )
            model.to(torch.device("cuda", local_rank))
        # Imported here: it is slow, and one process needs none of it before the trainer does.
        from accelerate import PartialState

        PartialState(cpu=device.type == "cpu", timeout=_TIMEOUT)
    connected = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if connected != size:
        raise RuntimeError(
            f"WORLD_SIZE: expected {connected} in the environment, as so many processes are connected, got {size}; "
            "start them with torchrun or accelerate launch"
        )


def leave_job() -> None:
    """Part from the other processes, at the end of a program whose every process comes here."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def num_processes() -> int:
    """Processes that work together at this moment: 1 inside of :func:`from_rank_0`."""
    if _rank_0_works.get() or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def rank() -> int:
    """The number of this process among :func:`num_processes`, from 0."""
    return distributed.get_rank() if num_processes() > 1 else 0


def from_rank_0(find: Callable[[], _T]) -> _T:
    """What rank 0 finds, or its failure, in every process.

    Rank 0 begins when all have come here, so nothing that another process does before can be disturbed, and all go on
    when it is done.

    Args:
        find: Called in rank 0; what it returns must be picklable.

    Returns:
        What it returned.

    Raises:
        Exception: What it raised; a RuntimeError with its message in the other processes if that is not picklable.
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
    """The value that each process calls this with, by rank."""
    if num_processes() == 1:
        return [value]
    values: list[Any] = [None] * num_processes()
    distributed.all_gather_object(values, value)
    return values


def check_same(given: Mapping[str, Any]) -> None:
    """Check that all processes were given the same values under the same names.

    Raises:
        ValueError: In every process, if they were not.
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
    """A decorator: every process calls the function, rank 0 runs it, all have the outcome (:func:`from_rank_0`)."""

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return from_rank_0(lambda: function(*args, **kwargs))

    return wrapper


def sum_over_processes(values: Tensor) -> None:
    """Replace a tensor by its sum over the processes, in place; the same bits in each of them."""
    if num_processes() > 1:
        distributed.all_reduce(values)


def largest_over_processes(value: int, device: torch.device) -> int:
    """The largest of the processes' numbers."""
    if num_processes() == 1:
        return value
    found = torch.tensor(value, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def share_weights(model: nn.Module) -> None:
    """Give all processes the weights of rank 0, so that they start a stage from the same bits."""
    if num_processes() > 1:
        for weights in model.state_dict().values():
            distributed.broadcast(weights, src=0)


def sum_gradients(model: nn.Module) -> None:
    """Replace the gradients of a model by their sums over the processes.

    A parameter that has a gradient in none of them keeps having none: to an optimizer with weight decay that is not the
    same as a gradient of zero.
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
    except Exception:  # whatever its class makes of it
        return RuntimeError(f"rank 0 failed: {type(error).__name__}: {error}")
    return error
