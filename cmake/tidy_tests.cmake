# SPDX-License-Identifier: Apache-2.0
# The rules of STYLE.md that programs check, as tests: ctest -R tidy
find_program(MILLRACE_PYTHON python3 HINTS /usr/bin REQUIRED)

add_test(NAME tidy.layers COMMAND ${MILLRACE_PYTHON} ${CMAKE_SOURCE_DIR}/tools/check_layers.py)
add_test(NAME tidy.text COMMAND ${MILLRACE_PYTHON} ${CMAKE_SOURCE_DIR}/tools/tidy_test.py)
add_test(NAME tidy.format
  COMMAND ${MILLRACE_PYTHON} ${CMAKE_SOURCE_DIR}/tools/tidy_test.py --format)
add_test(NAME tidy.self COMMAND ${MILLRACE_PYTHON} ${CMAKE_SOURCE_DIR}/tools/tidy_self_test.py)
