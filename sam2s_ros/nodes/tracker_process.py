"""The process `tracker`: one node, or one for each of several cameras, until a signal ends it.

Several cameras in one process share the interpreter and torch's libraries, and with them some hundred MiB each that
processes of their own would take; they also share the interpreter's lock. Nothing else is shared: every node has its
own tracker, engine, memory, threads and parameters.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import rclpy
from rclpy.exceptions import InvalidNamespaceException, ParameterException
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from rclpy.validate_namespace import validate_namespace

from sam2s_ros.nodes.executor import TrackerExecutor, spin_until
from sam2s_ros.nodes.settings import parameters_help

if TYPE_CHECKING:
    from sam2s_ros.nodes.tracker_node import TrackerNode

SERVICE_THREADS = 10  # of each node: up to 8 waiting prompts beside lifecycle and parameters
SWITCH_INTERVAL_S = 0.0005
"""After this time a Python thread gives way to one that waits for the interpreter's lock. With Python's 5 ms, and two
threads that compute, one that comes back from a wait of microseconds stands still for longer than its work takes."""
SIGNAL_PERIOD_S = 0.2  # Python sees a signal that another thread has got only when the main thread runs


def run_process(make_node: Callable[[str, int], TrackerNode], args: Sequence[str] | None) -> int:
    """Run the nodes until SIGINT, SIGTERM or the context's end; exit status 0, 2 for wrong arguments, or 1
    for a node that could not be closed.

    Args:
        make_node: makes a node from its namespace (empty: none) and the number of nodes in this process.
        args: the command line without the program's name; None: `sys.argv`.
    """
    arguments = sys.argv[1:] if args is None else list(args)
    try:
        own_arguments = remove_ros_args(["tracker", *arguments])[1:]
    except RuntimeError as error:  # what rclpy raises for it has a name of its own only in some versions
        print(f"tracker: {str(error).partition(', at ')[0]}", file=sys.stderr)
        return 2
    cameras = read_cameras(own_arguments)
    stop = threading.Event()
    signals: list[int] = []

    def end(signal_number: int, _: object) -> None:
        signals.append(signal_number)
        stop.set()

    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, end)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    rclpy.init(args=["tracker", *arguments], signal_handler_options=SignalHandlerOptions.NO)
    try:
        nodes = [make_node(camera, len(cameras)) for camera in cameras]
    except ParameterException as error:
        print(f"tracker: {error}", file=sys.stderr)
        rclpy.shutdown()
        return 2
    executor = TrackerExecutor(SERVICE_THREADS * len(nodes))
    for node in nodes:
        executor.add_node(node)
    spinner = threading.Thread(target=spin_until, args=(executor, stop), name="executor")
    spinner.start()
    for node in nodes:
        if node.get_parameter("autostart").value:
            node.start()
        else:
            node.get_logger().info(
                "unconfigured: waits for a lifecycle manager; -p autostart:=true does without"
            )
    while not stop.wait(SIGNAL_PERIOD_S):
        pass
    status = close_all(nodes)
    for node in nodes:
        why = f"by {signal.Signals(signals[0]).name}" if signals else "with its ROS context"
        node.get_logger().info(f"ended {why}")
    executor.shutdown()
    spinner.join()
    for node in nodes:
        node.destroy_node()
    if rclpy.ok():
        rclpy.shutdown()
    gc.freeze()  # or the interpreter spends seconds on taking torch apart, and launch kills after five
    return status


def close_all(nodes: Sequence[TrackerNode]) -> int:
    """Close the nodes beside each other, since one whose engine hangs takes its time; 1 if that failed, else 0."""
    with ThreadPoolExecutor(len(nodes), "close") as threads:
        closing = [(node, threads.submit(node.close)) for node in nodes]
    failed = 0
    for node, outcome in closing:
        if error := outcome.exception():
            failed = 1
            node.get_logger().error("".join(traceback.format_exception(error)))
    return failed


def read_cameras(arguments: Sequence[str]) -> list[str]:
    """Namespaces of the nodes to run, from what is not for ROS on the command line; [""] without --cameras.

    Raises:
        SystemExit: --help, or a wrong argument (status 2).
    """
    parser = argparse.ArgumentParser(
        prog="tracker",
        usage="tracker [--cameras NAMESPACE,...] [--ros-args] [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO]",
        description="The tracker node: images on `image` (or `image/compressed`) in, objects on `~/objects` out.",
        epilog=parameters_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cameras",
        metavar="NAMESPACE,...",
        type=namespaces,
        default=[""],
        help="run one node for each of these namespaces, all in this process; without: one node",
    )
    cameras: list[str] = parser.parse_args(arguments).cameras
    return cameras


def namespaces(text: str) -> list[str]:
    """Absolute namespaces from a list with commas: "left,right" -> ["/left", "/right"].

    Raises:
        argparse.ArgumentTypeError: a name that ROS does not allow, none at all, or the same twice.
    """
    found = ["/" + part.strip().strip("/") for part in text.split(",")]
    for one in found:
        try:
            if one == "/":
                raise argparse.ArgumentTypeError(
                    f"'{text}': an empty name; use NAMESPACE or NAMESPACE,NAMESPACE"
                )
            validate_namespace(one)
        except InvalidNamespaceException as error:
            raise argparse.ArgumentTypeError(f"'{one}': {error}") from None
    if repeated := sorted({one for one in found if found.count(one) > 1}):
        raise argparse.ArgumentTypeError(f"{', '.join(repeated)} given twice: two nodes would have one name")
    return found
