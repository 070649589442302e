# SPDX-License-Identifier: Apache-2.0
# Cross build for 64-bit Arm Linux with Debian's g++-aarch64-linux-gnu; programs run under qemu-user where it is installed.
#
#   cmake -S . -B build/arm64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DBEBERT_EDGE_TESTS=ON
#   cmake --build build/arm64
#   qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max build/arm64/tests/kernels/kernel_tests
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

find_program(BEBERT_EDGE_QEMU_AARCH64 NAMES qemu-aarch64 qemu-aarch64-static)
if(BEBERT_EDGE_QEMU_AARCH64)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${BEBERT_EDGE_QEMU_AARCH64};-L;/usr/aarch64-linux-gnu;-cpu;max")
endif()
