"""What a process says of the machine and of itself."""

import subprocess
import sys

import numpy as np

from kanbatsu.machine import peak_resident_bytes

TELL = "from kanbatsu.machine import peak_resident_bytes; print(peak_resident_bytes())"


def test_the_peak_of_a_process_is_its_own_and_not_its_parents():
    before = peak_resident_bytes()
    big = np.ones(max(2 * before, 1 << 30) // 8)
    assert peak_resident_bytes() >= big.nbytes
    size = big.nbytes
    del big
    assert peak_resident_bytes() >= size
    child = subprocess.run([sys.executable, "-c", TELL], check=True, capture_output=True, text=True)
    assert 0 < int(child.stdout) < size / 2
