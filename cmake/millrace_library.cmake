# SPDX-License-Identifier: Apache-2.0

# millrace_library(NAME model SRCS a.cc ... DEPS common fmt::fmt ...)
#
# A module: the static library millrace_<name>, which may use only what DEPS names. A bare name is
# another module.
function(millrace_library)
  cmake_parse_arguments(ARG "" "NAME" "SRCS;DEPS" ${ARGN})
  set(target millrace_${ARG_NAME})
  if(ARG_SRCS)
    add_library(${target} STATIC ${ARG_SRCS})
    set(scope PUBLIC)
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${target} ${scope} ${CMAKE_SOURCE_DIR}/src)
  foreach(dep ${ARG_DEPS})
    if(dep MATCHES "::")
      target_link_libraries(${target} ${scope} ${dep})
    else()
      target_link_libraries(${target} ${scope} millrace_${dep})
    endif()
  endforeach()
endfunction()

# millrace_test(NAME model SRCS a_test.cc ... DEPS ...)
#
# The unit tests of a module: one program, one ctest entry for each test.
function(millrace_test)
  if(NOT MILLRACE_DEVELOPER_MODE)
    return()
  endif()
  cmake_parse_arguments(ARG "" "NAME" "SRCS;DEPS" ${ARGN})
  set(target ${ARG_NAME}_test)
  add_executable(${target} ${ARG_SRCS})
  target_link_libraries(${target} PRIVATE millrace_${ARG_NAME} GTest::gmock GTest::gtest_main)
  foreach(dep ${ARG_DEPS})
    if(dep MATCHES "::")
      target_link_libraries(${target} PRIVATE ${dep})
    else()
      target_link_libraries(${target} PRIVATE millrace_${dep})
    endif()
  endforeach()
  include(GoogleTest)
  gtest_discover_tests(${target} TEST_PREFIX ${ARG_NAME}. DISCOVERY_MODE PRE_TEST
    PROPERTIES TIMEOUT 120)
endfunction()
