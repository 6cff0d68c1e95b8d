"""The processes of a run, from one on a laptop to several machines: PyTorch's DDP, through Lightning Fabric."""

from __future__ import annotations

import math
import os
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor

from sam2s_ros.training.config import TrainConfig

LONGEST_TIMEOUT_S = 30 * 24 * 3600


def make_fabric(
    config: TrainConfig,
    accelerator: str = "cpu",
    devices: int | None = None,
    nodes: int | None = None,
    timeout_s: float = 600.0,
) -> Fabric:
    """The engine that a run computes on; nothing is started yet (`Fabric.launch`).

    Args:
        config: its `batches` are shared by the processes; `bf16: all` is Fabric's mixed precision.
        accelerator: cpu, cuda, or auto.
        devices: processes on this machine; None: 1, or what torchrun started.
        nodes: machines; None: 1, or what torchrun says.
        timeout_s: how long a process waits for another before it gives up.

    Raises:
        ValueError: numbers that do not fit torchrun's or the configuration's.
    """
    for option, number in (("--devices", devices), ("--nodes", nodes)):
        if number is not None and number < 1:
            raise ValueError(f"{option} is {number}; at least 1 is needed")
    if not (math.isfinite(timeout_s) and 0 < timeout_s <= LONGEST_TIMEOUT_S):
        raise ValueError(f"--timeout-s is {timeout_s}; use seconds above 0 and at most {LONGEST_TIMEOUT_S:,}")
    if TorchElasticEnvironment.detect():
        if devices is not None or nodes is not None:
            raise ValueError("torchrun says how many processes there are; leave out --devices and --nodes")
        devices, nodes = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"])
    devices, nodes = devices or 1, nodes or 1
    gpus = torch.cuda.device_count()
    if accelerator != "cpu" and devices > gpus and (gpus or accelerator == "cuda"):
        raise ValueError(
            f"--accelerator {accelerator} with {devices} processes needs as many NVIDIA GPUs, and torch sees {gpus}; "
            "use --accelerator cpu, or fewer --devices"
        )
    if config.batches % (devices * nodes):
        raise ValueError(
            f"{devices * nodes} processes cannot share the {config.batches} batches of a step evenly; "
            "use a number that divides it, or set batches"
        )
    # The name that it asks for instead does not exist before torch 2.13, and has buffers sent, which are equal anyway.
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    ddp = DDPStrategy(
        timeout=timedelta(seconds=timeout_s), find_unused_parameters=True, broadcast_buffers=False
    )
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=ddp if devices * nodes > 1 else "auto",
        precision="bf16-mixed" if config.bf16 == "all" else "32-true",
    )


def is_first(fabric: Fabric) -> bool:
    """Whether this is the process that writes the files of the run; known before the launch, unlike Fabric's rank."""
    environment = getattr(fabric.strategy, "cluster_environment", None)
    return environment is None or (environment.node_rank() == 0 and environment.local_rank() == 0)


def sum_over_processes(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum of a tensor over the processes, the same in each."""
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total


def shut_down(fabric: Fabric) -> None:
    """Leave the group of processes, so that their end is no loss to one another."""
    if fabric.world_size > 1 and dist.is_initialized():
        dist.destroy_process_group()
