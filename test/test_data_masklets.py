"""Sparse labels carried over a video, reviewed, corrected and scored: what is by hand stays so and is said to be."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tracking_cases import small_network, small_tracker

from sam2s_ros import cli
from sam2s_ros.data.dataset_check import check_video
from sam2s_ros.data.instrument_bank import bank_kinds
from sam2s_ros.data.provenance import (
    CORRECTED,
    GIVEN,
    MODEL,
    PROVENANCE_FILE,
    Origin,
    Provenance,
    read_provenance,
    write_provenance,
)
from sam2s_ros.data.review import doubtful, read_list
from sam2s_ros.data.video_folder import (
    Masklet,
    VideoFacts,
    VideoFolder,
    read_index,
    read_video,
    write_index,
    write_video_facts,
)
from sam2s_ros.evaluation import propagate_command
from sam2s_ros.evaluation.propagate import Labels, Opinion, _settle, propagate
from sam2s_ros.evaluation.sequences import find_folder_sequences

SIZE = (60, 80)
FRAMES = (0, 2, 4, 6, 8, 10)
PLACE = Path("set/val/v")
LIST_HEAD = "dataset,split,video,frame,confidence,id,masklet\n"


def truth_of(number: int) -> np.ndarray:
    """A grasper that moves to the right, and from frame 4 on a liver."""
    ids = np.zeros(SIZE, np.uint8)
    ids[40:] = 2 * (number >= 4)
    ids[10:30, 4 + 2 * number : 24 + 2 * number] = 1
    return ids


@pytest.fixture
def truth(tmp_path: Path) -> VideoFolder:
    """Six frames, all labelled."""
    path = tmp_path / "truth" / PLACE
    for folder in ("frames", "masks"):
        (path / folder).mkdir(parents=True)
    for number in FRAMES:
        ids = truth_of(number)
        cv2.imwrite(str(path / f"frames/{number:06d}.jpg"), cv2.merge([60 * ids, 90 + ids, 200 - 50 * ids]))
        write_index(path / f"masks/{number:06d}.png", ids)
    masklets = (
        Masklet(1, "grasper", "grasper", "instrument"),
        Masklet(2, "liver", "liver", "tissue"),
    )
    facts = VideoFacts("set", "val", "test", 10.0, SIZE[::-1], len(FRAMES), "none", "source", masklets)
    write_video_facts(path, facts)
    return read_video(path)


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sam2s data propagate` with a network that has learnt nothing, and is quick."""
    network = small_network()

    def maker(arguments: Any, facts: dict[str, Any], objects: int) -> Any:
        tracker = small_tracker(network, max_objects=max(2, objects))
        facts["engine"] = asdict(tracker.engine.describe())
        return lambda: tracker

    monkeypatch.setattr(propagate_command, "model_maker", maker)


def run(*words: object) -> int:
    return cli.main(["data", *map(str, words)])


def test_all_frames_get_masks_those_by_hand_stay_and_each_says_which_it_is(
    truth: VideoFolder, tmp_path: Path
) -> None:
    assert run("propagate", truth.path, tmp_path / "out", "--every", 3) == 0
    video = read_video(tmp_path / "out" / PLACE)
    assert list(video.masks()) == list(video.frames()) == list(FRAMES)
    provenance = read_provenance(video)
    for number, path in video.masks().items():
        origins = provenance.origins[number].values()
        if number in (0, 6):
            assert np.array_equal(read_index(path), truth_of(number))
            assert {origin.by for origin in origins} == {GIVEN} and provenance.complete_by_hand(number)
        else:
            assert {origin.by for origin in origins} == {MODEL}
            assert all(
                0 <= origin.confidence <= 1 and "from 2 labelled" in origin.source for origin in origins
            )
    kinds = {problem.kind for problem in check_video(video.path, bank_kinds())}
    assert kinds <= {"jump"}, "an untrained network may let a masklet jump"
    assert not (tmp_path / "out/.partial").exists()


def test_an_object_is_carried_backwards_from_its_first_label(truth: VideoFolder, tmp_path: Path) -> None:
    tracker = small_tracker(small_network())
    origins = read_provenance(truth).origins
    only_last = Labels(truth, Provenance({10: origins[10]}))
    propagate(only_last, tmp_path / "out", tracker, "small")
    video = read_video(tmp_path / "out" / PLACE)
    before = [read_index(video.masks()[number]) for number in FRAMES[:-1]]
    assert any((ids == 1).any() for ids in before), "a network that sees objects everywhere shows them"
    assert all(read_provenance(video).origins[number][1].by == MODEL for number in FRAMES[:-1])


