"""Settings of a tracker, built once and passed down whole."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from sam2s_ros.engines.base import EngineCapacity
from sam2s_ros.tracking.geometry_uncertainty import GeometryModel
from sam2s_ros.tracking.kept_frames import slots_for

PREVIOUS_MASK_PROMPTS = ("off", "mask", "flow", "box", "centre")
MAX_PROMPT_POINTS = 32
"""Points of one prompt, a box counting as two; clicks on the same frame add up to at most this many."""
LIVE_SETTINGS = frozenset(
    (
        *("drop_stray_components", "exclusive_masks"),
        *("uncertain_iou", "uncertain_pixels", "uncertain_boundary", "twin_iou", "drop_twins"),
        *("lost_after_s", "recover_frames"),
        *("jump_distance", "jump_speed", "jump_area", "jump_area_rate"),
        *("judge_images", "black_level", "black_share", "saturated_share", "obscured_detail", "torn_jump"),
        *("frozen_images", "out_of_body_share"),
    )
)
"""Fields of `TrackerConfig` that `StreamingTracker.reconfigure` changes between two frames; no memory hangs on them."""
TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
"""Types that a field's value may have, by that of the field."""
MAX_KEPT_FRAMES = 256
MAX_KEPT_MS = 60_000
MAX_LONG_TERM = 16
MAX_CLASS_INTERVAL = 1000
MAX_LONG_TERM_INTERVAL_S = 3600.0


