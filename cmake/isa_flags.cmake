# SPDX-License-Identifier: Apache-2.0
# The CPU paths beyond scalar: the processors that can have them, and the compiler flags of their files. Every other file
# is compiled for the baseline of the architecture.

set(BEBERT_EDGE_PROCESSORS_x86_avx2 "^(x86_64|amd64|AMD64)$")
set(BEBERT_EDGE_FLAGS_x86_avx2 -mavx2 -mbmi -mbmi2 -mpopcnt)
set(BEBERT_EDGE_MSVC_FLAGS_x86_avx2 /arch:AVX2)

set(BEBERT_EDGE_PROCESSORS_x86_avx512 "^(x86_64|amd64|AMD64)$")
set(BEBERT_EDGE_FLAGS_x86_avx512 -mavx2 -mbmi -mbmi2 -mpopcnt -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi
                                 -mavx512vnni -mavx512vpopcntdq -mavx512bitalg)
set(BEBERT_EDGE_MSVC_FLAGS_x86_avx512 /arch:AVX512)

set(BEBERT_EDGE_PROCESSORS_arm64_neon "^(aarch64|arm64|ARM64)$")
set(BEBERT_EDGE_FLAGS_arm64_neon "") # the baseline
set(BEBERT_EDGE_MSVC_FLAGS_arm64_neon "")

set(BEBERT_EDGE_PROCESSORS_arm64_dotprod "${BEBERT_EDGE_PROCESSORS_arm64_neon}")
set(BEBERT_EDGE_FLAGS_arm64_dotprod -march=armv8.2-a+dotprod)
set(BEBERT_EDGE_MSVC_FLAGS_arm64_dotprod /arch:armv8.2)

# Adds the files <path>.cc of the folders given to a target, where the target processor can have the path; the kernels.inc
# of those folders list it on the same condition.
function(bebert_edge_add_path target path)
  set(processor "${CMAKE_SYSTEM_PROCESSOR}")
  if(CMAKE_OSX_ARCHITECTURES)
    set(processor "${CMAKE_OSX_ARCHITECTURES}")
  endif()
  if(NOT processor MATCHES "${BEBERT_EDGE_PROCESSORS_${path}}")
    return()
  endif()
  set(flags "${BEBERT_EDGE_FLAGS_${path}}")
  if(MSVC)
    set(flags "${BEBERT_EDGE_MSVC_FLAGS_${path}}")
  endif()
  foreach(folder IN LISTS ARGN)
    target_sources(${target} PRIVATE "${folder}/${path}.cc")
    set_source_files_properties("${folder}/${path}.cc" PROPERTIES COMPILE_OPTIONS "${flags}")
  endforeach()
endfunction()