def test_the_same_labels_give_the_same_masks(truth: VideoFolder, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("propagate", truth.path, tmp_path / name, "--every", 3) == 0
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "a", tmp_path / "b")
    )
    assert one == two


def opinion(sure: dict[int, float], **where: slice) -> Opinion:
    ids = np.zeros(SIZE, np.uint16)
    for name, columns in where.items():
        ids[10:20, columns] = int(name[1:])
    return Opinion(ids, sure)


def test_two_runs_that_disagree_are_less_sure_and_the_nearer_label_decides(truth: VideoFolder) -> None:
    forward = opinion({1: 0.9}, _1=slice(0, 20))
    backward = opinion({1: 0.8, 2: 0.7}, _1=slice(10, 30), _2=slice(40, 50))
    ids, sure = _settle((forward, backward), [1, 0], truth)
    assert sure[1] == pytest.approx(0.8 / 3) and sure[2] == 0.7, "only one run knows the second"
    assert np.array_equal(ids == 1, backward.ids == 1) and np.array_equal(ids == 2, backward.ids == 2)
    ids, sure = _settle((forward, backward), [0, 0], truth)
    assert sure[1] == pytest.approx(0.9 / 3) and np.array_equal(ids == 1, forward.ids == 1)


def propagated(truth: VideoFolder, tmp_path: Path) -> VideoFolder:
    assert run("propagate", truth.path, tmp_path / "out", "--every", 3) == 0
    return read_video(tmp_path / "out" / PLACE)


def test_the_review_lists_the_least_sure_frames_and_shows_them(truth: VideoFolder, tmp_path: Path) -> None:
    video = propagated(truth, tmp_path)
    assert run("review", tmp_path / "out", "--out", tmp_path / "review", "--most", 2) == 0
    rows = list(csv.DictReader((tmp_path / "review/frames.csv").open()))
    every = doubtful(video, 1.1, 99)
    assert sorted(one.frame for one in every) == [2, 4, 8, 10], "frames by hand are in no doubt"
    assert {(row["dataset"], row["split"], row["video"]) for row in rows} == {PLACE.parts}
    assert [int(row["frame"]) for row in rows] == [one.frame for one in every[:2]]
    assert [float(row["confidence"]) for row in rows] == sorted(one.confidence for one in every)[:2]
    assert cv2.imread(str(tmp_path / "review/set_val_v.png")).shape[1] == 2 * 320
    assert doubtful(video, 0.0, 99) == []


