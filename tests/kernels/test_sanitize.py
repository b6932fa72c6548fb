"""The kernels neither leave their buffers nor do what C++ does not define."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import kanbatsu.kernels

HERE = Path(__file__).parent
SOURCES = Path(kanbatsu.kernels.__file__).parent / "csrc"
COMPILER = shutil.which("g++")
FLAGS = [
    *("-std=c++17", "-O1", "-ffp-contract=fast", "-Wall", "-Wextra", "-Werror", "-Wno-psabi"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{SOURCES}"),
]
CPU = Path("/proc/cpuinfo")
HAS_AVX2 = CPU.exists() and {"avx2", "fma"} <= set(CPU.read_text().split())
# Vectors of any width work everywhere: the compiler makes wider ones of those that there are. So
# the code for 16 floats, which is AVX-512's, runs on machines without it too.
VECTORS = ["-mavx2", "-mfma"] if HAS_AVX2 else []
WIDTHS = {"portable": (4, []), "avx2": (8, VECTORS), "avx512": (16, VECTORS)}


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, (
        f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr[-4000:]}"
    )
    return done.stdout


@pytest.mark.skipif(COMPILER is None, reason="there is no g++ to build the driver with")
def test_every_kernel_stays_inside_its_buffers_and_is_right(tmp_path):
    probe = tmp_path / "probe.cc"
    probe.write_text("int main() {}")
    command = (COMPILER, "-fsanitize=address,undefined", probe, "-o", tmp_path / "probe")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("g++ was installed without its sanitizers (libasan and libubsan)")
    objects = []
    drivers = sorted((HERE / "sanitize").glob("*.cc"))
    for source in (*drivers, SOURCES / "dispatch.cc", SOURCES / "plain.cc"):
        objects.append(tmp_path / f"{source.parent.name}-{source.stem}.o")
        run(COMPILER, *FLAGS, "-c", source, "-o", objects[-1])
    for isa, (width, flags) in WIDTHS.items():
        objects.append(tmp_path / f"{isa}.o")
        names = (f"-DKANBATSU_ISA={isa}", f"-DKANBATSU_WIDTH={width}")
        run(COMPILER, *FLAGS, *flags, *names, "-c", SOURCES / "products.cc", "-o", objects[-1])
    driver = tmp_path / "driver"
    run(COMPILER, "-fsanitize=address,undefined", "-pthread", *objects, "-o", driver)
    # Leaks cannot be looked for under a debugger, nor in some containers.
    settings = {"KANBATSU_ISA": "portable", "ASAN_OPTIONS": "detect_leaks=0"}
    assert run(driver, env=os.environ | settings).strip() == "portable"
