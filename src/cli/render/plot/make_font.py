"""Writes font.png beside this script: DejaVu Sans as a grid of grey cells, for a PNG has no fonts of its own.

    python3 src/cli/render/plot/make_font.py      (Pillow; Debian's package fonts-dejavu-core)

One block of rows a size, of 16 glyphs a row. A cell's first line of pixels holds the glyph's advance: so many of them are white,
and the next is the rest of it. Glyphs stand PAD pixels from the left of their cell.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
GLYPHS = "".join(map(chr, range(0x20, 0x7F))) + "µ×·°–…−→□"
SIZES = 22, 26, 40
COLUMNS, PAD = 16, 2


def block(size):
    font = ImageFont.truetype(FONT, size, layout_engine=ImageFont.Layout.BASIC)
    ascent, descent = font.getmetrics()
    width, height = max(int(font.getlength(g)) for g in GLYPHS) + 2 * PAD + 2, ascent + descent + 1
    rows = -(-len(GLYPHS) // COLUMNS)
    image = Image.new("L", (COLUMNS * width, rows * height))
    for place, glyph in enumerate(GLYPHS):
        x, y = place % COLUMNS * width, place // COLUMNS * height
        ImageDraw.Draw(image).text((x + PAD, y + 1), glyph, 255, font)
        advance = font.getlength(glyph)
        for column in range(width):
            image.putpixel((x + column, y), round(255 * min(max(advance - column, 0), 1)))
    print(f"    Size {{ pixels: {size}, width: {width}, height: {height}, ascent: {ascent + 1} }},")
    return image


def main():
    blocks = [block(size) for size in SIZES]
    atlas = Image.new("L", (max(b.width for b in blocks), sum(b.height for b in blocks)))
    y = 0
    for b in blocks:
        atlas.paste(b, (0, y))
        y += b.height
    atlas = atlas.point(lambda v: round(v / 17) * 17)
    atlas.save(Path(__file__).with_name("font.png"), optimize=True)


if __name__ == "__main__":
    main()
