"""The layout of converted videos: how ids come about, what a conversion leaves behind, what the check finds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2s_ros import cli
from sam2s_ros.data import convert as conversion
from sam2s_ros.data.clips import make_mixture
from sam2s_ros.data.convert import convert, write_planned
from sam2s_ros.data.dataset_check import check_video
from sam2s_ros.data.dataset_view import contact_sheet
from sam2s_ros.data.instrument_bank import bank_kinds
from sam2s_ros.data.labels import IndexLabels, Label, MaskLabels, Region, instrument, tissue
from sam2s_ros.data.linking import Linker
from sam2s_ros.data.out_lock import locked
from sam2s_ros.data.readers import read_rgb
from sam2s_ros.data.video_folder import find_videos, read_index, read_video, write_index
from sam2s_ros.data.video_plan import FramePlan, VideoPlan
from sam2s_ros.evaluation.sequences import find_folder_sequences

SIZE = (60, 80)
GRASPER, LIVER = instrument("grasper", "grasper"), tissue("liver", "liver")


def square(x: int, y: int = 20, side: int = 14) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def link(frames: list[list[np.ndarray]], label: Label = GRASPER) -> list[list[int]]:
    """The id of each square of each frame, all squares of a frame in one semantic mask."""
    linker = Linker()
    found = []
    for masks in frames:
        semantic = np.any(masks, axis=0) if masks else np.zeros(SIZE, bool)
        ids = linker.ids([Region(semantic, label)] if masks else [], SIZE)
        found.append([int(np.bincount(ids[mask]).argmax()) for mask in masks])
    return found


def test_components_keep_their_ids_by_overlap_and_by_nearness() -> None:
    assert link([[square(5), square(50)], [square(9), square(54)], [square(20), square(40)]]) == [[1, 2]] * 3


def test_who_returns_is_who_had_left() -> None:
    assert link([[square(5), square(50)], [square(5)], [square(5)], [square(5), square(20, 44)]]) == [
        [1, 2],
        [1],
        [1],
        [1, 2],
    ]


def test_a_third_component_is_a_new_object_and_a_class_that_is_not_separate_is_one() -> None:
    assert link([[square(5)], [square(5), square(50)]]) == [[1], [1, 2]]
    assert link([[square(5), square(50)], [square(30)]], LIVER) == [[1, 1], [1]]


def test_a_small_piece_belongs_to_the_nearest_body() -> None:
    piece = np.zeros(SIZE, bool)
    piece[27, 66] = True
    assert link([[square(5), square(50), piece]]) == [[1, 2, 2]]


def test_objects_of_the_source_keep_their_ids_wherever_they_go() -> None:
    linker = Linker()
    first = linker.ids([Region(square(5), GRASPER, "a"), Region(square(50), GRASPER, "b")], SIZE)
    second = linker.ids([Region(square(5), GRASPER, "b"), Region(square(50), GRASPER, "a")], SIZE)
    assert first[25, 10] == second[25, 55] == 1 and first[25, 55] == second[25, 10] == 2
    third = linker.ids([Region(square(6), GRASPER)], SIZE)
    assert set(np.unique(third).tolist()) == {0, 2}, "what has no identity is linked to those that have"


def test_where_regions_overlap_the_smaller_is_on_top() -> None:
    ids = Linker().ids([Region(square(20, 20, 4), GRASPER), Region(square(10, 10, 30), LIVER)], SIZE)
    assert ids[21, 21] == 1 and ids[12, 12] == 2


def make_source(root: Path, frames: int = 4, name: str = "v") -> VideoPlan:
    """A video with a grasper that moves and a liver."""
    plans = []
    for number in range(frames):
        image = root / f"{name}_{number}.jpg"
        root.mkdir(parents=True, exist_ok=True)
        small = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        cv2.imwrite(str(image), cv2.resize(small, SIZE[::-1]))
        labels = np.zeros(SIZE, np.uint8)
        labels[40:] = 2
        labels[square(4 + 3 * number, 15)] = 1
        mask = root / f"{name}_{number}.png"
        write_index(mask, labels)
        plans.append(FramePlan(number, image, (IndexLabels(mask, {1: GRASPER, 2: LIVER}),)))
    return VideoPlan(name, "set", "train", "test", "none", 10.0, tuple(plans))


def test_a_finished_video_is_not_written_again(tmp_path: Path) -> None:
    plan = make_source(tmp_path / "in")
    out = tmp_path / "out"
    assert not write_planned(plan, out).before
    target = out / "set/train/v/frames/000000.jpg"
    written = target.stat().st_mtime_ns
    assert target.read_bytes() == plan.frames[0].image.read_bytes(), "images are copied, not encoded again"
    assert write_planned(plan, out).before and target.stat().st_mtime_ns == written


def repaint(plan: VideoPlan) -> VideoPlan:
    """The same plan, one of whose label images has changed."""
    assert plan.frames[1].labels is not None
    path = plan.frames[1].labels[0].path
    write_index(path, np.zeros(SIZE, np.uint8))
    os.utime(path, ns=(1, 1))
    return plan


def relabelled(plan: VideoPlan) -> VideoPlan:
    """The same plan, with another meaning of its labels."""
    frames = [
        replace(frame, labels=(IndexLabels(frame.labels[0].path, {1: LIVER, 2: GRASPER}),))
        for frame in plan.frames
        if frame.labels is not None
    ]
    return replace(plan, frames=tuple(frames))


CHANGES: dict[str, tuple[str, Callable[[VideoPlan], VideoPlan]]] = {
    "its frame rate": ("the frame rate was 10.0 and is 5.0", lambda plan: replace(plan, frame_rate=5.0)),
    "its licence": ("the licence was none and is MIT", lambda plan: replace(plan, licence="MIT")),
    "its split": ("is the same video in another split", lambda plan: replace(plan, split="test")),
    "a frame more": (
        "its files in the source have changed",
        lambda plan: replace(plan, frames=plan.frames[:3]),
    ),
    "a label image": ("its files in the source have changed", repaint),
    "the meaning of labels": ("the meaning of the labels was", relabelled),
}


@pytest.mark.parametrize("case", list(CHANGES))
def test_a_video_of_other_files_or_settings_is_named_and_stays_until_it_is_to_be_redone(
    case: str, tmp_path: Path
) -> None:
    said, change = CHANGES[case]
    plan, out = make_source(tmp_path / "in"), tmp_path / "out"
    write_planned(plan, out)
    before = (out / "set/train/v/video.json").read_bytes()
    changed = change(plan)
    outcome = write_planned(changed, out)
    assert said in outcome.refused and "--redo" in outcome.refused and outcome.frames == 0
    assert (out / "set/train/v/video.json").read_bytes() == before
    again = write_planned(changed, out, redo=True)
    assert again.frames == len(changed.frames) and not again.before and not again.refused
    assert [path.parent.name for path in find_videos(out)] == [changed.split]
    assert write_planned(changed, out).before


def test_what_is_no_video_of_ours_is_never_removed(tmp_path: Path) -> None:
    """A folder in the way may be somebody's only copy."""
    plan, out = make_source(tmp_path / "in"), tmp_path / "out"
    (out / "set/train/v").mkdir(parents=True)
    (out / "set/train/v/notes.txt").write_text("mine")
    outcome = write_planned(plan, out, redo=True)
    assert "move it away" in outcome.refused and (out / "set/train/v/notes.txt").read_text() == "mine"


