"""Draws faces into a folder as untidy as those of real people: `python -m scripts.drawings FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import Final

from PIL import Image, ImageDraw

DRAWINGS: Final = 300
LEFT_OUT: Final = 5  # the files that `draw_messy_folder` adds and a trainer must leave out
_CANVAS: Final = 256  # pixels; drawn at this size and then reduced, for smooth edges
_FOLDERS: Final = ("", "from Mia", "from Mia/2023 old ones", "Scans", "été")
_SUFFIXES: Final = (".png", ".jpg", ".JPG", ".jpeg", ".webp", ".bmp")
_SKIN: Final = ("#f6d3b3", "#e0ac7e", "#b97a4c", "#7d4f2f", "#f2e394", "#a9d98c")
_HAIR: Final = ("#2b1d14", "#7a4a21", "#d9b44a", "#b5381f", "#777777", "#3f6fb5")
_BACK: Final = ("#8fc5ea", "#f7f3e8", "#f3b0c3", "#bfe3b4", "#35456b", "#e9d36c")


def draw_face(seed: int) -> Image.Image:
    """A face: RGB, 256x256. The seed decides colours, shape, hair, eyes and mouth."""
    random = Random(seed)
    image = Image.new("RGB", (_CANVAS, _CANVAS), random.choice(_BACK))
    draw = ImageDraw.Draw(image)
    x, y = (_CANVAS // 2 + random.randint(-12, 12) for _ in "xy")
    width, height = random.randint(74, 96), random.randint(84, 104)  # half of the head's
    hair = random.choice(_HAIR)
    draw.ellipse((x - width - 10, y - height - 18, x + width + 10, y + height // 3), fill=hair)
    if random.random() < 0.4:  # long hair
        draw.rectangle((x - width - 10, y - height // 3, x + width + 10, y + height), fill=hair)
    draw.ellipse((x - width, y - height + 14, x + width, y + height), fill=random.choice(_SKIN))
    apart, eye = random.randint(32, 42), random.randint(12, 18)
    for side in (-1, 1):
        centre = x + side * apart
        draw.ellipse((centre - eye, y - 16 - eye, centre + eye, y - 16 + eye), fill="white")
        draw.ellipse((centre - 8, y - 24, centre + 8, y - 8), fill="#1c1c1c")
    mouth = (x - 38, y + 10, x + 38, y + 66)
    if random.random() < 0.5:
        draw.chord(mouth, 0, 180, fill="#c0392b")
    else:
        draw.arc(mouth, 15, 165, fill="#7b241c", width=9)
    return image


def draw_messy_folder(folder: Path, count: int = DRAWINGS, seed: int = 0) -> None:
    """Writes `count` drawings of many sizes and formats, and `LEFT_OUT` files that are no pictures to train on.

    One drawing is a gray PNG of 16 bits, every tenth has an alpha channel. The same seed gives the same pixels.
    """
    random = Random(seed)
    for index in range(count):
        place = folder / random.choice(_FOLDERS)
        place.mkdir(parents=True, exist_ok=True)
        size = random.choice((64, 90, 128, 200, 256))
        face = draw_face(seed * 100_003 + index).resize((size, size), Image.Resampling.LANCZOS)
        if random.random() < 0.3:  # the paper around a drawing is not square
            paper = Image.new("RGB", (size, size + size // 4), "#f7f3e8")
            paper.paste(face, (0, size // 8))
            face = paper
        if index == 0:
            gray = face.convert("L").convert("I").point(lambda value: value * 257).convert("I;16")
            gray.save(place / "scan of the first one.png")
        elif index % 10 == 0:
            face.convert("RGBA").save(place / f"cut out {index}.png")
        else:
            face.save(place / f"drawing {index}{random.choice(_SUFFIXES)}")
    (folder / "notes.txt").write_text("Scan the others!\n")
    (folder / "Thumbs.db").write_bytes(bytes(512))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 an upload that stopped")
    hidden = folder / ".thumbnails"
    hidden.mkdir()
    for name in ("1.png", "2.png"):
        draw_face(seed).resize((16, 16)).save(hidden / name)


if __name__ == "__main__":
    draw_messy_folder(Path(sys.argv[1]))
