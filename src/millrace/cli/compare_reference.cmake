# SPDX-License-Identifier: Apache-2.0
# Fails unless `PROGRAM docs PAGE` prints the text of COMMITTED.
execute_process(COMMAND ${PROGRAM} docs ${PAGE} OUTPUT_VARIABLE printed RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "docs ${PAGE} exited with ${code}")
endif()
file(READ ${COMMITTED} committed)
if(NOT printed STREQUAL committed)
  message(FATAL_ERROR "${COMMITTED} is stale: run `millrace docs ${PAGE} > ${COMMITTED}`")
endif()