def test_what_no_label_shows_is_said_and_does_not_hide_the_doubts_on_the_others(
    truth: VideoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("propagate", truth.path, tmp_path / "out", "--every", 6) == 0
    assert "no label that was used shows liver 2" in capsys.readouterr().out
    video = read_video(tmp_path / "out" / PLACE)
    origins = read_provenance(video).origins
    assert [row[2].by for row in origins.values()] == [GIVEN] + [MODEL] * 5
    assert [row[2].confidence for row in origins.values()][1:] == [0.0] * 5
    listed = [one.frame for one in doubtful(video, 1.1, 99)]
    assert listed == sorted(FRAMES[1:], key=lambda number: (origins[number][1].confidence, number))
    assert listed != sorted(listed), "or the order would show nothing"


def test_corrections_replace_the_models_masks_keep_ids_and_are_noted(
    truth: VideoFolder, tmp_path: Path
) -> None:
    video = propagated(truth, tmp_path)
    (tmp_path / "list.csv").write_text(LIST_HEAD + "set,val,v,4,0.1,1,grasper 1\n")
    words = ("merge", video.path, truth.path, tmp_path / "merged", "--frames", tmp_path / "list.csv")
    assert run(*words) == 0
    merged = read_video(tmp_path / "merged" / PLACE)
    assert merged.facts == video.facts
    for number, path in merged.masks().items():
        wanted = truth_of(4) if number == 4 else read_index(video.masks()[number])
        assert np.array_equal(read_index(path), wanted)
    origins = read_provenance(merged).origins
    assert {one.by for one in origins[4].values()} == {CORRECTED} and origins[4][1].source == "v"
    assert {one.by for one in origins[0].values()} == {GIVEN} and not origins[2][1].by_hand
    assert run("propagate", tmp_path / "merged", tmp_path / "again") == 0
    again = read_provenance(read_video(tmp_path / "again" / PLACE))
    assert [number for number in FRAMES if again.complete_by_hand(number)] == [0, 4, 6]
    assert again.origins[4][1].by == CORRECTED


def test_one_masklet_alone_can_be_corrected_and_a_new_one_added(truth: VideoFolder, tmp_path: Path) -> None:
    video = propagated(truth, tmp_path)
    corrections = tmp_path / "corrections"
    corrections.mkdir()
    ids = np.zeros(SIZE, np.uint8)
    ids[0:5, 0:5], ids[50:55, 0:5] = 1, 2
    write_index(corrections / "000004.png", ids)
    assert run("merge", video.path, corrections, tmp_path / "merged", "--ids", 1) == 0
    merged = read_video(tmp_path / "merged" / PLACE)
    found, before = read_index(merged.masks()[4]), read_index(video.masks()[4])
    assert np.array_equal(found == 1, ids == 1)
    assert np.array_equal(found == 2, (before == 2) & (ids != 1)), "the second masklet is the model's still"
    assert read_provenance(merged).by_hand(4) == {1}
    other = tmp_path / "other"
    shutil.copytree(truth.path, other)
    facts = read_video(other).facts
    third = Masklet(3, "hook", "hook", "instrument")
    write_video_facts(other, VideoFacts(**{**vars(facts), "masklets": (*facts.masklets, third)}))
    assert run("merge", video.path, other, tmp_path / "third") == 0
    assert third in read_video(tmp_path / "third" / PLACE).facts.masklets


def test_corrections_that_do_not_fit_are_refused_by_name_and_nothing_is_left(
    truth: VideoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = propagated(truth, tmp_path)
    ids = truth_of(4)
    cases: dict[str, tuple[str, np.ndarray, str]] = {
        "no such frame": ("000005.png", ids, "has no frame 5"),
        "another size": ("000004.png", ids[:-2], "80x58 pixels, the video 80x60"),
        "an unknown id": ("000004.png", ids + 7, "has the id 7"),
        "no number": ("last.png", ids, "the name of a frame is its number"),
    }
    for name, (file, image, said) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        write_index(folder / file, image)
        assert run("merge", video.path, folder, tmp_path / "merged") == 2
        error = capsys.readouterr().err
        assert said in error and str(folder) in error, error
        assert not list((tmp_path / "merged").rglob("*.png"))
    other = tmp_path / "other"
    shutil.copytree(truth.path, other)
    text = (other / "video.json").read_text()
    (other / "video.json").write_text(text.replace('"liver"', '"fat"'))
    assert run("merge", video.path, other, tmp_path / "merged") == 2
    assert "masklet 2 is fat 2" in capsys.readouterr().err
    (folder / "000004.png").write_bytes(b"no image")
    (folder / "last.png").unlink()
    assert run("merge", video.path, folder, tmp_path / "merged") == 2
    assert "000004.png is no image" in capsys.readouterr().err


def test_the_score_is_of_frames_that_were_held_out_and_corrections_raise_it(
    truth: VideoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = propagated(truth, tmp_path)
    (tmp_path / "list.csv").write_text(
        LIST_HEAD + "set,val,v,4,,,\nset,val,v,8,,,\nother,val,v,2,,,\nset,test,v,10,,,\n"
    )
    words = ("merge", video.path, truth.path, tmp_path / "merged", "--frames", tmp_path / "list.csv")
    assert run(*words) == 0
    capsys.readouterr()
    merged = tmp_path / "merged" / PLACE
    assert run("score", truth.path, video.path, merged, "--frames", tmp_path / "list.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "held-out frames (4)" in lines[1] and "by hand in none (2)" in lines[1] and "listed (2)" in lines[1]
    )
    first, second = ([float(word) for word in line.split() if word[0].isdigit()] for line in lines[2:])
    by_hand, held_out, rest, listed = range(4)
    assert (first[by_hand], second[by_hand]) == (2, 4)
    assert second[held_out] > first[held_out] and second[listed] == 100 and second[rest] == first[rest]
    (tmp_path / "list.csv").write_text(LIST_HEAD + "other,val,v,2,,,\n")
    assert run("score", truth.path, video.path, "--frames", tmp_path / "list.csv") == 2
    assert f"{tmp_path / 'list.csv'} has nothing for {PLACE}" in capsys.readouterr().err
    assert run("score", truth.path, truth.path) == 2
    assert "every mask is by hand" in capsys.readouterr().err


def test_a_score_needs_the_same_ids_for_the_same_objects(
    truth: VideoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the ids of a version differ, it is refused: frames without any would count as 100."""
    video = propagated(truth, tmp_path)
    grasper, liver = video.facts.masklets
    origins = read_provenance(video).origins
    cases: dict[str, tuple[Masklet, ...]] = {
        "has the masklet grasper 7": (replace(grasper, id=7), liver),
        "masklet 1 is liver 1, in": (replace(liver, id=1), replace(grasper, id=2)),
        "has the masklet hook 3": (grasper, liver, Masklet(3, "hook", "hook", "instrument")),
        "has the id 2": (grasper,),
    }
    for said, masklets in cases.items():
        known = {masklet.id for masklet in masklets}
        rows = {
            number: {one: origin for one, origin in row.items() if one in known}
            for number, row in origins.items()
        }
        write_video_facts(video.path, replace(video.facts, masklets=masklets))
        write_provenance(video.path, Provenance(rows))
        assert run("score", truth.path, video.path) == 2
        error = capsys.readouterr().err
        assert said in error and str(video.path) in error, error
    for path in video.masks().values():
        write_index(path, np.where(read_index(path) == 2, 0, read_index(path)))
    assert run("score", truth.path, video.path) == 0
    assert "lacks the masklet liver 2: counted as never found" in capsys.readouterr().out


def test_a_list_of_two_data_sets_keeps_them_apart(truth: VideoFolder, tmp_path: Path) -> None:
    """Videos of one name in two data sets and splits: each has its own frames."""
    video = propagated(truth, tmp_path)
    other = tmp_path / "out/other/test/v"
    shutil.copytree(video.path, other)
    write_video_facts(other, replace(video.facts, dataset="other", split="test"))
    lines = (other / PROVENANCE_FILE).read_text().splitlines(keepends=True)
    (other / PROVENANCE_FILE).write_text("".join(line for line in lines if not line.startswith(("2,", "4,"))))
    assert run("review", tmp_path / "out", "--out", tmp_path / "review") == 0
    listed = tmp_path / "review/frames.csv"
    assert read_list(listed, video) == [2, 4, 8, 10] and read_list(listed, read_video(other)) == [8, 10]


def test_below_one_every_frame_with_a_mask_by_a_model_is_listed(truth: VideoFolder, tmp_path: Path) -> None:
    video = propagated(truth, tmp_path)
    sure = {
        number: {one: origin if origin.by_hand else Origin(MODEL, 1.0) for one, origin in row.items()}
        for number, row in read_provenance(video).origins.items()
    }
    write_provenance(video.path, Provenance(sure))
    assert len(doubtful(video, 1.0, 99)) == 4 and doubtful(video, 0.99, 99) == []


def test_pictures_of_another_size_are_named_before_anything_is_made(
    truth: VideoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, mask = truth.path / "frames/000004.jpg", truth.path / "masks/000004.png"
    whole = {path: path.read_bytes() for path in (frame, mask)}
    for path in whole:
        if path is frame:
            cv2.imwrite(str(path), np.zeros((50, 70, 3), np.uint8))
        else:
            write_index(path, truth_of(4)[:50, :70])
        assert run("propagate", truth.path, tmp_path / "x") == 2
        assert f"{path} is 70x50 pixels, its video 80x60" in capsys.readouterr().err
        assert not (tmp_path / "x").exists()
        assert run("view", truth.path, "--out", tmp_path / "film.mp4") == 2
        error = capsys.readouterr().err
        assert "70x50" in error and ("000004" in error or "frame 4" in error)
        path.write_bytes(whole[path])
    frame.write_bytes(whole[frame][:20])
    assert run("propagate", truth.path, tmp_path / "x") == 2
    assert f"{frame} is no image" in capsys.readouterr().err


def test_view_writes_where_it_says_and_refuses_what_it_cannot_write(
    truth: VideoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    shutil.copytree(truth.path, tmp_path / "truth/set/val/w")
    written: list[tuple[tuple[object, ...], str]] = [
        ((truth.path,), "v.png"),
        ((tmp_path / "truth",), "view/set_val_w.png"),
        ((truth.path, "--out", tmp_path / "sheet.jpg"), "../sheet.jpg"),
        ((truth.path, "--out", tmp_path / "new/folder"), "../new/folder/v.png"),
        ((truth.path, "--out", tmp_path / "new"), "../new/v.png"),
    ]
    for words, place in written:
        assert run("view", *words) == 0 and Path(place).is_file(), words
    monkeypatch.chdir(truth.path)
    assert run("view", ".") == 0 and Path("v.png").is_file()
    refused = {
        tmp_path / "sheet.gif": "no .gif files are written; end the name with one of .png, .jpg, .jpeg, .mp4",
        tmp_path / "file/sheet.png": f"{tmp_path / 'file'} is a file",
        tmp_path / "file/below/sheet.mp4": f"{tmp_path / 'file'} is a file",
    }
    for out, said in refused.items():
        capsys.readouterr()
        assert run("view", truth.path, "--out", out) == 2
        assert f"--out {out}" in (error := capsys.readouterr().err) or said in error
        assert said in error and len(error.splitlines()) == 1


def test_evaluation_takes_only_masks_by_hand_as_the_truth(truth: VideoFolder, tmp_path: Path) -> None:
    propagated(truth, tmp_path)
    (sequence,) = find_folder_sequences(tmp_path / "out")
    labelled = [frame.stamp_ns for frame in sequence.frames() if frame.labels is not None]
    assert labelled == [0, 6 * 10**8]


def test_mistakes_say_what_to_do(
    truth: VideoFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = propagated(truth, tmp_path)
    (tmp_path / "empty").mkdir()
    unlabelled = tmp_path / "unlabelled"
    shutil.copytree(truth.path, unlabelled)
    shutil.rmtree(unlabelled / "masks")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("propagate", truth.path, tmp_path / "out"), "is there already"),
        (("propagate", tmp_path / "empty", tmp_path / "x"), "no video under"),
        (("propagate", tmp_path / "nowhere", tmp_path / "x"), "nowhere is not a folder"),
        (("propagate", unlabelled, tmp_path / "x"), "nothing to propagate"),
        (("propagate", truth.path, tmp_path / "x", "--every", 0), "at least 1"),
        (("review", truth.path, "--out", tmp_path / "r"), f"has a {PROVENANCE_FILE}"),
        (("merge", video.path, tmp_path / "empty", tmp_path / "m"), "holds no label image"),
        (("merge", video.path, truth.path, tmp_path / "m", "--ids", "9"), "--ids 9"),
        (
            ("merge", video.path, truth.path, tmp_path / "m", "--frames", truth.path / "video.json"),
            "is no list",
        ),
        (("score", truth.path, tmp_path / "empty"), "has no video.json; name the folder of one video"),
        (("score", truth.path, tmp_path / "nowhere"), "VERSION {nowhere} is not there"),
        (("score", tmp_path / "file", video.path), "TRUTH {file} is a file"),
        (("score", truth.path, video.path, "--frames", tmp_path), "--frames {} is no file"),
        (("merge", tmp_path / "nowhere", truth.path, tmp_path / "m"), "VIDEO {nowhere} is not there"),
        (("merge", tmp_path / "file", truth.path, tmp_path / "m"), "VIDEO {file} is a file"),
        (("merge", video.path, tmp_path / "nowhere", tmp_path / "m"), "CORRECTIONS {nowhere} is not there"),
        (("merge", video.path, tmp_path / "file", tmp_path / "m"), "CORRECTIONS {file} is a file"),
        (("merge", video.path, truth.path, tmp_path / "file"), "OUT {file}: {file} is a file"),
        (("merge", video.path, truth.path, tmp_path / "file/below"), "{file} is a file; name a folder"),
        (("merge", video.path, truth.path, tmp_path / "m", "--frames", tmp_path / "nul"), "is no list"),
        (("propagate", truth.path, tmp_path / "file"), "OUT {file}: {file} is a file"),
        (("propagate", tmp_path / "file", tmp_path / "x"), "{file} is not a folder"),
        (("review", tmp_path / "out", "--out", tmp_path / "file"), "--out {file}: {file} is a file"),
        (("review", tmp_path / "out", "--out", tmp_path / "r", "--below", "nan"), "--below nan: give a"),
        (("review", tmp_path / "out", "--out", tmp_path / "r", "--below", "-0.1"), "from 0 to 1"),
        (("review", tmp_path / "out", "--out", tmp_path / "r", "--below", "1.5"), "from 0 to 1"),
    ]
    (tmp_path / "file").write_text("")
    (tmp_path / "nul").write_bytes(LIST_HEAD.encode() + b"set,val,v,\0\n")
    for words, said in cases:
        capsys.readouterr()
        assert run(*words) == 2, words
        said = re.sub(r"\{(\w*)\}", lambda name: str(tmp_path / name[1]), said)
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1, (words, error)
    lines = (video.path / PROVENANCE_FILE).read_text().splitlines()
    (video.path / PROVENANCE_FILE).write_text("\n".join([*lines, "5,1,model,0.5,x"]))
    assert run("review", video.path, "--out", tmp_path / "r") == 2
    assert f"{PROVENANCE_FILE} has frame 5, which the video lacks" in capsys.readouterr().err
    (video.path / PROVENANCE_FILE).write_text("\n".join([*lines[:3], "4,1,somebody,,"]))
    assert "provenance" in {problem.kind for problem in check_video(video.path, bank_kinds())}