@dataclass(frozen=True)
class TrackerConfig:
    """How a `StreamingTracker` behaves. `TrackerConfig.sam2()` is SAM 2's own behaviour, to compare with."""

    max_objects: int = 8
    """Objects tracked at a time."""
    max_conditioning: int = 4
    """Prompted frames remembered per object, at least 2: the first for ever, the others replaced oldest first."""
    num_long_term: int = 0
    """Long-term memory entries per object (DiveMem; the paper has 4). 0 is SAM 2's memory."""
    long_term_interval_s: float = 1.0
    """Seconds of image stamp between two candidates for the long-term memory; 0, every frame, is the paper's rule."""
    long_term_candidates: int = 5
    """Candidates in a row, none failing between them, of which one enters the long-term memory (the paper's delta)."""
    long_term_min_iou: float = 0.95
    """Predicted IoU above which a frame may be a candidate, and at or below which it fails (the paper's gamma)."""
    kept_ms: int = 1000
    """How far back from the newest frame a late prompt may refer, milliseconds of image stamp."""
    kept_frames: int = 16
    """The most frames that are kept for that, whatever their rate: memory for so many is allocated. A stream of R Hz
    needs R * kept_ms / 1000 + 1."""
    previous_mask_prompt: str = "off"
    """What of an object's last mask prompts its next frame: "off" (SAM 2), "mask", "flow" (the mask moved
    along the optical flow between the two images), "box" or "centre"."""
    drop_stray_components: bool = True
    """Drop components of a mask that do not belong to the object before the mask is shown and memorised."""
    stray_distance: float = 0.06
    """How far from the previous mask a component may lie and still belong to it; fraction of the image's
    side."""
    exclusive_masks: bool = False
    """Give a pixel that several objects claim to the one with the highest logit, before masks are shown and memorised.
    The mask of a prompt stays as it was given. An object that has grown over a small one then takes its place."""
    class_min_iou: float = 0.7
    """Predicted IoU above which a frame has a say in an object's class; the object must be in view, too."""
    class_memory_frames: float = 5.0
    """Frames after an object's latest prompt at which a frame has half of its say, after twice as many a third."""
    class_interval: int = 5
    """Frames from one look of a class reader at an object to the next, once its latest prompt lies more than
    `class_memory_frames` back; before, it looks at every frame."""
    class_scale: float = 100.0
    """Factor on the cosines of embeddings and class bank before they become probabilities, as in training."""
    uncertain_iou: float = 0.6
    """Predicted IoU below which an object in view is UNCERTAIN."""
    uncertain_pixels: float = 0.5
    """Mean uncertainty of the mask's pixels, 0 to 1, above which an object in view is UNCERTAIN."""
    uncertain_boundary: float = 0.5
    """Width of the band in which the boundary may lie above which an object in view is UNCERTAIN, as a fraction of the
    side of a square of the mask's area."""
    twin_iou: float = 0.6
    """IoU of two objects' masks above which they are twins: one has taken the other's place. Where both are shown, both
    are UNCERTAIN. 1: never."""
    drop_twins: bool = True
    """Take the twin that, by the classes of both, the mask is not of for out of view before masks are shown and
    memorised, lest it comes to remember the other as itself. Of one whose prompt is recent (`overlaps.FRESH_FRAMES`)
    and one whose is not, the latter. Else neither where classes do not tell (`overlaps.LEAST_ODDS`), and in no case
    where the network knows none."""
    lost_after_s: float = 2.0
    """Seconds out of view after which an object is LOST instead of OCCLUDED."""
    recover_frames: int = 3
    """Good frames in a row after which an object enters a better state; a worse one is entered at once."""
    restore_confirm_frames: int = 5
    """Good frames in a row after which an object from a snapshot may be TRACKING; 0: as any other."""
    jump_distance: float = 0.1
    """How far a centroid may move between two frames however close in time; fraction of the image's diagonal."""
    jump_speed: float = 2.5
    """How far it may move besides for each second between their stamps; image diagonals per second."""
    jump_area: float = 1.5
    """By which factor a mask's area may change between two frames however close in time."""
    jump_area_rate: float = 10.0
    """Natural logarithm of the factor by which it may change besides for each second between their stamps; 1/s."""
    judge_images: bool = True
    """Learn nothing from images that show nothing, and trust no object on them (`ImageJudge`)."""
    black_level: int = 20
    """Grey level, 0 to 255, up to which a pixel is black."""
    black_share: float = 0.02
    """Share of pixels above it under which an image is BLACK."""
    saturated_share: float = 0.5
    """Share of overexposed pixels above which an image is SATURATED."""
    obscured_detail: float = 5.0
    """Detail in grey levels (`ImageMeasures.detail`) under which an image is OBSCURED; 0: none is."""
    torn_jump: float = 20.0
    """Grey levels by which most of a row changes at once in a TORN image; 255: no such step is a tear."""
    frozen_images: int = 1
    """Repeats in a row from which on an image is FROZEN; 2 for a source that repeats images to fill up its rate."""
    out_of_body_share: float = 0.01
    """Share of reddish pixels under which an image of a stream that has shown tissue is OUT_OF_BODY; 0: none is."""
    geometry: GeometryModel = field(default_factory=GeometryModel)
    """How far the measures of a mask may be off, as calibrated for the bundled weights."""
    acceleration: float = 2.0
    """Standard deviation of an object's acceleration that the velocity's filter expects; image diagonals per s^2."""
    velocity_gap_s: float = 0.5
    """Seconds between two frames with an object in view after which its velocity is not known."""
    smooth_geometry: bool = False
    """Centroids and tips are those of the filter, not of the mask of the frame."""
    frame_interval_s: float = 0.04
    """Assumed time between frames that come without a stamp."""
    first_id: int = 1
    """Id of the first object, for a tracker that follows another one of the same stream: no id is used twice."""

    def __post_init__(self) -> None:
        for item in fields(self):
            name, value = str(item.type), getattr(self, item.name)
            fits = isinstance(value, TYPES.get(name, object)) and (
                name == "bool" or not isinstance(value, bool)
            )
            self._require(fits, item.name, f"of type {name}")
        for name in ("max_objects", "first_id", "recover_frames", "frozen_images"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        self._require(
            1 <= self.kept_frames <= MAX_KEPT_FRAMES, "kept_frames", f"frames, 1 to {MAX_KEPT_FRAMES}"
        )
        self._require(0 <= self.kept_ms <= MAX_KEPT_MS, "kept_ms", f"milliseconds, 0 to {MAX_KEPT_MS}")
        self._require(
            self.max_conditioning >= 2, "max_conditioning", "at least 2: the first prompt and the latest"
        )
        self._require(0 <= self.num_long_term <= MAX_LONG_TERM, "num_long_term", f"0 to {MAX_LONG_TERM}")
        self._require(
            0 <= self.long_term_interval_s <= MAX_LONG_TERM_INTERVAL_S,
            "long_term_interval_s",
            f"seconds, 0 to {MAX_LONG_TERM_INTERVAL_S:g}",
        )
        self._require(self.long_term_candidates >= 1, "long_term_candidates", "at least 1")
        self._require(0 <= self.long_term_min_iou <= 1, "long_term_min_iou", "within 0 and 1")
        self._require(
            0 <= self.stray_distance <= 1, "stray_distance", "a fraction of the image's side, 0 to 1"
        )
        self._require(self.class_memory_frames > 0, "class_memory_frames", "frames, more than 0")
        self._require(
            1 <= self.class_interval <= MAX_CLASS_INTERVAL,
            "class_interval",
            f"frames, 1 to {MAX_CLASS_INTERVAL}",
        )
        self._require(self.class_scale > 0, "class_scale", "more than 0")
        for name in (
            "class_min_iou",
            "uncertain_iou",
            "uncertain_pixels",
            "twin_iou",
            "black_share",
            "saturated_share",
            "out_of_body_share",
        ):
            self._require(0 <= getattr(self, name) <= 1, name, "within 0 and 1")
        for name in (
            *("restore_confirm_frames", "lost_after_s", "uncertain_boundary", "jump_distance"),
            *("jump_speed", "jump_area_rate", "obscured_detail", "velocity_gap_s"),
        ):
            self._require(getattr(self, name) >= 0, name, "0 or more")
        self._require(self.jump_area >= 1, "jump_area", "a factor, at least 1")
        for name in ("black_level", "torn_jump"):
            self._require(0 <= getattr(self, name) <= 255, name, "a grey level, 0 to 255")
        self._require(self.acceleration > 0, "acceleration", "image diagonals per s^2, more than 0")
        self._require(self.frame_interval_s > 0, "frame_interval_s", "more than 0")
        choices = ", ".join(PREVIOUS_MASK_PROMPTS)
        self._require(
            self.previous_mask_prompt in PREVIOUS_MASK_PROMPTS, "previous_mask_prompt", f"one of {choices}"
        )

    def require_live_change(self, before: TrackerConfig) -> None:
        """ValueError when it differs from `before` in a field that is not among `LIVE_SETTINGS`."""
        fixed = [
            item.name
            for item in fields(self)
            if item.name not in LIVE_SETTINGS and getattr(self, item.name) != getattr(before, item.name)
        ]
        if fixed:
            raise ValueError(
                f"tracker config: {', '.join(fixed)} cannot be changed while tracking; load the tracker anew"
            )

    def _require(self, fits: bool, name: str, what: str) -> None:
        if not fits:
            raise ValueError(f"tracker config: {name} is {getattr(self, name)!r}; it must be {what}")

    @classmethod
    def sam2(cls, max_objects: int = 8) -> TrackerConfig:
        """Exactly SAM 2's streaming behaviour: no previous-mask prompt, no mask clean-up, no long-term memory, and
        every image is learnt from."""
        return cls(
            max_objects=max_objects,
            previous_mask_prompt="off",
            drop_stray_components=False,
            judge_images=False,
        )

    def engine_capacity(self, recent_slots: int = 6, recent_pointers: int = 15) -> EngineCapacity:
        """What an engine must allocate for this tracker, for a network that reads so many recent frames."""
        return EngineCapacity(
            max_objects=self.max_objects,
            conditioning_slots=self.max_conditioning,
            long_term_slots=self.num_long_term,
            recent_slots=recent_slots,
            recent_pointers=recent_pointers,
            frame_slots=slots_for(self.kept_frames),
        )
