"""`sam2s data`: make, convert, check, label and look at data sets; one module per kind, from the room it belongs to."""

from __future__ import annotations

import argparse

from sam2s_ros.data import (
    convert_command,
    dataset_check,
    dataset_stats,
    dataset_view,
    merge,
    review,
    synth_command,
)
from sam2s_ros.evaluation import mask_scores, propagate_command

HELP = "make, convert, check, label and look at data sets of videos with masklets (docs/data.md)"
KINDS = {
    "synth": synth_command,
    "convert": convert_command,
    "check": dataset_check,
    "stats": dataset_stats,
    "view": dataset_view,
    "propagate": propagate_command,
    "review": review,
    "merge": merge,
    "score": mask_scores,
}
"""Kind -> its module, with HELP, configure and run as a subcommand has them."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the kinds and their arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, module in KINDS.items():
        module.configure(kinds.add_parser(name, help=module.HELP, description=module.HELP))


def run(arguments: argparse.Namespace) -> int:
    """Run the kind that was asked for."""
    return KINDS[arguments.kind].run(arguments)
