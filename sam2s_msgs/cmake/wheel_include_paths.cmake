# ROS 2 installed from Python wheels exports targets whose Python include directory is that of the machine which built the
# wheels (/opt/python/...). This replaces it by the include directory of the Python in use, once all packages are found.
# With a ROS 2 distribution no target carries such a path, and nothing changes.

function(sam2s_replace_wheel_include_paths)
  if(CMAKE_VERSION VERSION_LESS 3.21)  # IMPORTED_TARGETS is newer; distributions that old do not use the wheels
    return()
  endif()
  get_property(targets DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories MATCHES "/opt/python/")
      string(REGEX REPLACE "/opt/python/[^;]*" "${Python3_INCLUDE_DIRS}" directories "${directories}")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${directories}")
    endif()
  endforeach()
endfunction()

if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.19)
  cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL sam2s_replace_wheel_include_paths)
endif()
