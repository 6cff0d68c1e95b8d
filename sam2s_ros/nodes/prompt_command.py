"""`sam2s prompt`: call the services of a running tracker node.

Exit status 0 if the node did what was asked, 1 if it refused, is not there or did not answer, 2 for a bad argument.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2s_ros.nodes.counted import counted

if TYPE_CHECKING:
    from sam2s_ros.nodes.client import Sam2sClient

HELP = (
    "Call the services of a running tracker node. Exit status 0: done; 1: refused, not there or no answer; 2: bad "
    "arguments. `sam2s prompt ACTION --help` has the arguments of each; those below may stand before it or after it."
)
CLIENT = "sam2s prompt"
OLD_IMAGE_S = 0.5
OTHER_CLOCK_S = 3600.0
"""An image that seems older than this has its stamp from another clock than this machine's."""
STAMP_HELP = (
    "header.stamp of the image that is meant, as in ~/objects and ~/overlay: seconds with all nine decimals "
    "(1795917619.952920911), or whole nanoseconds; default: the newest. The node keeps images for kept_ms (1 s by "
    "default), less than this command takes to start: pause first, or give the node a larger kept_ms and "
    "kept_frames. `sam2s prompt list` prints which are kept"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sam2s prompt`; those that all actions have may stand before the action and after it."""
    _add_common_arguments(parser)
    parser.set_defaults(tracker="/tracker", timeout=10.0, json=False, client=None)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(
        name: str,
        summary: str,
        call: Callable[[Sam2sClient, argparse.Namespace], Any],
        says_who: bool = True,
    ) -> Any:
        """`says_who`: its request has a field for the client."""
        one = actions.add_parser(name, help=summary, description=summary)
        _add_common_arguments(one, says_who)
        one.set_defaults(call=call, says_who=says_who)
        return one

    add = action("add", "start to track an object", _add)
    add.add_argument("--name", default="", help="shown to people")
    add.add_argument("--class", dest="class_name", default="", help="of the instrument, if known")
    refine = action("refine", "correct an object's mask", _refine)
    for one in (add, refine):
        one.add_argument(
            "--click", action="append", default=[], type=_point, metavar="X,Y", help="on the object"
        )
        one.add_argument(
            "--not-on", action="append", default=[], type=_point, metavar="X,Y", help="off the object"
        )
        one.add_argument("--box", type=_box, metavar="X0,Y0,X1,Y1", help="around the object")
        one.add_argument(
            "--mask", type=Path, metavar="FILE", help="image of the same size; not 0: the object"
        )
        one.add_argument("--stamp", metavar="S", help=STAMP_HELP)
    remove = action("remove", "stop to track an object", lambda client, args: client.remove_object(args.id))
    rename = action("rename", "give an object another name or class", _rename)
    rename.add_argument("--name", default="", help="new name")
    rename.add_argument("--class", dest="class_name", default="", help="new class")
    rename.add_argument("--clear-class", action="store_true", help="let the tracker say the class again")
    back = action("reset-object", "take an object back to its first prompt", _reset_object)
    for one in (refine, remove, rename, back):
        one.add_argument("id", type=int, help="of the object" + (", 0: all" if one is back else ""))
    action(
        "list", "the objects, and the images that a prompt may name", lambda client, _: client.list_objects()
    )
    pause = action("pause", "stop the tracking of images", lambda client, args: client.pause(args.reason))
    pause.add_argument("--reason", default="", help="for people")
    action("resume", "track images again", lambda client, _: client.resume())
    for name, summary, call in (
        ("reset", "forget all objects and images, remove the snapshots", lambda client, _: client.reset()),
        ("save-snapshot", "write the tracker's memory to disk", lambda client, _: client.save_snapshot()),
        (
            "restore-snapshot",
            "take the newest snapshot in the place of all objects",
            lambda client, _: client.restore_snapshot(),
        ),
        ("suggestions", "what the tracker asks to look at", lambda client, _: client.suggestions()),
    ):
        action(name, summary, call, says_who=False)


def _add_common_arguments(parser: argparse.ArgumentParser, client: bool = True) -> None:
    """Without defaults: an action's would take the place of what stands before it."""
    unset = argparse.SUPPRESS
    parser.add_argument("--tracker", default=unset, help="name of the node (/tracker)")
    parser.add_argument("--timeout", type=float, default=unset, metavar="S", help="seconds (10)")
    parser.add_argument("--json", action="store_true", default=unset, help="print the whole answer as JSON")
    if client:
        parser.add_argument(
            "--client", default=unset, help=f"who asks, for the node's log and audit log ({CLIENT})"
        )


def run(args: argparse.Namespace) -> int:
    """Make the call and print what the node answered; ValueError for a `--client` that the action cannot pass on."""
    if args.client and not args.says_who:
        raise ValueError(f"--client: the request of {args.action} has no field for it; leave it out")
    client_name = (args.client or CLIENT) if args.says_who else ""
    from sam2s_ros.nodes.client import Sam2sClient
    from sam2s_ros.nodes.client_results import TrackerError

    if hasattr(args, "stamp"):
        args.prompt = _prompt(args)
    with Sam2sClient(tracker=args.tracker, client=client_name, timeout_s=args.timeout) as client:
        try:
            result = args.call(client, args)
        except TrackerError as error:
            print(f"sam2s prompt: {error}", file=sys.stderr)
            if error.code_name == "UNKNOWN_STAMP":
                print(_kept(error), file=sys.stderr)
            return 1
    print(json.dumps(plain(result), allow_nan=False) if args.json else text(result))
    return 0


def _add(client: Sam2sClient, args: argparse.Namespace) -> Any:
    return client.add_object(args.name, args.class_name, **args.prompt)


def _refine(client: Sam2sClient, args: argparse.Namespace) -> Any:
    return client.refine_object(args.id, **args.prompt)


def _rename(client: Sam2sClient, args: argparse.Namespace) -> Any:
    return client.rename_object(args.id, args.name, args.class_name, args.clear_class)


def _reset_object(client: Sam2sClient, args: argparse.Namespace) -> Any:
    return client.reset_object(args.id)


def _prompt(args: argparse.Namespace) -> dict[str, Any]:
    from sam2s_ros.tracking.prompts_file import read_mask_image, read_stamp_ns

    return {
        "points": [*args.click, *args.not_on],
        "labels": [1] * len(args.click) + [0] * len(args.not_on),
        "box": args.box,
        "mask": None if args.mask is None else read_mask_image(args.mask),
        "stamp_ns": 0 if args.stamp is None else read_stamp_ns(args.stamp, "the newest image"),
    }


def _point(text: str) -> tuple[float, ...]:
    return _numbers(text, 2)


def _box(text: str) -> tuple[float, ...]:
    return _numbers(text, 4)


def _numbers(text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give {count} numbers with commas between them, in pixels"
        )
    return numbers


def plain(result: Any) -> Any:
    """A client's result as JSON can say it: states by name, None for what is not known."""
    from sam2s_ros.nodes.audit_log import known

    if isinstance(result, str):
        return {"message": result}
    return known(asdict(result, dict_factory=lambda items: {key: _named(value) for key, value in items}))


def _named(value: Any) -> Any:
    return value.name if isinstance(value, Enum) else value


def text(result: Any) -> str:
    """A result in lines for people."""
    if isinstance(result, str):
        return result
    lines = [result.message] if hasattr(result, "message") else []
    if hasattr(result, "objects") and isinstance(result.objects, tuple):
        image = f"{_on_image(result.stamp_ns)}{_age(result.age_s)}"
        lines.append(f"  {image}; {len(result.objects)} of at most {result.max_objects} objects")
        lines += [
            f"  {one.id} '{one.name}' {one.class_name or '-'}, {_mask_text(one.mask)}, {counted(one.prompts, 'prompt')}"
            for one in result.objects
        ]
    if hasattr(result, "suggestions"):
        lines.append(f"{counted(len(result.suggestions), 'suggestion')} {_on_image(result.stamp_ns)}")
        lines += [
            f"  {one.kind} at {one.position[0]:.0f},{one.position[1]:.0f}: {one.message}"
            for one in result.suggestions
        ]
    if hasattr(result, "mask") and result.stamp_ns is not None and result.id:  # 0: all objects
        lines.append(f"  {_on_image(result.stamp_ns)}: {_mask_text(result.mask)}")
    if hasattr(result, "oldest_kept_ns"):
        lines.append(_kept(result))
    return "\n".join(lines)


def _kept(result: Any) -> str:
    """The images that a prompt may name, in the form that --stamp takes."""
    if result.oldest_kept_ns is None:
        return "  no image is kept yet, so none can be prompted"
    return f"  --stamp may be {_seconds(result.oldest_kept_ns)} to {_seconds(result.newest_kept_ns)}"


def _age(age_s: float) -> str:
    """A remark on an image that is not of just now."""
    if math.isnan(age_s) or abs(age_s) <= OLD_IMAGE_S:
        return ""
    return (
        f", {age_s:.1f} s old"
        if 0 < age_s < OTHER_CLOCK_S
        else ", stamped by another clock than this machine's"
    )


def _mask_text(mask: Any) -> str:
    return f"{mask.state.name}, {mask.area:.0f} px, predicted IoU {mask.predicted_iou:.2f}"


def _on_image(stamp_ns: int | None) -> str:
    return "no image yet" if stamp_ns is None else f"on image {_seconds(stamp_ns)}"


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}"
