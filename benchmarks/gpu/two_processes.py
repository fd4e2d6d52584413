"""The trainer under torchrun, with all processes on one GPU and gloo instead of NCCL, which needs a GPU per process.

torchrun --standalone --nproc-per-node 2 -m benchmarks.gpu.two_processes FLAGS OF THE TRAINER
"""

from __future__ import annotations

import faulthandler
import os
import sys
from unittest import mock

import torch

from trainer.__main__ import main
from trainer.parallel import first_speaks

if __name__ == "__main__":
    faulthandler.enable()
    with (
        mock.patch("trainer.parallel.own_cuda_device", return_value=torch.device("cuda", 0)),
        mock.patch("torch.distributed.is_nccl_available", return_value=False),
        first_speaks(),
    ):
        main(standalone_mode=False)
    sys.stdout.flush()
    # While Python ends, threads of gloo may still hold tensors and abort: pytorch/pytorch pull request 179291.
    os._exit(0)
