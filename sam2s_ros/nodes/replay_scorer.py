"""Operator, recorder and scorer beside a tracker node and a bag player that others start (launch/replay.launch.py).

Says `ready` on standard output once the tracker listens to the images: then the bag may be played, with its own stamps
and /clock, the tracker being on sim time. Prompts each object on the first tracked image that shows it and records what
the node publishes until the player is gone, then measures that as `sam2s evaluate --mode live` does.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rclpy.utilities import remove_ros_args

from sam2s_ros.evaluation.bag_messages import open_bag
from sam2s_ros.evaluation.bags import LABEL_TOPIC, BagSequence
from sam2s_ros.evaluation.frame_scorer import FrameScorer
from sam2s_ros.evaluation.intervals import Bootstrap
from sam2s_ros.evaluation.outputs import EvaluationOutputs
from sam2s_ros.evaluation.prompts import FirstSight
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.tables import drop_line, score_table
from sam2s_ros.nodes.client import Sam2sClient
from sam2s_ros.nodes.client_results import TrackerError
from sam2s_ros.nodes.demo_prompting import FirstAppearance, prompt_waiting
from sam2s_ros.nodes.demo_recorder import BagRecorder
from sam2s_ros.nodes.demo_stage import DRAIN_S, TRACKER, Spinner
from sam2s_ros.nodes.live_evaluation import PROTOCOLS, LiveRun, measure, operator_topics

BAG_FOLDER = "objects"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the executable `score_replay`; 0 when everything was played and measured."""
    parser = argparse.ArgumentParser(prog="score_replay", description=__doc__)
    parser.add_argument("bag", type=Path, help="the bag that is played: .mcap or .db3 file, or folder")
    parser.add_argument("out", type=Path, help="folder for the recording, report.html and summary.json")
    parser.add_argument("--prompts", choices=PROTOCOLS, default="mask", help="how objects are prompted")
    parser.add_argument("--image-topic", help="image topic of the bag (default: its only one)")
    parser.add_argument("--label-topic", default=LABEL_TOPIC, help="ground truth (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for tracker and player")
    args = parser.parse_args(remove_ros_args(list(sys.argv if argv is None else ["score_replay", *argv]))[1:])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        sequence = BagSequence(args.bag, args.image_topic, args.label_topic)
        if (args.out / BAG_FOLDER).exists():
            raise ValueError(f"{args.out / BAG_FOLDER} is there already: give another folder")
        run = watch(sequence, args)
        report(sequence, run, args)
    except (OSError, ValueError, TrackerError) as error:
        print(f"score_replay: error: {error}", file=sys.stderr)
        return 2
    return 0


def watch(sequence: BagSequence, args: argparse.Namespace) -> LiveRun:
    """Prompt and record from the first image to the player's end; TimeoutError where somebody does not come."""
    with open_bag(sequence.path) as bag:
        topic = sequence.image_connections(bag)[0].topic
    operator, names, ids = FirstAppearance(), dict(sequence.label_names), {}
    args.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        spinner = Spinner("score_replay")
        stack.callback(spinner.close)
        topics = operator_topics(sequence, operator)
        stack.enter_context(BagRecorder(spinner.node, args.out / BAG_FOLDER, topics))
        client = Sam2sClient(spinner.node, TRACKER, client="score_replay")
        stack.callback(client.close)
        stack.enter_context(spinner.spinning())
        client.wait_until_up(args.timeout, spinner.check)
        _wait(
            lambda: spinner.node.count_subscribers(topic) > 0,
            args.timeout,
            f"a tracker that listens to {topic}",
        )
        print("ready", flush=True)
        _wait(lambda: spinner.node.count_publishers(topic) > 0, args.timeout, f"a player of {topic}")
        while spinner.node.count_publishers(topic):
            for item in prompt_waiting(client, operator, names, protocol=args.prompts):
                ids[item.key] = item.object_id
            spinner.check()
            time.sleep(0.002)
        time.sleep(DRAIN_S)
    return LiveRun(args.out / BAG_FOLDER, ids, 0, 0)


def report(sequence: BagSequence, run: LiveRun, args: argparse.Namespace) -> None:
    """Write the folder and print the scores."""
    outputs = EvaluationOutputs(args.out, {"started_ns": time.time_ns()})
    outputs.facts |= {"mode": "live", "prompts": args.prompts}
    with outputs.observer("overlay", True) as on_frame:
        scorer = FrameScorer("node", sequence.name)
        outputs.write(partial(measure, sequence, FirstSight(args.prompts), run, scorer, on_frame=on_frame))
    document = outputs.finish(ReturnRule(), Bootstrap())
    print(score_table(document))
    print(drop_line(document))
    print(f"report: {args.out / 'report.html'}", flush=True)


def _wait(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
