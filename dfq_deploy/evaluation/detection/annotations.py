"""Read the true boxes of images: COCO's JSON, or a folder of YOLO's text files.

=============  =====================================================================================================
COCO JSON      ``images`` (id, file_name), ``annotations`` (image_id, category_id, bbox [x, y, width, height] in pixels
               of the image, iscrowd) and ``categories`` (id)
YOLO folder    NAME.txt for NAME.jpg, one object a line: ``class x y width height``, center and size as shares of the
               image; an image without a file has no object
=============  =====================================================================================================

Images are resized and cropped to the shape of the input (:mod:`dfq_deploy.samples.image_folder`), and boxes with them.
An object of which cropping leaves less than half may be found and need not be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dfq_deploy.errors import SamplesError
from dfq_deploy.evaluation.detection.average_precision import Truth
from dfq_deploy.evaluation.detection.boxes import Floats
from dfq_deploy.files.json_text import parsed_json
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.samples.pictures.listing import ImageSize, image_sizes

__all__ = ["Annotations", "read_annotations"]

LEAST_VISIBLE = 0.5
"""Part of a box that has to be left after cropping."""

Objects = list[tuple[int, tuple[float, float, float, float], bool]]
"""Class, box x1, y1, x2, y2 in pixels of the image, and whether it may be missed."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """The objects of images, as they are annotated.

    Args:
        path: of the annotations, for messages.
        images: in the order of the samples.
        objects: of each image; classes as the file numbers them.
        categories: all numbers of classes that the file lists; None where it lists none.
    """

    path: Path
    images: tuple[ImageSize, ...]
    objects: tuple[Objects, ...]
    categories: tuple[int, ...] | None

    def truths(self, size: tuple[int, int], classes: int) -> tuple[Truth, ...]:
        """The objects of each image in pixels of the input.

        Args:
            size: height and width of the model's input.
            classes: of the model.

        Raises:
            SamplesError: the classes do not fit the model.
        """
        numbers = self._numbers(classes)
        return tuple(
            _fitted([(numbers[one], box, crowd) for one, box, crowd in found], image, size)
            for found, image in zip(self.objects, self.images, strict=True)
        )

    def _numbers(self, classes: int) -> dict[int, int]:
        """Category -> class: in their order where there are as many as classes, else the number itself."""
        if self.categories is not None and len(self.categories) == classes:
            return {number: index for index, number in enumerate(self.categories)}
        used = self.categories or sorted({one for found in self.objects for one, _, _ in found})
        for number in used:
            if not 0 <= number < classes:
                raise SamplesError(
                    f"{self.path}: class {number} is none of the model's {classes} (0 to {classes - 1}), and it lists "
                    f"{len(used)} categories; give annotations of the model's classes"
                )
        return {number: number for number in used}


def read_annotations(annotations: AnyPath, data: AnyPath, limit: int | None = None) -> Annotations:
    """The objects of each image of ``data``, in the order of its samples.

    Args:
        annotations: a COCO JSON file or a folder of YOLO's text files.
        data: the folder or zip of images, of which at most ``limit`` are read.

    Raises:
        SamplesError: annotations or images cannot be read, or do not fit each other.
    """
    path = as_path(annotations, "annotations")
    images = image_sizes(as_path(data, "data"), limit)
    if path.is_dir():
        found = Annotations(path, images, tuple(_of_text(_text_file(path, image), image) for image in images), None)
    else:
        found = _of_coco(path, images)
    if not any(found.objects):
        raise SamplesError(f"{path}: no object in any of the {len(images)} images of {data}; check the names of files")
    return found


def _of_coco(path: Path, images: tuple[ImageSize, ...]) -> Annotations:
    content = _json(path)
    try:
        ids = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
        found: dict[str, Objects] = {name: [] for name in ids.values()}
        for entry in content["annotations"]:
            x, y, width, height = (float(number) for number in entry["bbox"])
            box = (x, y, x + width, y + height)
            found[ids[entry["image_id"]]].append((int(entry["category_id"]), box, bool(entry.get("iscrowd", 0))))
        categories = tuple(sorted({int(entry["id"]) for entry in content["categories"]}))
    except (KeyError, TypeError, ValueError, OverflowError) as problem:
        reason = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise SamplesError(
            f"{path}: no annotations of COCO ({reason}); it needs images, annotations with bbox, and categories"
        ) from None
    by_name = {PurePosixPath(name).name: objects for name, objects in found.items()}
    objects = tuple(_objects_of(image, found, by_name, path) for image in images)
    unknown = {one for own in objects for one, _, _ in own}.difference(categories)
    if unknown:
        raise SamplesError(f"{path}: category {min(unknown)} of an annotation is not listed under categories")
    return Annotations(path, images, objects, categories)


def _objects_of(image: ImageSize, found: Mapping[str, Objects], by_name: Mapping[str, Objects], path: Path) -> Objects:
    objects = found.get(str(image.name), by_name.get(image.name.name))
    if objects is None:
        raise SamplesError(f"{path}: it does not list image '{image.name}'; give only images that it lists")
    return objects


def _json(path: Path) -> Any:
    try:
        return parsed_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        raise SamplesError(
            f"{path}: the annotations cannot be read ({problem}); give COCO's JSON or a folder of YOLO's .txt files"
        ) from None


def _text_file(path: Path, image: ImageSize) -> Path:
    beside = path / image.name.with_suffix(".txt")
    return beside if beside.is_file() else path / f"{image.name.stem}.txt"


def _of_text(file: Path, image: ImageSize) -> Objects:
    if not file.is_file():
        return []
    objects: Objects = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            one, (x, y, width, height) = int(words[0]), (float(word) for word in words[1:5])
        except ValueError:
            raise SamplesError(f"{file}: line {number} is not 'class x y width height': {line[:60]!r}") from None
        left, top = (x - width / 2) * image.width, (y - height / 2) * image.height
        objects.append((one, (left, top, left + width * image.width, top + height * image.height), False))
    return objects


@dataclass(frozen=True)
class _Crop:
    """The part of an image that fills the input."""

    left: float
    top: float
    scale: float

    @classmethod
    def of(cls, image: ImageSize, size: tuple[int, int]) -> "_Crop":
        """The largest part with the shape of the input, in the middle."""
        height, width = size
        scale = max(width / image.width, height / image.height)
        return cls((image.width - width / scale) / 2, (image.height - height / scale) / 2, scale)


def _fitted(objects: Objects, image: ImageSize, size: tuple[int, int]) -> Truth:
    """The objects in pixels of the input."""
    crop = _Crop.of(image, size)
    boxes: Floats = np.array([box for _, box, _ in objects], np.float64).reshape(-1, 4)
    moved = (boxes - np.array([crop.left, crop.top] * 2)) * crop.scale
    bounds = np.array([size[1], size[0]] * 2, np.float64)
    clipped = np.clip(moved, 0, bounds)
    areas = [np.clip(one[:, 2:] - one[:, :2], 0, None).prod(axis=1) for one in (clipped, moved)]
    visible = areas[0] >= LEAST_VISIBLE * areas[1]
    ignored = ~visible | np.array([crowd for _, _, crowd in objects], np.bool_).reshape(-1)
    return Truth(clipped, np.array([one for one, _, _ in objects], np.int64), ignored)