def test_a_moved_source_is_the_same_source(tmp_path: Path) -> None:
    write_planned(make_source(tmp_path / "in"), tmp_path / "out")
    (tmp_path / "in").rename(tmp_path / "moved")
    stats = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "moved").iterdir()}
    plan = make_source(tmp_path / "moved")
    for name, stamp in stats.items():
        os.utime(tmp_path / "moved" / name, ns=(stamp, stamp))
    assert write_planned(plan, tmp_path / "out").before


def test_two_conversions_into_one_folder_at_once_are_refused(tmp_path: Path) -> None:
    plan, out = make_source(tmp_path / "in"), tmp_path / "out"
    first = convert([plan, replace(plan, name="w")], out, 1)
    next(first)
    with pytest.raises(
        ValueError, match=rf"{out} is being written to by another command \(process {os.getpid()}\)"
    ):
        list(convert([plan], out, 1))
    assert len(list(first)) == 1
    assert [outcome.before for outcome in convert([plan], out, 1)] == [True]
    assert not (out / ".partial").exists()


def test_a_killed_holder_gives_its_lock_back(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from sam2s_ros.data.out_lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 'convert'): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"process {holder.pid}"), locked(tmp_path, "convert"):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path, "convert"):
        pass


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from sam2s_ros.data.worker_pool import worker_pool\n"
        "if __name__ == '__main__':\n"
        "    pool = worker_pool(2)\n"
        "    for child in {f.result() for f in [pool.submit(os.getpid) for _ in range(8)]}: print(child)\n"
        "    print('end', flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(line) for line in iter(parent.stdout.readline, "end\n")]
    assert workers and all(Path(f"/proc/{pid}").exists() for pid in workers)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid: int) -> bool:
    """Whether a process is there and not only waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_several_processes_write_what_one_does(tmp_path: Path) -> None:
    plans = [make_source(tmp_path / "in", name=f"v{i}") for i in range(3)]
    for jobs in (1, 2):
        assert sum(outcome.frames for outcome in convert(plans, tmp_path / str(jobs), jobs)) == 12
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "1", tmp_path / "2")
    )
    assert one == two and len(one) == 3 * 10


def test_a_killed_conversion_leaves_no_half_video_and_goes_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for video in range(8):
        for number in range(40):
            for tree, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
                path = source / tree / f"v{video}" / f"{number:05d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                if suffix == "jpg":
                    cv2.imwrite(str(path), np.full((300, 400, 3), number, np.uint8))
                else:
                    labels = np.zeros((300, 400), np.uint8)
                    labels[100:200, 100:200] = 1
                    write_index(path, labels)
    command = ["data", "convert", "davis", str(source), str(out), "--jobs", "1", "--split", "train"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sam2s_ros.cli", *command], stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    deadline = time.monotonic() + 60
    while not list(out.glob(".partial/*/masks/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(out.glob(".partial/*")), "it was killed while it wrote"
    complete = list(find_videos(out))
    assert len(complete) < 8
    assert [problem for path in complete for problem in check_video(path, bank_kinds())] == []
    assert cli.main(command) == 0
    assert cli.main(["data", "check", str(out), "--jobs", "1"]) == 0
    assert len(list(find_videos(out))) == 8 and not (out / ".partial").exists()


def test_broken_files_are_named_left_out_and_said_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "in"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 255
    for name in "abcdef":
        noise = np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(root / f"images/{name}.jpg")
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    whole = (root / "images/b.jpg").read_bytes()
    (root / "images/b.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "masks/c.png").write_bytes((root / "masks/c.png").read_bytes()[:40])
    (root / "masks/d.png").unlink()
    Image.fromarray(mask[:20]).save(root / "masks/e.png")
    command = ["data", "convert", "pairs", str(root), str(tmp_path / "out"), "--jobs", "1"]
    for _ in range(2):
        assert cli.main(command) == 1
        said = capsys.readouterr().out
        assert all(f"{name}." in said for name in ("b", "c", "d", "e")) and "4 files left out" in said
    (video,) = find_videos(tmp_path / "out")
    assert list(read_video(video).frames()) == [0, 5]
    assert [problem.kind for problem in check_video(video, bank_kinds())] == ["skipped-source"] * 4


def test_a_full_disk_ends_a_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        write_planned(make_source(tmp_path / "in"), tmp_path / "out")
    assert list(find_videos(tmp_path / "out")) == []


def test_ids_above_255_are_kept(tmp_path: Path) -> None:
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    write_index(tmp_path / "a.png", labels)
    assert np.array_equal(read_index(tmp_path / "a.png"), labels)


@pytest.fixture(scope="module")
def sound_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    write_planned(make_source(root / "in"), root / "out")
    return root / "out/set/train/v"


def edit_facts(change: Callable[[dict], None]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def spoil(video: Path) -> None:
        facts = json.loads((video / "video.json").read_text())
        change(facts)
        (video / "video.json").write_text(json.dumps(facts))

    return spoil


def edit_mask(number: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def spoil(video: Path) -> None:
        path = video / f"masks/{number:06d}.png"
        write_index(path, change(read_index(path).copy()))

    return spoil


def cut_off(name: str, share: float = 0.6) -> Callable[[Path], None]:
    def spoil(video: Path) -> None:
        whole = (video / name).read_bytes()
        (video / name).write_bytes(whole[: int(share * len(whole))])

    return spoil


def flip_bit(path: Path) -> None:
    """One wrong bit in the pixels of a PNG, of the same length as before."""
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 12] ^= 0x04
    path.write_bytes(data)


def grey_mask(video: Path) -> None:
    Image.fromarray(read_index(video / "masks/000001.png")).save(video / "masks/000001.png")


def other_palette(video: Path) -> None:
    image = Image.fromarray(read_index(video / "masks/000001.png"))
    image.putpalette([255 - i // 3 for i in range(768)])
    image.save(video / "masks/000001.png")


def colour_mask(video: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (*SIZE, 3), np.uint8)).save(
        video / "masks/000001.png"
    )


def jump(ids: np.ndarray) -> np.ndarray:
    ids[ids == 1] = 0
    ids[0:12, 66:79] = 1
    return ids


def two_graspers(video: Path) -> None:
    """A second grasper at rest, which changes ids with the first on frame 2."""
    edit_facts(lambda facts: facts["masklets"].append({**facts["masklets"][0], "id": 3}))(video)
    for number in range(4):
        ids = np.zeros(SIZE, np.uint8)
        ids[40:] = 2
        ids[square(4, 15)], ids[square(60, 15)] = (3, 1) if number >= 2 else (1, 3)
        write_index(video / f"masks/{number:06d}.png", ids)


SPOILED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "no facts": ("video-json", lambda video: (video / "video.json").unlink()),
    "facts cut off": ("video-json", cut_off("video.json")),
    "a split that is none": ("video-json", edit_facts(lambda facts: facts.update(split="trian"))),
    "an entry that is none": ("video-json", edit_facts(lambda facts: facts.update(licens="x"))),
    "an id of 0": ("video-json", edit_facts(lambda facts: facts["masklets"][0].update(id=0))),
    "a frame missing": ("missing-frames", lambda video: (video / "frames/000003.jpg").unlink()),
    "a mask without its frame": (
        "mask-without-frame",
        lambda video: (video / "frames/000003.jpg").unlink(),
    ),
    "a frame without a number": (
        "frame-number",
        lambda video: (video / "frames/000003.jpg").rename(video / "frames/last.jpg"),
    ),
    "one frame twice": (
        "frame-number",
        lambda video: shutil.copy(video / "frames/000003.jpg", video / "frames/3.jpg") and None,
    ),
    "a frame cut off": ("unreadable-frame", cut_off("frames/000001.jpg")),
    "a mask with a wrong bit": ("unreadable-mask", lambda video: flip_bit(video / "masks/000001.png")),
    "facts that are a folder": (
        "video-json",
        lambda video: (video / "video.json").unlink() or (video / "video.json").mkdir(),
    ),
    "facts that are a list": ("video-json", lambda video: (video / "video.json").write_text("[1]") and None),
    "facts that are no text": (
        "video-json",
        lambda video: (video / "video.json").write_bytes(b"\xff\xfe{") and None,
    ),
    "facts nested without end": (
        "video-json",
        lambda video: (video / "video.json").write_text("[" * 100_000) and None,
    ),
    "a number as licence": ("video-json", edit_facts(lambda facts: facts.update(licence=5))),
    "an endless size": ("video-json", edit_facts(lambda facts: facts.update(size=[1e999, 2]))),
    "a masklet that is a number": ("video-json", edit_facts(lambda facts: facts.update(masklets=[5]))),
    "a frame that is a folder": (
        "unreadable-frame",
        lambda video: (video / "frames/000001.jpg").unlink() or (video / "frames/000001.jpg").mkdir(),
    ),
    "masks that are a file": (
        "frame-number",
        lambda video: shutil.rmtree(video / "masks") or (video / "masks").touch(),
    ),
    "provenance that is a folder": ("provenance", lambda video: (video / "provenance.csv").mkdir()),
    "provenance that is no text": (
        "provenance",
        lambda video: (video / "provenance.csv").write_bytes(b"frame,id\n\xff,1\n") and None,
    ),
    "provenance with a field without end": (
        "provenance",
        lambda video: (
            (video / "provenance.csv").write_text(
                f"frame,id,by,confidence,source\n0,1,given,,{'x' * 200_000}\n"
            )
            and None
        ),
    ),
    "provenance of nobody": (
        "provenance",
        lambda video: (
            (video / "provenance.csv").write_text("frame,id,by,confidence,source\n0,77,given,,\n") and None
        ),
    ),
    "a mask cut off": ("unreadable-mask", cut_off("masks/000001.png")),
    "a frame of another size": (
        "frame-size",
        lambda video: Image.new("RGB", (20, 20)).save(video / "frames/000001.jpg"),
    ),
    "a mask of another size": ("mask-size", edit_mask(1, lambda ids: ids[:-2])),
    "a grey mask": ("wrong-palette", grey_mask),
    "another palette": ("wrong-palette", other_palette),
    "a mask in colours": ("wrong-palette", colour_mask),
    "an id that nobody has": ("unknown-id", edit_mask(1, lambda ids: np.where(ids == 1, 9, ids))),
    "an id twice": ("duplicate-id", edit_facts(lambda facts: facts["masklets"][0].update(id=2))),
    "a class that the bank lacks": (
        "unknown-class",
        edit_facts(lambda facts: facts["masklets"][0].update({"class": "graspr"})),
    ),
    "a tissue as instrument": (
        "wrong-kind",
        edit_facts(lambda facts: facts["masklets"][1].update(kind="instrument")),
    ),
    "a masklet without a mask": (
        "empty-masklet",
        edit_facts(
            lambda facts: facts["masklets"].append({"id": 7, "class": "", "kind": "other"}),
        ),
    ),
    "a masklet that jumps": ("jump", edit_mask(3, jump)),
    "two masklets that change places": ("swapped-ids", two_graspers),
    "a split in the folder of another": (
        "wrong-split",
        edit_facts(lambda facts: facts.update(split="test")),
    ),
}


def test_a_sound_video_has_no_problem(sound_video: Path) -> None:
    assert check_video(sound_video, bank_kinds()) == []


@pytest.mark.parametrize("case", list(SPOILED))
def test_the_check_finds_what_is_wrong_by_its_name(case: str, sound_video: Path, tmp_path: Path) -> None:
    kind, spoil = SPOILED[case]
    video = tmp_path / "train/v"
    shutil.copytree(sound_video, video)
    spoil(video)
    found = check_video(video, bank_kinds())
    assert kind in {problem.kind for problem in found}, found
    assert all(str(video) in problem.path for problem in found)


def test_the_documents_name_every_problem() -> None:
    document = (Path(__file__).parents[1] / "docs/data.md").read_text()
    kinds = {kind for kind, _ in SPOILED.values()} | {"skipped-source"}
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in document] == []


def test_check_says_each_problem_and_fails(
    sound_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "check", str(sound_video)]) == 0
    broken = tmp_path / "train/v"
    shutil.copytree(sound_video, broken)
    cut_off("masks/000001.png")(broken)
    capsys.readouterr()
    assert cli.main(["data", "check", str(tmp_path), "--out", str(tmp_path / "problems.json")]) == 1
    assert "unreadable-mask: " in capsys.readouterr().out
    assert json.loads((tmp_path / "problems.json").read_text())[0]["kind"] == "unreadable-mask"
    assert cli.main(["data", "check", str(tmp_path / "train/v/masks")]) == 2


def test_stats_are_the_columns_of_the_paper(
    sound_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "endovis17/test/v"
    shutil.copytree(sound_video, copy)
    edit_facts(lambda facts: facts.update(dataset="endovis17", split="test"))(copy)
    assert cli.main(["data", "stats", str(tmp_path), "--out", str(tmp_path / "stats.json")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["endovis17", "test", "1", "4", "4", "4", "-", "2", "0.4"]
    assert lines[2] == ["paper:", "EndoVis17", "3", "900", "2265", "-", "-", "10", "300"]
    (entry,) = json.loads((tmp_path / "stats.json").read_text())
    assert entry["classes"] == {"grasper": 1, "liver": 1} and entry["paper"]["masklets"] == 10


@pytest.mark.parametrize("name", ["sheet.png", "film.mp4"])
def test_view_draws_the_masklets(name: str, sound_video: Path, tmp_path: Path) -> None:
    assert cli.main(["data", "view", str(sound_video), "--out", str(tmp_path / name)]) == 0
    if name.endswith("png"):
        assert cv2.imread(str(tmp_path / name)).shape[1] == 4 * 320
    else:
        film = cv2.VideoCapture(str(tmp_path / name))
        assert [film.read()[0] for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda video: (video / "frames/000001.jpg").unlink(), "frames has no image of frame 1"),
        (edit_mask(1, lambda ids: ids[:-2]), "masks/000001.png is of another size than"),
    ],
)
def test_frames_that_cannot_be_drawn_are_named(
    spoil: Callable[[Path], None], said: str, sound_video: Path, tmp_path: Path
) -> None:
    shutil.copytree(sound_video, tmp_path / "v")
    spoil(tmp_path / "v")
    with pytest.raises(ValueError, match=said):
        contact_sheet(read_video(tmp_path / "v"), [0, 1])


def test_evaluation_reads_converted_videos(sound_video: Path) -> None:
    (sequence,) = find_folder_sequences(sound_video.parents[2])
    assert sequence.name == "set/train/v" and sequence.rate_hz == 10
    assert sequence.label_names == {2: "liver 2", 1: "grasper 1"} or set(sequence.label_names) == {1, 2}
    frames = list(sequence.frames())
    assert [frame.stamp_ns for frame in frames] == [0, 10**8, 2 * 10**8, 3 * 10**8]
    for number, frame in enumerate(frames):
        assert frame.labels is not None
        assert np.array_equal(frame.labels, read_index(sound_video / f"masks/{number:06d}.png"))


def test_training_draws_clips_from_converted_videos_and_from_stills(
    sound_video: Path, tmp_path: Path
) -> None:
    data = tmp_path / "sa-sv"
    shutil.copytree(sound_video.parents[2], data / "films")
    still = make_source(tmp_path / "in", frames=2, name="stills")
    still = VideoPlan("stills", "set", "train", "", "", 1.0, still.frames, stills=True)
    write_planned(still, data / "stills")
    for name in ("videos:sa-sv", "videos:sa-sv/stills"):
        source = make_mixture(tmp_path, 64, {name: 1.0})
        clip = source.sample(np.random.default_rng(3), 5, 2, 64, long_term=2)
        again = make_mixture(tmp_path, 64, {name: 1.0}).sample(
            np.random.default_rng(3), 5, 2, 64, long_term=2
        )
        assert clip.frames.shape == (5, 64, 64, 3) and clip.masks.shape == (5, 2, 64, 64)
        assert np.array_equal(clip.frames, again.frames) and np.array_equal(clip.masks, again.masks)
        assert set(clip.class_names) <= {"grasper", "liver", "instrument"}
        assert clip.masks[0].any(axis=(1, 2)).all()


def test_a_wrong_bit_is_an_error_wherever_an_image_is_read(tmp_path: Path) -> None:
    """Of the right length, and decoders that look at no checksum take it for pixels."""
    noise = np.random.default_rng(0).integers(0, 3, SIZE, np.uint8)
    write_index(tmp_path / "mask.png", noise)
    Image.fromarray(np.repeat(noise[..., None], 3, 2)).save(tmp_path / "frame.png")
    assert read_rgb(tmp_path / "frame.png").shape == (*SIZE, 3)
    for path, read in ((tmp_path / "mask.png", read_index), (tmp_path / "frame.png", read_rgb)):
        flip_bit(path)
        with pytest.raises(OSError, match=f"{path} is damaged: the checksum .* is wrong"):
            read(path)


def test_training_takes_only_its_own_split_and_names_a_folder_without(
    sound_video: Path, tmp_path: Path
) -> None:
    shutil.copytree(sound_video, tmp_path / "test/v")
    edit_facts(lambda facts: facts.update(split="test"))(tmp_path / "test/v")
    with pytest.raises(FileNotFoundError, match="no labelled video of the split 'train'"):
        make_mixture(tmp_path, 64, {"videos:test": 1.0})


def test_a_source_in_which_nothing_can_be_prompted_is_an_error_and_no_endless_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam2s_ros.data.real_clips.ATTEMPTS", 3)
    monkeypatch.setattr("sam2s_ros.data.real_clips.pooled_design", None)
    plan = make_source(tmp_path / "in", frames=1)
    dot = np.zeros(SIZE, np.uint8)
    dot[3, 3] = 255
    Image.fromarray(dot).save(tmp_path / "in/dot.png")
    frame = FramePlan(0, plan.frames[0].image, (MaskLabels(tmp_path / "in/dot.png", GRASPER),))
    write_planned(VideoPlan("v", "set", "train", "", "", 1.0, (frame,)), tmp_path / "d")
    source = make_mixture(tmp_path, 64, {"videos:d": 1.0})
    rng = np.random.default_rng(0)
    monkeypatch.setattr("sam2s_ros.data.real_clips.random_instrument", lambda *_: None)
    monkeypatch.setattr("sam2s_ros.data.real_clips.pooled_design", lambda *_: None)
    with pytest.raises(ValueError, match="too little to train on"):
        source.sample(rng, 3, 1, 64)
