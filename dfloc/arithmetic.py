"""How numbers are computed: threads, and fp32 that is fp32, in backbones, training and evaluation alike."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact(num_threads: int) -> Iterator[None]:
    """Compute with so many CPU threads and without TF32, and put both back at the end.

    A sum's order, and with it the last digit, depends on the number of threads: it is part of what is recorded.
    """
    threads = torch.get_num_threads()
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.set_num_threads(num_threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution
